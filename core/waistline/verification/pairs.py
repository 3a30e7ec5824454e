"""Which engines may differ from the one of the golden codes, and why."""

from __future__ import annotations

from collections.abc import Mapping

from waistline.backends.base import home_of
from waistline.blob import FORMAT as BLOB
from waistline.bundle.store import Bundle

_REDUCED = frozenset({"f16", "bf16", "fp16", "float16", "bfloat16"})


def reduced(engine: Mapping[str, str]) -> str:
    """The precision below float32 that an engine says it computes floats in; "" where it is not."""
    precision = engine.get("precision", "")
    return precision if precision.lower() in _REDUCED else ""


def exact(bundle: Bundle) -> bool:
    """Whether every code of the head is said to the last bit: a head blob's format does."""
    return bundle.head is not None and bundle.head.format == BLOB


def other_kernels(bundle: Bundle, engine: Mapping[str, str], own: Mapping[str, str] | None) -> bool:
    """Whether an engine computes integers by other kernels than the one of the golden codes.

    Never for a head blob, see `exact`.

    Args:
        bundle: it runs.
        engine: what its slice says of itself; {} where nothing was run.
        own: what the golden one says, None where it is not here.
    """
    if bundle.head is None or exact(bundle) or not engine:
        return False
    if own is None:
        return engine.get("engine") != home_of(bundle.head.format)
    return any(engine.get(key) != own.get(key) for key in ("engine", "kernels"))

"""Checks that every backend makes, in one wording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from waistline.errors import BackendError, ConfigError
from waistline.tensors import TensorSpec


def check_tensors(specs: Sequence[TensorSpec], tensors: Sequence[np.ndarray], what: str) -> None:
    """Refuse tensors that are not what ``specs`` say, in number, element type or shape.

    Raises:
        BackendError: naming the first tensor that differs; ``what`` is the slice.
    """
    if len(tensors) != len(specs):
        raise _refused(what, f"it takes {len(specs)} tensors, got {len(tensors)}")
    for spec, tensor in zip(specs, tensors, strict=True):
        if tensor.dtype != spec.numpy_dtype or tensor.shape != spec.shape:
            wanted, got = f"{spec.dtype}{list(spec.shape)}", f"{tensor.dtype}{list(tensor.shape)}"
            raise _refused(what, f"input {spec.name!r} is {wanted}, got {got}")


def ordered(
    specs: Mapping[str, TensorSpec], names: Sequence[str] | None, path: Path, role: str
) -> tuple[TensorSpec, ...]:
    """The specs in the order of ``names``; None keeps the file's order.

    Raises:
        BackendError: the file has no tensor of that name, or has one more than is named.
    """
    if names is None:
        return tuple(specs.values())
    if sorted(names) != sorted(specs):
        raise BackendError(
            f"{path} does not have the {role}s it should have",
            cause=f"wanted {', '.join(names)}; the file has {', '.join(specs) or 'none'}",
            fix="write the bundle again with 'waistline split'",
        )
    return tuple(specs[name] for name in names)


def check_extra(extra: Mapping[str, str], known: Sequence[str], backend: str) -> None:
    """Refuse engine options that ``backend`` does not have.

    Raises:
        ConfigError: naming the option and the known ones.
    """
    unknown = sorted(set(extra) - set(known))
    if unknown:
        raise ConfigError(
            f"backend {backend} has no option {unknown[0]!r}",
            cause=f"known: {', '.join(known) or 'none'}",
            fix="remove it",
        )


def _refused(what: str, cause: str) -> BackendError:
    return BackendError(
        f"{what} was given the wrong tensors",
        cause=cause,
        fix="check that the bundle and its input belong together with 'waistline verify'",
    )

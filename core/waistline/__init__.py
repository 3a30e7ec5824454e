"""Waistline: split inference for small devices.

``split``, ``load_bundle`` and ``verify`` are loaded when first used, so that importing a room that
needs none of them stays cheap.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waistline.bundle.store import load_bundle as load_bundle
    from waistline.split import split as split
    from waistline.verify import verify as verify

__version__ = "0.1.0"
__all__ = ["__version__", "load_bundle", "split", "verify"]

_HOMES = {
    "load_bundle": "waistline.bundle.store",
    "split": "waistline.split",
    "verify": "waistline.verify",
}


class _Package(ModuleType):
    """Importing `waistline.split` would bind the module over the function of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'waistline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What is loaded when first used is there, too."""
    return sorted({*globals(), *__all__})

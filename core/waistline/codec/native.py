"""The compiled codec, if there is one; placeholder for the ctypes binding."""

from __future__ import annotations

from waistline.codec.quantizers import Kernels, NumpyKernels


def available() -> bool:
    """Whether the compiled codec can be used."""
    return False


def reason() -> str:
    """Why it cannot; "" if it can."""
    return "not compiled yet"


def kernels() -> Kernels:
    """The compiled kernels, or the NumPy reference without them."""
    return NumpyKernels()

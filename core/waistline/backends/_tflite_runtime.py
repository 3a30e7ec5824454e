"""The two packages that run TFLite models, and how they are kept quiet.

LiteRT (``ai-edge-litert``) and tflite-runtime have the same interface. tflite-runtime 2.14, the
last one published, is built against NumPy 1 without saying so: with NumPy 2 it installs and
imports, and dies when a model is opened.

The engine writes one line to the C library's stderr when it creates its first XNNPACK delegate, and
no setting of either package stops that (``TF_CPP_MIN_LOG_LEVEL`` does not). So the first delegate
is created here, for a model of one operator, while the C library's stderr leads nowhere. Python's
own stderr, which other threads may be writing to, is a different stream and stays as it is.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import importlib.util
import platform
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from waistline.errors import BackendError

PACKAGES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
"""Import package by the name that a user gives."""
DISTRIBUTIONS = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime"}
FOREIGN: tuple[type[Exception], ...] = (
    AttributeError,
    ImportError,
    MemoryError,
    OSError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)
"""What the engines raise."""
_BUILT_AGAINST_NUMPY_1 = (2, 14)
"""The last tflite-runtime that was; later ones, built by others, are tried."""
# y = abs(x), float32 (1,): enough for the engine to create a delegate.
_ONE_OPERATOR = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA5AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABQAAAAAAA4A"
    "GAAUABAADAAIAAQADgAAABQAAAAcAAAASAAAAEwAAABQAAAABAAAAG1haW4AAAAAAQAAABAAAAAAAAoADAAAAAgABAAKAAAA"
    "CAAAAAwAAAABAAAAAQAAAAEAAAAAAAAAAQAAAAEAAAABAAAAAAAAAAIAAAAwAAAABAAAAOT///8IAAAADAAAAAEAAAB5AAAA"
    "AQAAAAEAAAAMAAwACAAAAAAABAAMAAAACAAAAAwAAAABAAAAeAAAAAEAAAABAAAAAQAAABAAAAAMAAwACwAAAAAABAAMAAAA"
    "ZQAAAAAAAGU="
)
_lock = threading.Lock()


@dataclass(frozen=True)
class Runtime:
    """A package that was tried and works.

    Attributes:
        name: ``litert`` or ``tflite-runtime``.
        version: of the package.
        module: with ``Interpreter``, ``OpResolverType`` and ``Delegate``.
    """

    name: str
    version: str
    module: ModuleType

    @property
    def shown(self) -> str:
        return f"{self.name} {self.version}"

    def interpreter(self, data: bytes, **options: Any) -> Any:
        return self.module.Interpreter(model_content=data, **options)

    def resolver(self, name: str) -> Any:
        return getattr(self.module.OpResolverType, name)


def require(names: Sequence[str]) -> tuple[str, ...]:
    """The named runtimes that are installed, best first; what a backend does when imported.

    Raises:
        ModuleNotFoundError: none is; it names the first one's package.
    """
    found = tuple(name for name in names if importlib.util.find_spec(PACKAGES[name]))
    if not found:
        importlib.import_module(PACKAGES[names[0]])
    return found


@cache
def runtime(name: str) -> Runtime:
    """Import a runtime and see that it opens a model.

    Raises:
        ModuleNotFoundError: it is not installed.
        BackendError: it is installed and does not work here.
    """
    package = PACKAGES[name]
    version = str(getattr(importlib.import_module(package), "__version__", "of unknown version"))
    check_numpy(name, version, np.__version__)
    try:
        found = Runtime(name, version, importlib.import_module(f"{package}.interpreter"))
        with _lock, _engine_stderr_closed():
            found.interpreter(_ONE_OPERATOR).allocate_tensors()
    except FOREIGN as error:
        raise BackendError(
            f"{name} {version} is installed and cannot open a model",
            cause=f"{' '.join(str(error).split())[:200]} (NumPy {np.__version__})",
            fix=f"pip install --force-reinstall {DISTRIBUTIONS[name]}",
        ) from error
    return found


def check_numpy(name: str, version: str, numpy_version: str) -> None:
    """Refuse a pair that imports and then fails.

    Raises:
        BackendError: tflite-runtime built against NumPy 1, with NumPy 2.
    """
    if name != "tflite-runtime" or _numbers(numpy_version) < (2, 0):
        return
    if _numbers(version) <= _BUILT_AGAINST_NUMPY_1:
        raise BackendError(
            f"tflite-runtime {version} cannot run with NumPy {numpy_version}",
            cause="it was built against NumPy 1 and does not say so to pip",
            fix="pip install 'numpy<2', or use LiteRT: pip install 'waistline[litert]'",
        )


def _numbers(version: str) -> tuple[int, int]:
    major, minor, *_ = [*re.findall(r"\d+", version), "0", "0"]
    return int(major), int(minor)


@contextlib.contextmanager
def _engine_stderr_closed() -> Iterator[None]:
    """Let the C library's ``stderr`` lead nowhere; where that cannot be done, nothing happens."""
    try:
        cell, nowhere = _c_stderr()
    except (AttributeError, OSError, ValueError):
        yield
        return
    before = cell.value
    cell.value = nowhere
    try:
        yield
    finally:
        cell.value = before


@cache
def _c_stderr() -> tuple[ctypes.c_void_p, int]:
    """The C library's variable ``stderr``, and a stream to nowhere that stays open for good."""
    if platform.libc_ver()[0] != "glibc":
        raise OSError("only glibc lets stderr be another stream")
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    library.fopen.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    nowhere = library.fopen(b"/dev/null", b"we")
    if not nowhere:
        raise OSError("/dev/null cannot be opened")
    return ctypes.c_void_p.in_dll(library, "stderr"), nowhere

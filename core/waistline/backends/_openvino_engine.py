"""OpenVINO, imported so that it stays silent, and read from so that little of it is exposed."""

from __future__ import annotations

import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from waistline.backends._openvino_errors import cannot_read, check_file
from waistline.backends._tflite_file import read_checked
from waistline.errors import BackendError

# Importing the engine reports to its maker, unless the package that reports cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402

_FAILURES = (
    "GeneralFailure",
    "InitializationFailure",
    "NotImplementedFailure",
    "OpConversionFailure",
    "OpValidationFailure",
)
FOREIGN: tuple[type[Exception], ...] = (
    RuntimeError,
    TypeError,
    ValueError,
    *(getattr(getattr(ov, "frontend", None), name, RuntimeError) for name in _FAILURES),
)
"""What the engine raises."""


@cache
def core() -> ov.Core:
    """The process's one entry into the engine.

    Raises:
        BackendError: the installed version is older than the interface.
    """
    if not hasattr(ov, "Core"):
        raise BackendError(
            f"{engine()} is too old for this backend",
            cause="it has no openvino.Core, which came with 2023.0",
            fix="pip install 'waistline[openvino]'; an NCS2 is driven by --backend ncs2",
        )
    return ov.Core()


@cache
def version() -> str:
    return metadata.version("openvino")


def engine() -> str:
    return f"openvino {version()}"


def telemetry() -> str:
    """``off``, or that somebody else imported the engine before it could be silenced."""
    return "off" if sys.modules.get("openvino_telemetry") is None else "not switched off here"


def read(path: Path) -> tuple[ov.Model, str]:
    """The model in a file, by the one reader of its format, ``onnx`` or ``tflite``; and which.

    The engine's own ``read_model`` would try each of its seven readers on a file that it does not
    know, which is more surface than a slice needs.

    Raises:
        BackendError: no such file, damaged, or with an operator the engine does not have.
    """
    check_file(path)
    with path.open("rb") as file:
        kind = "tflite" if file.read(8)[4:] == b"TFL3" else "onnx"
    if kind == "tflite":
        read_checked(path)
    try:
        reader = ov.frontend.FrontEndManager().load_by_framework(kind)
        model = reader.convert(reader.load(str(path)))
    except FOREIGN as error:
        raise cannot_read(path, kind, str(error), engine()) from error
    if not model.outputs:
        raise cannot_read(path, kind, "it holds no output", engine())
    return model, kind

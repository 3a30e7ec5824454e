"""Reading a model of any format that can be cut."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from waistline.errors import ModelError
from waistline.model.graph import Frontier, ModelGraph

_TFLITE_MAGIC = b"TFL3"
_MAGIC_AT = 4


class CutModel(Protocol):
    """A model that was read, checked, and can be cut."""

    @property
    def path(self) -> Path: ...

    @property
    def graph(self) -> ModelGraph: ...

    def write_slices(self, frontier: Frontier, folder: Path) -> tuple[Path | None, Path | None]:
        """Write head and tail into ``folder`` as ``head.<format>`` and ``tail.<format>``.

        Returns:
            Their paths; no head at x = 1, no tail at x = N.

        Raises:
            ModelError: a slice cannot be written, is too large, or is not valid.
        """
        ...


def load_model(path: str | Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> CutModel:
    """Read and check a model; its content decides on the format, not its name.

    Args:
        path: an ``.onnx`` or ``.tflite`` file.
        shapes: shape by input name, for ONNX inputs with symbolic axes.

    Raises:
        ModelError: missing, damaged, or of no format that can be cut.
        MissingExtra: the package that reads the format is not installed.
    """
    path = Path(path)
    if _is_tflite(path):
        if shapes:
            raise ModelError(
                f"the shapes of {path.name} are fixed already",
                cause="it is a TFLite model",
                fix="leave --shape out",
            )
        from waistline.model.tflite_graph import load_tflite

        return load_tflite(path)
    from waistline.model.onnx_graph import load_onnx

    return load_onnx(path, shapes)


def format_of(path: Path) -> str:
    """``tflite`` or ``onnx``, by a file's content, as `load_model` decides."""
    return "tflite" if _is_tflite(path) else "onnx"


def _is_tflite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_MAGIC_AT + len(_TFLITE_MAGIC))
    except OSError:
        return False  # the ONNX reader says what is wrong with the path
    return start[_MAGIC_AT:] == _TFLITE_MAGIC or path.suffix == ".tflite"

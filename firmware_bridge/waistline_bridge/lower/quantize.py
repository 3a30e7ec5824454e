"""Quantizing a float ONNX head to int8 QDQ form with ONNX Runtime, from calibration frames.

int8 activations with a zero point, int8 weights with a scale for each output channel: what TFLite's
own converter makes, and what the firmware runs.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waistline.errors import ConfigError, ModelError
from waistline.plugins import missing_extra
from waistline_bridge.lower.qdq_layers import RULES

# Before the engine is imported: it would write a cache file and ask DNS otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
try:
    import onnx
    import onnx.numpy_helper
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ModuleNotFoundError as error:
    if error.name not in {"onnxruntime", "onnx"}:
        raise
    raise missing_extra(error.name, needed_by="quantizing a head") from error

Feeds = Mapping[str, NDArray[np.generic]]


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    """Frames one by one, counted."""

    def __init__(self, frames: Iterable[Feeds]) -> None:
        self._frames: Iterator[Feeds] = iter(frames)
        self.count = 0

    def get_next(self) -> dict[str, Any] | None:
        found = next(self._frames, None)
        if found is None:
            return None
        for name, array in found.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ConfigError(
                    "a head cannot be quantized by what is no number",
                    cause=f"calibration frame {self.count} has NaN or infinity in {name!r}",
                    fix="take it out of [data.calibration] of the task",
                )
        self.count += 1
        return dict(found)


def _checked(head: Path, folder: Path) -> Path:
    """The head with sound weights, and without outputs that are its inputs.

    An input of the model that crosses the cut is such an output; where a layer reads it as well,
    ONNX Runtime takes the graph for a circle.
    """
    proto = onnx.load(str(head))
    _check_weights(head, proto)
    inputs = {value.name for value in proto.graph.input}
    made = [value for value in proto.graph.output if value.name not in inputs]
    if len(made) == len(proto.graph.output):
        return head
    del proto.graph.output[:]
    proto.graph.output.extend(made)
    bare = folder / "made.onnx"
    onnx.save(proto, str(bare))
    return bare


def _check_weights(head: Path, proto: onnx.ModelProto) -> None:
    for weights in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(weights)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(
                f"{head.name} cannot be quantized",
                cause=f"its weights {weights.name!r} have NaN or infinity",
                fix="train or export the model again",
            )


def quantize_head(head: Path, frames: Iterable[Feeds], out: Path) -> int:
    """Write ``out``, the float32 ONNX model ``head`` as int8.

    Args:
        head: a whole model or the head of a cut.
        frames: its inputs by name, as it takes them: preprocessed calibration data.
        out: the file to write.

    Returns:
        How many frames there were.

    Raises:
        ConfigError: there are no frames, or one has what is no number.
        ModelError: so have its weights, or ONNX Runtime cannot quantize the model, or runs it
            into an error.
    """
    reader = _Frames(frames)
    chatter = logging.getLogger()
    level = chatter.level
    chatter.setLevel(logging.ERROR)  # it tells the root logger to preprocess, which is done here
    try:
        # Beside what is made: that folder is swept when a killed process left it.
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            bare = _checked(head, Path(folder))
            prepared = Path(folder) / "head.onnx"
            quant_pre_process(str(bare), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(out),
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=sorted(RULES),
                # A pool or view is quantized too where nothing before it is.
                extra_options={"ForceQuantizeNoInputCheck": True},
            )
    except (ConfigError, ModelError):
        raise
    except Exception as error:  # the package raises plain Exceptions of its own
        if reader.count == 0:
            raise _no_frames() from error
        raise ModelError(
            f"{head.name} cannot be quantized",
            cause=" ".join(str(error).split())[:300],
            fix="give a float32 head with fixed shapes",
        ) from error
    finally:
        chatter.setLevel(level)
    if reader.count == 0:
        raise _no_frames()
    return reader.count


def _no_frames() -> ConfigError:
    return ConfigError(
        "a head cannot be quantized without calibration frames",
        cause="there are none, so nothing says what its tensors hold",
        fix="give a task with [data.calibration] or [data.selection]",
    )

"""Windows of sensor samples as a model's single input: sound, vibration, motion.

A recording is a sequence of rows, one a sampling instant, each with one value a channel. A frame is
a window of consecutive rows; the model's input says how many, and in which order of axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from waistline.errors import ConfigError
from waistline.tensors import TensorSpec, quantize

Order = Literal["rows", "channels"]
"""Which of the two comes first in the input: all rows, each with its channels, or all channels."""


@dataclass(frozen=True, slots=True)
class Windowing:
    """How recordings become frames.

    Attributes:
        spec: of the model's input.
        window: rows in a frame.
        channels: values in a row.
        hop: rows from the beginning of one frame to that of the next.
        order: of the axes in the input.
    """

    spec: TensorSpec
    window: int
    channels: int
    hop: int
    order: Order

    def count(self, rows: int) -> int:
        """Frames in a recording; rows after the last full window are not used."""
        return max(0, (rows - self.window) // self.hop + 1)

    def frame(self, rows: np.ndarray) -> np.ndarray:
        """One window, float32 (window, channels), as the model takes it; owned by the caller.

        A quantized 8-bit input is quantized, any other cast to the input's element type.
        """
        values = rows if self.order == "rows" else rows.T
        return np.ascontiguousarray(quantize(self.spec, values.reshape(self.spec.shape)))


def fit_window(
    inputs: Sequence[TensorSpec],
    channels: int,
    *,
    what: str,
    window: int | None = None,
    hop: int | None = None,
    order: Order | None = None,
) -> Windowing:
    """How recordings with ``channels`` values a row fill the model's input.

    Args:
        inputs: of the model.
        channels: at least 1.
        what: the data, for messages.
        window: rows in a frame, to be checked; None: as many as the input holds.
        hop: None: the window, so that frames do not overlap.
        order: of the axes, where the input's shape leaves it open.

    Raises:
        ConfigError: the input cannot be filled so, or in two ways; says which option decides.
    """
    if len(inputs) != 1:
        raise _bad(what, f"it has {len(inputs)} inputs, a recording fills one", "use npz data")
    spec = inputs[0]
    if spec.numpy_dtype.kind != "f" and spec.scale is None:
        raise _bad(
            what,
            f"its input is {spec.dtype} without a scale, and samples are real numbers",
            "use a model with a float or quantized 8-bit input",
        )
    rows, rest = divmod(spec.elements, channels)
    shape = f"its input is {spec.dtype} {spec.shape}, a row holds {_counted(channels)}"
    if rest or not rows:
        raise _bad(what, shape, "choose the channels with columns= (csv) or channel= (wav)")
    if window is not None and window != rows:
        raise _bad(what, f"{shape}, so a window is {rows} rows, not {window}", f"window={rows}")
    if hop is not None and hop < 1:
        raise _bad(what, f"hop is {hop}", "give hop=1 or more")
    found = _order(spec, rows, channels)
    if order is not None and found is not None and order != found and min(rows, channels) > 1:
        raise _bad(what, f"{shape}, so its {found} come first", f"order={found}, or leave it out")
    decided = order or found
    if decided is None:
        raise _bad(
            what,
            f"{shape}, which does not tell whether rows or channels come first",
            "add order=rows (time first) or order=channels",
        )
    return Windowing(spec, rows, channels, rows if hop is None else hop, decided)


def _order(spec: TensorSpec, rows: int, channels: int) -> Order | None:
    """What the shape says; None: nothing."""
    long = tuple(axis for axis in spec.shape if axis > 1)
    if min(rows, channels) == 1 and len(long) <= 1:
        return "rows"
    if rows != channels and long == (rows, channels):
        return "rows"
    if rows != channels and long == (channels, rows):
        return "channels"
    if long in {(rows, channels), (rows * channels,)}:
        return None
    raise _bad(
        "these recordings",
        f"its input {spec.shape} is neither {rows} rows of {_counted(channels)} nor the reverse",
        "choose other channels, or use npz data",
    )


def check_finite(rows: np.ndarray, path: Path, first: int = 0) -> None:
    """Refuse rows with NaN or infinity.

    Raises:
        ConfigError: names the first such sample, counted from ``first``, and its channel.
    """
    if not np.isfinite(rows).all():
        row, channel = map(int, np.argwhere(~np.isfinite(rows))[0])
        raise ConfigError(
            f"a sample in {path} is not a number",
            cause=f"it is {rows[row, channel]} at sample {first + row}, channel {channel}",
            fix="mend the file, or leave it out",
        )


def _counted(channels: int) -> str:
    return "1 value" if channels == 1 else f"{channels} values"


def _bad(what: str, cause: str, fix: str) -> ConfigError:
    return ConfigError(f"the model cannot be fed with {what}", cause=cause, fix=fix)

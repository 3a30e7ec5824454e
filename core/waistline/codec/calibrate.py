"""Clip limits from calibration data, in one pass over the samples.

Extremes are exact. Percentiles and the search for the least squared error work on a uniform
sample of what streamed by (Vitter's algorithm R, seeded, so the same samples give the same
limits): all of it while it is small, else at most `_RESERVOIR` values.

``minmax``: the extremes. ``pNN``: the NN-th percentile above and the (100 - NN)-th below.
``mse``: the limits that give the least mean squared error after quantization to the codec's own
number of bits with the rounding of ``affine``; `waistline.codec.clip` searches them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waistline.codec.clip import least_squares_limits
from waistline.codec.kernels import Floats
from waistline.codec.spec import CodecSpec
from waistline.errors import CodecError, ConfigError, NonFinite
from waistline.tensors import StaticRanges, TensorSpec

_RESERVOIR = 1 << 21
_PER_CHANNEL = (1 << 10, 1 << 20)
"""Fewest and most values kept of a channel."""
SAMPLE_SEED = 20231


def calibrate(tensor: TensorSpec, spec: CodecSpec, samples: Iterable[NDArray[Any]]) -> StaticRanges:
    """Clip limits of ``tensor`` for the static codec ``spec``, as `Calibration` finds them."""
    calibration = Calibration(tensor, spec)
    for sample in samples:
        calibration.add(sample)
    return calibration.ranges()


class Calibration:
    """Clip limits of one tensor, sample by sample; nothing is kept of one but a few values.

    Args:
        tensor: shape and channel axis; each sample must have this shape.
        spec: says clip, bits, and per tensor or channel (per tensor where there is no channel
            axis).

    Raises:
        ConfigError: a codec without ``clip=``.
    """

    def __init__(self, tensor: TensorSpec, spec: CodecSpec) -> None:
        if spec.clip is None or spec.bits is None:
            raise ConfigError(
                f"codec {spec} needs no calibration", cause="it has no clip=", fix="add clip=mse"
            )
        self._tensor, self._clip, self._bits = tensor, spec.clip, spec.bits
        self._axis = tensor.channel_axis if spec.per == "channel" else None
        self._seen = _Seen(1 if self._axis is None else tensor.shape[self._axis])
        self._samples = 0

    def add(self, sample: NDArray[Any]) -> None:
        """Take in the tensor as the head gives it.

        Raises:
            CodecError: it has another shape.
            NonFinite: it holds NaN or infinity.
        """
        what = f"calibration sample {self._samples} of tensor {self._tensor.name!r}"
        if sample.shape != self._tensor.shape:
            raise CodecError(
                f"{what} has another shape",
                cause=f"{sample.shape}, expected {self._tensor.shape}",
                fix="run the head that belongs to this bundle",
            )
        values = np.asarray(sample, np.float32)
        if not np.isfinite(values).all():
            raise NonFinite(
                f"{what} holds NaN or infinity",
                cause="no limits can be found from it",
                fix="look at the model's output for this input",
            )
        if self._axis is not None:
            values = np.moveaxis(values, self._axis, 0)
        self._seen.add(values.reshape(len(self._seen.lo), -1))
        self._samples += 1

    def ranges(self, spec: CodecSpec | None = None) -> StaticRanges:
        """One pair a channel, or one pair; float32 values in units of the tensor's elements.

        Args:
            spec: another codec with the same ``per=``, whose clip and bits count instead; so that
                many are calibrated in one pass over the samples.

        Raises:
            ConfigError: nothing was added.
        """
        if not self._samples:
            raise ConfigError(
                f"tensor {self._tensor.name!r} cannot be calibrated",
                cause="there is no calibration data",
                fix="give a task with calibration data, or leave clip= out",
            )
        clip, bits = self._clip, self._bits
        if spec is not None:
            assert spec.clip is not None
            assert spec.bits is not None
            clip, bits = spec.clip, spec.bits
        lo, hi = _limits(self._seen, clip, bits)
        return StaticRanges(tuple(lo.tolist()), tuple(hi.tolist()))


def _limits(seen: _Seen, clip: str, bits: int) -> tuple[Floats, Floats]:
    if clip == "minmax":
        return seen.lo, seen.hi
    if clip == "mse":
        lo, hi = least_squares_limits(seen.values(), seen.lo, seen.hi, bits)
    else:
        share = float(clip[1:])
        lo, hi = np.percentile(seen.values(), (100.0 - share, share), axis=1).astype(np.float32)
        lo, hi = np.minimum(lo, hi), np.maximum(lo, hi)
    # A channel that is nearly always the same value must not lose the rest.
    flat = lo == hi
    return np.where(flat, seen.lo, lo) + np.float32(0), np.where(flat, seen.hi, hi) + np.float32(0)


class _Seen:
    """Extremes and a uniform sample of each channel."""

    def __init__(self, channels: int) -> None:
        self.lo = np.full(channels, np.inf, np.float32)
        self.hi = np.full(channels, -np.inf, np.float32)
        self.count = 0
        fewest, most = _PER_CHANNEL
        self._capacity = max(fewest, min(most, _RESERVOIR // channels))
        self._kept = np.empty((channels, 0), np.float32)
        self._random = np.random.default_rng(SAMPLE_SEED)

    def values(self) -> Floats:
        """float32 (channels, values)."""
        return self._kept

    def add(self, values: Floats) -> None:
        """One frame, float32 (channels, positions)."""
        self.lo = np.minimum(self.lo, values.min(axis=1))
        self.hi = np.maximum(self.hi, values.max(axis=1))
        room = self._capacity - self._kept.shape[1]
        if room > 0:
            self._kept = np.concatenate([self._kept, values[:, :room]], axis=1)
            self.count += min(room, values.shape[1])
            values = values[:, room:]
        self._replace(values)

    def _replace(self, values: Floats) -> None:
        """Algorithm R: the t-th value stays with probability capacity / t."""
        ordinal = self.count + np.arange(1, values.shape[1] + 1)
        slot = (self._random.random(values.shape[1]) * ordinal).astype(np.int64)
        enter = np.flatnonzero(slot < self._capacity)
        self._kept[:, slot[enter]] = values[:, enter]
        self.count += values.shape[1]

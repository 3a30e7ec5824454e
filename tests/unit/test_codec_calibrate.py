"""Clip limits found on data."""

from __future__ import annotations

import numpy as np
import pytest

from waistline.codec.calibrate import calibrate
from waistline.codec.spec import parse_spec
from waistline.codec.waist import WaistCodec
from waistline.errors import CodecError, ConfigError, NonFinite
from waistline.tensors import TensorSpec, WaistTensor

TENSOR = TensorSpec("t", "float32", (1, 6, 12, 12), "NCHW", 1)


def samples(count=12, *, relu=True):
    random = np.random.default_rng(4)
    scale = random.lognormal(0, 0.7, (1, 6, 1, 1))
    for _ in range(count):
        x = random.standard_normal((1, 6, 12, 12)) * scale - 0.3
        yield (np.maximum(x, 0) if relu else x).astype(np.float32)


def squared_error(codec, frames):
    ranges = calibrate(TENSOR, parse_spec(codec), iter(frames))
    waist = WaistCodec([WaistTensor(TENSOR, codec, ranges)])
    back = [waist.decode_codes(waist.codes([frame]))[0] for frame in frames]
    return float(np.mean((np.array(back) - np.array(frames)) ** 2))


@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_minmax_is_exact(per):
    frames = list(samples(relu=False))
    ranges = calibrate(TENSOR, parse_spec(f"affine:b=4,clip=minmax,per={per}"), iter(frames))
    flat = np.array(frames)[:, 0].swapaxes(0, 1).reshape(6 if per == "channel" else 1, -1)
    assert list(ranges.lo) == flat.min(axis=1).tolist()
    assert list(ranges.hi) == flat.max(axis=1).tolist()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_mse_beats_the_other_clips(bits, per, relu):
    frames = list(samples(relu=relu))
    mse, minmax, percentile = (
        squared_error(f"affine:b={bits},clip={clip},per={per}|none", frames)
        for clip in ("mse", "minmax", "p99.9")
    )
    assert mse <= 1.02 * minmax
    assert mse <= 1.02 * percentile
    if bits <= 2:
        assert mse < 0.75 * minmax


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_search_finds_what_a_grid_finds(bits):
    frames = list(samples())
    flat = np.array(frames).reshape(-1)
    found = squared_error(f"affine:b={bits},clip=mse|none", frames)
    steps = (1 << bits) - 1
    best = np.inf
    for lo in np.linspace(0, 0.5, 11) * flat.max():
        for hi in np.linspace(0.02, 1, 60) * flat.max():
            if hi > lo:
                step = (hi - lo) / steps
                back = lo + step * np.clip(np.rint((flat - lo) / step), 0, steps)
                best = min(best, float(np.mean((back - flat) ** 2)))
    assert found <= 1.03 * best


def test_percentiles():
    tensor = TensorSpec("t", "float32", (1000,))
    frames = [np.arange(1000, dtype=np.float32)]
    ranges = calibrate(tensor, parse_spec("affine:b=4,clip=p99"), iter(frames))
    assert ranges.lo == pytest.approx((9.99,), abs=0.1)
    assert ranges.hi == pytest.approx((989.01,), abs=0.1)


def test_a_sample_stands_for_a_long_stream():
    """More values than are kept: limits come from all of the stream, and repeat."""
    tensor = TensorSpec("t", "float32", (300_000,))

    def stream():
        random = np.random.default_rng(8)
        for k in range(8):
            yield (random.standard_normal(300_000) + k).astype(np.float32)

    spec = parse_spec("affine:b=4,clip=p90")
    ranges = calibrate(tensor, spec, stream())
    every = np.concatenate(list(stream()))
    lo, hi = np.percentile(every, (10, 90))
    assert ranges.lo == pytest.approx((lo,), abs=0.02)
    assert ranges.hi == pytest.approx((hi,), abs=0.02)
    assert calibrate(tensor, spec, stream()) == ranges


def test_a_channel_that_is_nearly_always_zero_keeps_its_values():
    tensor = TensorSpec("t", "float32", (2, 1000), "any", 0)
    x = np.zeros((2, 1000), np.float32)
    x[0, 7] = 5
    ranges = calibrate(tensor, parse_spec("affine:b=4,clip=p99,per=channel"), [x])
    assert ranges.hi == (5.0, 0.0)
    assert ranges.lo == (0.0, 0.0)


@pytest.mark.parametrize("clip", ["minmax", "mse", "p99.9"])
def test_odd_ranges(clip):
    tensor = TensorSpec("t", "float32", (64,))
    for x in (np.linspace(-3.4e38, 3.4e38, 64), np.arange(64) * 1e-44, np.full(64, -2.5)):
        x = x.astype(np.float32)
        ranges = calibrate(tensor, parse_spec(f"affine:b=3,clip={clip}"), [x])
        waist = WaistCodec([WaistTensor(tensor, f"affine:b=3,clip={clip}|none", ranges)])
        assert np.isfinite(waist.decode_codes(waist.codes([x]))[0]).all()


def test_int8_limits_are_in_units_of_the_elements():
    tensor = TensorSpec("t", "int8", (500,))
    q = np.random.default_rng(0).integers(-100, -20, 500).astype(np.int8)
    ranges = calibrate(tensor, parse_spec("i8:b=4,clip=minmax"), [q])
    assert ranges.lo == (float(q.min()),)
    waist = WaistCodec([WaistTensor(tensor, "i8:b=4,clip=minmax|none", ranges)])
    (back,) = waist.decode_codes(waist.codes([q]))
    assert np.abs(back.astype(int) - q).max() <= 3


def test_what_cannot_be_calibrated():
    spec = parse_spec("affine:b=4,clip=mse")
    with pytest.raises(ConfigError, match="calibrated"):
        calibrate(TENSOR, spec, [])
    with pytest.raises(ConfigError, match="no calibration"):
        calibrate(TENSOR, parse_spec("affine:b=4"), samples())
    with pytest.raises(CodecError, match="sample 0"):
        calibrate(TENSOR, spec, [np.zeros((6, 12, 12), np.float32)])
    bad = np.full((1, 6, 12, 12), np.nan, np.float32)
    with pytest.raises(NonFinite, match="sample 1"):
        calibrate(TENSOR, spec, [next(samples()), bad])

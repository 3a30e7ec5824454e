"""What each quantizer promises: error bounds, exact zeros, clipping, odd ranges, packing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from waistline.codec.pack import pack, packed_size, padding_is_zero, unpack
from waistline.codec.quantizers import pinned_sum
from waistline.codec.spec import parse_spec
from waistline.codec.waist import WaistCodec
from waistline.errors import BundleError, CodecError, ConfigError, NonFinite
from waistline.tensors import StaticRanges, TensorSpec, WaistTensor


def codec_of(codec, array, *, axis=None, ranges=None):
    tensor = TensorSpec("t", str(array.dtype), array.shape, "any", axis)
    return WaistCodec([WaistTensor(tensor, codec, ranges)])


def through(codec, array, **more):
    waist = codec_of(codec, array, **more)
    encoded = waist.encode([array])
    assert encoded.raw_len == waist.raw_len
    assert len(encoded.payload) <= waist.max_payload_bytes
    (decoded,) = waist.decode(encoded.payload, encoded.raw_len)
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    assert decoded.flags.writeable
    return decoded


def dense(*shape, seed=0, shift=0.4):
    return (np.random.default_rng(seed).standard_normal(shape) + shift).astype(np.float32)


@given(
    bits=st.integers(1, 8),
    codes=hnp.arrays(np.uint8, st.integers(1, 70)),
)
def test_packing_is_an_lsb_first_stream(bits, codes):
    codes = codes & ((1 << bits) - 1)
    packed = np.empty(packed_size(codes.size, bits), np.uint8)
    pack(codes.copy(), bits, packed)
    stream = sum(int(code) << (k * bits) for k, code in enumerate(codes))
    assert packed.tobytes() == stream.to_bytes(packed.size, "little")
    assert (unpack(packed, codes.size, bits) == codes).all()
    assert padding_is_zero(packed, codes.size, bits)


finite = st.floats(-1e6, 1e6, width=32)


@given(
    x=hnp.arrays(np.float32, st.integers(1, 60), elements=finite),
    bits=st.integers(1, 8),
    quantizer=st.sampled_from(["affine", "q1", "q1h"]),
)
def test_errors_stay_within_a_step(x, bits, quantizer):
    decoded = through(f"{quantizer}:b={bits}|none", x).astype(np.float64)
    lo, hi = float(x.min()), float(x.max())
    step = (hi - lo) / ((1 << bits) - (quantizer == "affine"))
    bound = step if quantizer == "q1" else step / 2
    slack = 1e-6 * max(abs(lo), abs(hi)) + 1e-6 * step
    assert np.abs(decoded - x).max() <= bound + slack
    assert (decoded >= lo).all()
    assert (decoded <= hi).all()


@pytest.mark.parametrize("bits", range(1, 9))
def test_per_channel_steps_follow_each_channel(bits):
    scale = np.float32([0.01, 1, 100, 1])[:, None, None]
    x = dense(4, 6, 5) * scale
    x[3] = 7.25
    decoded = through(f"affine:b={bits},per=channel|none", x, axis=0)
    span = np.ptp(x, axis=(1, 2)) / ((1 << bits) - 1)
    assert (np.abs(decoded - x).max(axis=(1, 2)) <= 0.5001 * span).all()
    assert (decoded[3] == 7.25).all()


def test_layouts_agree():
    chw = dense(2, 5, 3, 7)
    hwc = np.ascontiguousarray(np.moveaxis(chw, 1, -1))
    a = through("affine:b=3,per=channel|none", chw, axis=1)
    b = through("affine:b=3,per=channel|none", hwc, axis=3)
    assert (np.moveaxis(b, -1, 1) == a).all()


def test_per_channel_without_a_channel_axis_is_per_tensor():
    x = dense(1, 64)
    a, b = (through(f"affine:b=4{per}|none", x) for per in ("", ",per=channel"))
    assert (a == b).all()


def test_any_memory_layout_is_taken():
    x = dense(6, 8, 10)
    expected = codec_of("affine:b=4|none", x).codes([x])
    fortran = np.asfortranarray(x)
    assert codec_of("affine:b=4|none", x).codes([fortran]) == expected
    assert codec_of("affine:b=4|none", x).codes([np.repeat(x, 2, axis=0)[::2]]) == expected
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.float32, offset=1).reshape(x.shape)
    assert not unaligned.flags.aligned
    assert codec_of("affine:b=4|none", x).codes([unaligned]) == expected


@pytest.mark.parametrize("quantizer", ["q1", "affine"])
def test_zeros_of_a_relu_stay_exact(quantizer):
    x = np.maximum(dense(1, 8, 9, 9, shift=-0.3), 0)
    decoded = through(f"{quantizer}:b=3|zstd:1", x)
    assert (decoded[x == 0] == 0).all()


def test_q1_is_the_float64_floor():
    """Where m = 0 and the range is a power of two nothing is rounded; else hardly anything."""
    x = np.arange(4096, dtype=np.float32) / 4096
    x[-1] = 1
    codes = np.frombuffer(codec_of("q1:b=8|none", x).codes([x])[8:], np.uint8)
    assert (codes == np.minimum(np.floor(x.astype(np.float64) * 256), 255)).all()

    x = np.random.default_rng(5).uniform(-1.7, 3.1, 1_000_000).astype(np.float32)
    codes = np.frombuffer(codec_of("q1:b=8|none", x).codes([x])[8:], np.uint8)
    lo, hi = float(x.min()), float(x.max())
    exact = np.floor((x.astype(np.float64) - (hi + lo) / 2) / ((hi - lo) / 2) * 128) + 128
    different = np.abs(codes - exact.clip(max=255))
    assert different.max() <= 1
    assert np.count_nonzero(different) <= 40


def test_the_maximum_of_q1_is_clamped_not_wrapped():
    x = np.float32([0, 1, 2, 3, 4, 8])
    decoded = through("q1:b=2|none", x)
    assert decoded.tolist() == [0, 0, 2, 2, 4, 6]
    assert through("q1h:b=2|none", x).tolist() == [1, 1, 3, 3, 5, 7]


def test_q2_is_literal_and_q2m_takes_the_conditional_means():
    x = np.float32([0, 0, 0, 0, 4, 6, 10, 4])
    assert through("q2|none", x).tolist() == [-7] * 4 + [3] * 4
    assert through("q2m|none", x).tolist() == [0] * 4 + [6] * 4
    negative = np.float32([-4, -2])
    assert through("q2m|none", negative).tolist() == [-4, -2]


@pytest.mark.parametrize("value", [0.0, -0.0, 3.25, -1e-42, 3.4e38])
@pytest.mark.parametrize(
    "quantizer", ["affine:b=4", "affine:b=8,per=channel", "q1:b=1", "q2", "q2m"]
)
def test_a_constant_tensor_encodes_zero_and_decodes_itself(quantizer, value):
    x = np.full((3, 5), value, np.float32)
    waist = codec_of(f"{quantizer}|none", x, axis=0)
    assert (through(f"{quantizer}|none", x, axis=0) == x).all()
    assert set(waist.codes([x])[-waist.raw_len :]) == {0}


@pytest.mark.parametrize("quantizer", ["affine:b=8", "q1:b=8", "q1h:b=4", "q2", "q2m"])
def test_spans_beyond_float32_and_denormal_ones(quantizer):
    spec = parse_spec(quantizer + "|none")
    for x in (np.linspace(-3.4e38, 3.4e38, 257), np.arange(257) * 1e-44):
        x = x.astype(np.float32)
        decoded = through(f"{quantizer}|none", x).astype(np.float64)
        assert np.isfinite(decoded).all()
        if spec.quantizer not in {"q2", "q2m"}:
            span = float(x.max()) - float(x.min())
            assert np.abs(decoded - x).max() <= 1.01 * span / ((1 << spec.bits) - 1) + 2e-45


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("codec", "ranges"),
    [
        ("affine:b=4|none", None),
        ("affine:b=4,per=channel|none", None),
        ("affine:b=4,clip=mse|none", StaticRanges((0.0,), (1.0,))),
        ("q1:b=8|none", None),
        ("q1h:b=2|none", None),
        ("q2|none", None),
        ("q2m|none", None),
    ],
)
def test_quantizers_refuse_nan_and_infinity(codec, ranges, bad):
    x = dense(3, 700)
    x[1, 699] = bad
    with pytest.raises(NonFinite, match="'t'") as caught:
        codec_of(codec, x, axis=0, ranges=ranges).encode([x])
    assert "1 " in caught.value.cause


def test_identities_pass_everything():
    special = np.float32([np.nan, np.inf, -np.inf, 1e30, -0.0, 1 / 3])
    assert through("f32|none", special).tobytes() == special.tobytes()
    half = through("f16|none", special)
    with np.errstate(over="ignore"):
        assert half.tobytes() == special.astype(np.float16).astype(np.float32).tobytes()
    for dtype in ("float16", "float64", "int8", "uint16", "int32", "int64"):
        x = np.arange(-3, 60).astype(dtype)
        assert (through("raw|zstd:1", x) == x).all()
    truth = np.arange(30) % 3 == 0
    assert (through("raw|deflate", truth) == truth).all()


def test_other_float_widths_are_quantized_as_float32():
    for dtype in (np.float16, np.float64):
        x = dense(100).astype(dtype)
        assert np.abs(through("affine:b=8|none", x) - x).max() < 0.02
    with pytest.raises(NonFinite):
        through("affine:b=8|none", np.array([1.0, 1e300]))


def test_static_limits_clip():
    x = np.float32([-5, 0, 0.4, 1.1, 2, 1e30])
    ranges = StaticRanges((0.0,), (2.0,))
    decoded = through("affine:b=2,clip=mse|none", x, ranges=ranges)
    assert decoded == pytest.approx([0, 0, 2 / 3, 4 / 3, 2, 2], abs=1e-6)
    flat = StaticRanges((3.0,), (3.0,))
    assert (through("affine:b=2,clip=mse|none", x, ranges=flat) == 3).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_i8_tables(dtype, bits):
    ends = np.iinfo(dtype)
    q = np.arange(ends.min, ends.max + 1).astype(dtype)
    decoded = through(f"i8:b={bits}|none", q)
    step = 255 / ((1 << bits) - 1)
    assert np.abs(decoded.astype(int) - q).max() <= step / 2 + 0.5
    assert (np.diff(decoded.astype(int)) >= 0).all()
    if bits == 8:
        assert codec_of("i8:b=8|none", q).codes([q]) == q.tobytes()


def test_i8_limits_are_in_units_of_the_elements():
    q = np.arange(-128, 128).astype(np.int8)
    ranges = StaticRanges((-128.0,), (-68.0,))
    decoded = through("i8:b=4,clip=mse|none", q, ranges=ranges)
    assert np.unique(decoded).tolist() == list(range(-128, -67, 4))


def test_sums_follow_the_pinned_order():
    x = dense(5000, seed=3)
    totals = []
    for start in range(0, 5000, 1024):
        lanes = [np.float32(0)] * 16
        for k, value in enumerate(x[start : start + 1024]):
            lanes[k % 16] += value
        totals.append(_fold(lanes))
    lanes = [np.float32(0)] * 16
    for k, total in enumerate(totals):
        lanes[k % 16] += total
    assert pinned_sum(x) == _fold(lanes)


def _fold(lanes):
    for half in (8, 4, 2, 1):
        lanes = [lanes[j] + lanes[j + half] for j in range(half)]
    return lanes[0]


@pytest.mark.parametrize(
    ("codec", "dtype", "ranges"),
    [
        ("affine:b=4,clip=mse|none", "float32", None),
        ("affine:b=4|none", "float32", StaticRanges((0.0,), (1.0,))),
        ("affine:b=4,clip=mse|none", "float32", StaticRanges((1.0,), (0.0,))),
        ("affine:b=4,clip=mse|none", "float32", StaticRanges((0.0, 0.0), (1.0, 1.0))),
        ("affine:b=4,clip=mse|none", "float32", StaticRanges((0.0,), (1e300,))),
        ("affine:b=4,clip=mse|none", "float32", StaticRanges((float("nan"),), (1.0,))),
        ("affine:b=4,clip=mse,per=channel|none", "float32", StaticRanges((0.0,), (1.0,))),
        ("i8:b=4,clip=mse|none", "int8", None),
        ("i8:b=8|none", "float32", None),
        ("affine:b=4|none", "int8", None),
        ("f16|none", "int32", None),
        ("q2|none", "bool", None),
    ],
)
def test_codecs_that_do_not_fit_are_refused(codec, dtype, ranges):
    tensor = TensorSpec("t", dtype, (3, 4), "any", 0)
    with pytest.raises(ConfigError, match="'t'"):
        WaistCodec([WaistTensor(tensor, codec, ranges)])


def test_shapes_that_cannot_be_honest_are_refused():
    with pytest.raises(BundleError):
        WaistCodec([WaistTensor(TensorSpec("t", "float32", (1 << 40, 1 << 40)), "q1|none")])


def test_arrays_must_be_those_of_the_bundle():
    waist = codec_of("affine:b=4|none", dense(3, 4))
    with pytest.raises(CodecError, match="'t'"):
        waist.encode([dense(4, 3)])
    with pytest.raises(CodecError, match="'t'"):
        waist.encode([dense(3, 4).astype(np.float64)])
    with pytest.raises(CodecError, match="1 tensors"):
        waist.encode([])

"""Golden vectors, and C against NumPy, bit for bit."""

from __future__ import annotations

import base64

import codec_golden
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline.codec import native
from waistline.codec.pack import packed_size
from waistline.codec.quantizers import NumpyKernels
from waistline.codec.spec import parse_spec
from waistline.codec.tables import i8_tables
from waistline.codec.waist import WaistCodec

IMPLEMENTATIONS = [pytest.param("c", marks=pytest.mark.native), "numpy"]
RULES = ("affine", "q1", "q1h")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_golden_vectors(implementation, monkeypatch):
    monkeypatch.setenv("WAISTLINE_CODEC", implementation)
    seen = 0
    for case, array, waist in codec_golden.cases():
        codec = WaistCodec([waist])
        assert codec.implementation == implementation
        codes = base64.b64decode(case["codes"])
        assert codec.codes([array]) == codes, case["codec"]
        (decoded,) = codec.decode_codes(codes)
        assert decoded.tobytes() == base64.b64decode(case["decoded"]), case["codec"]
        assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
        seen += 1
    assert seen > 400


def test_golden_tables():
    for case, array, waist in codec_golden.cases():
        if "table" in case:
            limits = case["ranges"] and tuple(
                codec_golden.array_of(case["ranges"][end], "float32") for end in ("lo", "hi")
            )
            table, inverse = i8_tables(str(array.dtype), parse_spec(waist.codec).bits, limits)
            assert table.tobytes() == base64.b64decode(case["table"])
            assert inverse.tobytes() == base64.b64decode(case["inverse"])


@st.composite
def tensors(draw):
    """float32 (outer, channels, inner) of every kind of range, often ragged."""
    shape = draw(
        st.one_of(
            st.tuples(st.just(1), st.just(1), st.integers(1, 2100)),
            st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 80)),
            st.tuples(st.integers(1, 90), st.integers(1, 40), st.just(1)),
        )
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = random.standard_normal(shape)
    kind = draw(st.sampled_from(["dense", "relu", "grid", "flat", "bits"]))
    if kind == "relu":
        x = np.maximum(x, 0)
    elif kind == "grid":
        x = np.round(4 * x)
    elif kind == "flat":
        x[:, ::2] = 1.5
    elif kind == "bits":  # any finite float there is
        words = random.integers(0, 2**32, shape, dtype=np.uint32)
        x = np.where(words & 0x7F800000 == 0x7F800000, 0, words).astype(np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        scale = draw(st.sampled_from([1.0, 1.0, 3e37, 1e-41, 1e-30]))
        return np.clip(x * scale, -3.4e38, 3.4e38).astype(np.float32)


@pytest.mark.native
@given(x=tensors(), bits=st.integers(1, 8), squeeze=st.floats(-0.2, 0.6))
def test_c_equals_numpy(x, bits, squeeze):
    c, reference = native.kernels(), NumpyKernels()
    assert c.name == "c"
    found, expected = c.minmax(x), reference.minmax(x)
    assert [ends.tobytes() for ends in found] == [ends.tobytes() for ends in expected]
    lo, hi = found
    inner = np.float32(squeeze)
    with np.errstate(all="ignore"):
        clipped = lo - inner * (lo / 2), hi - inner * (hi - lo)
        ranges = [(True, found)] + [(False, r) for r in [clipped] if np.isfinite(r).all()]
    for within, (lo, hi) in ranges:
        for rule in RULES:
            grid, twin = c.grid(rule, bits, lo, hi), reference.grid(rule, bits, lo, hi)
            if twin is None:
                assert grid is None
                continue
            _same_codes_and_values(x, bits, grid, twin, within)
            _same_frames(x, bits, rule, None if within else (lo, hi))
    for conditional in (False, True):
        packed = np.empty((2, packed_size(x.size, 1)), np.uint8)
        values = [
            kernels.encode_q2(x, conditional, out)
            for kernels, out in zip((c, reference), packed, strict=True)
        ]
        assert values[0].tobytes() == values[1].tobytes()
        assert (packed[0] == packed[1]).all()


def _same_codes_and_values(x, bits, grid, twin, within):
    size = packed_size(x.size, bits)
    packed = np.zeros((3, size), np.uint8)
    assert grid.encode(x, packed[0], within=False)
    assert grid.encode(x, packed[1], within=within)
    assert twin.encode(x, packed[2], within=within)
    assert (packed == packed[2]).all()
    values = np.empty((2, *x.shape), np.float32)
    grid.decode(packed[0], values[0])
    twin.decode(packed[0], values[1])
    assert values[0].tobytes() == values[1].tobytes()


def _same_frames(x, bits, rule, limits):
    size, range_bytes = packed_size(x.size, bits), 0 if limits else 8 * x.shape[1]
    ranges, packed = np.zeros((2, range_bytes), np.uint8), np.zeros((2, size), np.uint8)
    values = np.empty((2, *x.shape), np.float32)
    for index, kernels in enumerate((native.kernels(), NumpyKernels())):
        coder = kernels.uniform(rule, bits, x.shape, limits, ranges[index], packed[index])
        given = np.copy(x)
        given.flags.writeable = bool(index)  # an array that nobody may write is as good
        assert coder.encode(given)
        assert coder.decode(ranges[0].tobytes(), packed[0].data, values[index])
        if not limits:
            unsound = np.full(x.shape[1] * 2, np.nan, "<f4").data.cast("B")
            assert not coder.decode(unsound, packed[0].data, values[index].copy())
    assert (ranges[0] == ranges[1]).all()
    assert (packed[0] == packed[1]).all()
    assert values[0].tobytes() == values[1].tobytes()


@pytest.mark.native
@given(
    count=st.integers(1, 2100), bits=st.integers(1, 8), seed=st.integers(0, 2**32), data=st.data()
)
def test_c_equals_numpy_on_tables_and_nonfinite(count, bits, seed, data):
    c, reference = native.kernels(), NumpyKernels()
    random = np.random.default_rng(seed)
    q = random.integers(0, 256, count, dtype=np.uint8)
    table, inverse = i8_tables(data.draw(st.sampled_from(["int8", "uint8"])), bits, None)
    packed = np.empty((2, packed_size(count, bits)), np.uint8)
    back = np.empty((2, count), np.uint8)
    for index, kernels in enumerate((c, reference)):
        kernels.encode_table(q, table, bits, packed[index])
        kernels.decode_table(packed[index], inverse, bits, back[index])
    assert (packed[0] == packed[1]).all()
    assert (back[0] == back[1]).all()

    x = random.standard_normal((1, 1, count)).astype(np.float32)
    x[..., data.draw(st.integers(0, count - 1))] = data.draw(
        st.sampled_from([np.nan, np.inf, -np.inf])
    )
    ends = np.float32([-1]), np.float32([1])
    for kernels in (c, reference):
        assert kernels.minmax(x) is None
        assert not kernels.grid("affine", bits, *ends).encode(x, packed[0], within=False)
        assert kernels.encode_q2(x, True, np.empty(packed_size(count, 1), np.uint8)) is None

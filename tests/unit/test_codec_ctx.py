"""The context coder: C against the Python reference, round trips, damage, and what it saves."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline.codec import native
from waistline.codec.coders import _ctx_reference as reference
from waistline.codec.coders.base import CodeShape
from waistline.codec.coders.ctx import open_coder, planes_of
from waistline.codec.pack import pack, packed_size
from waistline.codec.waist import WaistCodec
from waistline.errors import CodecError, ConfigError
from waistline.tensors import TensorSpec, WaistTensor

VECTORS = Path(__file__).parents[1] / "vectors" / "codec_ctx.json"


def packed_of(codes, bits):
    packed = np.empty(packed_size(codes.size, bits), np.uint8)
    pack(codes.reshape(-1).copy(), bits, packed)
    return packed.data


def random_stream(random):
    """(packed, shape) of a small tensor; sparse, dense, smooth or constant."""
    bits = int(random.integers(1, 9))
    sizes = tuple(int(size) for size in random.integers(1, 8, random.integers(1, 5)))
    axis = int(random.integers(-1, len(sizes)))
    top = (1 << bits) - 1
    kind = random.integers(4)
    if kind == 0:
        codes = random.integers(0, top + 1, sizes)
    elif kind == 1:
        codes = random.random(sizes) ** 8 * (top + 1)
    elif kind == 2:
        codes = np.abs(np.cumsum(random.normal(0, 0.2, sizes), -1)) * (top + 1)
    else:
        codes = np.full(sizes, random.integers(top + 1))
    codes = np.clip(codes, 0, top).astype(np.uint8)
    return packed_of(codes, bits), CodeShape(sizes, None if axis < 0 else axis, bits)


def compare(count, seed):
    random = np.random.default_rng(seed)
    for _ in range(count):
        packed, shape = random_stream(random)
        stream = reference.encode(planes_of(shape), packed)
        coder = open_coder(None)
        coded = bytes(coder.compress(packed, shape))
        shrinks = len(stream) < len(packed)
        assert coded == (stream if shrinks else bytes(packed)), shape
        assert bytes(coder.decompress(memoryview(stream), len(packed), shape)) == bytes(packed)
        assert reference.decode(planes_of(shape), memoryview(stream)) == bytes(packed)
        # A damaged stream: the same verdict, and the same codes where it is another good one.
        damaged = bytearray(stream)
        if damaged:
            damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        damaged = memoryview(damaged)[: random.integers(len(damaged) + 1)]
        expected = reference.decode(planes_of(shape), damaged)
        try:
            found = bytes(coder.decompress(damaged, len(packed), shape))
        except CodecError:
            found = None
        assert found == expected, shape


@pytest.mark.native
def test_c_and_python_make_the_same_streams():
    compare(400, 1)


@pytest.mark.native
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_c_and_python_make_the_same_streams_ten_thousand_times(seed):
    compare(1000, seed)


def cases():
    return json.loads(VECTORS.read_text())["cases"]


@pytest.fixture(params=["python", pytest.param("c", marks=pytest.mark.native)])
def implementation(request, monkeypatch):
    monkeypatch.setenv("WAISTLINE_CODEC", {"python": "numpy"}.get(request.param, ""))
    return request.param


def test_golden_vectors(implementation):
    for case in cases():
        packed, stream = (base64.b64decode(case[name]) for name in ("packed", "stream"))
        shape = CodeShape(tuple(case["shape"]), case["channel_axis"], case["bits"])
        planes = planes_of(shape)
        assert [planes.planes, planes.rows, planes.columns, planes.interleaved] == case["planes"]
        coder = open_coder(None)
        if len(stream) < len(packed):
            assert bytes(coder.compress(memoryview(packed), shape)) == stream
        else:
            assert len(coder.compress(memoryview(packed), shape)) >= len(packed)
        assert bytes(coder.decompress(memoryview(stream), len(packed), shape)) == packed


def test_golden_vectors_cover_every_width_and_layout():
    seen = {(case["bits"], case["planes"][3], case["planes"][1] > 1) for case in cases()}
    assert {(bits, layout, True) for bits in range(1, 9) for layout in (True, False)} <= seen
    assert {(bits, False, False) for bits in range(1, 9)} <= seen


@pytest.mark.parametrize(
    ("shape", "axis", "planes"),
    [
        ((1, 8, 5, 6), 1, (8, 5, 6, False)),
        ((1, 5, 6, 8), 3, (8, 5, 6, True)),
        ((8, 5, 6), 0, (8, 5, 6, False)),
        ((2, 8, 5, 6), 1, (16, 5, 6, False)),
        ((2, 3, 4, 5, 6), 1, (6, 20, 6, False)),
        ((1, 128), None, (1, 1, 128, False)),
        ((1, 128), 1, (128, 1, 1, True)),
        ((1, 197, 192), None, (1, 197, 192, False)),
        ((9,), None, (1, 1, 9, False)),
        ((9,), 0, (9, 1, 1, True)),
        ((), None, (1, 1, 1, False)),
    ],
)
def test_planes_of_a_shape(shape, axis, planes):
    found = planes_of(CodeShape(shape, axis, 4))
    assert (found.planes, found.rows, found.columns, found.interleaved) == planes


@pytest.mark.parametrize("bits", range(1, 9))
def test_layouts_cost_the_same(bits):
    """The same planes, channels first or last, give the same stream."""
    first = np.clip(np.add.outer(np.arange(6), np.arange(70)) % 97, 0, (1 << bits) - 1)
    first = first.astype(np.uint8).reshape(6, 7, 10)
    coder = open_coder(None)
    one = bytes(coder.compress(packed_of(first, bits), CodeShape((6, 7, 10), 0, bits)))
    last = np.ascontiguousarray(first.transpose(1, 2, 0))
    assert one == bytes(coder.compress(packed_of(last, bits), CodeShape((7, 10, 6), 2, bits)))


def feature_map(channels, side, bits):
    random = np.random.default_rng(3)
    noise = random.standard_normal((channels, side + 4, side + 4))
    smooth = sum(noise[:, y : y + side, x : x + side] for y in range(5) for x in range(5)) / 5
    codes = np.rint(np.maximum(smooth, 0) / smooth.max() * ((1 << bits) - 1))
    return codes.astype(np.uint8)


@pytest.mark.native
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_it_beats_zlib_on_feature_maps(bits):
    codes = feature_map(64, 26, bits)
    packed = packed_of(codes, bits)
    coded = open_coder(None).compress(packed, CodeShape(codes.shape, 0, bits))
    assert len(coded) <= 0.9 * len(zlib.compress(packed, 6))


def waist_of(codec, shape=(4, 12, 10), axis=0):
    return WaistCodec([WaistTensor(TensorSpec("t", "float32", shape, "any", axis), codec)])


@pytest.mark.parametrize("quantizer", ["affine:b=4", "affine:b=5,per=channel", "q1:b=3", "q2m"])
def test_a_waist_comes_back(implementation, quantizer):
    x = np.add.accumulate(np.ones((4, 12, 10), np.float32), axis=-1)
    waist, plain = waist_of(f"{quantizer}|ctx"), waist_of(f"{quantizer}|none")
    encoded = waist.encode([x])
    assert len(encoded.payload) < len(plain.encode([x]).payload)
    assert (
        waist.decode(encoded.payload, encoded.raw_len)[0] == plain.decode_codes(plain.codes([x]))[0]
    ).all()


def test_a_constant_waist_costs_its_header_only(implementation):
    x = np.zeros((4, 12, 10), np.float32)
    waist = waist_of("affine:b=4|ctx")
    encoded = waist.encode([x])
    assert len(encoded.payload) <= 4 + 8 + 20
    assert (waist.decode(encoded.payload, encoded.raw_len)[0] == 0).all()


def test_noise_is_stored(implementation):
    noise = np.random.default_rng(0).integers(0, 256, (8, 20, 20)).astype(np.uint8)
    waist = WaistCodec([WaistTensor(TensorSpec("n", "uint8", noise.shape, "any", 0), "raw|ctx")])
    encoded = waist.encode([noise])
    assert len(encoded.payload) == waist.max_payload_bytes
    assert struct.unpack_from("<I", encoded.payload)[0] == noise.size | 1 << 31
    assert (waist.decode(encoded.payload, noise.size)[0] == noise).all()


@given(st.data())
def test_a_mutated_payload_is_refused_or_another_honest_one(data):
    x = np.sin(np.arange(480, dtype=np.float32)).reshape(4, 12, 10) ** 9
    waist = waist_of("affine:b=4,per=channel|ctx")
    payload = bytearray(waist.encode([x]).payload)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    payload = bytes(payload)[: data.draw(st.integers(0, len(payload)))]
    try:
        decoded = waist.decode(payload, waist.raw_len)
    except CodecError:
        return
    assert decoded[0].shape == x.shape


@given(st.binary(max_size=60))
def test_what_a_hostile_stream_decodes_to_encodes_to_it(data):
    shape = CodeShape((3, 5, 7), 0, 4)
    coder = open_coder(None)
    try:
        packed = coder.decompress(memoryview(data), shape.size_bytes, shape)
    except CodecError:
        return
    assert len(packed) == shape.size_bytes
    assert reference.encode(planes_of(shape), memoryview(packed)) == data


@pytest.mark.parametrize(
    ("dtype", "codec"),
    [
        ("float32", "f32|ctx"),
        ("float32", "f16|ctx"),
        ("float32", "raw|ctx"),
        ("int64", "raw|ctx"),
        ("int16", "raw|ctx"),
    ],
)
def test_wide_elements_are_refused(dtype, codec):
    with pytest.raises(ConfigError, match="up to 8 bits"):
        WaistCodec([WaistTensor(TensorSpec("t", dtype, (4, 4)), codec)])


def test_it_takes_no_argument():
    with pytest.raises(ConfigError, match="takes no argument"):
        waist_of("affine:b=4|ctx:1")


@pytest.mark.native
def test_node_and_edge_may_differ(monkeypatch):
    x = np.sin(np.arange(480, dtype=np.float32)).reshape(4, 12, 10) ** 9
    in_c = waist_of("affine:b=4|ctx")
    monkeypatch.setenv("WAISTLINE_CODEC", "numpy")
    in_python = waist_of("affine:b=4|ctx")
    assert native.library() is None
    payload = in_c.encode([x]).payload
    assert payload == in_python.encode([x]).payload
    for waist in (in_c, in_python):
        assert np.abs(waist.decode(payload, waist.raw_len)[0] - x).max() < 0.1

"""The payload of a frame: several tensors, entropy coders, and bytes that nobody honest sent."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from waistline import plugins
from waistline.codec import native
from waistline.codec.coders.base import CodeShape
from waistline.codec.waist import EncodedWaist, WaistCodec
from waistline.errors import CodecError, ConfigError
from waistline.tensors import StaticRanges, TensorSpec, WaistTensor

CODERS = "waistline.codec.coders"
STORED = 1 << 31


def smooth(*shape):
    """Compresses well."""
    return np.add.accumulate(np.ones(shape, np.float32), axis=-1)


def waist_of(*codecs, shape=(4, 12, 10)):
    return WaistCodec(
        [
            WaistTensor(TensorSpec(f"t{k}", "float32", shape, "any", 0), codec)
            for k, codec in enumerate(codecs)
        ]
    )


LARGE = ("affine:b=8,per=channel|zstd:1", "q1:b=3|deflate", "q2m|none", "f16|zstd:3", "raw|deflate")


def test_tensors_of_different_codecs_share_a_payload():
    waist = waist_of(*LARGE)
    arrays = [smooth(4, 12, 10) * (k + 1) for k in range(len(LARGE))]
    encoded = waist.encode(arrays)
    assert encoded.raw_len == 480 + 180 + 60 + 960 + 1920
    assert len(encoded.payload) < waist.max_payload_bytes
    decoded = waist.decode(memoryview(encoded.payload), encoded.raw_len)
    again = waist.decode_codes(waist.codes(arrays))
    for one, other, array in zip(decoded, again, arrays, strict=True):
        assert (one == other).all()
        assert one.shape == array.shape
    assert (decoded[4] == arrays[4]).all()


def test_two_tensors_of_one_codec_do_not_share_memory():
    waist = waist_of("affine:b=8|none", "affine:b=8|none")
    arrays = [smooth(4, 12, 10), -smooth(4, 12, 10)]
    decoded = waist.decode(waist.encode(arrays).payload, waist.raw_len)
    assert np.abs(decoded[0] - arrays[0]).max() < 0.1
    assert np.abs(decoded[1] - arrays[1]).max() < 0.1
    kept = decoded[0].copy()
    waist.decode(waist.encode(arrays[::-1]).payload, waist.raw_len)
    assert (decoded[0] == kept).all()


def test_the_layout_of_a_frame():
    waist = waist_of("affine:b=4|none", shape=(2, 3))
    x = np.float32([[0, 1, 2], [3, 4, 15]])
    assert waist.encode([x]) == EncodedWaist(
        struct.pack("<Iff", 3 | STORED, 0, 15) + bytes([0x10, 0x32, 0xF4]), 3
    )
    assert waist.max_payload_bytes == 4 + 8 + 3


@pytest.mark.parametrize("coder", ["deflate", "zstd:1", "zstd:-5", "zstd:19"])
def test_what_does_not_shrink_is_stored(coder):
    noise = np.random.default_rng(0).integers(0, 256, 4000).astype(np.uint8)
    waist = WaistCodec([WaistTensor(TensorSpec("n", "uint8", (4000,)), f"raw|{coder}")])
    encoded = waist.encode([noise])
    assert len(encoded.payload) == waist.max_payload_bytes == 4004
    assert struct.unpack_from("<I", encoded.payload)[0] == 4000 | STORED
    assert (waist.decode(encoded.payload, 4000)[0] == noise).all()


@pytest.mark.parametrize("name", plugins.names(CODERS))
def test_every_coder_gives_back_what_it_took(name):
    frame = np.add.outer(np.arange(40), np.arange(30)).astype(np.uint8)[..., None]
    shape = CodeShape(frame.shape, None, 8)
    coder = plugins.load(CODERS, name).open_coder(None)
    packed = memoryview(frame.tobytes())
    data = coder.compress(packed, shape)
    back = coder.decompress(memoryview(bytes(data)), len(packed), shape)
    assert len(back) == len(packed)
    difference = np.abs(np.frombuffer(back, np.uint8).astype(int) - frame.reshape(-1))
    assert difference.max() <= (12 if name == "jpeg" else 0)
    for damaged in (b"", bytes(data)[:-3], bytes(data) + b"more", b"\xff" * 50):
        try:
            back = coder.decompress(memoryview(damaged), len(packed), shape)
        except CodecError:
            continue
        # Image readers look no further than the end marker and mend a torn end; never the size.
        assert name in {"png", "jpeg"}
        assert len(back) == len(packed)


@pytest.mark.parametrize(
    "codec",
    ["raw|none:1", "raw|deflate:0", "raw|deflate:10", "raw|zstd:99", "jpeg:0", "png:3"],
)
def test_arguments_out_of_range_are_refused(codec):
    with pytest.raises(ConfigError):
        WaistCodec([WaistTensor(TensorSpec("f", "uint8", (8, 8, 3)), codec)])


@pytest.mark.parametrize("channels", [1, 3])
def test_sensor_frames(channels):
    frame = np.random.default_rng(1).integers(0, 9, (20, 30, channels)).astype(np.uint8)
    tensor = TensorSpec("frame", "uint8", frame.shape)
    png = WaistCodec([WaistTensor(tensor, "png")])
    encoded = png.encode([frame])
    assert encoded.payload[4:8] == b"\x89PNG"
    assert (png.decode(encoded.payload, encoded.raw_len)[0] == frame).all()
    jpeg = WaistCodec([WaistTensor(tensor, "jpeg:95")])
    encoded = jpeg.encode([frame])
    assert encoded.payload[4:6] == b"\xff\xd8"
    assert jpeg.decode(encoded.payload, encoded.raw_len)[0].shape == frame.shape


def test_images_of_another_size_are_refused_before_decoding():
    waist = WaistCodec([WaistTensor(TensorSpec("frame", "uint8", (400, 400, 3)), "png")])
    target = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(target, "PNG")
    bomb = target.getvalue()
    with _bounded(1 << 20), pytest.raises(CodecError, match="12000"):
        waist.decode(struct.pack("<I", len(bomb)) + bomb, waist.raw_len)


@pytest.mark.parametrize(
    ("dtype", "shape"), [("uint8", (8, 8)), ("uint8", (8, 8, 2)), ("int8", (8, 8, 3))]
)
def test_image_coders_refuse_other_tensors(dtype, shape):
    with pytest.raises(ConfigError, match="png"):
        WaistCodec([WaistTensor(TensorSpec("x", dtype, shape), "png")])


class _bounded:
    """Fails if the block's allocations peak above ``limit_bytes``."""

    def __init__(self, limit_bytes):
        self._limit = limit_bytes

    def __enter__(self):
        tracemalloc.start()

    def __exit__(self, *_):
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < self._limit


BOMB_BYTES = 1 << 26


def _zstd_bombs():
    zeros = bytes(BOMB_BYTES)
    yield zstandard.ZstdCompressor(write_content_size=True).compress(zeros)
    yield zstandard.ZstdCompressor(write_content_size=False).compress(zeros)
    # An honest-looking header in front: content size 480, then blocks of far more.
    honest = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(480))
    yield honest + zstandard.ZstdCompressor().compress(zeros)
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    yield skippable + zstandard.ZstdCompressor().compress(zeros)


@pytest.mark.parametrize(
    "bomb", list(_zstd_bombs()), ids=["sized", "unsized", "second", "skippable"]
)
def test_zstd_bombs_are_refused_small(bomb):
    waist = waist_of("raw|zstd:1", shape=(50, 100))
    payload = struct.pack("<I", len(bomb)) + bomb
    with _bounded(1 << 20), pytest.raises(CodecError):
        waist.decode(payload, waist.raw_len)


def test_deflate_bombs_are_refused_small():
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeezer.compress(bytes(1 << 23)) + squeezer.flush()
    waist = waist_of("raw|deflate", shape=(50, 100))
    with _bounded(1 << 20), pytest.raises(CodecError):
        waist.decode(struct.pack("<I", len(bomb)) + bomb, waist.raw_len)


def _frame(waist):
    return waist.encode([smooth(4, 12, 10)] * len(waist._entries)).payload


@pytest.mark.parametrize("codec", LARGE)
def test_hostile_lengths(codec):
    waist = waist_of(codec)
    good = _frame(waist)
    with pytest.raises(CodecError, match="packed bytes announced"):
        waist.decode(good, waist.raw_len + 1)
    with pytest.raises(CodecError):
        waist.decode(good + b"\0", waist.raw_len)
    for cut in range(0, len(good), max(1, len(good) // 60)):
        with pytest.raises(CodecError):
            waist.decode(good[:cut], waist.raw_len)
    for length in (0, 1, waist.raw_len, STORED, STORED | (waist.raw_len - 1), 0xFFFFFFFF):
        with pytest.raises(CodecError):
            waist.decode(struct.pack("<I", length) + good[4:], waist.raw_len)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("ends", [(NAN, 1), (0, NAN), (-INFINITY, 0), (0, INFINITY), (1, 0)])
@pytest.mark.parametrize("codec", ["affine:b=4|none", "q1:b=4|none", "q1h:b=8|none"])
def test_hostile_ranges(codec, ends):
    waist = waist_of(codec)
    good = _frame(waist)
    with pytest.raises(CodecError, match="range"):
        waist.decode(good[:4] + struct.pack("<ff", *ends) + good[12:], waist.raw_len)


@pytest.mark.parametrize("codec", ["q2|none", "q2m|none"])
def test_hostile_decode_values(codec):
    waist = waist_of(codec)
    good = _frame(waist)
    with pytest.raises(CodecError, match="finite"):
        waist.decode(good[:4] + struct.pack("<ff", 0, INFINITY) + good[12:], waist.raw_len)


def test_hostile_padding_and_truth_values():
    waist = waist_of("affine:b=3|none", shape=(3,))
    good = bytearray(waist.encode([np.float32([1, 2, 3])]).payload)
    good[-1] |= 0x80
    with pytest.raises(CodecError, match="last code"):
        waist.decode(bytes(good), waist.raw_len)
    truth = WaistCodec([WaistTensor(TensorSpec("b", "bool", (3,)), "raw|none")])
    with pytest.raises(CodecError, match="truth"):
        truth.decode(struct.pack("<I", 3 | STORED) + b"\0\1\2", 3)


MUTATED = waist_of(*LARGE)
GOOD = _frame(MUTATED)


@given(data=st.data())
def test_mutated_frames_decode_to_the_right_shape_or_not_at_all(data):
    frame = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = MUTATED.decode(bytes(frame), MUTATED.raw_len)
    except CodecError:
        return
    assert [array.shape for array in arrays] == [(4, 12, 10)] * len(LARGE)


@given(noise=st.binary(max_size=200))
def test_corrupt_noise_never_decodes_but_by_the_codec_error(noise):
    try:
        MUTATED.decode(noise, MUTATED.raw_len)
    except CodecError:
        return
    raise AssertionError("noise is far too short for this waist")


def test_decode_codes_checks_its_length():
    waist = waist_of("affine:b=4|none")
    codes = waist.codes([smooth(4, 12, 10)])
    for bad in (codes[:-1], codes + b"\0", b""):
        with pytest.raises(CodecError):
            waist.decode_codes(bad)


def test_static_codecs_carry_no_ranges():
    tensor = TensorSpec("t", "float32", (480,))
    ranges = StaticRanges((0.0,), (10.0,))
    waist = WaistCodec([WaistTensor(tensor, "affine:b=4,clip=mse|none", ranges)])
    assert waist.max_payload_bytes == 4 + 240
    assert len(waist.codes([smooth(480)])) == 240


def test_the_environment_chooses_the_implementation(monkeypatch):
    monkeypatch.setenv("WAISTLINE_CODEC", "numpy")
    assert not native.available()
    assert "WAISTLINE_CODEC=numpy" in native.reason()
    assert waist_of("q2|none").implementation == "numpy"
    monkeypatch.setenv("WAISTLINE_CODEC", "fortran")
    with pytest.raises(ConfigError, match="fortran"):
        waist_of("q2|none")


def test_a_missing_or_foreign_library_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("WAISTLINE_CODEC", "")
    native._load.cache_clear()
    try:
        monkeypatch.setattr(native, "LIBRARY", tmp_path / "none.so")
        assert "without a C compiler" in native.reason()
        assert waist_of("q2|none").implementation == "numpy"
        monkeypatch.setenv("WAISTLINE_CODEC", "c")
        with pytest.raises(ConfigError, match="not available"):
            waist_of("q2|none")
        native._load.cache_clear()
        (tmp_path / "text.so").write_text("not a library")
        monkeypatch.setattr(native, "LIBRARY", tmp_path / "text.so")
        assert "does not load" in native.reason()
    finally:
        native._load.cache_clear()


@pytest.mark.native
def test_a_library_of_another_version_is_not_used(monkeypatch):
    native._load.cache_clear()
    monkeypatch.setattr(native, "VERSION", native.VERSION + 1)
    try:
        assert "install the package again" in native.reason()
    finally:
        native._load.cache_clear()

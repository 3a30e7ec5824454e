"""JPEG and WebP of frames and of waists as mosaics: geometry, round trips, hostile payloads."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from waistline.codec.coders._mosaic import mosaic_of
from waistline.codec.coders.base import CodeShape
from waistline.codec.spec import parse_spec
from waistline.codec.waist import WaistCodec
from waistline.errors import CodecError, ConfigError
from waistline.tensors import TensorSpec, WaistTensor

SHAPES = [
    ((1, 7, 5, 6), 1),
    ((1, 5, 6, 7), 3),
    ((7, 5, 6), 0),
    ((2, 3, 4, 5, 6), 1),
    ((1, 128), None),
    ((1, 128), 1),
    ((1, 197, 192), None),
    ((9,), None),
    ((), None),
    ((1, 64, 3, 40), 1),
]


def waist_of(codec, shape=(1, 12, 10, 14), axis=1, dtype="float32"):
    return WaistCodec([WaistTensor(TensorSpec("t", dtype, shape, "any", axis), codec)])


def blobs(*shape):
    """Smooth bumps, as a convolution leaves them, float32."""
    grids = np.meshgrid(*[np.arange(size) for size in shape[-2:]], indexing="ij")
    planes = np.arange(np.prod(shape[:-2], dtype=int)).reshape(*shape[:-2], 1, 1)
    return np.maximum(np.sin(0.5 * grids[0] + planes) * np.cos(0.4 * grids[1]), 0).astype("f4")


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("signed", [False, True])
def test_every_code_comes_back_from_its_place(shape, axis, signed):
    mosaic = mosaic_of(CodeShape(shape, axis, 8, signed=signed))
    codes = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    picture = mosaic.picture(memoryview(codes.tobytes()))
    assert picture.shape == mosaic.size[::-1]
    assert mosaic.codes(picture) == codes.tobytes()
    # An empty row of cells would be a picture larger than it need be.
    assert mosaic.across * (mosaic.down - 1) < mosaic.planes.planes <= mosaic.across * mosaic.down


def test_layouts_make_the_same_nearly_square_picture():
    x = blobs(1, 24, 10, 14)
    first = mosaic_of(CodeShape((1, 24, 10, 14), 1, 8))
    last = mosaic_of(CodeShape((1, 10, 14, 24), 3, 8))
    assert first.size == last.size == (56, 60)
    codes = (255 * x).astype(np.uint8)
    one = first.picture(memoryview(codes.tobytes()))
    other = last.picture(memoryview(np.ascontiguousarray(codes.transpose(0, 2, 3, 1)).tobytes()))
    assert (one == other).all()
    assert (one[:10, 14:28] == codes[0, 1]).all()


def test_twos_complement_is_gray_in_the_order_of_its_values():
    values = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    mosaic = mosaic_of(CodeShape((16, 16), None, 8, signed=True))
    assert (mosaic.picture(memoryview(values.tobytes())).reshape(-1) == np.arange(256)).all()


def snr_db(x, decoded):
    return 10 * np.log10(np.square(x).sum() / np.square(x - decoded).sum())


@pytest.mark.parametrize("quantizer", ["affine:b=8", "affine:b=8,per=channel", "q1:b=8", "q1h:b=8"])
@pytest.mark.parametrize("coder", ["jpeg", "webp"])
def test_better_quality_costs_more_and_is_nearer(quantizer, coder):
    x = blobs(1, 12, 10, 14)
    sizes, nearness = [], []
    for quality in (20, 60, 95):
        waist = waist_of(f"{quantizer}|{coder}:{quality}")
        sent = waist.encode([x])
        assert len(sent.payload) < waist.max_payload_bytes
        sizes.append(len(sent.payload))
        nearness.append(snr_db(x, waist.decode(sent.payload, sent.raw_len)[0]))
    assert sizes == sorted(set(sizes))
    assert nearness == sorted(nearness)
    assert nearness[-1] > 20


def test_webp_without_quality_loses_nothing():
    x = blobs(1, 12, 10, 14)
    plain, picture = waist_of("affine:b=8|none"), waist_of("affine:b=8|webp")
    sent = picture.encode([x])
    assert len(sent.payload) < len(plain.encode([x]).payload)
    expected = plain.decode(plain.encode([x]).payload, plain.raw_len)[0]
    assert (picture.decode(sent.payload, sent.raw_len)[0] == expected).all()
    frame = np.random.default_rng(2).integers(0, 9, (20, 30, 3)).astype(np.uint8)
    waist = waist_of("webp", frame.shape, 2, "uint8")
    sent = waist.encode([frame])
    assert (waist.decode(sent.payload, sent.raw_len)[0] == frame).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_an_8_bit_waist_around_zero_stays_near(dtype):
    x = (40 * blobs(1, 12, 10, 14) - (10 if dtype == "int8" else 0)).astype(dtype)
    waist = waist_of("i8:b=8|jpeg:95", dtype=dtype)
    sent = waist.encode([x])
    decoded = waist.decode(sent.payload, sent.raw_len)[0]
    assert np.abs(decoded.astype(int) - x.astype(int)).max() <= 12


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", ["webp:80", "jpeg:80"])
def test_frames(codec, channels):
    y, x = np.mgrid[:40, :60]
    frame = np.repeat((3 * x + y)[..., None], channels, 2).astype(np.uint8)
    waist = waist_of(codec, frame.shape, 2, "uint8")
    sent = waist.encode([frame])
    decoded = waist.decode(sent.payload, sent.raw_len)[0]
    assert np.abs(decoded.astype(int) - frame).mean() < 5
    assert len(sent.payload) < frame.size / 2


@pytest.mark.parametrize("quality", [90, 92, 94, 95, 100])
def test_a_frame_of_noise_has_a_jpeg_at_every_quality(quality):
    """At 92 and 94 it is larger than the buffer that Pillow makes for tables of its own."""
    noise = np.random.default_rng(0).integers(0, 2, (320, 400, 3), dtype=np.uint8) * 255
    waist = waist_of(f"jpeg:{quality}", noise.shape, 2, "uint8")
    sent = waist.encode([noise])
    decoded = waist.decode(sent.payload, sent.raw_len)[0]
    assert np.corrcoef(decoded.ravel(), noise.ravel())[0, 1] > 0.5


@pytest.mark.parametrize(
    "text", ["jpeg:75", "webp", "webp:80", "affine:b=8|jpeg:75", "q1:b=8|webp"]
)
def test_specs_in_canonical_form(text):
    assert str(parse_spec(text)) == text
    assert parse_spec(text).codes_frame == ("|" not in text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("affine:b=4|jpeg:75", "affine has 4 bit"),
        ("q2|webp:50", "q2 has 1 bit"),
        ("f32|jpeg:75", "f32 does not quantize"),
        ("f16|webp", "f16 does not quantize"),
        ("affine:b=8|png", "png codes the sensor frame"),
    ],
)
def test_other_widths_are_refused_with_one_that_works(text, says):
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert says in caught.value.cause
    parse_spec(caught.value.fix.split("'")[1])


@pytest.mark.parametrize("codec", ["jpeg:101", "webp:0", "affine:b=8|webp:101", "jpeg:-3"])
def test_qualities_out_of_range_are_refused(codec):
    shape, axis, dtype = ((8, 8, 3), 2, "uint8") if "|" not in codec else ((8, 8, 3), 2, "float32")
    with pytest.raises(ConfigError, match="1 to 100"):
        waist_of(codec, shape, axis, dtype)


def test_a_picture_too_long_for_the_format_is_refused():
    with pytest.raises(ConfigError, match="20000 x 1 pixels, webp takes 16383"):
        waist_of("affine:b=8|webp:50", (20_000,), None)
    with pytest.raises(ConfigError, match="17000 x 2"):
        waist_of("webp:50", (2, 17_000, 1), 2, "uint8")
    assert waist_of("affine:b=8|jpeg:50", (20_000,), None).raw_len == 20_000


def picture(kind, size, mode="L", **options):
    target = io.BytesIO()
    Image.effect_noise(size, 40).convert(mode).save(target, kind, **options)
    return target.getvalue()


LARGE = {"jpeg": "affine:b=8|jpeg:75", "webp": "affine:b=8|webp:75", "lossless": "affine:b=8|webp"}
BIG = (1, 64, 60, 60)  # a picture of 480 x 480
RANGES = struct.pack("<ff", 0, 1)


def decode(codec, data):
    waist = waist_of(codec, BIG)
    frame = struct.pack("<I", len(data)) + RANGES + data
    return waist.decode(frame, waist.raw_len)


def test_the_honest_picture_of_these_tests_decodes():
    assert decode(LARGE["jpeg"], picture("JPEG", (480, 480)))[0].shape == BIG
    assert decode(LARGE["webp"], picture("WEBP", (480, 480)))[0].shape == BIG


@pytest.mark.parametrize(
    ("coder", "data"),
    [
        ("jpeg", picture("JPEG", (8000, 480), quality=1)),
        ("jpeg", picture("JPEG", (480, 480), "RGB", quality=5)),
        ("jpeg", picture("JPEG", (480, 480), quality=5, progressive=True)),
        ("jpeg", picture("JPEG", (480, 480), quality=5) + b"\xff\xd9"),
        ("jpeg", picture("JPEG", (480, 480), quality=5)[:-2]),
        ("jpeg", picture("JPEG", (480, 480), quality=5)[:2000]),
        ("jpeg", picture("JPEG", (480, 480), quality=5, comment="hello")),
        ("jpeg", b"\xff\xd8" * 40),
        ("jpeg", b""),
        ("webp", picture("WEBP", (4000, 480), quality=1)),
        ("webp", picture("WEBP", (480, 480), quality=5) + b"\0\0"),
        ("webp", picture("WEBP", (480, 480), quality=5)[:-2]),
        ("webp", picture("WEBP", (480, 480), quality=5, exif=b"Exif\0\0MM\0*more")),
        ("webp", picture("WEBP", (480, 480), "1", lossless=True)),
        ("webp", picture("JPEG", (480, 480), quality=5)),
        ("webp", b"RIFF" + bytes(40)),
        ("webp", b""),
        ("lossless", picture("WEBP", (480, 480), quality=5)),
        ("lossless", picture("WEBP", (300, 300), "1", lossless=True)),
    ],
)
def test_other_pictures_are_refused(coder, data):
    with pytest.raises(CodecError):
        decode(LARGE[coder], data)


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_that_announces_gigabytes_allocates_nothing(lossless):
    data = bytearray(picture("WEBP", (480, 480), "1", lossless=lossless))
    if lossless:
        struct.pack_into("<I", data, 21, 16_382 | 16_382 << 14)
    else:
        struct.pack_into("<HH", data, 26, 16_383, 16_383)
    waist = waist_of(LARGE["lossless" if lossless else "webp"], BIG)
    tracemalloc.start()
    with pytest.raises(CodecError, match="16383"):
        waist.decode(struct.pack("<I", len(data)) + RANGES + bytes(data), waist.raw_len)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def chunk(name, content):
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def test_a_png_brings_pixels_only():
    """Pillow inflates text on opening, a megabyte for each kilobyte here."""
    waist = waist_of("png", (480, 480, 1), 2, "uint8")
    plain = io.BytesIO()
    Image.new("L", (480, 480)).save(plain, "PNG")
    plain = plain.getvalue()
    assert waist.decode(struct.pack("<I", len(plain)) + plain, waist.raw_len)[0].max() == 0
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9))
    for bad in (plain[:33] + 40 * text + plain[33:], plain + b"more", plain[:-12], plain[:50]):
        tracemalloc.start()
        with pytest.raises(CodecError):
            waist.decode(struct.pack("<I", len(bad)) + bad, waist.raw_len)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def test_a_second_size_in_a_jpeg_is_refused():
    small, large = picture("JPEG", (480, 480), quality=5), picture("JPEG", (16, 16), quality=5)
    at = large.index(b"\xff\xc0")
    segment = large[at : at + 2 + 11]
    with pytest.raises(CodecError, match="one scan"):
        decode(LARGE["jpeg"], small[:2] + segment + small[2:])


FRAMES = {name: waist_of(codec) for name, codec in LARGE.items()}
GOOD = {name: waist.encode([blobs(1, 12, 10, 14)]).payload for name, waist in FRAMES.items()}


@pytest.mark.parametrize("name", sorted(LARGE))
@given(data=st.data())
def test_mutated_pictures_decode_to_the_right_shape_or_not_at_all(name, data):
    frame = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(4, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = FRAMES[name].decode(bytes(frame), FRAMES[name].raw_len)
    except CodecError:
        return
    assert arrays[0].shape == (1, 12, 10, 14)


@pytest.mark.parametrize("name", sorted(LARGE))
@given(noise=st.binary(max_size=300))
def test_noise_is_refused(name, noise):
    with pytest.raises(CodecError):
        decode(LARGE[name], noise)

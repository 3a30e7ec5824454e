"""Video files as frames: exact pixels, damage in the middle, and files that lie."""

import struct

import numpy as np
import pytest

from waistline.errors import ConfigError
from waistline.tensors import TensorSpec
from waistline_node.sources.base import SourceOptions, UnreadableFrame, open_source

av = pytest.importorskip("av", reason="the extra video is not installed")

HEIGHT, WIDTH = 48, 64


def options(channels=3, height=HEIGHT, width=WIDTH, **more):
    return SourceOptions((TensorSpec("frame", "uint8", (height, width, channels)),), True, **more)


def pictures(count, channels=3):
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (count, HEIGHT, WIDTH, channels), np.uint8)


def film(path, images, codec="ffv1", pixels=None):
    """``images`` (N, H, W, 1 or 3) as a video file; ffv1 loses nothing."""
    grey = images.shape[3] == 1
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = pixels or ("gray" if grey else "bgr0")
        for image in images:
            array, name = (image[:, :, 0], "gray") if grey else (image, "rgb24")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=name)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames(source):
    found = []
    while (frame := source.read()) is not None:
        found.append(frame)
    source.close()
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_pictures_come_exactly_and_in_order(tmp_path, channels, suffix):
    images = pictures(4, channels)
    source = open_source(str(film(tmp_path / f"a{suffix}", images)), options(channels))
    assert not source.live
    found = frames(source)
    assert [frame.name for frame in found] == [f"a{suffix}[{i}]" for i in range(4)]
    for frame, image in zip(found, images, strict=True):
        assert frame.arrays[0].flags.owndata or frame.arrays[0].base.flags.owndata
        assert frame.arrays[0].flags.c_contiguous
        np.testing.assert_array_equal(frame.arrays[0], image)


def test_colour_and_grey_are_converted(tmp_path):
    red = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    red[..., 0] = 255
    path = film(tmp_path / "red.mkv", red)
    (grey, _) = frames(open_source(str(path), options(1)))
    assert grey.arrays[0].shape == (HEIGHT, WIDTH, 1)
    assert abs(int(grey.arrays[0][0, 0, 0]) - 76) <= 1  # ITU-R 601: 0.299 of 255
    path = film(tmp_path / "red.mp4", red, "mpeg4", "yuv420p")
    (colour, _) = frames(open_source(str(path), options()))
    assert np.abs(colour.arrays[0].astype(int) - red[0]).max() <= 8


def test_frames_of_another_size_are_refused_or_scaled(tmp_path):
    path = film(tmp_path / "a.mkv", np.full((2, HEIGHT, WIDTH, 3), 77, np.uint8))
    with pytest.raises(ConfigError) as caught:
        open_source(str(path), options(height=24, width=32))
    text = "\n".join(caught.value.lines())
    assert all(word in text for word in ("64x48", "[24, 32, 3]", "scale=1", "a.mkv")), text
    found = frames(open_source(f"{path}?scale=1", options(height=24, width=40)))
    assert [frame.arrays[0].shape for frame in found] == [(24, 40, 3)] * 2
    assert np.abs(found[0].arrays[0].astype(int) - 77).max() <= 1


def test_count_and_loop(tmp_path):
    path = film(tmp_path / "a.mkv", pictures(3))
    found = frames(open_source(str(path), options(count=5, loop=True)))
    assert [frame.index for frame in found] == list(range(5))
    assert [frame.name for frame in found][3:] == ["a.mkv[0]", "a.mkv[1]"]
    np.testing.assert_array_equal(found[4].arrays[0], found[1].arrays[0])
    assert len(frames(open_source(str(path), options(count=2)))) == 2


def test_a_damaged_picture_ends_its_frame_and_not_the_stream(tmp_path):
    path = film(tmp_path / "a.avi", pictures(5), "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data) - 2) if data[at : at + 3] == b"\xff\xd8\xff"]
    data[starts[2] : starts[2] + 700] = bytes(700)
    path.write_bytes(data)
    source = open_source(str(path), options())
    assert [source.read().index for _ in range(2)] == [0, 1]
    with pytest.raises(UnreadableFrame) as caught:
        source.read()
    assert caught.value.index == 2
    assert "decode" in caught.value.cause
    assert [source.read().index for _ in range(2)] == [3, 4]
    assert source.read() is None
    source.close()


def outcomes(source):
    """Whether each frame could be read."""
    found = []
    while len(found) < 100:
        try:
            frame = source.read()
        except UnreadableFrame:
            found.append(False)
            continue
        if frame is None:
            break
        found.append(True)
    source.close()
    return found


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_file_cut_off_anywhere_comes_to_an_end(tmp_path, suffix):
    whole = film(tmp_path / f"a{suffix}", pictures(4), "mpeg4", "yuv420p").read_bytes()
    counts = []
    for part in range(17):
        path = tmp_path / f"cut{part}{suffix}"
        path.write_bytes(whole[: len(whole) * part // 16])
        try:
            source = open_source(str(path), options())
        except ConfigError:
            counts.append(0)
            continue
        found = outcomes(source)
        assert len(found) <= 5
        counts.append(found.count(True))
    assert counts[0] == 0
    assert counts[-1] == 4
    assert counts == sorted(counts)


def huge_avi(path, width, height):
    """An AVI whose header claims a picture of that size, and holds none."""

    def chunk(name, data):
        return name + struct.pack("<I", len(data)) + data

    main = struct.pack("<14I", 100_000, 0, 0, 0, 1, 0, 1, 0, width, height, 0, 0, 0, 0)
    kind = struct.pack(
        "<4s4sIHHIIIIIIII4H", b"vids", b"MJPG", *([0] * 5), 1, 10, 0, 1, 0, 0, 0, 0, 0, 0
    )
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    stream = chunk(b"LIST", b"strl" + chunk(b"strh", kind) + chunk(b"strf", form))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + stream)
    movie = chunk(b"LIST", b"movi" + chunk(b"00dc", b"\xff\xd8\xff\xd9"))
    path.write_bytes(chunk(b"RIFF", b"AVI " + header + movie))
    return path


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (65_536, 1 << 12)])
@pytest.mark.parametrize("scale", ["", "?scale=1"])
def test_an_absurd_size_is_refused_before_anything_is_allocated(tmp_path, size, scale):
    path = huge_avi(tmp_path / "huge.avi", *size)
    with pytest.raises(ConfigError) as caught:
        open_source(f"{path}{scale}", options())
    assert caught.value.cause


def test_a_picture_larger_than_its_header_says_is_one_bad_frame(tmp_path):
    small = film(tmp_path / "small.avi", pictures(1), "mjpeg", "yuvj420p").read_bytes()
    image = small[small.index(b"\xff\xd8\xff") :]
    size = image.index(b"\xff\xc0") + 5
    liar = image[:size] + struct.pack(">HH", 60_000, 60_000) + image[size + 4 :]
    path = tmp_path / "liar.avi"
    path.write_bytes(small.replace(image, liar))
    source = open_source(str(path), options())
    with pytest.raises(UnreadableFrame):
        source.read()
    assert source.read() is None
    source.close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
        b"ffconcat version 1.0\nfile 'film.mkv'\n",
        b"<?xml version='1.0'?><MPD/>",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 26\n",
    ],
    ids=["empty", "zeros", "playlist", "concat", "dash", "sdp"],
)
def test_a_file_that_names_others_is_no_video(tmp_path, content):
    film(tmp_path / "film.mkv", pictures(1))
    path = tmp_path / "list.mp4"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"list\.mp4"):
        open_source(str(path), options())


def test_a_source_of_pictures_needs_a_task_and_a_file(tmp_path):
    film(tmp_path / "film.mkv", pictures(1))
    inputs = SourceOptions((TensorSpec("x", "float32", (1, 3, 4, 4)),), image=False)
    with pytest.raises(ConfigError) as caught:
        open_source(str(tmp_path / "film.mkv"), inputs)
    assert "--task" in caught.value.fix
    with pytest.raises(ConfigError, match="no video"):
        open_source(f"video:{tmp_path}/none.mkv", options())
    with pytest.raises(ConfigError, match="options"):
        open_source(f"{tmp_path}/film.mkv?rate=3", options())


def test_a_codec_that_nothing_here_decodes_is_named(tmp_path):
    path = film(tmp_path / "strange.mkv", pictures(2))
    data = path.read_bytes()
    assert data.count(b"V_FFV1") == 1
    path.write_bytes(data.replace(b"V_FFV1", b"V_XXXX"))
    with pytest.raises(ConfigError, match=r"cannot be read as a video; .*decode"):
        open_source(str(path), options())

"""Sound as frames: exact samples, exact windows, labels, and files that lie about themselves."""

import struct
import wave

import numpy as np
import pytest

from waistline.errors import ConfigError
from waistline.task.data.base import DataContext
from waistline.task.data.wav import open_data
from waistline.task.riff import open_wav
from waistline.task.windows import fit_window
from waistline.tensors import TensorSpec
from waistline_node.sources.base import SourceOptions, UnreadableFrame, open_source, path_of

RATE = 8000


def spec(*shape, dtype="float32", **more):
    return TensorSpec("x", dtype, shape, **more)


def options(tensor, **more):
    return SourceOptions((tensor,), image=False, **more)


def chunk(name, data, size=None):
    return (
        name
        + struct.pack("<I", len(data) if size is None else size)
        + data
        + b"\0" * (len(data) % 2)
    )


def fmt(tag=1, channels=1, bits=16, rate=RATE, row=None, extra=b""):
    row = channels * bits // 8 if row is None else row
    return chunk(
        b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * row, row, bits) + extra
    )


def riff(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def sound(path, samples, *, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return path


def frames(source):
    found = []
    while (frame := source.read()) is not None:
        found.append(frame)
    source.close()
    return found


@pytest.mark.parametrize(
    ("header", "data", "values"),
    [
        (fmt(bits=8), bytes([0, 128, 255]), [-1, 0, 127 / 128]),
        (fmt(bits=16), struct.pack("<3h", -32768, 1, 32767), [-1, 1 / 32768, 32767 / 32768]),
        (fmt(bits=24), bytes.fromhex("000080 010000 ffff7f"), [-1, 2**-23, 1 - 2**-23]),
        (fmt(bits=32), struct.pack("<3i", -(2**31), 256, 2**31 - 1), [-1, 2**-23, 1 - 2**-24]),
        (fmt(tag=3, bits=32), struct.pack("<3f", -1.5, 0.25, 3), [-1.5, 0.25, 3]),
    ],
    ids=["u8", "s16", "s24", "s32", "f32"],
)
@pytest.mark.parametrize("extensible", [False, True])
def test_every_sample_format_is_read_exactly(tmp_path, header, data, values, extensible):
    if extensible:
        tag = header[8:10]
        tail = bytes.fromhex("000000001000800000aa00389b71")
        header = fmt(0xFFFE, bits=header[22], extra=struct.pack("<HHI", 22, 0, 0) + tag + tail)
    path = tmp_path / "a.wav"
    path.write_bytes(
        riff(chunk(b"LIST", b"odd"), header, chunk(b"data", data), chunk(b"cue ", b""))
    )
    wav = open_wav(path)
    assert (wav.rate_hz, wav.channels, wav.samples) == (RATE, 1, 3)
    found = wav.read(0, 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0], np.array(values, np.float32))
    np.testing.assert_array_equal(wav.read(1, 1)[:, 0], np.float32(values[1:2]))


def test_a_stream_of_unknown_length_ends_with_the_file(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(fmt(), chunk(b"data", bytes(10), 0xFFFFFFFF)))
    assert open_wav(path).samples == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not RIFF"),
        (b"RIFF\x10\0\0\0AVI LIST", "not RIFF"),
        (riff(), "ends before"),
        (riff(chunk(b"data", bytes(8))), "before their format"),
        (riff(fmt(), chunk(b"data", bytes(8), 10)), "claims 10 bytes of samples and holds 8"),
        (riff(fmt(), chunk(b"data", bytes(8), 0xFFFFFFF0)), "claims 4294967280 bytes"),
        (riff(chunk(b"junk", bytes(4), 0x7FFFFFFF), fmt()), "claims 2147483647 bytes"),
        (riff(chunk(b"fmt ", bytes(8)), chunk(b"data", bytes(8))), "8 bytes"),
        (riff(fmt(tag=2, bits=4), chunk(b"data", bytes(8))), "0x0002"),
        (riff(fmt(bits=64), chunk(b"data", bytes(8))), "64 bits"),
        (riff(fmt(channels=0), chunk(b"data", bytes(8))), "0 channels"),
        (riff(fmt(channels=30000), chunk(b"data", bytes(8))), "30000 channels"),
        (riff(fmt(rate=0), chunk(b"data", bytes(8))), "0 Hz"),
        (riff(fmt(row=7), chunk(b"data", bytes(8))), "7 bytes"),
        (riff(*[chunk(b"junk", b"")] * 2000, fmt(), chunk(b"data", bytes(8))), "1000 chunks"),
        (riff(fmt(0xFFFE, extra=bytes(24)), chunk(b"data", bytes(8))), "0xfffe"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, content, words):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        open_source(str(path), options(spec(1, 4)))
    assert words in caught.value.cause
    assert "bad.wav" in caught.value.what


def test_every_cut_off_file_is_refused_or_shorter(tmp_path):
    path = tmp_path / "a.wav"
    whole = riff(fmt(), chunk(b"data", bytes(64)))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError):
            open_wav(path)


@pytest.mark.parametrize("shape", [(1, 4), (4,), (1, 1, 4), (1, 4, 1), (1, 1, 4, 1)])
def test_windows_are_exact_whatever_the_shape(tmp_path, shape):
    path = sound(tmp_path / "a.wav", np.arange(11))
    found = frames(open_source(f"{path}?hop=3&window=4", options(spec(*shape))))
    assert [frame.name for frame in found] == ["a.wav@0", "a.wav@3", "a.wav@6"]
    for frame, start in zip(found, (0, 3, 6), strict=True):
        assert frame.arrays[0].shape == shape
        assert frame.captured_s is None
        np.testing.assert_array_equal(
            frame.arrays[0].ravel() * 32768, np.arange(start, start + 4, dtype=np.float32)
        )


@pytest.mark.parametrize(
    ("rows", "hop", "count"), [(3, 1, 0), (4, 1, 1), (5, 1, 2), (7, 4, 1), (8, 4, 2), (12, 8, 2)]
)
def test_how_many_windows_a_recording_holds(rows, hop, count):
    windowing = fit_window([spec(1, 4)], 1, what="a test", hop=hop)
    assert windowing.count(rows) == count


def test_channels_are_picked_mixed_or_all_taken(tmp_path):
    path = sound(tmp_path / "a.wav", [10, 20, 30, 40], channels=2)

    def first(query, shape):
        (frame,) = frames(open_source(f"wav:{path}{query}", options(spec(*shape))))
        return (frame.arrays[0] * 32768).tolist()

    assert first("?channel=1", (1, 2)) == [[20, 40]]
    assert first("?channel=mix", (1, 2)) == [[15, 35]]
    assert first("?order=channels", (1, 2, 2)) == [[[10, 30], [20, 40]]]
    assert first("?order=rows", (1, 2, 2)) == [[[10, 20], [30, 40]]]
    assert first("?order=rows", (1, 4)) == [[10, 20, 30, 40]]
    for query, word in (("?channel=2", "channel 2"), ("?channel=-1", "'-1'"), ("", "order=rows")):
        with pytest.raises(ConfigError) as caught:
            open_source(f"{path}{query}", options(spec(1, 2, 2) if not query else spec(1, 2)))
        assert word in "\n".join(caught.value.lines())


def test_a_quantized_input_gets_codes(tmp_path):
    path = sound(tmp_path / "a.wav", [-32768, 0, 16384, 32767])
    tensor = spec(1, 4, dtype="int8", scale=1 / 128, zero_point=-3)
    (frame,) = frames(open_source(str(path), options(tensor)))
    assert frame.arrays[0].dtype == np.int8
    assert frame.arrays[0].tolist() == [[-128, -3, 61, 125]]


@pytest.mark.parametrize(
    ("tensors", "query", "words"),
    [
        ([spec(1, 4), spec(1, 4)], "", "2 inputs"),
        ([spec(1, 4, dtype="int16")], "", "int16 without a scale"),
        ([spec(1, 4)], "?window=5", "not 5"),
        ([spec(1, 4)], "?hop=0", "hop is 0"),
        ([spec(1, 2, 2)], "", "neither 4 rows"),
        ([spec(1, 4)], "?rate=16000", "8000 Hz"),
        ([spec(1, 4)], "?pace=3", "pace"),
        ([spec(1, 4)], "?hop=many", "hop"),
        ([spec(1, 4)], "?hop=2&hop=3", "twice"),
        ([spec(1, 16)], "", "10 samples, a window is 16"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_stream(tmp_path, tensors, query, words):
    path = sound(tmp_path / "a.wav", np.zeros(10))
    with pytest.raises(ConfigError) as caught:
        open_source(f"{path}{query}", SourceOptions(tuple(tensors), image=False))
    assert words in "\n".join(caught.value.lines())


def test_a_short_file_is_filled_up_when_asked(tmp_path):
    path = sound(tmp_path / "a.wav", [3, 4])
    (frame,) = frames(open_source(f"{path}?pad=1", options(spec(1, 4))))
    assert (frame.arrays[0] * 32768).tolist() == [[3, 4, 0, 0]]


def test_class_folders_are_labels_as_in_the_data_of_a_task(tmp_path):
    for name, value in (("off/1.wav", 1), ("on/1.WAV", 2), ("on/2.wav", 3)):
        sound(tmp_path / name, [value] * 8)
    (tmp_path / "on" / "notes.txt").touch()
    for classes, labels in (((), [0, 0, 1, 1, 1, 1]), (("on", "x", "off"), [2, 2, 0, 0, 0, 0])):
        source = open_source(str(tmp_path), options(spec(1, 4), classes=classes))
        assert any("8000 Hz" in remark for remark in source.remarks)
        assert source.total == 6
        found = frames(source)
        assert [frame.label for frame in found] == labels
        data = open_data(
            {"path": "."}, DataContext(tmp_path, classes=classes, inputs=(spec(1, 4),))
        )
        assert data.labelled
        assert len(data) == 6
        assert [(f.name, f.label) for f in data] == [(f.name, f.label) for f in found]
        for one, other in zip(data, found, strict=True):
            np.testing.assert_array_equal(one.arrays[0], other.arrays[0])


def test_count_and_loop(tmp_path):
    path = sound(tmp_path / "a.wav", np.arange(8))
    found = frames(open_source(str(path), options(spec(1, 4), count=3, loop=True)))
    assert [frame.name for frame in found] == ["a.wav@0", "a.wav@4", "a.wav@0"]
    assert len(frames(open_source(str(path), options(spec(1, 4), count=1)))) == 1


def test_a_bad_file_in_the_middle_is_one_bad_frame(tmp_path):
    for name in "abcde":
        sound(tmp_path / f"{name}.wav", np.ones(8))
    sound(tmp_path / "b.wav", np.ones(8), rate=44100)
    (tmp_path / "c.wav").write_bytes(b"RIFF")
    source = open_source(f"wav:{tmp_path}?rate=8000", options(spec(1, 8)))
    assert source.read().name == "a.wav"
    (tmp_path / "d.wav").write_bytes((tmp_path / "d.wav").read_bytes()[:50])
    for name, word in (("b.wav", "44100 Hz"), ("c.wav", "RIFF"), ("d.wav", "shorter")):
        with pytest.raises(UnreadableFrame) as caught:
            source.read()
        assert caught.value.name == name
        assert word in caught.value.cause
    assert source.read().index == 4
    assert source.read() is None
    with pytest.raises(ConfigError, match=r"b\.wav"):
        open_data({"path": "."}, DataContext(tmp_path, inputs=(spec(1, 8),)))


def test_a_float_that_is_no_number_is_one_bad_frame(tmp_path):
    path = tmp_path / "a.wav"
    values = struct.pack("<8f", *[0.0] * 5, float("nan"), 0.0, 0.0)
    path.write_bytes(riff(fmt(tag=3, bits=32), chunk(b"data", values)))
    source = open_source(str(path), options(spec(1, 4)))
    assert source.read().index == 0
    with pytest.raises(UnreadableFrame, match="sample 5, channel 0"):
        source.read()


def test_images_and_sounds_are_told_apart(tmp_path):
    path = sound(tmp_path / "a.wav", np.zeros(8))
    with pytest.raises(ConfigError) as caught:
        open_source(str(path), SourceOptions((spec(4, 4, 1, dtype="uint8"),), image=True))
    assert "[preprocess]" in caught.value.fix
    with pytest.raises(ConfigError, match="with \\[preprocess\\] frames are images"):
        open_data({"path": "a.wav"}, DataContext(tmp_path, frame_shape=(4, 4, 1)))
    assert path_of(f"wav:{path}?rate=8000") == path
    assert path_of(str(tmp_path)) == tmp_path
    assert path_of("camera:/dev/none?rate=3") is None


def test_data_beside_its_class_folders_or_of_no_class_is_refused(tmp_path):
    sound(tmp_path / "on" / "1.wav", np.zeros(8))
    context = DataContext(tmp_path, classes=("off",), inputs=(spec(1, 8),))
    with pytest.raises(ConfigError, match="'on' is no class"):
        open_data({"path": "."}, context)
    sound(tmp_path / "1.wav", np.zeros(8))
    with pytest.raises(ConfigError, match="beside the class folders on"):
        open_data({"path": "."}, context)
    with pytest.raises(ConfigError, match="`pace`"):
        open_data({"path": ".", "pace": 3}, context)

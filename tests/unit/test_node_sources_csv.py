"""Sensor rows as frames: windows, labels, bad lines, and pipes that are written while we read."""

import os
import threading

import numpy as np
import pytest

from waistline.errors import ConfigError
from waistline.task.data.base import DataContext
from waistline.task.data.csv import open_data
from waistline.task.rows import MAX_LINE_BYTES, Lines, number_label
from waistline.tensors import TensorSpec
from waistline_node.sources.base import LiveSource, SourceOptions, UnreadableFrame, open_source
from waistline_node.summary import Summary

WAIT_S = 60


def spec(*shape, dtype="float32", **more):
    return TensorSpec("x", dtype, shape, **more)


def options(tensor, **more):
    return SourceOptions((tensor,), image=False, **more)


def table(path, rows, header="t,ax,ay,act"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def motion(count, label=lambda i: "walk"):
    return [f"{i},{i}.5,{-i},{label(i)}" for i in range(count)]


def frames(source):
    found = []
    while (frame := source.read()) is not None:
        found.append(frame)
    source.close()
    return found


def test_windows_are_exact_in_both_orders(tmp_path):
    path = table(tmp_path / "m.csv", motion(11))
    for shape, axis in (((1, 4, 2), 2), ((1, 2, 4), 1), ((1, 1, 4, 2), 3), ((4, 2), 1)):
        text = f"{path}?columns=ay,ax&window=4&hop=3"
        found = frames(open_source(text, options(spec(*shape))))
        assert [frame.name for frame in found] == ["m.csv:2-5", "m.csv:5-8", "m.csv:8-11"]
        for frame, start in zip(found, (0, 3, 6), strict=True):
            assert frame.arrays[0].shape == shape
            assert frame.arrays[0].flags.c_contiguous
            ay, ax = np.moveaxis(frame.arrays[0], axis, 0).reshape(2, 4)
            np.testing.assert_array_equal(ax, np.arange(start, start + 4) + np.float32(0.5))
            np.testing.assert_array_equal(ay, -np.arange(start, start + 4, dtype=np.float32))


@pytest.mark.parametrize(
    ("shape", "query", "words"),
    [
        ((1, 2, 2), "?columns=ax,ay", "order=rows"),
        ((1, 8), "?columns=ax,ay", "order=rows"),
        ((1, 7), "?columns=ax,ay", "columns="),
        ((1, 2, 2, 2), "?columns=ax,ay", "neither 4 rows"),
        ((1, 4, 2), "?columns=ax,ay&order=channels", "rows come first"),
        ((1, 4, 2), "?columns=ax,ay&window=8", "window=4"),
        ((1, 4, 2), "?columns=ax,az", "t, ax, ay, act"),
        ((1, 4, 2), "?columns=ax,ay&label=kind", "'kind'"),
        ((1, 4, 2), "?columns=ax,ay&separator=pipe", "semicolon"),
        ((1, 64, 2), "?columns=ax,ay", "fewer rows"),
        ((1, 1 << 24, 2), "?columns=ax,ay", "over"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_stream(tmp_path, shape, query, words):
    path = table(tmp_path / "m.csv", motion(9))
    with pytest.raises(ConfigError) as caught:
        open_source(f"{path}{query}", options(spec(*shape)))
    assert words in "\n".join(caught.value.lines())


def test_the_option_named_decides_an_open_shape(tmp_path):
    path = table(tmp_path / "m.csv", ["0,1,2,a", "1,3,4,a"])
    for order, values in (("rows", [1, 2, 3, 4]), ("channels", [1, 3, 2, 4])):
        for shape in ((1, 2, 2), (1, 4)):
            text = f"{path}?columns=ax,ay&order={order}"
            (frame,) = frames(open_source(text, options(spec(*shape))))
            assert frame.arrays[0].ravel().tolist() == values


def test_a_row_alone_may_be_a_frame(tmp_path):
    path = table(tmp_path / "m.csv", motion(3))
    found = frames(open_source(f"{path}?columns=t,ax,ay", options(spec(1, 3))))
    assert [frame.arrays[0].tolist() for frame in found] == [[[i, i + 0.5, -i]] for i in range(3)]


def test_a_quantized_input_gets_codes(tmp_path):
    path = table(tmp_path / "m.csv", ["0,1,-1,a", "1,100,0.25,a"])
    tensor = spec(1, 2, 2, dtype="uint8", scale=0.5, zero_point=10)
    (frame,) = frames(open_source(f"{path}?columns=ax,ay&order=rows", options(tensor)))
    assert frame.arrays[0].dtype == np.uint8
    assert frame.arrays[0].tolist() == [[[12, 8], [210, 10]]]


def test_labels_are_numbered_as_in_the_data_of_a_task(tmp_path):
    path = table(tmp_path / "m.csv", motion(12, lambda i: "walk" if i < 6 else "sit"))
    query = "?columns=ax,ay&label=act"

    def labels(classes):
        source = open_source(f"{path}{query}", options(spec(1, 4, 2), classes=classes))
        return [frame.label for frame in frames(source)]

    assert labels(("sit", "walk")) == [1, None, 0]
    assert labels(None) == ["walk", None, "sit"]
    assert labels(("sit",)) == ["walk", None, 0]
    given = {"path": "m.csv", "columns": ["ax", "ay"], "label": "act"}
    context = DataContext(tmp_path, classes=("sit", "walk"), inputs=(spec(1, 4, 2),))
    data = open_data(given, context)
    assert data.labelled
    assert len(data) == 2
    assert [(f.index, f.label, f.name) for f in data] == [
        (0, 1, "m.csv:2-5"),
        (1, 0, "m.csv:10-13"),
    ]
    with pytest.raises(ConfigError, match="'walk' is neither a class"):
        open_data(given, DataContext(tmp_path, inputs=(spec(1, 4, 2),)))


def test_numbers_are_labels_unless_they_name_a_class():
    assert number_label("3", ()) == 3
    assert number_label("3", ("3", "4")) == 0
    assert number_label("-3", ()) == "-3"
    assert number_label("9" * 99, ()) == "9" * 99


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("5,nan,1,a", "column 'ax' holds 'nan'"),
        ("5,1,inf,a", "column 'ay' holds 'inf'"),
        ("5,1,1e39,a", "column 'ay' holds '1e39'"),
        ("5,1_0,1,a", "column 'ax' holds '1_0'"),
        ("5,,1,a", "column 'ax' holds ''"),
        ("5,stop,1,a", "column 'ax' holds 'stop'"),
        ("5,1,1", "3 fields"),
        ("5,1,1,a,b", "5 fields"),
        ('5,"1,1,a', "unexpected end of data"),
        ("5,\udcff,1,a", "utf-8"),
        ("9" * (MAX_LINE_BYTES + 2), "over 65536 bytes"),
    ],
)
def test_a_bad_line_spoils_its_windows_and_no_other(tmp_path, line, words):
    path = tmp_path / "m.csv"
    rows = [*motion(5), line, *motion(6)]
    text = "\n".join(["t,ax,ay,act", *rows])
    path.write_bytes(text.encode(errors="surrogateescape"))
    source = open_source(f"{path}?columns=ax,ay&hop=2", options(spec(1, 4, 2)))
    assert source.read().index == 0
    for index in (1, 2):
        with pytest.raises(UnreadableFrame) as caught:
            source.read()
        assert caught.value.index == index
        assert "line 7" in caught.value.cause
        assert words in caught.value.cause
    assert [source.read().index for _ in range(2)] == [3, 4]
    assert source.read() is None
    source.close()
    with pytest.raises(ConfigError, match="line 7"):
        open_data(
            {"path": "m.csv", "columns": ["ax", "ay"]},
            DataContext(tmp_path, inputs=(spec(1, 4, 2),)),
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"1.0,2.0\n3,4\n", "line 1 is '1.0, 2.0'"),
        (b"a,a\n1,2\n", "line 1 is 'a, a'"),
        (b"x" * 200_000, "over 65536 bytes"),
        (b"\xff\xfea\x00,\x00b", "utf-8"),
        (b"a;b\n1;2\n", "separator=semicolon"),
    ],
)
def test_a_file_without_a_first_line_is_refused(tmp_path, content, words):
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        open_source(f"{path}?columns=a,b", options(spec(1, 2, 2)))
    assert words in "\n".join(caught.value.lines())


def test_the_marks_of_other_programs_are_read(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b'\xef\xbb\xbf"a b";c\r\n\r\n1;"2"\r\n3;4')
    text = f"{path}?columns=a%20b,c&separator=semicolon&order=rows"
    (frame,) = frames(open_source(text, options(spec(1, 2, 2))))
    assert frame.arrays[0].tolist() == [[[1, 2], [3, 4]]]


def test_count_and_loop(tmp_path):
    path = table(tmp_path / "m.csv", motion(8))
    text = f"{path}?columns=ax,ay"
    found = frames(open_source(text, options(spec(1, 4, 2), count=5, loop=True)))
    assert [frame.name for frame in found] == [
        "m.csv:2-5", "m.csv:6-9", "m.csv:2-5", "m.csv:6-9", "m.csv:2-5",
    ]  # fmt: skip
    assert [frame.index for frame in found] == list(range(5))
    assert len(frames(open_source(text, options(spec(1, 4, 2), count=1)))) == 1


def test_lines_do_not_depend_on_how_the_bytes_come():
    data = b"one\n\ntwo\r\n" + b"x" * (2 * MAX_LINE_BYTES) + b"\nlast"

    def lines(size):
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        stream = Lines(lambda: next(pieces, b""))
        found = []
        while (line := stream.next()) is not None:
            found.append(line)
        return found

    for size in (1, 7, 5000, len(data)):
        one, empty, two, long, last = lines(size)
        assert (one, empty, two, last) == (b"one", b"", b"two\r", b"last")
        assert len(long) > MAX_LINE_BYTES


def test_no_line_fills_the_memory():
    class Endless:
        pieces = 200

        def read(self):
            self.pieces -= 1
            return b"y" * 65536 if self.pieces else b""

    stream = Lines(Endless().read)
    assert len(stream.next()) < 3 * 65536
    assert stream.next() is None


def test_a_line_too_long_is_told_before_its_end_comes():
    pieces = iter([b"y" * (2 * MAX_LINE_BYTES), b"y\nlast\n"])
    stream = Lines(lambda: next(pieces, b""))
    assert len(stream.next()) == MAX_LINE_BYTES + 1
    assert next(pieces, None) is not None


def test_a_file_without_an_end_is_refused():
    with pytest.raises(ConfigError, match="over 65536 bytes"):
        open_source("csv:/dev/zero", options(spec(1, 4, 2)))


@pytest.mark.parametrize("kind", ["", "csv:", "wav:", "video:"])
@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b", "x" * 300 + "?rate=1"])
def test_what_can_be_no_file_name_is_refused(kind, name):
    if kind == "video:":
        pytest.importorskip("av", reason="the extra video is not installed")
    with pytest.raises(ConfigError):
        open_source(kind + name, options(spec(1, 4, 2)))


@pytest.mark.parametrize("path", [".", "/proc/self/mem"])
def test_what_cannot_be_read_as_a_file_is_refused(path):
    with pytest.raises(ConfigError, match=r"folder|cannot be read"):
        open_source(f"csv:{path}", options(spec(1, 4, 2)))


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "sensor"
    os.mkfifo(path)
    return path


def test_a_pipe_is_live_and_read_as_it_is_written(fifo):
    source = open_source(f"csv:{fifo}?columns=ax,ay", options(spec(1, 4, 2)))
    assert isinstance(source, LiveSource)
    assert source.live
    with fifo.open("wb", buffering=0) as writer:
        writer.write(("t,ax,ay,act\n" + "\n".join(motion(4)) + "\n").encode())
        frame = source.read()
        assert frame.name == "sensor:2-5"
        assert frame.captured_s is not None
        writer.write(("\n".join(motion(4)) + "\n").encode())
        assert source.read().index == 1
    assert source.read() is None
    source.close()
    source.stop()


def test_a_pipe_may_be_waited_for(fifo):
    source = open_source(f"csv:{fifo}?live=0", options(spec(1, 4, 2)))
    assert not source.live
    source.close()


@pytest.mark.parametrize("begun", [False, True])
def test_a_reader_of_a_silent_pipe_can_be_let_go(fifo, begun):
    source = open_source(f"csv:{fifo}?columns=ax,ay", options(spec(1, 4, 2)))
    found = []
    writer = None
    if begun:
        writer = os.open(fifo, os.O_RDWR)
        os.write(writer, b"t,ax,ay,act\n1,2,3,4\n")
    reader = threading.Thread(target=lambda: found.append(source.read()), daemon=True)
    reader.start()
    source.stop()
    reader.join(WAIT_S)
    assert found == [None]
    source.close()
    if writer is not None:
        os.close(writer)


def test_a_pipe_without_the_columns_ends_the_run_with_an_error(fifo):
    source = open_source(f"csv:{fifo}?columns=ax,ay", options(spec(1, 4, 2)))
    with fifo.open("wb", buffering=0) as writer:
        writer.write(b"alpha,beta\n")
        with pytest.raises(ConfigError, match="'ax'"):
            source.read()
    source.close()


def test_a_pipe_is_not_looped(fifo):
    with pytest.raises(ConfigError, match="looped"):
        open_source(f"csv:{fifo}", options(spec(1, 4, 2), loop=True))


def test_what_a_live_source_loses_stands_in_the_summary():
    found = Summary(lost={"overtaken": 3}).as_json()
    assert found["lost"] == {"overtaken": 3}


def test_images_are_no_rows(tmp_path):
    path = table(tmp_path / "m.csv", motion(4))
    with pytest.raises(ConfigError, match="images"):
        open_source(str(path), SourceOptions((spec(4, 4, 1, dtype="uint8"),), image=True))
    with pytest.raises(ConfigError, match="images"):
        open_data({"path": "m.csv"}, DataContext(tmp_path, frame_shape=(4, 4, 1)))
    with pytest.raises(ConfigError, match=r"No such file"):
        open_data({"path": "none.csv"}, DataContext(tmp_path, inputs=(spec(1, 4, 2),)))
    with pytest.raises(ConfigError, match=r"no window"):
        open_data({"path": "m.csv", "columns": ["ax"]}, DataContext(tmp_path, inputs=(spec(1, 9),)))

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline import words
from waistline.errors import ConfigError
from waistline_node import records as module
from waistline_node.records import COLUMNS, FrameRecord, RecordWriter, read_records
from waistline_node.summary import RECENT, STAGES, Summary

TEXT = st.text(max_size=20).filter(str.isprintable)


def record(index=0, **more):
    values = {"name": f"f{index}", "label": "3", "seq": index + 1, "outcome": "remote",
              "reason": "", "started_s": 1.5, "latency_s": 0.25} | more  # fmt: skip
    return FrameRecord(index=index, **values)


@given(st.lists(st.tuples(TEXT, TEXT, st.binary(max_size=40)), max_size=8))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("records") / "r.csv"
    wanted = [
        record(index, name=name, detail=detail, answer=answer, raw_len=index, tail_s=0.125)
        for index, (name, detail, answer) in enumerate(rows)
    ]
    writer = RecordWriter(path)
    for row in wanted:
        writer.add(row)
    writer.close()
    assert list(read_records(path)) == wanted
    assert writer.written == len(wanted)


def test_a_frame_is_a_line_whatever_it_is_called(tmp_path):
    writer = RecordWriter(tmp_path / "r.csv")
    writer.add(record(name='a\nb\r"c",\x00d\ud800', detail="two\r\nlines"))
    writer.close()
    assert (tmp_path / "r.csv").read_bytes().count(b"\n") == 2
    (read,) = read_records(tmp_path / "r.csv")
    assert (read.name, read.detail) == ('a b "c", d ', "two  lines")


def test_every_column_says_its_unit_and_seconds_end_in_s(tmp_path):
    RecordWriter(tmp_path / "r.csv").close()
    header = (tmp_path / "r.csv").read_text().strip().split(",")
    assert header == list(COLUMNS)
    assert all((unit == "s") == name.endswith("_s") for name, (unit, _) in COLUMNS.items())


def test_a_large_answer_survives(tmp_path):
    writer = RecordWriter(tmp_path / "r.csv")
    writer.add(record(answer=bytes(1 << 20)))
    writer.close()
    (read,) = read_records(tmp_path / "r.csv")
    assert len(read.answer) == 1 << 20


def test_records_of_another_run_are_not_overwritten(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="exists"):
        RecordWriter(path)
    assert path.read_text() == "precious"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        RecordWriter(tmp_path / "absent" / "r.csv")
    assert "absent" in caught.value.what
    assert caught.value.fix.startswith(f"mkdir -p {tmp_path / 'absent'}")


class FullDisk:
    """A file that takes ``room`` bytes and then says that the disk is full."""

    def __init__(self, file, room):
        self._file, self.room = file, room

    def write(self, data):
        taken = min(len(data), self.room)
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= taken
        return self._file.write(data[:taken])

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_a_full_disk_is_an_error_that_counts_and_leaves_whole_lines(tmp_path):
    path = tmp_path / "r.csv"
    writer = RecordWriter(path)
    for index in range(3):
        writer.add(record(index))
    writer.flush()
    writer._file = FullDisk(writer._file, 100)
    for index in range(3, 8):
        writer.add(record(index))
    with pytest.raises(ConfigError) as caught:
        writer.flush()
    assert "No space left" in caught.value.cause
    assert caught.value.fix.startswith("free space")
    assert "3 records are in it, 5 are lost" in caught.value.cause
    assert [row.index for row in read_records(path)] == [0, 1, 2]
    assert path.read_bytes().endswith(b"\n")
    writer.close()
    assert writer.written == 3


def test_many_records_are_written_without_being_told_to(tmp_path):
    writer = RecordWriter(tmp_path / "r.csv")
    for index in range(2 * module.FLUSH_BYTES // 100):
        writer.add(record(index))
    assert writer.written > 0
    writer.close()


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\n1,2\n", "\x00", "index\n"]
)
def test_what_is_no_record_file_is_refused(tmp_path, text):
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(ConfigError):
        list(read_records(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError):
        list(read_records(path))
    with pytest.raises(ConfigError):
        list(read_records(tmp_path / "absent"))


def test_a_summary_counts_everything_and_times_what_was_answered():
    summary = Summary()
    for index in range(100):
        summary.add(record(index, latency_s=float(index), tail_s=2.0, waist_bytes=10))
    summary.add(record(100, outcome="dropped", reason="queue", latency_s=1e9))
    summary.add(record(101, outcome="error", reason="link", latency_s=1e9))
    found = summary.as_json()
    assert found["frames"] == sum(found["outcomes"].values()) == 102
    assert found["outcomes"] == {"remote": 100, "local": 0, "dropped": 1, "error": 1}
    assert found["reasons"] == {"dropped(queue)": 1, "error(link)": 1}
    assert found["waist_bytes"] == 1000
    assert found["latency_s"] == {"p50": 49.5, "p99": 99.0, "n": 100}
    assert found["stages_s"]["tail_s"] == 2.0
    assert list(found["stages_s"]) == list(STAGES)
    assert summary.verdict() is None


def test_a_summary_of_months_stays_small():
    summary = Summary()
    for _ in range(RECENT + 5):
        summary.add(record())
    assert summary.as_json()["latency_s"]["n"] == RECENT
    assert summary.frames == RECENT + 5


def test_a_summary_of_nothing():
    assert "latency_s" not in Summary().as_json()
    assert Summary().verdict() is None


def test_every_stage_has_one_name_and_one_column():
    """In records, summaries and computed tables, in the order in which a frame passes them."""
    columns = [stage.column for stage in words.STAGES]
    assert [name for name in COLUMNS if name in set(columns)] == columns == list(STAGES)
    assert len({stage.name for stage in words.STAGES}) == len(columns)
    assert [words.stage_name(key) for key in ("node_queue", "edge_queue", "total")] == [
        "node queue", "edge queue", "total",
    ]  # fmt: skip

"""Run folders: whole files or none, tables that read back, a record written last."""

import errno
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline import provenance
from waistline.bench import resolve
from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure
from waistline.run import (
    Column,
    RunFolder,
    RunRecord,
    load_run,
    new_run,
    read_table,
    table,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
COLUMNS = (
    Column("name", "text", "", "a name"),
    Column("size_bytes", "integer", "byte", "a size", "measured"),
    Column("energy_j", "number", "J"),
    Column("chosen", "flag"),
)
ROWS = (("a,b\n\"c'", 3, 1.25e-6, True), ("", None, None, False))


def a_record(folder: RunFolder) -> RunRecord:
    return RunRecord(
        name="test", started_utc="t", ended_utc="t", command=("waistline",), version="0", commit="",
        seeds={}, inputs={}, libraries=provenance.libraries(["numpy", "no-such-package"]),
        machine=provenance.machine(), threads={}, bench=resolve(), codec="c", evidence={},
        settings={}, tables=folder.tables,
        figures={"energy": Figure(1.0, "J", Evidence.MODELLED, "formula", 0.1, 3)},
    )  # fmt: skip


def test_a_table_reads_back_with_its_units(tmp_path: Path) -> None:
    folder = new_run(tmp_path, "test", now=NOW)
    written = table("sizes", COLUMNS, ROWS)
    folder.write_table(written)
    assert read_table(folder.path, "sizes") == written
    schema = msgspec.json.decode((folder.path / "sizes.schema.json").read_bytes())
    assert [column.get("unit", "") for column in schema["columns"]] == ["", "byte", "J", ""]


cells = st.tuples(
    st.text(),
    st.none() | st.integers(),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.booleans(),
)


@given(st.lists(cells, max_size=5))
def test_any_row_reads_back(rows: list) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = new_run(root, "test", now=NOW)
        folder.write_table(table("any", COLUMNS, rows))
        assert read_table(folder.path, "any").rows == tuple(rows)


def test_a_run_without_its_record_is_not_finished(tmp_path: Path) -> None:
    folder = new_run(tmp_path, "test", now=NOW)
    with pytest.raises(ConfigError, match="not a finished run"):
        load_run(folder.path)
    folder.finish(a_record(folder))
    record = load_run(folder.path)
    assert record.figures["energy"].evidence is Evidence.MODELLED
    assert record.machine.cores >= 1
    assert [row.name for row in record.libraries] == ["numpy"]


def test_names_say_when_and_never_collide(tmp_path: Path) -> None:
    paths = [new_run(tmp_path, "test", now=NOW).path.name for _ in range(3)]
    assert paths == [f"20260304T050607Z-test{end}" for end in ("", "-2", "-3")]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        new_run(tmp_path, name)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_disk_full_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = new_run(tmp_path, "test", now=NOW)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner = os if step == "fsync" else Path
    monkeypatch.setattr(owner, step, full)
    with pytest.raises(ConfigError, match="is not finished") as caught:
        folder.write_table(table("sizes", COLUMNS, ROWS))
    assert "No space left" in caught.value.cause
    with pytest.raises(ConfigError):
        folder.finish(a_record(folder))
    assert list(folder.path.iterdir()) == []
    assert folder.tables == ()


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="could not be written"):
        new_run(tmp_path / "file", "test")


def test_a_run_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = new_run(tmp_path, "test", now=NOW)
    folder.finish(msgspec.structs.replace(a_record(folder), schema_version=99))
    with pytest.raises(ConfigError, match="another version"):
        load_run(folder.path)
    (folder.path / "run.json").write_text('{"schema_version": 2, "unheard_of": 1}')
    with pytest.raises(ConfigError, match="another version"):
        load_run(folder.path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1", b'{"schema_version": "x"}'])
def test_a_damaged_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        load_run(tmp_path)


@pytest.mark.parametrize("csv", ["", "name,other\n", "name,size_bytes,energy_j,chosen\na,b\n",
                                 "name,size_bytes,energy_j,chosen\na,b,c,true\n",
                                 "name,size_bytes,energy_j,chosen\na,1,2,maybe\n"])  # fmt: skip
def test_a_table_that_does_not_fit_its_schema_is_refused(tmp_path: Path, csv: str) -> None:
    folder = new_run(tmp_path, "test", now=NOW)
    folder.write_table(table("sizes", COLUMNS, ROWS))
    (folder.path / "sizes.csv").write_text(csv)
    with pytest.raises(ConfigError, match=r"sizes\.csv"):
        read_table(folder.path, "sizes")


def half_a_run(root: Path, error: BaseException, *, finished: bool = False) -> Path:
    """A run that an error ends, as ``with`` tells it; its folder."""
    folder = new_run(root, "test", now=NOW)
    with folder as entered:
        entered.write_table(table("sizes", COLUMNS, ROWS))
        (folder.path / ".records.x").mkdir()
        if finished:
            folder.finish(a_record(folder))
        folder.__exit__(type(error), error, None)
    return folder.path


def test_an_interrupt_leaves_nothing_of_an_unfinished_run(tmp_path: Path) -> None:
    assert not half_a_run(tmp_path, KeyboardInterrupt()).exists()
    caused = ImportError("half of it")
    caused.__cause__ = KeyboardInterrupt()
    assert not half_a_run(tmp_path, caused).exists()
    assert tmp_path.exists()


def test_a_failure_or_an_end_leaves_the_run(tmp_path: Path) -> None:
    """The logs of a failure are in it."""
    assert (half_a_run(tmp_path, ConfigError("failed")) / "sizes.csv").exists()
    assert load_run(half_a_run(tmp_path, KeyboardInterrupt(), finished=True)).name == "test"
    with new_run(tmp_path, "other") as folder:
        pass
    assert folder.path.is_dir()

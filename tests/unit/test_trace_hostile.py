"""Files and values that nobody sane would give: refused in words, never a crash or a hang."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from trace_help import make

from waistline.errors import ConfigError, TraceError
from waistline.evidence import Evidence
from waistline.trace import chunks
from waistline.trace import repair as repairing
from waistline.trace.base import SIGNALS, Annotation, Block, Gap, TraceSpec
from waistline.trace.chunks import JlsFile
from waistline.trace.exporters.base import Part, export
from waistline.trace.importers.base import ImportOptions, parse_map, read_source
from waistline.trace.snapshot import SEPARATOR, parse_annotation
from waistline.trace.store import create, open_trace
from waistline.trace.sums import window_sums

POWER = TraceSpec(1000.0, (SIGNALS["power"],), "test", Evidence.SIMULATED)


def _ones(path: Path, spec: TraceSpec = POWER, count: int = 5000) -> Path:
    with create(path, spec) as writer:
        writer.write(Block(0, power_w=np.ones(count, np.float32)))
    return path


def _read_all(path: Path, options: ImportOptions | None = None) -> int:
    source = read_source(path, options)
    return sum(len(part) if isinstance(part, Block) else part.count for part in source.parts)


@pytest.mark.parametrize("suffix", ["csv", "npy", "npz", "ppk2", "parquet", "jls"])
def test_pipes_and_folders_are_not_waited_for(tmp_path: Path, suffix: str) -> None:
    pipe, folder = tmp_path / f"p.{suffix}", tmp_path / f"f.{suffix}"
    os.mkfifo(pipe)
    folder.mkdir()
    missing = tmp_path / f"missing.{suffix}"
    for path in (pipe, folder, missing):
        kind = ConfigError if path == missing and suffix != "jls" else TraceError
        with pytest.raises(kind):
            open_trace(path) if suffix == "jls" else _read_all(path)
    if suffix == "jls":
        with pytest.raises(TraceError):
            repairing.repair(pipe)


_HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "header",
    [
        *(_HEADER % shape for shape in ("(-1, 2)", "()", f"({'9' * 40}, 2)", f"({2**62}, 2)")),
        _HEADER % ("(" * 900 + ")" * 900),
        _HEADER.replace("<f4", "|O") % "(3,)",
        "-" * 9000,
        "{'descr': '<f4",
    ],
    ids=["negative", "scalar", "huge", "overflowing", "deep", "objects", "dashes", "torn"],
)
def test_array_headers_that_lie(tmp_path: Path, header: str) -> None:
    text = header.encode() + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
    options = ImportOptions(columns=parse_map("current=#1"), rate_hz=1000.0)
    with pytest.raises((TraceError, ConfigError)):
        _read_all(path, options)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("suffix", ["npz", "ppk2"])
def test_archives_damaged_anywhere(tmp_path: Path, suffix: str, method: int) -> None:
    made, array = io.BytesIO(), io.BytesIO()
    random = np.random.default_rng(method)
    np.save(array, random.random(300))
    with zipfile.ZipFile(made, "w", method) as archive:
        if suffix == "npz":
            archive.writestr("current.npy", array.getvalue())
        else:
            archive.writestr("metadata.json", '{"metadata":{"samplesPerSecond":1000}}')
            archive.writestr("session.raw", random.bytes(600))
    good, path = made.getvalue(), tmp_path / f"a.{suffix}"
    for _ in range(150):
        raw = bytearray(good)
        for place in random.integers(0, len(raw), 3).tolist():
            raw[place] = int(random.integers(256))
        path.write_bytes(raw)
        with contextlib.suppress(TraceError, ConfigError):
            _read_all(path, ImportOptions(rate_hz=1000.0))


def test_json_deeper_than_its_reader_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.ppk2"
    deep = '{"metadata":{"samplesPerSecond":5,"x":' + "[" * 100_000 + "]" * 100_000 + "}}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", deep)
        archive.writestr("session.raw", bytes(60))
    with pytest.raises(TraceError, match="sample rate"):
        _read_all(path)
    note = parse_annotation(7, "name" + SEPARATOR + '{"kind":"marker","at":3,"x":' + "[" * 100_000)
    assert note == Annotation(7.0, "marker", "name")


@pytest.mark.parametrize(
    "meta",
    [
        '{"gap":"counter","count":-5}',
        '{"gap":"counter","count":1152921504606846976}',
        '{"gap":"counter","count":5,"low":9,"high":3}',
        '{"kind":"marker","at":1e300}',
        '{"kind":"segment","at":9,"end":3}',
        '{"kind":"segment","at":9}',
    ],
)
def test_notes_that_cannot_be_are_markers(meta: str) -> None:
    assert parse_annotation(7, "name" + SEPARATOR + meta) == Annotation(7.0, "marker", "name")


def test_times_that_are_no_clock(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{place * 1e-3:.3f},1.0" for place in range(100)]
    for place in (0, 1, 50, 99):
        for text in ("nan", "inf", "-inf", "1e300", "-1e300", "1e999", "0.01"):
            some = list(rows)
            some[place] = f"{text},1.0"
            path.write_text("time_s,power_w\n" + "\n".join(some))
            with contextlib.suppress(TraceError, ConfigError):
                assert _read_all(path) <= 200


def test_a_few_rows_cannot_fill_a_disk_with_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    times = [*np.arange(100) * 1e-9, 1.0]
    path.write_text("time_s,power_w\n" + "".join(f"{time:.9f},1\n" for time in times))
    with pytest.raises(TraceError, match="equal steps") as caught:
        _read_all(path)
    assert "it lacks 999,999,900 samples and has 100" in (caught.value.cause or "")


def test_a_table_of_few_bytes_and_many_rows_is_refused(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    with parquet.ParquetWriter(path, arrow.schema([("current", arrow.float32())])) as out:
        for _ in range(18):
            out.write_table(arrow.table({"current": np.zeros(1_000_000, np.float32)}))
    with pytest.raises(TraceError, match="does not look like a recording"):
        read_source(path, ImportOptions(rate_hz=1000.0))
    empty = arrow.table(
        {"time": arrow.array([None, 1, 2], arrow.timestamp("ns")), "power": [1.0] * 3}
    )
    parquet.write_table(empty, path)
    with pytest.raises(TraceError, match="empty cells"):
        _read_all(path)


def test_a_long_recording_takes_little_memory(tmp_path: Path) -> None:
    """Two bytes a sample in the file, eight in memory: 400 MB if it were held at once."""
    path = tmp_path / "a.npy"
    np.lib.format.open_memmap(path, "w+", np.int16, (50_000_000,)).flush()
    code = (
        "import resource, sys; from waistline.trace.importers.base import *\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (400 << 20,) * 2)\n"
        "options = ImportOptions(columns=parse_map('current=#1*0.001'), rate_hz=1e5)\n"
        "print(sum(len(part) for part in read_source(sys.argv[1], options).parts))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout.strip() == "50000000", done.stderr


def test_what_is_not_finite_is_lost() -> None:
    values = np.array([1, np.inf, 2, -np.inf, 3, np.nan, 4], np.float32)
    sums, missing = window_sums([(0, values)], np.array([0, 1.5, 3.25, 7]), 7)
    assert sums.tolist() == [1, 2, 7]
    assert missing.tolist() == [0.5, 0.75, 1.75]


@pytest.mark.parametrize(
    "edges", [[0.0, np.nan], [np.nan, 3.0], [0, np.inf], [-1e300, 3], [3, 0], [1.0], []]
)
def test_edges_that_are_no_places(tmp_path: Path, edges: list[float]) -> None:
    with open_trace(_ones(tmp_path / "t.jls")) as trace, pytest.raises(TraceError):
        trace.windows(np.array(edges))


@pytest.mark.parametrize("supply_v", [float("nan"), float("inf"), 1e300])
def test_a_supply_that_is_no_voltage(supply_v: float) -> None:
    with pytest.raises(TraceError, match="supply"):
        TraceSpec(1e3, (SIGNALS["current"],), "x", Evidence.SIMULATED, supply_v=supply_v)


@pytest.mark.parametrize("rate_hz", [1e-3, 0.7, 3e7, 1e10])
def test_slow_and_fast_clocks(tmp_path: Path, rate_hz: float) -> None:
    spec = TraceSpec(rate_hz, (SIGNALS["power"],), "test", Evidence.SIMULATED)
    with create(tmp_path / "t.jls", spec) as writer:
        writer.write(Block(0, power_w=np.ones(3000, np.float32)))
        writer.gap(Gap(3000, 7, "counter"))
        writer.write(Block(3007, power_w=np.ones(300, np.float32)))
    with open_trace(tmp_path / "t.jls") as trace:
        assert trace.energy().energy_j == pytest.approx(3300 / rate_hz, rel=1e-12)
        assert trace.energy().missing == 7
        export(trace, tmp_path / "t.csv")
    assert _read_all(tmp_path / "t.csv", ImportOptions(rate_hz=rate_hz)) == 3307
    if rate_hz > 1:
        times = np.loadtxt(tmp_path / "t.csv", delimiter=",", skiprows=1, usecols=0)
        assert np.diff(times) == pytest.approx(1 / rate_hz, rel=0.01)


def test_two_writers_of_one_name_do_not_share_a_file(tmp_path: Path) -> None:
    path, wait = tmp_path / "t.jls", threading.Barrier(2)
    results: list[str] = []

    def write() -> None:
        wait.wait()
        try:
            _ones(path)
            results.append("made")
        except TraceError as error:
            results.append(error.what)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(
        ["made", f"{path} exists, and a measurement is not overwritten"]
    )
    assert [child.name for child in tmp_path.iterdir()] == ["t.jls"]
    with open_trace(path) as trace:
        assert trace.length == 5000


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_exports_touch_nothing_that_is_there(tmp_path: Path, suffix: str) -> None:
    made = _ones(tmp_path / "t.jls")
    link = tmp_path / f"link.{suffix}"
    link.symlink_to(tmp_path / "nowhere")
    with open_trace(made) as trace:
        for target in (made / f"x.{suffix}", tmp_path / "none" / f"x.{suffix}", link):
            with pytest.raises(ConfigError):
                export(trace, target)
        assert link.is_symlink()
        assert not (tmp_path / "nowhere").exists()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        with pytest.raises(ConfigError):
            _limited(lambda: export(trace, tmp_path / f"big.{suffix}"), before)
    assert not (tmp_path / f"big.{suffix}").exists()


def _limited(action: object, before: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        assert callable(action)
        action()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_long_rows_are_averaged_piece_by_piece(tmp_path: Path) -> None:
    length = 700_000
    values = np.random.default_rng(0).random(length, np.float32)
    with create(tmp_path / "t.jls", POWER) as writer:
        writer.write(Block(0, power_w=values[:650_000]))
        writer.gap(Gap(650_000, length - 650_000, "counter"))
    with open_trace(tmp_path / "t.jls") as trace:
        assert export(trace, tmp_path / "t.csv", Part(every=600_000)) == 2
    rows = np.loadtxt(tmp_path / "t.csv", delimiter=",", skiprows=1)
    assert rows[:, 1] == pytest.approx(
        [values[:600_000].mean(dtype=float), values[600_000:650_000].mean(dtype=float)], rel=1e-6
    )
    assert rows[:, 2].tolist() == [0, 1]


def test_a_child_that_is_killed_leaves_the_original_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "t.jls").path
    path.write_bytes(path.read_bytes()[:-5000])
    before = path.read_bytes()
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\nfor last; do :; done\n: > "$last"; : > "$last.new"\nkill -9 $$\n')
    fake.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(repairing.sys, "executable", str(fake))
        with pytest.raises(TraceError, match="could not be mended"):
            repairing.repair(path)
    fake.unlink()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    link = tmp_path / "link.jls"
    link.symlink_to(path)
    assert repairing.repair(link).repaired
    assert link.is_symlink()
    with open_trace(path) as trace:
        assert trace.length


def test_of_a_file_of_scraps_little_is_looked_through_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sound header is followed by rubbish; looking a megabyte ahead would take hours."""
    path = _ones(tmp_path / "t.jls", count=500)
    whole = path.read_bytes()
    file = JlsFile(path)
    end = next(one for one in file.chunks() if one.tag == 0xFF)
    file.close()
    scrap = whole[end.offset : end.offset + 32] + b"\xa5" * 8
    path.write_bytes(whole[:32] + scrap * 2000)
    looked, check = [], chunks.rows_crc
    monkeypatch.setattr(chunks, "rows_crc", lambda rows: looked.append(len(rows)) or check(rows))
    file = JlsFile(path)
    assert sum(1 for _ in file.chunks(resync=True)) == 2000
    assert sum(looked) <= 2000 * 512
    file.close()

"""Other people's recordings: what they hold comes through, what they are not is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from trace_help import make

from waistline.errors import ConfigError, TraceError, WaistlineError
from waistline.evidence import Evidence
from waistline.trace.base import Gap
from waistline.trace.importers.base import Column, ImportOptions, parse_map, read_source
from waistline.trace.jls_read import JlsTrace
from waistline.trace.store import open_trace, write_source

pytest.importorskip("pyjls")

SCOPE = """Model,DS1054Z
Record Length,6

TIME,CH1,CH2
Second,Volt,Volt
-1.0e-3,0.1,5
-0.5e-3,0.2,5
0,0.3,
0.5e-3,0.4,5
2.0e-3,0.5,5
"""


def imported(path: Path, **options: object) -> JlsTrace:
    source = read_source(path, ImportOptions(**options))  # type: ignore[arg-type]
    write_source(source, path.with_suffix(".jls"))
    return open_trace(path.with_suffix(".jls"))


def test_an_oscilloscope_dump(tmp_path: Path) -> None:
    path = tmp_path / "scope.csv"
    path.write_text(SCOPE)
    columns = parse_map("time=TIME:s,current=CH1*10,voltage=CH2:V")
    with imported(path, columns=columns) as trace:
        assert trace.spec.rate_hz == 2000
        assert trace.spec.evidence is Evidence.REPLAYED
        assert trace.read("power").tolist()[:2] == [5, 10]
        # An empty cell and a hole in the times are lost samples alike.
        assert np.isnan(trace.read("power")).tolist() == [0, 0, 1, 0, 1, 1, 0]
        assert trace.gaps == (Gap(4, 2, "import"),)
        assert trace.energy().missing == 3


def test_headings_speak_for_themselves(tmp_path: Path) -> None:
    path = tmp_path / "ppk.csv"
    rows = "".join(f"{i / 100},{i * 0.5},00000010,0,1\n" for i in range(1000))
    path.write_text("Timestamp(ms),Current(uA),D0-D7,D0,D1\n" + rows)
    with imported(path, supply_v=3.0) as trace:
        assert trace.spec.rate_hz == 100_000
        assert trace.spec.bits == (0, 1)
        assert trace.read("current")[2] == pytest.approx(1e-6)
        assert trace.energy().energy_j == pytest.approx(999 * 500 * 0.5e-6 * 3 / 1e5)
        assert trace.bits("d1").all()
        assert not trace.bits("d0").any()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Zeit;Strom (mA)\n0,000;1,5\n0,001;2,5\n0,002;3,5\n", {"decimal_comma": True}),
        ("t\tI\n0\t0.0015\n.001\t.0025\n.002\t3.5e-3\n", {}),
        ("# log\n0 0.0015\n0.001 0.0025\n0.002 0.0035\n", {}),
        ('"time";"current_ma"\n"0";"1.5"\n"0.001";"2.5"\n"0.002";"3.5"\n', {}),
    ],
    ids=["decimal comma", "tabs", "blanks, no headings", "quotes"],
)
def test_tables_of_all_kinds(tmp_path: Path, text: str, options: dict[str, bool]) -> None:
    path = tmp_path / "table.txt"
    path.write_text(text)
    unit = ":mA" if "mA" in text or "ma" in text else ""
    columns = parse_map(f"time=#1:s,current=#2{unit}")
    with imported(path, columns=columns, **options) as trace:
        assert trace.spec.rate_hz == 1000
        assert trace.read("current").tolist() == pytest.approx([0.0015, 0.0025, 0.0035])


def test_a_rate_replaces_the_times(tmp_path: Path) -> None:
    path = tmp_path / "coarse.csv"
    path.write_text("time,power\n" + "".join(f"{i // 10},{i}\n" for i in range(100)))
    with pytest.raises(TraceError, match="equal steps"):
        imported(path)
    with imported(path, rate_hz=10.0) as trace:
        assert trace.spec.rate_hz == 10
        assert trace.read("power").tolist() == list(range(100))


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("", TraceError, "no table"),
        ("a line\nanother\n", TraceError, "no table"),
        ("x" * 100_000, TraceError, "characters"),
        ("volts,amps\n1,2\n", ConfigError, "rate"),
        ("one,two\n1,2\n", ConfigError, "not clear"),
        ("time,power\n0,1\n", TraceError, "fewer than two"),
        ("time,power\n0,1\n1,2\n2,oops\n", TraceError, "line 4"),
        ("time,power\n0,1\n1,2\n0.5,3\n", TraceError, "equal steps"),
        ("time,power\n0,1\n1,2\n2,3\n99999999,4\n", TraceError, "hole"),
        ("time,power\nnan,1\nnan,2\n", TraceError, ""),
    ],
)
def test_what_is_no_recording_is_refused(
    tmp_path: Path, text: str, error: type[Exception], part: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(error) as caught:
        imported(path)
    assert part in str(caught.value)
    assert not path.with_suffix(".jls").exists()


def test_maps() -> None:
    assert parse_map("current=CH1*0.1, time=t:ms,d3=a:b") == {
        "current": Column("CH1", 0.1),
        "time": Column("t", 1e-3),
        "d3": Column("a:b"),
    }
    for bad in ("current", "amps=x", "current="):
        with pytest.raises(ConfigError):
            parse_map(bad)


def test_numpy_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(300_000)
    times = np.arange(300_000) * 1e-5 + 1_700_000_000
    np.save(tmp_path / "a.npy", np.stack([times, values], 1))
    with imported(tmp_path / "a.npy", columns=parse_map("time=#1:s,power=#2:mW")) as trace:
        assert trace.spec.rate_hz == pytest.approx(1e5, rel=1e-3)
        assert np.array_equal(trace.read("power"), (values * 1e-3).astype(np.float32))
    table = np.zeros(1000, [("current_ma", "<f4"), ("d2", "?")])
    table["current_ma"], table["d2"][500:] = 2, True
    np.save(tmp_path / "b.npy", table)
    with imported(tmp_path / "b.npy", rate_hz=1e4) as trace:
        assert trace.read("current")[0] == pytest.approx(2e-3)
        assert trace.bits("d2").sum() == 500
    np.savez_compressed(tmp_path / "c.npz", power_w=values, d0=values > 0.5)
    with imported(tmp_path / "c.npz", rate_hz=1e5) as trace:
        assert np.array_equal(trace.read("power"), values.astype(np.float32))
        assert np.array_equal(trace.bits("d0"), values > 0.5)


def test_arrays_that_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "object.npy", np.array([1, "x"], object), allow_pickle=True)
    np.save(tmp_path / "cube.npy", np.zeros((4, 4, 4)))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.savez(tmp_path / "uneven.npz", power=np.zeros(5), d0=np.zeros(6))
    for path in list(tmp_path.iterdir()):
        columns = parse_map("power=#1,d0=#2" if path.suffix == ".npz" else "power=#1")
        with pytest.raises(TraceError):
            imported(path, columns=columns, rate_hz=1000.0)


def ppk2(path: Path, session: bytes, **metadata: object) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("session.raw", session)
        archive.writestr("metadata.json", json.dumps({"metadata": metadata, "formatVersion": 2}))
        archive.writestr("minimap.raw", "{}")
    return path


def test_recordings_of_the_power_profiler(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    logic = random.integers(0, 256, 400_000, np.uint8)
    frames = np.zeros(len(logic), [("current", "<f4"), ("bits", "<u2")])
    frames["current"] = random.random(len(logic)) * 1000
    frames["current"][1000:1010] = np.nan
    for bit in range(8):
        # Per line two bits: 1 always low, 2 always high.
        frames["bits"] |= np.where(logic >> bit & 1, 2, 1).astype(np.uint16) << np.uint16(2 * bit)
    path = ppk2(
        tmp_path / "r.ppk2",
        frames.tobytes() + b"abc",
        samplesPerSecond=100_000,
        startSystemTime=1.7e12,
    )
    source = read_source(path)
    assert any("voltage is not in the file" in remark for remark in source.remarks)
    assert any("torn" in remark for remark in source.remarks)
    with imported(path, supply_v=3.0) as trace:
        assert trace.length == len(logic)
        assert trace.spec.start_utc_ns == 1_700_000_000_000_000_000
        wanted = frames["current"] * np.float32(1e-6)
        assert np.array_equal(trace.read("current"), wanted, equal_nan=True)
        for bit in range(8):
            assert np.array_equal(trace.bits(f"d{bit}"), logic >> bit & 1)
        assert trace.energy().missing == 10


def test_archives_that_are_refused(tmp_path: Path) -> None:
    bomb = ppk2(tmp_path / "bomb.ppk2", bytes(80 << 20), samplesPerSecond=100_000)
    with pytest.raises(TraceError, match="does not look like a recording"):
        read_source(bomb)
    for name, metadata in (("rate", {}), ("text", {"samplesPerSecond": "fast"})):
        with pytest.raises(TraceError, match="sample rate"):
            read_source(ppk2(tmp_path / f"{name}.ppk2", b"", **metadata))
    with pytest.raises(TraceError, match="rate of 0"):
        read_source(ppk2(tmp_path / "zero.ppk2", b"", samplesPerSecond=0))
    whole = ppk2(tmp_path / "x.ppk2", np.random.default_rng(0).bytes(6000), samplesPerSecond=1000)
    data = bytearray(whole.read_bytes())
    data[100] ^= 0xFF
    (tmp_path / "flipped.ppk2").write_bytes(data)
    (tmp_path / "none.ppk2").write_bytes(b"PK")
    for name in ("flipped", "none"):
        with pytest.raises(TraceError):
            imported(tmp_path / f"{name}.ppk2")
        assert not (tmp_path / f"{name}.jls").exists()


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    files = pytest.importorskip("pyarrow.parquet")
    values = np.random.default_rng(0).random(300_000)
    ticks = 1_700_000_000_000_000_000 + np.arange(300_000) * 10_000
    lost = np.arange(300_000) == 77
    table = arrow.table(
        {
            "timestamp": arrow.array(ticks, arrow.timestamp("ns")),
            "current_ma": arrow.array(values, mask=lost),
            "d1": values > 0.5,
        }
    )
    files.write_table(table, tmp_path / "t.parquet", row_group_size=50_000)
    with imported(tmp_path / "t.parquet", supply_v=2.0) as trace:
        assert trace.spec.rate_hz == 100_000
        current = trace.read("current")
        assert np.array_equal(current[~lost], (values * 1e-3).astype(np.float32)[~lost])
        assert np.array_equal(trace.bits("d1"), values > 0.5)
        assert trace.energy().missing == 1
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(TraceError, match="no Parquet"):
        read_source(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    "text",
    ["time;current\n0,00;1,5\n0,01;1,6\n", "time (s);Current(A)\n0;1,5\n1;1,6\n2;1,7\n",
     "time\tcurrent_ma\n0,00\t1,5\n0,01\t1,6\n"],
)  # fmt: skip
def test_a_file_with_decimal_commas_names_the_option(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(WaistlineError) as caught:
        imported(path)
    assert "--decimal-comma" in caught.value.fix
    with imported(path, decimal_comma=True, columns=parse_map("time=#1,current=#2")) as trace:
        assert trace.read("current", 0, 1)[0] == 1.5


def test_a_file_that_is_not_there_is_no_damaged_recording(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_source(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TraceError, match="cannot be read"):
        read_source(tmp_path / "folder.csv")


def test_a_trace_needs_no_import(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be imported") as caught:
        read_source(tmp_path / "t.jls")
    assert "already" in caught.value.cause
    assert "trace info" in caught.value.fix


def test_other_suffixes_are_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be imported"):
        read_source(make(tmp_path / "t.jls", blocks=1).path.with_suffix(".xlsx"))

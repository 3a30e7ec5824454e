"""Traces in other formats, and as pictures."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trace_help import make, spec_of

from waistline.errors import ConfigError
from waistline.trace.base import Annotation, Block, Gap
from waistline.trace.exporters.base import Part, export
from waistline.trace.importers.base import read_source
from waistline.trace.plot import plot
from waistline.trace.store import create, open_trace, write_source

pytest.importorskip("pyjls")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_exported_comes_back(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    made = make(tmp_path / "t.jls", blocks=5, largest=5000)
    with open_trace(made.path) as trace:
        assert export(trace, tmp_path / f"t{suffix}") == trace.length
    write_source(read_source(tmp_path / f"t{suffix}"), tmp_path / "back.jls")
    with open_trace(tmp_path / "back.jls") as back:
        assert back.spec.rate_hz == 100_000
        assert np.array_equal(back.read("power"), made.power, equal_nan=True)
        assert np.array_equal(back.bits("d3"), made.logic >> 3 & 1)


def test_a_csv_is_for_a_spreadsheet(tmp_path: Path) -> None:
    with create(tmp_path / "t.jls", spec_of("power")) as writer:
        writer.write(Block(0, power_w=np.ones(600_000, np.float32)))
        writer.gap(Gap(600_000, 600_000, "ring"))
    with open_trace(tmp_path / "t.jls") as trace:
        with pytest.raises(ConfigError, match="1,200,000 rows") as caught:
            export(trace, tmp_path / "t.csv")
        assert "--every 2" in caught.value.fix
        assert not (tmp_path / "t.csv").exists()
        assert export(trace, tmp_path / "part.csv", Part(599_998, 600_002)) == 4
        rows = (tmp_path / "part.csv").read_text().splitlines()
        assert rows[0] == "time_s,power_w,gap"
        assert rows[1:] == [
            "5.999980000,1,0",
            "5.999990000,1,0",
            "6.000000000,,1",
            "6.000010000,,1",
        ]
        assert export(trace, tmp_path / "mean.csv", Part(every=100_000)) == 12
        with pytest.raises(ConfigError, match="not overwritten"):
            export(trace, tmp_path / "part.csv", Part(0, 4))
        with pytest.raises(ConfigError, match="cannot be exported"):
            export(trace, tmp_path / "x.csv", Part(5, 3))
        with pytest.raises(ConfigError, match="no exporter"):
            export(trace, tmp_path / "x.docx")


def test_averages_leave_out_what_is_lost(tmp_path: Path) -> None:
    with create(tmp_path / "t.jls", spec_of("power", "d0")) as writer:
        writer.write(
            Block(0, power_w=np.arange(7, dtype=np.float32), logic=np.eye(1, 7, 6, np.uint8)[0])
        )
        writer.gap(Gap(7, 3, "ring"))
    with open_trace(tmp_path / "t.jls") as trace:
        export(trace, tmp_path / "t.csv", Part(every=4))
    rows = (tmp_path / "t.csv").read_text().splitlines()[1:]
    assert rows == ["0.000000000,1.5,0,0", "0.000040000,5,1,1", "0.000080000,,0,1"]


def test_perfetto_shows_power_segments_and_gaps(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls")
    with open_trace(made.path) as trace:
        points = export(trace, tmp_path / "t.json")
        energy = trace.energy(made.notes[1].sample, made.notes[1].end_sample)
        duration_s = trace.duration_s
    rows = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    power = [row for row in rows if row["ph"] == "C"]
    assert len(power) == points <= duration_s * 1000
    assert power[0]["args"]["W"] == pytest.approx(np.nanmean(made.power[:100]), rel=1e-4)
    slices = {row["name"]: row for row in rows if row["ph"] == "X"}
    assert slices["layer 1"]["args"]["energy_j"] == pytest.approx(energy.energy_j)
    assert slices["layer 1"]["ts"] == pytest.approx(made.notes[1].sample * 10)
    assert "gap (counter)" in slices


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with create(tmp_path / "t.jls", spec_of("power")) as writer:
        writer.write(Block(0, power_w=np.linspace(0, 1, 200_000, dtype=np.float32)))
        writer.gap(Gap(200_000, 300, "counter", 200, 400))
        writer.write(Block(200_300, power_w=np.ones(50_000, np.float32)))
        for number in range(10):
            writer.annotate(
                Annotation(number * 20_000, "segment", f"conv{number}", number * 20_000 + 15_000)
            )
        writer.annotate(Annotation(100_000, "marker", "start"))
    with open_trace(tmp_path / "t.jls") as trace:
        plot(trace, tmp_path / "all.png")
        plot(trace, tmp_path / "all.svg")
        plot(trace, tmp_path / "few.svg", start=200_290, stop=200_310)
        with pytest.raises(ConfigError, match="no kind that is drawn"):
            plot(trace, tmp_path / "t.bmp")
    head = (tmp_path / "all.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert struct.unpack(">II", head[16:]) == (1320, 504)
    text = (tmp_path / "all.svg").read_text()
    # Names, the hatching of the gap, and what the caption says of it.
    assert all(f"conv{number}" in text for number in range(10))
    assert "<pattern" in text
    assert "a gap of unknown size" in text
    assert "<pattern" in (tmp_path / "few.svg").read_text()


def test_a_picture_says_how_many_segments_it_leaves_out(tmp_path: Path) -> None:
    rc_context = pytest.importorskip("matplotlib").rc_context
    with create(tmp_path / "t.jls", spec_of("power")) as writer:
        writer.write(Block(0, power_w=np.ones(10_000, np.float32)))
        for at in range(0, 10_000, 10):
            writer.annotate(Annotation(at, "segment", "layer", at + 5))
    with open_trace(tmp_path / "t.jls") as trace, rc_context({"svg.fonttype": "none"}):
        plot(trace, tmp_path / "all.svg")
        plot(trace, tmp_path / "part.svg", start=0, stop=1000)
    assert "400 shorter segments not drawn" in (tmp_path / "all.svg").read_text()
    assert "not drawn" not in (tmp_path / "part.svg").read_text()


def test_names_do_not_lie_over_each_other(tmp_path: Path) -> None:
    rc_context = pytest.importorskip("matplotlib").rc_context
    with create(tmp_path / "t.jls", spec_of("power")) as writer:
        writer.write(Block(0, power_w=np.ones(10_000, np.float32)))
        for at, end, text in ((2000, 6000, "conv1"), (2000, 2200, "within")):
            writer.annotate(Annotation(at, "segment", text, end))
        for at, text in ((3950, "under"), (7000, "ready"), (7001, "beside"), (7002, "third")):
            writer.annotate(Annotation(at, "marker", text))
    with open_trace(tmp_path / "t.jls") as trace, rc_context({"svg.fonttype": "none"}):
        plot(trace, tmp_path / "all.svg")
    drawn = (tmp_path / "all.svg").read_text()
    shown = {name: f">{name}<" in drawn for name in ("conv1", "ready", "beside", "under", "third")}
    assert shown == dict(conv1=True, ready=True, beside=True, under=False, third=False)


def test_reading_needs_neither_pyjls_nor_matplotlib(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls", blocks=2)
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('pyjls', 'matplotlib', 'pyarrow')))\n"
        "from waistline.trace.store import create, open_trace\n"
        "import waistline.trace.plot, waistline.trace.repair, waistline.trace.importers.base\n"
        "from waistline.errors import MissingExtra\n"
        "trace = open_trace(sys.argv[1]); trace.energy(); trace.overview('power', 0, 99, 9)\n"
        "try: create(sys.argv[1] + 'x', trace.spec)\n"
        "except MissingExtra as error: print(error.fix)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(made.path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "waistline[capture]" in done.stdout or "pyjls" in done.stdout

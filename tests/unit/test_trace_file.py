"""Traces on disk: what was written is what is read, by us and by pyjls."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trace_help import UTC_NS, make, spec_of

from waistline.errors import TraceError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Annotation, Block, Gap, TraceSpec
from waistline.trace.jls_write import layouts
from waistline.trace.store import create, open_trace

pyjls = pytest.importorskip("pyjls")


@pytest.mark.parametrize("rate_hz", [100_000.0, 1_000.0, 99_999.7])
def test_what_was_written_is_read(tmp_path: Path, rate_hz: float) -> None:
    made = make(tmp_path / "t.jls", rate_hz=rate_hz)
    with open_trace(made.path) as trace:
        assert trace.spec == spec_of(rate_hz=rate_hz)
        assert trace.length == len(made.power)
        assert np.array_equal(trace.read("power"), made.power, equal_nan=True)
        assert np.array_equal(trace.bits("gap"), np.isnan(made.power))
        for bit in (0, 3):
            assert np.array_equal(trace.bits(f"d{bit}"), made.logic >> bit & 1)
        assert list(trace.gaps) == made.gaps
        assert list(trace.annotations) == made.notes
        point = trace.utc[1]
        assert abs(point.utc_ns - UTC_NS - round(point.sample / rate_hz * 1e9)) <= 2
        assert (trace.run, trace.ledger) == (b'{"name": "run"}', b'{"lost":0}')


def test_any_part_can_be_read(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls")
    random = np.random.default_rng(2)
    with open_trace(made.path) as trace:
        for start, stop in np.sort(random.integers(0, trace.length + 1, (60, 2))).tolist():
            part = trace.read("power", start, stop)
            assert np.array_equal(part, made.power[start:stop], equal_nan=True)
            assert np.array_equal(trace.bits("d3", start, stop), made.logic[start:stop] >> 3 & 1)
        with pytest.raises(TraceError, match="not all in the trace"):
            trace.read("power", 5, trace.length + 1)
        with pytest.raises(TraceError, match="holds no d7"):
            trace.bits("d7")


def test_pyjls_reads_the_same(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls")
    with pyjls.Reader(str(made.path)) as reader:
        by_name = {one.name: one for one in reader.signals.values()}
        length = by_name["power"].length
        assert length == len(made.power)
        values = reader.fsr(by_name["power"].signal_id, 0, length)
        assert np.array_equal(values, made.power, equal_nan=True)
        for name, wanted in (("gap", np.isnan(made.power)), ("d3", made.logic >> 3 & 1)):
            packed = reader.fsr(by_name[name].signal_id, 0, length)
            assert np.array_equal(np.unpackbits(packed, bitorder="little")[:length], wanted)
        texts: list[str] = []
        reader.annotations(
            by_name["current"].signal_id, -(2**62), lambda *row: texts.append(row[4])
        )
        assert [text.split("\x1c")[0] for text in texts] == [note.text for note in made.notes]
        start = reader.sample_id_to_timestamp(by_name["power"].signal_id, 0)
        assert pyjls.jls_to_utc(int(start)) == pytest.approx(UTC_NS * 1e-9, abs=1e-3)


def test_pyjls_reads_what_was_sampled_fast(tmp_path: Path) -> None:
    """Its reader gives up on chunks of over a megabyte, which its writer writes."""
    values = np.arange(1_500_000, dtype=np.float32)
    with create(tmp_path / "t.jls", spec_of("power", rate_hz=8e6)) as writer:
        writer.write(Block(0, power_w=values))
        writer.user_data(b"{}" + b" " * 999_000)
        with pytest.raises(ValueError, match="over"):
            writer.user_data(bytes(1_000_001))
    with pyjls.Reader(str(tmp_path / "t.jls")) as reader:
        assert np.array_equal(reader.fsr(1, 0, len(values)), values)


def test_the_envelope_loses_no_spike(tmp_path: Path) -> None:
    spec = TraceSpec(1e6, (SIGNALS["power"],), "test", Evidence.SIMULATED)
    values = np.full(3_000_000, 1.0, np.float32)
    values[[0, 1_234_567, 2_999_999]] = 9.0, 7.0, 5.0
    values[2_000_001] = -3.0
    with create(tmp_path / "t.jls", spec) as writer:
        writer.write(Block(0, power_w=values))
        writer.gap(Gap(len(values), 500_000, "ring"))
    with open_trace(tmp_path / "t.jls") as trace:
        view = trace.overview("power", 0, trace.length, 700)
        high = view.high
        assert len(high) == 700
        assert high[0] == 9
        assert high[int(1_234_567 / 5000)] == 7
        assert np.nanmin(view.low) == -3
        assert np.isnan(high[-90:]).all()
        assert np.nanmax(high[599:]) == 5
        assert view.mean[300] == pytest.approx(1.0)
        close = trace.overview("power", 1_234_560, 1_234_575, 2000)
        assert close.high.tolist() == values[1_234_560:1_234_575].tolist()


@pytest.mark.parametrize("rate_hz", [50, 100, 1e3, 5e3, 1e4, 1e5, 2.5e5, 1e6, 2e6, 2e7])
def test_no_channel_holds_back_more_than_half_a_second(rate_hz: float) -> None:
    floats, bits = layouts(rate_hz)
    assert floats.chunk / rate_hz <= 0.5
    # A bit signal's rows have 256 samples at least.
    assert bits.chunk <= max(0.5 * rate_hz, 256)
    for layout in (floats, bits):
        assert layout.chunk % layout.row == 0
        assert layout.rows % (layout.chunk // layout.row) == 0
        assert layout.rows % layout.higher == 0


def test_a_trace_is_written_in_order_and_whole(tmp_path: Path) -> None:
    with create(tmp_path / "t.jls", spec_of("current", "d1")) as writer:
        block = Block(0, current_a=np.ones(10, np.float32), logic=np.zeros(10, np.uint8))
        writer.write(block)
        with pytest.raises(ValueError, match="10 and on are next"):
            writer.write(block)
        with pytest.raises(ValueError, match="next"):
            writer.gap(Gap(11, 1, "ring"))
        with pytest.raises(ValueError, match="lacks current"):
            writer.write(Block(10, logic=np.zeros(10, np.uint8)))
        with pytest.raises(ValueError, match="lacks logic"):
            writer.write(Block(10, current_a=np.ones(10, np.float32)))


def test_a_measurement_is_not_overwritten(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls", blocks=1)
    before = made.path.read_bytes()
    with pytest.raises(TraceError, match="not overwritten"):
        create(made.path, spec_of())
    assert made.path.read_bytes() == before


def test_text_of_an_annotation_cannot_break_the_file(tmp_path: Path) -> None:
    with create(tmp_path / "t.jls", spec_of("power")) as writer:
        writer.write(Block(0, power_w=np.ones(100, np.float32)))
        writer.annotate(Annotation(7.5, "marker", 'a\x1c{"gap":1}\x00\nb' + "x" * 5000))
        writer.annotate(Annotation(3, "note", "später"))
    with open_trace(tmp_path / "t.jls") as trace:
        assert not trace.gaps
        assert trace.annotations[0] == Annotation(3, "note", "später")
        assert trace.annotations[1].sample == 7.5
        assert trace.annotations[1].text.startswith('a {"gap":1}  bxxx')


def test_a_file_being_written_is_left_alone(tmp_path: Path) -> None:
    from waistline.trace.repair import repair

    with create(tmp_path / "t.jls", spec_of("power")):
        for look in (open_trace, repair):
            with pytest.raises(TraceError, match="still being written"):
                look(tmp_path / "t.jls")
    with open_trace(tmp_path / "t.jls") as trace:
        assert trace.length == 0


def test_a_file_that_was_not_closed_says_so(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls", blocks=2)
    made.path.write_bytes(made.path.read_bytes()[:-100])
    with pytest.raises(TraceError, match="not closed") as caught:
        open_trace(made.path)
    assert "trace repair" in caught.value.fix


def test_other_files_are_no_traces(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("text", b"time,power\n1,2\n"), ("short", b"jlsfmt")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(TraceError, match="not a trace"):
            open_trace(path)
    with pytest.raises(TraceError, match="cannot be read"):
        open_trace(tmp_path / "missing.jls")


def test_a_full_disk_is_noticed_while_the_file_can_be_closed(tmp_path: Path) -> None:
    from waistline.trace.jls_write import JlsWriter

    with pytest.raises(TraceError, match="full"):
        JlsWriter(tmp_path / "t.jls", spec_of("power"), reserve_bytes=1 << 62)
    with pytest.raises(TraceError, match="cannot be made"):
        create(tmp_path / "nowhere" / "t.jls", spec_of("power"))
    assert not list(tmp_path.iterdir())


_LIMITED = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import numpy as np
from trace_help import spec_of
from waistline.errors import TraceError
from waistline.trace.base import Block
from waistline.trace.store import create
writer = create(Path(sys.argv[1]), spec_of("power"))
try:
    for number in range(100):
        values = np.arange(number * 10000, (number + 1) * 10000, dtype=np.float32)
        writer.write(Block(number * 10000, power_w=values))
except TraceError as error:
    print("raised", error.cause)
try:
    writer.close()
except TraceError as error:
    print(error.fix)
"""


def test_what_pyjls_could_not_write_is_an_error(tmp_path: Path) -> None:
    from waistline.trace.repair import repair

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    path = tmp_path / "t.jls"
    program = _LIMITED.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert "trace repair" in done.stdout, done.stderr
    report = repair(path)
    assert report.length >= 200_000
    with open_trace(path) as trace:
        assert np.array_equal(trace.read("power"), np.arange(report.length, dtype=np.float32))


def test_traces_of_joulescope_programs_open(tmp_path: Path) -> None:
    """Signals named and numbered as they do it, first sample ids that are not zero."""
    path = tmp_path / "theirs.jls"
    values = np.random.default_rng(0).random(300_000, np.float32)
    bits = np.arange(300_000) // 40_000 % 2
    with pyjls.Writer(str(path)) as writer:
        writer.source_def(1, name="JS220-000123", vendor="Jetperch", model="JS220")
        for number, (name, unit) in enumerate((("current", "A"), ("power", "W")), 1):
            writer.signal_def(
                number,
                1,
                data_type=pyjls.DataType.F32,
                sample_rate=1_000_000,
                name=name,
                units=unit,
            )
        writer.signal_def(5, 1, data_type=pyjls.DataType.U1, sample_rate=1_000_000, name="0")
        writer.fsr_f32(1, 1_000_000, values)
        writer.fsr_f32(2, 1_000_000, values * 2)
        writer.fsr(5, 1_000_000, np.packbits(bits.astype(np.uint8), bitorder="little"))
        writer.annotation(1, 1_000_100, np.nan, pyjls.AnnotationType.VMARKER, 0, "1a")
    with open_trace(path) as trace:
        assert trace.spec.rate_hz == 1e6
        assert trace.spec.floats == ("current", "power")
        assert trace.length == 300_000
        assert np.array_equal(trace.read("power"), values * 2)
        assert np.array_equal(trace.bits("d0"), bits)
        assert trace.annotations == (Annotation(100, "marker", "1a"),)

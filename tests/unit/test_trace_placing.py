"""`trace markers`: events, pins and codes put on a trace, and the new trace that is written."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyjls", reason="needs the extra capture")

from trace_help import UTC_NS, make

from waistline.errors import ConfigError, MarkerMissing, TraceError, WaistlineError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Annotation, Block, Gap, TraceSpec
from waistline.trace.jls_read import JlsTrace
from waistline.trace.rewrite import rewrite
from waistline.trace.store import create, open_trace
from waistline_bridge.messages import Mark
from waistline_hostctl import trace_text, trace_work
from waistline_hostctl.trace_markers import Asked
from waistline_hostctl.trace_markers_result import TraceMarkersResult, markers

RATE_HZ = 100_000.0
LENGTH = 300_000
COUNT = 30
DRIFT, OFFSET_S = 60e-6, 0.2


def times_of(seed: int = 0) -> np.ndarray:
    """Moments of the device's clock, about 80 ms apart, after its 1000th second."""
    rng = np.random.default_rng(seed)
    times: np.ndarray = 1000 + np.arange(COUNT) * 0.08 + rng.uniform(0, 0.04, COUNT)
    return times


def places_of(times: np.ndarray) -> np.ndarray:
    places: np.ndarray = (OFFSET_S + (times - 1000) * (1 + DRIFT)) * RATE_HZ
    return places


def trace_of(path: Path, gap: tuple[int, int] | None = None, notes: tuple[Annotation, ...] = ()):
    """D2 rises at each event and falls 1 ms after; 0.5 W there, 0.1 W else."""
    logic = np.zeros(LENGTH, np.uint8)
    for place in places_of(times_of()).tolist():
        logic[math.ceil(place) : math.ceil(place) + 100] = 4
    power = np.where(logic, 0.5, 0.1).astype(np.float32)
    spec = TraceSpec(RATE_HZ, (SIGNALS["power"], SIGNALS["d2"]), "sim:1", Evidence.SIMULATED)
    first, end = gap or (LENGTH, LENGTH)
    with create(path, spec) as writer:
        writer.write(Block(0, power_w=power[:first], logic=logic[:first]))
        if gap:
            writer.gap(Gap(first, end - first, "counter"))
            writer.write(Block(end, power_w=power[end:], logic=logic[end:]))
        for sample in (0, LENGTH // 2, LENGTH):
            writer.utc(sample, UTC_NS + round(sample / RATE_HZ * 1e9))
        for note in notes:
            writer.annotate(note)
        writer.user_data(b'{"name": "before"}')
        writer.close(b'{"closes": true}')
    return open_trace(path)


def events_of(path: Path, times: np.ndarray, name: str = "go {}") -> Path:
    rows = [f"{time:.9f} {name.format(k)}" for k, time in enumerate(times.tolist())]
    path.write_text("\n".join(rows) + "\n")
    return path


def asked(**given) -> Asked:
    return Asked(**{"start": 0, "stop": LENGTH, **given})


@pytest.mark.parametrize("edge", ["rising", "both"])
def test_events_are_placed_by_the_edges_of_a_bit(tmp_path: Path, edge: str) -> None:
    events = events_of(tmp_path / "e.txt", times_of())
    with trace_of(tmp_path / "a.jls") as trace:
        before = trace.path.read_bytes()
        found = markers(trace, asked(events=events, bit=2, edge=edge), tmp_path / "b.jls")
        assert trace.path.read_bytes() == before
    clock = found.clock
    assert clock is not None
    assert (clock.n, clock.missed) == (COUNT, 0)
    assert clock.extra == (0 if edge == "rising" else COUNT)
    drift = clock.figures["drift"]
    assert drift.evidence == Evidence.SIMULATED
    assert drift.value == pytest.approx(DRIFT, abs=4 * (drift.standard_uncertainty or 0))
    with open_trace(tmp_path / "b.jls") as made, open_trace(tmp_path / "a.jls") as old:
        places = places_of(times_of())
        assert [note.text for note in made.annotations] == [f"go {k}" for k in range(COUNT)]
        np.testing.assert_allclose([note.sample for note in made.annotations], places, atol=0.5)
        assert np.array_equal(made.read("power"), old.read("power"))
        assert np.array_equal(made.bits("d2"), old.bits("d2"))
        assert (made.utc, made.ledger, made.spec) == (old.utc, old.ledger, old.spec)
        run = trace_work.info(made).run
        assert run["name"] == "before"
        assert run["markers"][0]["clock"]["n"] == COUNT
        energy = trace_work.energy(made, "go 3", "go 4").figures["energy_j"].value
        span_s = float(np.diff(places[3:5])[0]) / RATE_HZ
        assert energy == pytest.approx(0.1 * span_s + 0.4e-3, rel=2e-3)


def test_what_the_trace_has_is_snapped_to_edges_and_replaced(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    late = places_of(times_of()) + 60 + rng.uniform(0, 40, COUNT)
    notes = tuple(Annotation(at, "marker", "go") for at in late.tolist())
    kept = Annotation(10.0, "note", "go"), Annotation(7.0, "marker", "other")
    with trace_of(tmp_path / "a.jls", notes=(*notes, *kept)) as trace:
        found = markers(trace, asked(bit=2, edge="rising", stop=LENGTH), tmp_path / "b.jls")
    assert found.clock is not None
    assert found.clock.n == COUNT
    # The other one would lie before the first sample, and stays where it is.
    assert (found.replaced, found.outside) == (COUNT, 1)
    with open_trace(tmp_path / "b.jls") as made:
        texts = [note.text for note in made.annotations]
        assert texts.count("go") == COUNT + 1
        assert set(kept) <= set(made.annotations)
        at = [note.sample for note in made.annotations if note.kind == "marker"][1:]
    # The mean delay is gone, its scatter is not.
    off = np.array(at) - places_of(times_of())
    assert abs(off.mean()) < 2
    assert np.abs(off).max() < 25


def test_an_edge_in_a_gap_is_missed_and_its_event_said_to_be_lost(tmp_path: Path) -> None:
    events = events_of(tmp_path / "e.txt", times_of())
    third = int(places_of(times_of())[3])
    with trace_of(tmp_path / "a.jls", gap=(third - 20, third + 20)) as trace:
        found = markers(trace, asked(events=events, bit=2, edge="rising"))
    assert found.clock is not None
    assert (found.clock.n, found.clock.missed) == (COUNT - 1, 1)
    assert [note.text for note in found.notes if note.lost] == ["go 3"]
    assert found.notes[3].sample == pytest.approx(third + 0.5, abs=1)
    assert "1 in a gap" in trace_text.markers(found)


def test_a_stretch_places_only_what_lies_in_it(tmp_path: Path) -> None:
    """The part behind a jump of the clock, by itself."""
    times = times_of()
    jumped = times + np.where(np.arange(COUNT) < 12, 0, 0.25)
    events = events_of(tmp_path / "e.txt", jumped)
    begin = int(places_of(times)[12]) - 50
    with trace_of(tmp_path / "a.jls") as trace:
        with pytest.raises(MarkerMissing, match="jumped"):
            markers(trace, asked(events=events, bit=2, edge="rising"))
        found = markers(trace, asked(events=events, bit=2, edge="rising", start=begin))
        text = trace_text.markers(found)
    assert [note.text for note in found.notes] == [f"go {k}" for k in range(12, COUNT)]
    assert found.outside == 12
    assert "12 outside" in text


@pytest.mark.parametrize(
    ("times", "match"),
    [
        (np.empty(0), "no event"),
        (times_of()[:1], "do not fit"),
        (times_of(9), "do not fit"),
        (1000 + np.arange(COUNT) * 0.08, "do not fit"),
    ],
)
def test_what_does_not_fit_is_an_error_in_three_parts(
    tmp_path: Path, times: np.ndarray, match: str
) -> None:
    events = events_of(tmp_path / "e.txt", times)
    with (
        trace_of(tmp_path / "a.jls") as trace,
        pytest.raises(MarkerMissing, match=match) as caught,
    ):
        markers(trace, asked(events=events, bit=2), tmp_path / "b.jls")
    assert len(caught.value.lines()) == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jls", "e.txt"]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"bit": 0}, MarkerMissing),
        ({"bit": 2}, MarkerMissing),
        ({"bit": 2, "mode": Mark.LAYERS}, ConfigError),
        ({"bit": 2, "mode": Mark.PULSES, "layers": 3, "settle_s": 1e-6}, MarkerMissing),
        ({"codes": (Path("/dev/null"),)}, TraceError),
        ({"codes": (Path("/nonexistent"),)}, TraceError),
        ({"events": Path("/nonexistent")}, TraceError),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, given: dict, kind: type[WaistlineError]) -> None:
    with trace_of(tmp_path / "a.jls") as trace, pytest.raises(kind) as caught:
        markers(trace, asked(**given))
    assert len(caught.value.lines()) == 3


def test_without_anything_the_trace_tells_what_it_has(tmp_path: Path) -> None:
    notes = (Annotation(5.0, "marker", "a"), Annotation(9.0, "segment", "b", 12.0))
    with trace_of(tmp_path / "a.jls", notes=notes) as trace:
        found = markers(trace, asked())
        with pytest.raises(ConfigError, match="nothing new") as caught:
            markers(trace, asked(), tmp_path / "b.jls")
    assert [note.text for note in found.notes] == ["a", "b"]
    assert found.clock is not None
    assert (found.clock.by, found.clock.n, found.clock.epoch_ns) == ("host", 3, UTC_NS)
    assert abs(found.clock.figures["drift"].value) < 1e-9
    assert len(caught.value.lines()) == 3


def test_runs_of_a_head_are_segments(tmp_path: Path) -> None:
    with trace_of(tmp_path / "a.jls") as trace:
        found = markers(trace, asked(bit=2, mode=Mark.HEAD, names=("net",)), tmp_path / "b.jls")
    assert found.clock is None
    assert len(found.notes) == COUNT
    with open_trace(tmp_path / "b.jls") as made:
        got = trace_work.energy(made, "net[2]", None)
    assert got.figures["energy_j"].value == pytest.approx(0.5e-3, rel=0.02)


def test_names_of_any_kind_can_be_asked_for(tmp_path: Path) -> None:
    names = ["1.5", "a[3]", "ü \N{SNOWMAN}", "x" * 500, "tab\there", "#7", "-begin", "../x"]
    path = tmp_path / "e.jsonl"
    with trace_of(tmp_path / "a.jls") as trace:
        rows = [f'{{"monotonic_ns": {k}, "utc_ns": {UTC_NS + (k + 1) * 10**8}, "text": "{n}"}}'
                for k, n in enumerate(names)]  # fmt: skip
        path.write_text("\n".join(row.replace("\t", "\\t") for row in rows) + "\n")
        markers(trace, asked(events=path), tmp_path / "b.jls")
    with open_trace(tmp_path / "b.jls") as made:
        assert [note.text for note in made.annotations][4] == "tab here"
        for k, note in enumerate(made.annotations):
            text = f"{note.text}[0]" if note.text in ("1.5", "#7") else note.text
            assert trace_work.place(made, text) == pytest.approx((k + 1) * 1e4, abs=1)


def test_a_trace_is_rewritten_bit_by_bit(tmp_path: Path) -> None:
    made = make(tmp_path / "a.jls", seed=5)
    note = Annotation(3.5, "marker", "new")
    with open_trace(made.path) as old:
        rewrite(old, tmp_path / "b.jls", [note], b"{}")
        with open_trace(tmp_path / "b.jls") as new:
            assert (new.annotations, new.gaps, new.utc) == ((note,), old.gaps, old.utc)
            for name in old.spec.floats:
                same = old.read(name).view(np.uint32) == new.read(name).view(np.uint32)
                assert same.all()
            for name in ("d0", "d3", "gap"):
                assert np.array_equal(old.bits(name), new.bits(name))
        with pytest.raises(TraceError, match="not overwritten"):
            rewrite(old, tmp_path / "b.jls", [], b"")
        with pytest.raises(ConfigError, match="could not be written"):
            rewrite(old, tmp_path / "none" / "b.jls", [], b"")


def test_a_command_that_is_killed_leaves_the_old_trace_and_no_new_one(tmp_path: Path) -> None:
    made = make(tmp_path / "a.jls", seed=6)
    before = made.path.read_bytes()
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from waistline.trace.rewrite import rewrite\n"
        "from waistline.trace.store import open_trace\n"
        "def die(done):\n    os.kill(os.getpid(), 9)\n"
        "with open_trace(sys.argv[1]) as old:\n"
        "    rewrite(old, Path(sys.argv[2]), [], b'', die)\n"
    )
    words = [sys.executable, "-c", code, str(made.path), str(tmp_path / "b.jls")]
    done = subprocess.run(words, timeout=120, check=False, env=dict(os.environ))
    assert done.returncode == -9
    assert made.path.read_bytes() == before
    assert not (tmp_path / "b.jls").exists()
    with JlsTrace(made.path) as trace:
        assert trace.length


def test_the_result_is_what_its_type_says(tmp_path: Path) -> None:
    import msgspec

    events = events_of(tmp_path / "e.txt", times_of())
    with trace_of(tmp_path / "a.jls") as trace:
        found = markers(trace, asked(events=events, bit=2))
    assert msgspec.json.decode(msgspec.json.encode(found), type=TraceMarkersResult) == found

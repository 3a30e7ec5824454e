"""Places in a trace as people write them, and what lies between."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

pytest.importorskip("pyjls")

from waistline.errors import ConfigError, MarkerMissing
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Annotation, Block, Gap, TraceSpec
from waistline.trace.store import create, open_trace
from waistline.trace.view import drawn
from waistline_hostctl import trace_text, trace_work

RATE_HZ = 1000.0
LENGTH = 5000


@pytest.fixture
def trace(tmp_path):
    spec = TraceSpec(RATE_HZ, (SIGNALS["current"],), "test:1", Evidence.SIMULATED, supply_v=2.0)
    with create(tmp_path / "a.jls", spec) as writer:
        writer.write(Block(0, np.full(3000, 0.5, np.float32)))
        writer.gap(Gap(3000, 100, "counter"))
        writer.write(Block(3100, np.full(900, 1.0, np.float32)))
        writer.gap(Gap(4000, 64, "counter", low=64, high=128))
        writer.write(Block(4064, np.full(LENGTH - 4064, 1.0, np.float32)))
        for sample in (100, 200, 300.5):
            writer.annotate(Annotation(sample, "marker", "go"))
        writer.annotate(Annotation(1000, "segment", "conv1", 1500))
        writer.annotate(Annotation(2000, "marker", "1.5x faster"))
    with open_trace(tmp_path / "a.jls") as found:
        yield found


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        ("1.5", 1500),
        ("1.5s", 1500),
        ("250ms", 250),
        ("1e3us", 1),
        (".5", 500),
        ("#7", 7),
        ("#7.25", 7.25),
        ("go[0]", 100),
        ("go[2]", 300.5),
        ("go[-1]", 300.5),
        ("conv1", 1000),
        ("1.5x faster", 2000),
        ("0", 0),
        ("5", LENGTH),
    ],
)
def test_a_place_is_a_time_a_sample_or_a_marker(trace, text, sample):
    assert trace_work.place(trace, text) == pytest.approx(sample)


@pytest.mark.parametrize("text", ["5.001", "-1", "#5001"])
def test_a_place_outside_is_refused(trace, text):
    with pytest.raises(ConfigError, match="not in the trace"):
        trace_work.place(trace, text)


def test_markers_that_are_not_there_or_there_often_are_named(trace):
    with pytest.raises(MarkerMissing) as missing:
        trace_work.place(trace, "stop")
    assert "go, conv1, 1.5x faster" in missing.value.cause
    with pytest.raises(MarkerMissing, match="3 times") as often:
        trace_work.place(trace, "go")
    assert "go[0]" in often.value.fix
    with pytest.raises(MarkerMissing):
        trace_work.place(trace, "go[3]")


def test_a_segment_alone_is_all_of_it(trace):
    assert trace_work.stretch(trace, "conv1", None) == (1000, 1500)
    assert trace_work.stretch(trace, "conv1", "2") == (1000, 2000)
    assert trace_work.stretch(trace, "go[1]", None) == (200, LENGTH)
    assert trace_work.stretch(trace, None, None) == (0, LENGTH)
    with pytest.raises(ConfigError, match="not behind"):
        trace_work.stretch(trace, "2", "1")


def test_an_energy_says_what_is_missing(trace):
    whole = trace_work.energy(trace, "conv1", None)
    assert whole.figures["energy_j"].value == pytest.approx(2.0 * 0.5 * 0.5)
    assert (whole.missing, whole.uncertain) == (0, False)
    holed = trace_work.energy(trace, "2.9", "3.2")
    assert (holed.missing, holed.uncertain) == (100, False)
    assert holed.figures["energy_j"].value == pytest.approx(2.0 * (0.5 * 0.1 + 1.0 * 0.1))
    text = trace_text.energy(holed)
    assert "100 samples (33.33%) were lost" in text
    assert trace_work.energy(trace, "3.5", None).uncertain
    assert "PROBLEM" in trace_text.energy(trace_work.energy(trace, "3.5", None))


def test_what_a_trace_is(trace):
    found = trace_work.info(trace)
    assert (found.samples, found.duration_s, found.supply_v) == (LENGTH, 5.0, 2.0)
    text = trace_text.info(found)
    assert "test:1, simulated" in text
    assert "64..128" in text
    assert "conv1" in text
    assert "waistline capture did not make this" in text
    killed = trace_text.info(msgspec.structs.replace(found, run={"name": "ppk2"}))
    assert "did not close it" in killed
    assert drawn(trace.spec) == "power"


def test_without_a_supply_a_picture_shows_the_current(tmp_path):
    spec = TraceSpec(RATE_HZ, (SIGNALS["current"],), "test:1", Evidence.SIMULATED)
    with create(tmp_path / "b.jls", spec) as writer:
        writer.write(Block(0, np.ones(100, np.float32)))
    with open_trace(tmp_path / "b.jls") as found:
        assert drawn(found.spec) == "current"


def test_samples_without_a_value_are_told_also_where_no_gap_is_noted(tmp_path):
    spec = TraceSpec(1000.0, (SIGNALS["power"],), "test:1", Evidence.REPLAYED)
    power = np.ones(100, np.float32)
    power[10:14] = np.nan
    with create(tmp_path / "a.jls", spec) as writer:
        writer.write(Block(0, power_w=power))
    with open_trace(tmp_path / "a.jls") as found:
        told = trace_work.info(found)
    assert (told.missing, told.gaps) == (4, ())
    assert "none, but 4 samples have no value" in trace_text.info(told)

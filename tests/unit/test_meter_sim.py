"""Meters that are no instruments: the simulated device, and a trace played again."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("pyjls")

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Annotation, Block, Gap, TraceSpec
from waistline.trace.store import create
from waistline_hostctl.meters import replay, sim
from waistline_hostctl.meters._planar import Form, PlanarDecoder
from waistline_hostctl.meters.base import MeterChoice, decoder_from, open_meter, reader_from
from waistline_hostctl.simulated.device import Device

NOW_NS = 1


def _opened(name, port=None, **options):
    meter = open_meter(MeterChoice(name, port, options))
    return meter, reader_from(name, meter.settings()), decoder_from(name, meter.settings())


def _all(reader, decoder, buffer, wanted=None, cut=None):
    """Parts of everything the reader gives, or of so many samples at least."""
    parts, count = [], 0
    while wanted is None or count < wanted:
        size = reader.read_into(buffer)
        if size < 0:
            break
        raw = bytes(buffer[:size])
        for start in range(0, size, cut or max(size, 1)):
            found = decoder.feed(raw[start : start + (cut or size)], NOW_NS)
            parts += found
            count += sum(len(p) if isinstance(p, Block) else getattr(p, "count", 0) for p in found)
    return parts


def _joined(parts, name):
    return np.concatenate([part.values(name) for part in parts if isinstance(part, Block)])


@pytest.mark.parametrize("rate", [250_000, 123_457])
def test_sim_gives_the_devices_samples(rate):
    """At the second rate a period is no whole number of samples, and they are made as they go."""
    meter, reader, decoder = _opened("sim", rate=str(rate))
    assert meter.info.evidence is Evidence.SIMULATED
    reader.start()
    parts = _all(reader, decoder, memoryview(bytearray(1 << 18)), wanted=20_000)
    first = 0
    true = Device(sim.layers(), float(rate))
    for part in parts:
        assert part.first == first
        expected = true.samples(part.first, len(part))
        assert np.allclose(part.power_w, expected.power_w, rtol=1e-5)
        assert np.array_equal(part.logic, expected.logic)
        first += len(part)
    assert decoder.ledger()["kept"] == first
    assert decoder.ledger()["closes"]


def test_sim_keeps_its_pace_and_loses_what_nobody_fetches():
    _, reader, decoder = _opened("sim", rate="100000", fifo="0.05", waveform="constant:0.02")
    began = time.monotonic()
    reader.start()
    buffer = memoryview(bytearray(1 << 20))
    parts = decoder.feed(bytes(buffer[: reader.read_into(buffer)]), NOW_NS)
    time.sleep(0.3)
    parts += decoder.feed(bytes(buffer[: reader.read_into(buffer)]), NOW_NS)
    passed = time.monotonic() - began
    end = parts[-1].first + len(parts[-1])
    # The hole lies before the last part: it holds what the FIFO does, and all else is lost.
    assert 0.24 * 100_000 < end <= (passed + 0.01) * 100_000
    assert len(parts[-1]) == 5_000
    holes = [part for part in parts if isinstance(part, Gap)]
    assert {hole.kind for hole in holes} == {"counter"}
    assert holes[-1].count >= 20_000
    lost = sum(hole.count for hole in holes)
    ledger = decoder.ledger()
    assert ledger["lost"] == {"counter": lost}
    assert ledger["kept"] + lost == end


@pytest.mark.parametrize("options", [{"rate": "0"}, {"bits": "9"}, {"rate": "x"}, {"pace": "1"}])
def test_sim_refuses_what_it_cannot(options):
    with pytest.raises(ConfigError):
        open_meter(MeterChoice("sim", None, options))


def test_sim_is_on_no_port():
    with pytest.raises(ConfigError, match="no port /dev/ttyACM0") as caught:
        open_meter(MeterChoice("sim", "/dev/ttyACM0", {}))
    assert "leave out --port" in caught.value.fix


def test_planar_blocks_survive_any_cut():
    form = Form(("current", "power"), logic=True)
    random = np.random.default_rng(4)
    raw, wanted, first = bytearray(), [], 0
    for count in (1, 7, 0, 1000, 3):
        planes = [random.random(count, np.float32) for _ in range(2)]
        logic = random.integers(0, 256, count, np.uint8)
        buffer = memoryview(bytearray(form.size(count)))
        assert form.put(buffer, first, count, [*planes, logic]) == len(buffer)
        raw += buffer
        wanted.append((planes, logic))
        first += count
        gap = Gap(first, 5, "ring", low=5, high=9)
        buffer = memoryview(bytearray(64))
        raw += buffer[: form.put_gap(buffer, gap)]
        wanted.append(gap)
        first += 5
    for cut in (1, 3, 64, 10_000):
        decoder, parts = PlanarDecoder(form), []
        for start in range(0, len(raw), cut):
            parts += decoder.feed(raw[start : start + cut], NOW_NS)
        rows = [row for row in wanted if isinstance(row, Gap) or len(row[1])]
        assert len(parts) == len(rows)
        for part, row in zip(parts, rows, strict=True):
            if isinstance(row, Gap):
                assert part == row
            else:
                assert np.array_equal(part.current_a, row[0][0])
                assert np.array_equal(part.power_w, row[0][1])
                assert np.array_equal(part.logic, row[1])
        ledger = decoder.ledger()
        assert (ledger["kept"], ledger["lost"], ledger["unknown"]) == (1011, {"ring": 25}, 5)
        assert not ledger["closes"]


def test_a_block_out_of_order_is_refused():
    form = Form(("current",), logic=False)
    decoder = PlanarDecoder(form)
    buffer = memoryview(bytearray(form.size(4)))
    form.put(buffer, 0, 4, [np.ones(4, np.float32)])
    decoder.feed(buffer, NOW_NS)
    with pytest.raises(MeterError, match="not where it should be"):
        decoder.feed(buffer, NOW_NS)


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "a.jls"
    names = ("current", "power", "d1", "d6")
    spec = TraceSpec(200_000.0, tuple(SIGNALS[n] for n in names), "lab:1", Evidence.METERED)
    random = np.random.default_rng(0)
    with create(path, spec) as writer:
        for first in (0, 70_100):
            current = random.random(70_000, np.float32)
            logic = random.integers(0, 256, 70_000, np.uint8) & np.uint8(0b0100_0010)
            writer.write(Block(first, current, power_w=current * 2, logic=logic))
            if not first:
                writer.gap(Gap(70_000, 100, "counter", low=100, high=164))
    return path


@pytest.mark.parametrize("pace", ["fast", "real"])
def test_replay_gives_what_was_recorded(recorded, pace):
    meter, reader, decoder = _opened("replay", str(recorded), pace=pace)
    assert meter.info.evidence is Evidence.REPLAYED
    assert meter.info.patient == (pace == "fast")
    reader.start()
    parts = _all(reader, decoder, memoryview(bytearray(1 << 17)))
    reader.stop()
    gaps = [part for part in parts if isinstance(part, Gap)]
    assert gaps == [Gap(70_000, 100, "counter", low=100, high=164)]
    with replay.open_trace(recorded) as trace:
        kept = ~np.isnan(trace.read("current"))
        for name in ("current", "power"):
            assert np.array_equal(_joined(parts, name), trace.read(name)[kept])
        logic = np.concatenate([part.logic for part in parts if isinstance(part, Block)])
        assert np.array_equal(logic >> 1 & 1, trace.bits("d1")[kept])
        assert np.array_equal(logic >> 6 & 1, trace.bits("d6")[kept])
    ledger = decoder.ledger()
    assert (ledger["kept"], ledger["unknown"], ledger["closes"]) == (140_000, 1, False)


@pytest.mark.parametrize("pace", ["fast", "real"])
def test_replay_gives_notes_behind_what_they_mark(tmp_path, pace):
    path = tmp_path / "n.jls"
    notes = [
        Annotation(0.0, "marker", "begin"),
        Annotation(10.5, "segment", "conv", 300.25),
        Annotation(150.0, "note", "warm"),
        Annotation(250.0, "marker", "in the gap"),
        Annotation(400.0, "marker", "end"),
    ]
    spec = TraceSpec(100_000.0, (SIGNALS["current"],), "lab:1", Evidence.METERED)
    with create(path, spec) as writer:
        writer.write(Block(0, np.ones(200, np.float32)))
        writer.gap(Gap(200, 100, "counter"))
        writer.write(Block(300, np.ones(100, np.float32)))
        for note in notes:
            writer.annotate(note)
    _, reader, decoder = _opened("replay", str(path), pace=pace)
    reader.start()
    parts = _all(reader, decoder, memoryview(bytearray(1 << 12)))
    reader.stop()
    came, places = [], 0
    for part in parts:
        if isinstance(part, Annotation):
            assert (part.end_sample or part.sample) <= places
            came.append(part)
        else:
            places += len(part) if isinstance(part, Block) else part.count
    assert sorted(came, key=lambda note: note.sample) == notes
    # What is cut short has no note of what did not come.
    cut = decoder_from("replay", open_meter(MeterChoice("replay", str(path), {})).settings())
    form = Form(("current",), logic=False)
    buffer = memoryview(bytearray(form.size(160)))
    form.put(buffer, 0, 160, [np.ones(160, np.float32)])
    found = cut.feed(buffer, NOW_NS) + cut.finish(NOW_NS)
    assert [part.text for part in found if isinstance(part, Annotation)] == ["begin", "warm"]


def test_replay_needs_a_trace(tmp_path):
    for port in (None, str(tmp_path / "no.jls")):
        with pytest.raises(ConfigError, match="no trace to replay"):
            open_meter(MeterChoice("replay", port))
    with pytest.raises(ConfigError, match="neither real nor fast"):
        open_meter(MeterChoice("replay", None, {"pace": "slow"}))

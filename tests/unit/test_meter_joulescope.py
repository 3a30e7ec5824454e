"""Joulescope: choosing one, its messages to samples, and its losses, with a stand-in driver."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from joulescope_stand_in import Driver, module

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import Block, Gap
from waistline_hostctl.meters._lanes import LaneDecoder, message
from waistline_hostctl.meters.base import MeterChoice, Part

NAME = "waistline_hostctl.meters.joulescope"


@pytest.fixture
def joulescope(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", module())
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)


def joined(parts: list[Part], name: str) -> np.ndarray:
    """A signal with NaN in its holes; checks that parts follow each other."""
    out, place = [], 0
    for part in parts:
        assert part.first == place
        if isinstance(part, Gap):
            out.append(np.full(part.count, np.nan))
            place += part.count
        else:
            values = part.logic if name == "logic" else part.values(name)
            assert values is not None
            out.append(values.astype(float))
            place += len(part)
    return np.concatenate(out) if out else np.empty(0)


def packed(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits.astype(np.uint8), bitorder="little")


def ramp(first: int, count: int, scale: float = 1.0) -> np.ndarray:
    return (np.arange(first, first + count) * scale).astype(np.float32)


def test_instruments_are_listed_by_model_and_serial(joulescope: ModuleType) -> None:
    assert joulescope.find() == []
    Driver.paths = ["u/js220/000415", "u/js110/002557"]
    found = joulescope.find()
    assert [one.id for one in found] == ["js110:002557", "js220:000415"]
    assert all(one.untried for one in found)
    assert all(driver.finalized for driver in Driver.opened)


def test_none_and_two_are_refused_and_an_id_chooses(joulescope: ModuleType) -> None:
    with pytest.raises(ConfigError, match="no Joulescope"):
        joulescope.open_meter(MeterChoice("joulescope"))
    Driver.paths = ["u/js220/000415", "u/js320/008000"]
    with pytest.raises(ConfigError, match="2 instruments") as caught:
        joulescope.open_meter(MeterChoice("joulescope"))
    assert "js220:000415" in caught.value.fix
    info = joulescope.open_meter(MeterChoice("joulescope", port="js320:008000")).info
    assert info.id == "joulescope:js320:008000"
    assert (info.rate_hz, info.evidence, info.untried) == (1e6, Evidence.METERED, True)


@pytest.mark.parametrize("options", [{"rate": "3"}, {"rate": "x"}, {"bits": "5"}, {"gpi": "1"}])
def test_options_that_do_not_fit_are_refused(
    joulescope: ModuleType, options: dict[str, str]
) -> None:
    Driver.paths = ["u/js220/1"]
    with pytest.raises(ConfigError):
        joulescope.open_meter(MeterChoice("joulescope", options=options))


def test_a_driver_that_fails_is_an_error_with_a_fix(joulescope: ModuleType) -> None:
    Driver.fails = "jsdrv_initialize failed 19: BUSY"
    with pytest.raises(MeterError) as caught:
        joulescope.find()
    assert "BUSY" in caught.value.cause
    assert caught.value.fix


def test_samples_come_through_reader_and_decoder(joulescope: ModuleType) -> None:
    Driver.paths = ["u/js220/1"]
    choice = MeterChoice("joulescope", options={"bits": "2"})
    settings = joulescope.open_meter(choice).settings()
    reader, decoder = joulescope.reader_from(settings), joulescope.decoder_from(settings)
    reader.start()
    driver = Driver.opened[-1]
    assert driver.published["u/js220/1/h/fs"] == 1_000_000
    assert driver.published["u/js220/1/s/gpi/1/ctrl"] == 1
    # Floats keep every second of 2 MHz, bits every one; they do not begin together.
    driver.send("s/gpi/0", 1000, packed(np.arange(64) // 8 % 2), 1)
    for topic, scale in (("s/i", 1.0), ("s/v", 2.0), ("s/p", 3.0)):
        driver.send(topic, 1004, ramp(502, 40, scale), 2)
    driver.send("s/gpi/1", 1000, packed(np.ones(64)), 1)
    buffer = memoryview(bytearray(100))
    parts = []
    while count := reader.read_into(buffer):
        parts += decoder.feed(buffer[:count], 0)
    current = joined(parts, "current")
    np.testing.assert_array_equal(current, np.arange(502, 532))
    np.testing.assert_array_equal(joined(parts, "power"), 3 * current)
    native = 2 * np.arange(502, 532) - 1000
    np.testing.assert_array_equal(joined(parts, "logic"), 2 + native // 8 % 2)
    reader.stop()
    assert driver.finalized
    assert driver.open_path == ""
    assert driver.published["u/js220/1/s/i/ctrl"] == 0


def test_another_rate_than_the_one_asked_for_ends_the_capture(joulescope: ModuleType) -> None:
    Driver.paths = ["u/js220/1"]
    reader = joulescope.reader_from(joulescope.open_meter(MeterChoice("joulescope")).settings())
    reader.start()
    Driver.opened[-1].send("s/i", 0, ramp(0, 10), 1)
    with pytest.raises(MeterError, match="gone") as caught:
        reader.read_into(memoryview(bytearray(100)))
    assert "2e+06 Hz" in caught.value.cause
    reader.stop()


def test_an_unplugged_one_is_gone_after_its_last_sample(joulescope: ModuleType) -> None:
    Driver.paths = ["u/js220/1"]
    reader = joulescope.reader_from(joulescope.open_meter(MeterChoice("joulescope")).settings())
    reader.start()
    driver = Driver.opened[-1]
    driver.send("s/i", 0, ramp(0, 10), 2)
    driver.subscribed["@/!remove"]("@/!remove", "u/js220/1")
    buffer = memoryview(bytearray(1000))
    assert reader.read_into(buffer) > 0
    with pytest.raises(MeterError, match="gone"):
        reader.read_into(buffer)
    reader.stop()


def test_one_that_cannot_be_opened_leaves_nothing_open(joulescope: ModuleType) -> None:
    Driver.paths = ["u/js220/1"]
    reader = joulescope.reader_from(joulescope.open_meter(MeterChoice("joulescope")).settings())
    Driver.paths = []
    with pytest.raises(MeterError, match="failed"):
        reader.start()
    assert Driver.opened[-1].finalized


@pytest.mark.parametrize("seed", range(20))
def test_losses_in_any_signal_are_counted_to_the_sample(seed: int) -> None:
    """Messages of random sizes of which some are missing, some sent again, and NaNs inside."""
    rng = np.random.default_rng(seed)
    length, start = 4000, int(rng.integers(0, 1 << 40))
    lost = np.zeros(length, bool)
    stream: list[tuple[int, bytes]] = []
    for lane in range(2):
        place = 0
        while place < length:
            count = min(int(rng.integers(1, 200)), length - place)
            values = ramp(place, count, lane + 1.0)
            if rng.random() < 0.1:
                values[count // 2] = np.nan
                lost[place + count // 2] = True
            if rng.random() < 0.1 and place:
                lost[place : place + count] = True
            else:
                one = message(lane, 4, 4 * (start + place), values)
                stream += [(place, one)] * (2 if rng.random() < 0.05 else 1)
            place += count
    # Signals arrive in step, each in its own order.
    raw = b"".join(one for _, one in sorted(stream, key=lambda pair: pair[0]))
    decoder = LaneDecoder(("current", "voltage"), (), 1e6)
    parts, at = list[Part](), 0
    while at < len(raw):
        size = int(rng.integers(1, 5000))
        parts += decoder.feed(raw[at : at + size], 0)
        at += size
    parts += decoder.finish(0)
    current = joined(parts, "current")
    expected = np.where(lost, np.nan, np.arange(length))[: len(current)]
    np.testing.assert_array_equal(current, expected)
    assert lost[len(current) :].all()
    ledger = decoder.ledger()
    assert ledger["closes"]
    assert ledger["kept"] == int((~lost[: len(current)]).sum())
    holes = ledger["lost"]
    assert isinstance(holes, dict)
    assert sum(holes.values()) == int(lost[: len(current)].sum())


def test_a_silent_signal_does_not_hold_the_others_for_ever() -> None:
    decoder = LaneDecoder(("current",), (0,), 100.0)
    decoder.feed(message(1, 1, 0, np.zeros(1, np.uint8)), 0)
    parts = decoder.feed(message(0, 1, 0, ramp(0, 1000)), 0)
    assert [type(part) for part in parts] == [Block, Gap]
    assert parts[1] == Gap(8, 1000 - 200 - 8, "counter")


def test_what_a_full_ring_dropped_is_told_apart() -> None:
    decoder = LaneDecoder(("current",), (), 100.0)
    decoder.feed(message(0, 1, 0, ramp(0, 10)), 0)
    assert decoder.skip(100, 0) == []
    parts = decoder.feed(message(0, 1, 30, ramp(30, 10)), 0)
    assert parts[0] == Gap(10, 20, "ring")


def test_coarser_bits_are_repeated() -> None:
    decoder = LaneDecoder(("current",), (3,), 100.0)
    bits = np.array([1, 0, 0, 1, 1, 0, 1, 0])
    decoder.feed(message(1, 8, 16, packed(bits)), 0)
    parts = decoder.feed(message(0, 2, 16, ramp(8, 32)), 0)
    np.testing.assert_array_equal(joined(parts, "logic"), 8 * np.repeat(bits, 4))


@pytest.mark.parametrize(
    "raw", [b"\xff" * 16, message(0, 0, 0, ramp(0, 1)), message(2, 1, 0, ramp(0, 1))]
)
def test_a_damaged_message_is_an_error(raw: bytes) -> None:
    with pytest.raises(MeterError):
        LaneDecoder(("current", "voltage"), (), 1e6).feed(raw, 0)

"""The data acquisition device: channels to power, the scan's count to gaps, with a stand-in."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from uldaq_stand_in import DaqDevice, Inputs, Range, ULError, module

from waistline import plugins
from waistline.bench import Bench
from waistline.errors import ConfigError, MeterError, MissingExtra
from waistline.instrument import MeterBench
from waistline.trace.base import Block, Gap
from waistline_hostctl.meters.base import PACKAGE, MeterChoice, Part, open_on_bench

NAME = "waistline_hostctl.meters.mccdaq"
BINDING = "waistline_hostctl.meters._uldaq"


@pytest.fixture
def mccdaq(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setitem(sys.modules, "uldaq", module("01A2B3"))
    for name in (NAME, BINDING):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(NAME)
    for name in (NAME, BINDING):
        sys.modules.pop(name, None)


def running() -> Inputs:
    assert Inputs.current is not None
    return Inputs.current


class Line:
    """A reader and its decoder, in one process."""

    def __init__(self, mccdaq: ModuleType, **options: str) -> None:
        self.meter = mccdaq.open_meter(MeterChoice("mccdaq", options=options))
        settings = self.meter.settings()
        self.reader, self.decoder = mccdaq.reader_from(settings), mccdaq.decoder_from(settings)
        self.reader.start()
        self.inputs = running()

    def read(self, size_bytes: int = 1 << 22) -> list[Part]:
        buffer = memoryview(bytearray(size_bytes))
        parts: list[Part] = []
        while count := self.reader.read_into(buffer):
            parts += self.decoder.feed(bytes(buffer[:count]), 0)
        return parts


def test_a_missing_library_is_told_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = 'raise OSError("libuldaq.so: cannot open shared object file")\n'
    (tmp_path / "uldaq.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("uldaq", NAME, BINDING):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingExtra, match=r"libuldaq\.so") as caught:
        plugins.load(PACKAGE, "mccdaq")
    assert "cannot open shared object" in caught.value.cause
    assert "mccdaq/uldaq" in caught.value.fix
    assert NAME not in sys.modules


def test_the_rate_is_the_one_that_the_device_says(mccdaq: ModuleType) -> None:
    info = mccdaq.open_meter(MeterChoice("mccdaq")).info
    # 500 kS/s for two channels, and what its clock can divide.
    assert info.rate_hz == pytest.approx(250e3 * 0.999)
    assert (info.id, info.untried) == ("mccdaq:01A2B3", True)
    assert [signal.name for signal in info.signals] == ["current", "voltage", "power"]
    assert DaqDevice.connected == 0


def test_power_is_that_of_the_device_behind_the_shunt(mccdaq: ModuleType) -> None:
    line = Line(mccdaq, reference="3", measured="1", marker="2", range="5", rate="1000")
    volts = {1: 0.05, 2: 3.3, 3: 5.0}

    def voltage(scans: np.ndarray, channel: int) -> np.ndarray:
        return np.where((channel == 2) & (scans % 2 == 0), 0.0, volts[channel])

    line.inputs.voltage = voltage
    line.inputs.advance(6)
    (block,) = line.read()
    assert isinstance(block, Block)
    np.testing.assert_allclose(block.current_a, 0.5, rtol=1e-6)
    np.testing.assert_allclose(block.voltage_v, 4.95, rtol=1e-6)
    # P = (Uref - Um) Um / R
    np.testing.assert_allclose(block.power_w, 4.95 * 0.05 / 0.1, rtol=1e-6)
    np.testing.assert_array_equal(block.logic, [0, 1, 0, 1, 0, 1])
    assert line.inputs.asked[:4] == (1, 3, 2, Range.BIP5VOLTS)
    line.reader.stop()
    assert not line.inputs.running
    assert DaqDevice.connected == 0


def test_the_shunt_of_the_bench_is_used(mccdaq: ModuleType) -> None:
    bench = Bench(meter={"lab": MeterBench(kind="mccdaq", shunt_ohm=0.25, shunt_tolerance=0.01)})
    info = open_on_bench(MeterChoice("lab"), bench).info
    assert info.details["shunt_ohm"] == 0.25
    assert info.details["bench_section"] == "lab"


def test_samples_go_around_the_buffer_in_order(mccdaq: ModuleType) -> None:
    line = Line(mccdaq, rate="1000", shunt="1")
    rng = np.random.default_rng(5)
    line.inputs.voltage = lambda scans, channel: scans * float(channel)
    parts: list[Part] = []
    total = 0
    while total < 20_000:
        count = int(rng.integers(1, 1500))
        line.inputs.advance(count)
        total += count
        parts += line.read(int(rng.integers(100, 5000)))
    assert not any(isinstance(part, Gap) for part in parts)
    ids = np.concatenate([part.current_a for part in parts if isinstance(part, Block)])
    np.testing.assert_array_equal(ids, np.arange(total))
    assert line.decoder.ledger()["kept"] == total
    line.reader.stop()


def test_what_is_written_over_is_a_gap_of_known_size(mccdaq: ModuleType) -> None:
    line = Line(mccdaq, rate="1000", shunt="1")
    size = len(line.inputs.buffer)
    line.inputs.voltage = lambda scans, channel: scans * float(channel)
    line.inputs.advance(100)
    parts = line.read()
    line.inputs.advance(3 * size)
    parts += line.read()
    block, gap, *rest = parts
    assert (block.first, len(block)) == (0, 100)  # type: ignore[arg-type]
    assert gap == Gap(100, 3 * size - size // 4, "counter")
    for part in rest:
        assert isinstance(part, Block)
        assert part.current_a is not None
        np.testing.assert_array_equal(part.current_a, np.arange(part.first, part.first + len(part)))
    assert line.decoder.ledger()["closes"]
    line.reader.stop()


def test_a_fifo_that_ran_over_is_a_gap_with_bounds(mccdaq: ModuleType) -> None:
    line = Line(mccdaq, rate="1000", shunt="1")
    line.inputs.advance(50)
    parts = line.read()
    line.inputs.failure = ULError.OVERRUN
    parts += line.read()
    line.inputs.advance(20)
    parts += line.read()
    first, gap, second = parts
    assert isinstance(gap, Gap)
    assert (gap.first, gap.kind, gap.resolved) == (50, "host-time", False)
    assert gap.low is not None
    assert gap.high is not None
    assert gap.low <= gap.count <= gap.high
    assert second.first == gap.end
    assert isinstance(first, Block)
    ledger = line.decoder.ledger()
    assert (ledger["unknown"], ledger["closes"]) == (1, False)
    line.reader.stop()


def test_one_that_always_runs_over_ends_with_a_fix(mccdaq: ModuleType) -> None:
    line = Line(mccdaq, rate="1000")
    for _ in range(5):
        line.inputs.failure = ULError.OVERRUN
        assert line.reader.read_into(memoryview(bytearray(1000)))
    line.inputs.failure = ULError.OVERRUN
    with pytest.raises(MeterError, match="faster") as caught:
        line.reader.read_into(memoryview(bytearray(1000)))
    assert "rate=499.5" in caught.value.fix
    line.reader.stop()


def test_one_that_is_pulled_out_is_gone(mccdaq: ModuleType) -> None:
    line = Line(mccdaq, rate="1000")
    line.inputs.failure = ULError.DEAD_DEV
    with pytest.raises(MeterError, match="gone"):
        line.reader.read_into(memoryview(bytearray(1000)))
    line.inputs.failure, line.inputs.running = 0, False
    with pytest.raises(MeterError, match="gone"):
        line.reader.read_into(memoryview(bytearray(1000)))
    line.reader.stop()


@pytest.mark.parametrize(
    "options",
    [{"shunt": "0"}, {"reference": "1"}, {"marker": "0"}, {"range": "7"}, {"wiring": "x"},
     {"rate": "fast"}, {"measured": "1.5"}, {"gain": "1"}],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(mccdaq: ModuleType, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        mccdaq.open_meter(MeterChoice("mccdaq", options=options))


def test_none_and_two_are_refused(mccdaq: ModuleType) -> None:
    DaqDevice.present = []
    with pytest.raises(ConfigError, match="no data acquisition device"):
        mccdaq.open_meter(MeterChoice("mccdaq"))
    module("A", "B")
    with pytest.raises(ConfigError, match="2 instruments"):
        mccdaq.open_meter(MeterChoice("mccdaq"))
    assert mccdaq.open_meter(MeterChoice("mccdaq", port="B")).info.id == "mccdaq:B"

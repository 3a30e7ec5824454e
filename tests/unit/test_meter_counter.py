"""Counters of a machine, on a folder that looks like ``/sys``."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from waistline.errors import ConfigError, MeterError, RateTooLow
from waistline.evidence import Evidence
from waistline.trace.base import Block, Gap
from waistline_hostctl.capture.wanted import check_rate
from waistline_hostctl.meters import _counters, counter
from waistline_hostctl.meters._counters import Counter
from waistline_hostctl.meters.base import MeterChoice, Part

S = 1_000_000_000


def zone(root: Path, name: str, label: str, energy_uj: int, most: int = 262_143_328_850) -> Path:
    folder = root / "class/powercap" / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(label + "\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def sensor(root: Path, number: int, chip: str, device: str, **files: int) -> Path:
    folder = root / "class/hwmon" / f"hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(chip + "\n")
    (root / "devices" / device).mkdir(parents=True)
    (folder / "device").symlink_to(root / "devices" / device)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def choice(root: Path, port: str | None = None, **options: str) -> MeterChoice:
    return MeterChoice("counter", port, {"root": str(root), **options})


def energy(rate_hz: float = 10.0, modulo_j: float = 0.0) -> counter.CounterDecoder:
    known = Counter("rapl", "/", ("power",), energy=True, modulo_j=modulo_j)
    return counter.CounterDecoder(counter.Settings(known, rate_hz))


def fed(decoder: counter.CounterDecoder, *readings: tuple[float, ...]) -> list[Part]:
    """Readings of (seconds, numbers); what came of all."""
    record = counter._record(decoder._counter)
    raw = b"".join(record.pack(int(at * S) + 7 * S, *values) for at, *values in readings)
    # Cut anywhere.
    return decoder.feed(raw[:5], 0) + decoder.feed(memoryview(raw)[5:], 0)


def power(parts: list[Part]) -> np.ndarray:
    return np.concatenate([part.power_w for part in parts if isinstance(part, Block)])


def test_zones_and_sensors_are_found_under_ids_that_stay(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    zone(tmp_path, "intel-rapl:1", "package-1", 5)
    zone(tmp_path, "intel-rapl:1:0", "core", 5)
    (tmp_path / "class/powercap/intel-rapl").mkdir()
    sensor(tmp_path, 0, "coretemp", "coretemp.0", temp1_input=40000)
    sensor(tmp_path, 3, "ina226", "1-0040", curr1_input=1, in1_input=2, power1_input=3)
    sensor(tmp_path, 4, "ina219", "1-0041", curr1_input=1)
    rows = counter.found(tmp_path)
    assert [one.id for one, _ in rows] == [
        "rapl:package-0",
        "rapl:package-0-core",
        "rapl:package-1",
        "rapl:package-1-core",
        "hwmon:ina226:1-0040",
        "hwmon:ina219:1-0041",
    ]
    assert rows[4][1].names == ("current", "voltage", "power")
    assert rows[5][1].names == ("current",)


def test_two_are_listed_and_an_id_chooses(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    zone(tmp_path, "intel-rapl:1", "package-1", 5)
    with pytest.raises(ConfigError, match="2 instruments") as caught:
        counter.open_meter(choice(tmp_path))
    assert "rapl:package-0" in caught.value.fix
    info = counter.open_meter(choice(tmp_path, "rapl:package-1")).info
    assert info.id == "counter:rapl:package-1"
    assert (info.rate_hz, info.ledger) == (100.0, "host-time")


def test_a_folder_of_a_test_is_no_counter_of_this_machine(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    assert counter.open_meter(choice(tmp_path)).info.evidence is Evidence.EMULATED


def test_it_is_too_slow_for_layers(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    info = counter.open_meter(choice(tmp_path)).info
    with pytest.raises(RateTooLow, match="100 Hz") as caught:
        check_rate(info, allow_slow=False)
    assert "--allow-slow" in caught.value.fix
    check_rate(info, allow_slow=True)


def test_nothing_to_find_and_unknown_places_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no counter"):
        counter.open_meter(choice(tmp_path))
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    with pytest.raises(ConfigError, match="no counter at"):
        counter.open_meter(choice(tmp_path, "/dev/null"))
    for options in ({"rate": "1e9"}, {"rate": "x"}, {"shunt": "0.1"}, {"zone": "1"}):
        with pytest.raises(ConfigError):
            counter.open_meter(choice(tmp_path, **options))


def test_a_file_that_may_not_be_read_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 5)

    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_counters.os, "open", refuse)  # root reads everything
    with pytest.raises(MeterError, match="may not be read") as caught:
        counter.open_meter(choice(tmp_path))
    assert caught.value.fix == f"sudo chmod a+r {folder / 'energy_uj'}"


def test_a_reader_reads_in_time_and_says_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sensor(tmp_path, 0, "ina226", "1-0040", curr1_input=250, in1_input=5000)
    now = [10 * S]
    monkeypatch.setattr(counter, "time", SimpleNamespace(monotonic_ns=lambda: now[0]))
    settings = counter.open_meter(choice(tmp_path, rate="10")).settings()
    reader, decoder = counter.reader_from(settings), counter.decoder_from(settings)
    reader.start()
    buffer = memoryview(bytearray(100))
    parts: list[Part] = []
    counts = []
    for _ in range(100):
        if count := reader.read_into(buffer):
            parts += decoder.feed(buffer[:count], now[0])
        counts.append(count)
        now[0] += S // 50
    assert sum(map(bool, counts)) == 20
    (first, *_) = parts
    assert isinstance(first, Block)
    np.testing.assert_allclose(first.current_a, 0.25)
    np.testing.assert_allclose(first.voltage_v, 5.0)
    assert sum(len(part) for part in parts if isinstance(part, Block)) == 19
    (folder / "curr1_input").write_text("nonsense")
    with pytest.raises(MeterError, match="gone"):
        reader.read_into(buffer)
    reader.stop()


def test_a_shunt_that_is_another_scales_the_current(tmp_path: Path) -> None:
    files = {"curr1_input": 1000, "in1_input": 5000, "shunt_resistor": 10_000}
    sensor(tmp_path, 0, "ina226", "1-0040", **files)
    settings = counter.open_meter(choice(tmp_path, shunt="0.02")).settings()
    source = _counters.opened(_counter_of(settings))
    assert source.read() == (0.5, 5.0)
    source.close()


def _counter_of(settings: dict[str, object]) -> Counter:
    return counter.reader_from(settings)._settings.counter


def test_energies_become_powers_by_hand() -> None:
    # 2 W for 1 s, then 4 W, read at odd times: nothing of the energy is lost.
    decoder = energy()
    parts = fed(decoder, (0.0, 100.0), (0.25, 100.5), (0.4, 100.8), (1.0, 102.0), (1.3, 103.2))
    np.testing.assert_allclose(power(parts), [2.0] * 10 + [4.0] * 3, rtol=1e-6)
    assert [part.first for part in parts] == [0, 2, 4, 10]


@pytest.mark.parametrize("seed", range(10))
def test_the_energy_of_whole_samples_is_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.001, 0.3, 200))
    times -= times[0]
    energies = np.cumsum(rng.uniform(0, 5, 200))
    decoder = energy(rate_hz=20.0)
    parts = fed(decoder, *zip(times.tolist(), energies.tolist(), strict=True))
    found = power(parts)
    end_s = len(found) / 20.0
    expected = np.interp(end_s, times, energies) - energies[0]
    assert found.sum() / 20.0 == pytest.approx(expected, rel=1e-6)
    place = 0
    for part in parts:
        assert part.first == place
        assert isinstance(part, Block)
        place += len(part)
    assert place == int(times[-1] * 20.0)


def test_a_counter_that_begins_anew_goes_on() -> None:
    decoder = energy(rate_hz=1.0, modulo_j=1000.0)
    parts = fed(decoder, (0.0, 990.0), (1.0, 996.0), (2.0, 2.0), (3.0, 8.0))
    np.testing.assert_allclose(power(parts), [6.0, 6.0, 6.0], rtol=1e-5)


def test_a_counter_that_falls_without_a_range_is_an_error() -> None:
    with pytest.raises(MeterError, match="fell"):
        fed(energy(), (0.0, 5.0), (1.0, 4.0))


def test_time_that_goes_back_is_an_error() -> None:
    with pytest.raises(MeterError, match="back in time"):
        fed(energy(), (0.0, 5.0), (1.0, 6.0), (0.5, 7.0))


def moment() -> counter.CounterDecoder:
    return counter.CounterDecoder(counter.Settings(Counter("hwmon", "/", ("power",)), 10.0))


def test_powers_of_the_moment_are_lines_between_readings() -> None:
    parts = fed(moment(), (0.0, 1.0), (0.2, 3.0))
    np.testing.assert_allclose(power(parts), [1.5, 2.5], rtol=1e-6)


def test_nobody_knows_a_power_between_readings_far_apart() -> None:
    decoder = moment()
    parts = fed(decoder, (0.0, 1.0), (0.1, 1.0), (1.0, 1.0), (1.1, 1.0), (1.2, float("nan")))
    assert parts[1] == Gap(1, 9, "host-time")
    assert [part.first for part in parts] == [0, 1, 10]
    ledger = decoder.ledger()
    assert (ledger["kept"], ledger["lost"]) == (2, {"host-time": 9})


class Nvml:
    """A stand-in for pynvml, for tests alone."""

    NVMLError = RuntimeError
    fails = False
    counts_energy = False

    def nvmlInit(self) -> None:
        if self.fails:
            raise RuntimeError("NVML Shared Library Not Found")

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return "handle"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return "handle"

    def nvmlDeviceGetUUID(self, handle: str) -> bytes:
        return b"GPU-1"

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "A GPU"

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 72_500

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if not self.counts_energy:
            raise RuntimeError("Not Supported")
        return 5_000_250


def test_a_graphics_processor_is_a_counter_too(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Nvml()
    monkeypatch.setattr(_counters, "_pynvml", lambda: library)
    assert "nvml:GPU-1" in [one.id for one in counter.find()]
    meter = counter.open_meter(MeterChoice("counter", "nvml:GPU-1"))
    assert (meter.info.evidence, meter.info.rate_hz) == (Evidence.COUNTER, 10.0)
    source = _counters.opened(_counter_of(meter.settings()))
    assert source.read() == (72.5,)
    source.close()
    library.counts_energy = True
    meter = counter.open_meter(MeterChoice("counter", "nvml:GPU-1"))
    known = _counter_of(meter.settings())
    assert known.energy
    source = _counters.opened(known)
    assert source.read() == (5000.25,)
    source.close()
    library.fails = True
    assert "nvml:GPU-1" not in [one.id for one in counter.find()]

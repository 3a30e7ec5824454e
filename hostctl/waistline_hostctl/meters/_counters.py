"""Counters of power and energy that a machine has itself: RAPL, INA sensors by hwmon, NVML.

Each reading is a few numbers: an energy that only rises, or currents, voltages and powers of the
moment. Files are read anew each time; sysfs gives a fresh value when read from the start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from waistline.errors import ConfigError, MeterError, MissingExtra
from waistline.plugins import missing_extra
from waistline_hostctl.meters.base import Found, gone

RAPL, HWMON, NVML = "rapl", "hwmon", "nvml"
UNTRIED = True
RATES_HZ = {RAPL: 100.0, HWMON: 50.0, NVML: 10.0}
"""What they are asked at most by default: RAPL renews each millisecond, an INA226 with averaging
every 20 ms or so, NVML's power every 100 ms."""
_SENSORS = re.compile(r"ina(2|3)\d\d|ina2xx|isl28022|ltc2945|max34\d+|lm25066|tps\d+")
_MOST = 64
_POWER, _CURRENT, _VOLTAGE = "power1_input", "curr1_input", "in1_input"
_UNITS = {_CURRENT: ("current", 1e-3), _VOLTAGE: ("voltage", 1e-3), _POWER: ("power", 1e-6)}


class Counter(msgspec.Struct, frozen=True):
    """One counter, found.

    Attributes:
        kind: ``rapl``, ``hwmon`` or ``nvml``.
        place: its folder, or the UUID of a graphics processor.
        names: float signals it gives; an energy counts as ``power``.
        energy: whether its reading is an energy in joules that rises.
        modulo_j: where that begins anew; 0 where never.
        scale: current over what the sensor says, where its shunt is another than it believes.
    """

    kind: str
    place: str
    names: tuple[str, ...]
    energy: bool = False
    modulo_j: float = 0.0
    scale: float = 1.0


class Source(Protocol):
    """A counter that is open."""

    def read(self) -> tuple[float, ...]:
        """A number for each of its names, SI; NaN where the sensor has none just now."""

    def close(self) -> None: ...


def found(root: Path) -> list[tuple[Found, Counter]]:
    """Counters below ``root``, which is ``/sys``; graphics processors where that is so."""
    rows = [*_rapl(root), *_hwmon(root)]
    return rows + (_nvml() if root == Path("/sys") else [])


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:4096].decode(errors="replace").strip()
    except OSError:
        return ""


def _rapl(root: Path) -> list[tuple[Found, Counter]]:
    rows = []
    for zone in sorted((root / "class/powercap").glob("*rapl*:*"))[:_MOST]:
        name, parent = _text(zone / "name"), zone.name.rsplit(":", 1)[0]
        if not name:
            continue
        if parent.count(":"):
            name = f"{_text(zone.parent / parent / 'name')}-{name}"
        most = _text(zone / "max_energy_range_uj")
        # Less one unit of the counter, which is some 61 uJ.
        modulo_j = int(most) * 1e-6 if most.isdigit() else 0.0
        kind = zone.name.split(":")[0]
        identity = f"{RAPL}:{name}" if kind == "intel-rapl" else f"{RAPL}:{kind}:{name}"
        counter = Counter(RAPL, str(zone), ("power",), energy=True, modulo_j=modulo_j)
        rows.append((Found(identity, str(zone), f"processor energy, {name}", UNTRIED), counter))
    return rows


def _hwmon(root: Path) -> list[tuple[Found, Counter]]:
    rows = []
    for folder in sorted((root / "class/hwmon").glob("hwmon*"))[:_MOST]:
        chip = _text(folder / "name")
        if not _SENSORS.fullmatch(chip):
            continue
        names = tuple(name for file, (name, _) in _UNITS.items() if (folder / file).exists())
        if not {"power", "current"} & set(names):
            continue
        # The bus address stays; the number of hwmon does not.
        device = folder / "device"
        where = device.resolve().name if device.exists() else folder.name
        text = f"{chip} at {where}"
        rows.append(
            (
                Found(f"{HWMON}:{chip}:{where}", str(folder), text, UNTRIED),
                Counter(HWMON, str(folder), names),
            )
        )
    return rows


def _nvml() -> list[tuple[Found, Counter]]:
    try:
        library = _pynvml()
        library.nvmlInit()
    except (MissingExtra, OSError):
        return []
    except Exception:  # NVMLError, of a library that is there without a driver
        return []
    rows = []
    for index in range(min(_MOST, library.nvmlDeviceGetCount())):
        handle = library.nvmlDeviceGetHandleByIndex(index)
        uuid, name = (
            _str(library.nvmlDeviceGetUUID(handle)),
            _str(library.nvmlDeviceGetName(handle)),
        )
        energy = _counts_energy(library, handle)
        counter = Counter(NVML, uuid, ("power",), energy=energy)
        rows.append((Found(f"{NVML}:{uuid}", uuid, name, UNTRIED), counter))
    library.nvmlShutdown()
    return rows


def _counts_energy(library: Any, handle: Any) -> bool:
    """Whether the processor adds up its energy itself, as those since 2017 do."""
    try:
        library.nvmlDeviceGetTotalEnergyConsumption(handle)
    except library.NVMLError:
        return False
    return True


def _str(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _pynvml() -> Any:
    try:
        import pynvml
    except ModuleNotFoundError as error:
        raise missing_extra("pynvml", needed_by="counter") from error
    return pynvml


def with_shunt(counter: Counter, shunt_ohm: float) -> Counter:
    """The counter, where the shunt is one of so many ohms.

    Raises:
        ConfigError: it does not say which shunt it believes in.
    """
    believed = _text(Path(counter.place) / "shunt_resistor") if counter.kind == HWMON else ""
    if not believed.isdigit() or not int(believed):
        raise ConfigError(
            "this counter has no shunt that could be another",
            cause="only hwmon sensors with a file shunt_resistor say which one they believe in",
            fix="leave shunt out (shunt_ohm in the bench file), and write a current_gain there",
        )
    return msgspec.structs.replace(counter, scale=int(believed) * 1e-6 / shunt_ohm)


def opened(counter: Counter) -> Source:
    """The counter, open.

    Raises:
        MeterError: it cannot be read.
    """
    if counter.kind == NVML:
        return _Nvml(counter.place, energy=counter.energy)
    folder = Path(counter.place)
    if counter.energy:
        return _Files([folder / "energy_uj"], [1e-6])
    units = {name: (file, unit) for file, (name, unit) in _UNITS.items()}
    files, scales = [], []
    for name in counter.names:
        file, unit = units[name]
        files.append(folder / file)
        scales.append(unit * (1.0 if name == "voltage" else counter.scale))
    return _Files(files, scales)


class _Files:
    """Numbers in files of one line each."""

    def __init__(self, paths: Sequence[Path], scales: Sequence[float]) -> None:
        self._scales = scales
        self._paths = paths
        self._files: list[int] = []
        for path in paths:
            try:
                self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except PermissionError as error:
                self.close()
                raise MeterError(
                    f"{path} may not be read",
                    cause=f"{error.strerror}; since 2020 Linux keeps energies for root alone",
                    fix=f"sudo chmod a+r {path}",
                ) from error
            except OSError as error:
                self.close()
                raise gone(str(path), error.strerror) from error

    def read(self) -> tuple[float, ...]:
        return tuple(
            scale * self._number(file, path)
            for file, path, scale in zip(self._files, self._paths, self._scales, strict=True)
        )

    def _number(self, file: int, path: Path) -> float:
        try:
            return float(int(os.pread(file, 64, 0)))
        except BlockingIOError:  # the sensor has not converted yet
            return float("nan")
        except (OSError, ValueError) as error:
            raise gone(str(path), error) from error

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())


class _Nvml:
    """Power of a graphics processor, or its energy since the driver was loaded."""

    def __init__(self, uuid: str, *, energy: bool) -> None:
        self._library = _pynvml()
        try:
            self._library.nvmlInit()
            self._handle = self._library.nvmlDeviceGetHandleByUUID(uuid)
        except self._library.NVMLError as error:
            raise gone(uuid, error) from error
        self._uuid = uuid
        self._read = (
            self._library.nvmlDeviceGetTotalEnergyConsumption
            if energy
            else self._library.nvmlDeviceGetPowerUsage
        )

    def read(self) -> tuple[float, ...]:
        try:
            return (self._read(self._handle) * 1e-3,)
        except self._library.NVMLError as error:
            raise gone(self._uuid, error) from error

    def close(self) -> None:
        self._library.nvmlShutdown()

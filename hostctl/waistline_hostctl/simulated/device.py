"""The simulated device: what a meter in its supply line would see, and what is true.

A meter integrates: a sample is the mean over its interval. Energies are tabulated once for one
period, at `_STEPS` times or more; a sample is a difference of two, which costs the same whatever
happens inside. Where a period is a whole number of samples, even that is done only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from waistline.errors import ConfigError
from waistline_hostctl.simulated import network as networks
from waistline_hostctl.simulated.load import Load
from waistline_hostctl.simulated.network import Network

_STEPS = 1 << 18
_NOISE = (1 << 18) - 5
_STEP_S = 1e-6
_MAX_STEPS = 1 << 24

Doubles = NDArray[np.float64]


class DeviceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device's file.

    Attributes:
        load: what it draws on its rail.
        supply: between its rail and the meter; None is a wire.
        supply_v: at the meter.
        source_ohm: of the wires before the meter's voltage tap.
        noise_w: rms of white noise, each sample.
        marker_bit: logic bit that is 1 from the first layer's begin to the last one's end.
        seed: of the noise.
    """

    load: Load
    supply: Network | None = None
    supply_v: float = 3.3
    source_ohm: float = 0.0
    noise_w: float = 0.0
    marker_bit: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.supply_v <= 60 and 0 <= self.source_ohm <= 10 and self.noise_w >= 0):
            raise ConfigError("the simulated device's supply cannot be so", cause=f"{self}"[:200])
        if not 0 <= self.marker_bit < 8:
            raise ConfigError("logic bits are 0 to 7", cause=f"marker_bit is {self.marker_bit}")
        if self.supply is not None:
            networks.check(self.supply)


@dataclass(frozen=True, slots=True)
class Samples:
    """A block as a meter sees it; float32 (n,) in SI units, logic uint8 (n,)."""

    current_a: NDArray[np.float32]
    voltage_v: NDArray[np.float32]
    power_w: NDArray[np.float32]
    logic: NDArray[np.uint8]


def read(path: Path) -> DeviceSpec:
    """Read a device's JSON file.

    Raises:
        ConfigError: it is missing, not JSON, or says what cannot be.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=DeviceSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"cannot use the simulated device {path}",
            cause=str(error),
            fix="see waistline_hostctl/simulated/device.py for its keys",
        ) from error


class Device:
    """A device that runs from time 0 on, seen by a meter.

    Args:
        spec: what it is.
        rate_hz: of the meter.
    """

    def __init__(self, spec: DeviceSpec, rate_hz: float) -> None:
        self.spec = spec
        self.rate_hz = rate_hz
        period_s = spec.load.period_s
        turns = period_s * rate_hz
        whole = round(turns)
        steps = int(min(_MAX_STEPS, max(_STEPS, period_s / _STEP_S)))
        self._even = whole if whole and abs(turns - whole) < 1e-9 * whole else None
        if self._even:
            steps = self._even * max(1, steps // self._even)
        grid = np.linspace(0, period_s, steps + 1)
        self._put_j = networks.input_energy_j(spec.supply, spec.load.energy_j(grid), period_s)
        rng = np.random.default_rng(spec.seed)
        self._noise = rng.normal(0, 1, _NOISE) * spec.noise_w if spec.noise_w else None
        self._table = self._samples(0, self._even, noise=False) if self._even else None

    def input_energy_j(self, until_s: Doubles) -> Doubles:
        """Energy through the meter from time 0 to each time, without noise; float64."""
        period_s = self.spec.load.period_s
        whole = np.floor(until_s / period_s)
        place = (until_s - whole * period_s) * ((len(self._put_j) - 1) / period_s)
        index = np.minimum(place.astype(np.int64), len(self._put_j) - 2)
        low = self._put_j[index]
        inside: Doubles = low + (place - index) * (self._put_j[index + 1] - low)
        energy: Doubles = whole * self._put_j[-1] + inside
        return energy

    def rail_energy_j(self, until_s: Doubles) -> Doubles:
        """Energy out of the rail from time 0 to each time, exact; float64."""
        return self.spec.load.energy_j(until_s)

    def edges_s(self, repetition: int) -> Doubles:
        """Begin of each layer of one repetition, and the end of the last; float64."""
        return repetition * self.spec.load.period_s + np.array(self.spec.load.edges_s)

    def layers_j(self, repetition: int = 0) -> dict[str, tuple[float, float]]:
        """Energy of each layer, gross: (on the rail, through the meter) between its edges."""
        edges = self.edges_s(repetition)
        rail, put = np.diff(self.rail_energy_j(edges)), np.diff(self.input_energy_j(edges))
        names = [layer.name for layer in self.spec.load.layers]
        return {n: (float(r), float(p)) for n, r, p in zip(names, rail, put, strict=True)}

    def samples(self, first: int, count: int) -> Samples:
        """Samples ``first`` .. ``first + count``."""
        if self._table is None or self._even is None:
            return self._samples(first, count)
        place = np.arange(first % self._even, first % self._even + count)
        table = self._table
        if self._noise is None:
            return Samples(
                np.take(table.current_a, place, mode="wrap"),
                np.take(table.voltage_v, place, mode="wrap"),
                np.take(table.power_w, place, mode="wrap"),
                np.take(table.logic, place, mode="wrap"),
            )
        power = np.take(table.power_w, place, mode="wrap") + self._noise_at(first, count)
        return self._seen(power, np.take(table.logic, place, mode="wrap"))

    def _samples(self, first: int, count: int, *, noise: bool = True) -> Samples:
        edges = np.arange(first, first + count + 1) / self.rate_hz
        power = np.diff(self.input_energy_j(edges)) * self.rate_hz
        if noise:
            power = power + self._noise_at(first, count)
        load = self.spec.load
        # The bit is sampled at the interval's begin; 1e-9 s keeps rounding off the edges.
        inside = np.mod(edges[:-1] + 1e-9, load.period_s)
        on = (inside >= load.edges_s[0]) & (inside < load.edges_s[-1])
        return self._seen(power, (on << self.spec.marker_bit).astype(np.uint8))

    def _noise_at(self, first: int, count: int) -> Doubles:
        if self._noise is None:
            return np.zeros(count)
        place = np.arange(first % _NOISE, first % _NOISE + count)
        return np.take(self._noise, place, mode="wrap")

    def _seen(self, power: Doubles, logic: NDArray[np.uint8]) -> Samples:
        volts, ohm = self.spec.supply_v, self.spec.source_ohm
        if ohm:
            # P = V I and V = V0 - R I; the smaller current of the two.
            root = np.sqrt(np.maximum(volts**2 - 4 * ohm * power, 0))
            current = (volts - root) / (2 * ohm)
            voltage = volts - ohm * current
        else:
            current, voltage = power / volts, np.full(len(power), volts)
        return Samples(
            current.astype(np.float32),
            voltage.astype(np.float32),
            power.astype(np.float32),
            logic,
        )

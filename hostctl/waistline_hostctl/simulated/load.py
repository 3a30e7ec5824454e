"""What the simulated device draws on its rail: a period of idle time, layers, ripple and bursts.

Everything is piecewise linear in time plus sines, so every energy is known in closed form.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from waistline.errors import ConfigError

Doubles = NDArray[np.float64]


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Power over idle for a time: from ``power_w * (1 - ramp)`` to ``power_w * (1 + ramp)``."""

    name: str
    duration_s: float
    power_w: float
    ramp: float = 0.0


class Ripple(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sine that runs all the time; rounded to a whole number of turns in the period."""

    frequency_hz: float
    amplitude_w: float
    phase: float = 0.0


class Burst(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something beside the layers, such as a radio: power over idle from ``start_s`` on."""

    name: str
    start_s: float
    duration_s: float
    power_w: float


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One period, repeated for ever.

    Attributes:
        period_s: of one inference and the idle time around it.
        idle_w: drawn all the time.
        start_s: when the first layer begins, in the period.
        layers: one after the other.
        ripples, bursts: beside them.
    """

    period_s: float
    idle_w: float
    start_s: float = 0.0
    layers: tuple[Layer, ...] = ()
    ripples: tuple[Ripple, ...] = ()
    bursts: tuple[Burst, ...] = ()

    def __post_init__(self) -> None:
        if not 1e-5 <= self.period_s <= 60:
            raise _bad(f"period_s is {self.period_s}, from 1e-5 to 60 can be")
        spans = [(layer.name, layer.duration_s, layer.power_w) for layer in self.layers]
        spans += [(burst.name, burst.duration_s, burst.power_w) for burst in self.bursts]
        for name, duration_s, power_w in spans:
            if not (0 < duration_s <= self.period_s and math.isfinite(power_w)):
                raise _bad(f"{name} lasts {duration_s} s and draws {power_w} W")
        ends = [self.edges_s[-1], *(b.start_s + b.duration_s for b in self.bursts)]
        begins = [self.start_s, *(b.start_s for b in self.bursts)]
        if not (min(begins) >= 0 and max(ends) <= self.period_s * (1 + 1e-12)):
            raise _bad(f"layers and bursts must lie in the period of {self.period_s} s")

    @property
    def edges_s(self) -> tuple[float, ...]:
        """Begin of every layer and end of the last, in the period."""
        edges = [self.start_s]
        for layer in self.layers:
            edges.append(edges[-1] + layer.duration_s)
        return tuple(edges)

    def pieces(self) -> list[tuple[float, float, float, float]]:
        """(begin, end, power at begin, power at end) of everything that is added to idle."""
        found = [
            (
                begin,
                begin + layer.duration_s,
                layer.power_w * (1 - layer.ramp),
                layer.power_w * (1 + layer.ramp),
            )
            for begin, layer in zip(self.edges_s, self.layers, strict=False)
        ]
        found += [(b.start_s, b.start_s + b.duration_s, b.power_w, b.power_w) for b in self.bursts]
        return found

    def power_w(self, time_s: Doubles) -> Doubles:
        """Rail power at each time, float64 of the same shape."""
        inside = np.mod(time_s, self.period_s)
        power = np.full(inside.shape, self.idle_w)
        for begin, end, first, last in self.pieces():
            on = (inside >= begin) & (inside < end)
            power[on] += first + (last - first) * (inside[on] - begin) / (end - begin)
        for ripple in self.ripples:
            power += ripple.amplitude_w * np.sin(self._turn(ripple) * inside + ripple.phase)
        return power

    def energy_j(self, until_s: Doubles) -> Doubles:
        """Rail energy from time 0 to each time, exact; float64 of the same shape."""
        whole = np.floor(until_s / self.period_s)
        inside = until_s - whole * self.period_s
        one = float(self._inside_j(np.array([self.period_s]))[0])
        energy: Doubles = whole * one + self._inside_j(inside)
        return energy

    def _inside_j(self, inside: Doubles) -> Doubles:
        energy = self.idle_w * inside
        for begin, end, first, last in self.pieces():
            part = np.clip(inside, begin, end) - begin
            energy += part * (first + (last - first) * part / (2 * (end - begin)))
        for ripple in self.ripples:
            turn = self._turn(ripple)
            turned = np.cos(ripple.phase) - np.cos(turn * inside + ripple.phase)
            energy += ripple.amplitude_w / turn * turned
        return energy

    def _turn(self, ripple: Ripple) -> float:
        return 2 * math.pi * max(1, round(ripple.frequency_hz * self.period_s)) / self.period_s


def _bad(cause: str) -> ConfigError:
    return ConfigError("the simulated device cannot be so", cause=cause, fix="change its file")

"""The supply between the simulated device's rail and the meter.

Every network is linear with unit gain at rest (what goes in comes out, later), but for the two
regulators, which lose energy or move it in packets. All act on one whole period at once, in the
steady state of its repetition.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from waistline.errors import ConfigError

Doubles = NDArray[np.float64]


class Rc(msgspec.Struct, frozen=True, tag="rc", forbid_unknown_fields=True):
    """Decoupling behind a resistance: one pole."""

    tau_s: float

    def response(self, omega: Doubles) -> NDArray[np.complex128]:
        return np.asarray(1 / (1 + 1j * omega * self.tau_s), np.complex128)


class TwoPoles(msgspec.Struct, frozen=True, tag="two-poles", forbid_unknown_fields=True):
    """A near and a far capacitor: a fast and a slow pole, the slow one with ``share``."""

    tau_s: float
    slow_tau_s: float
    share: float = 0.5

    def response(self, omega: Doubles) -> NDArray[np.complex128]:
        fast = 1 / (1 + 1j * omega * self.tau_s)
        slow = 1 / (1 + 1j * omega * self.slow_tau_s)
        return np.asarray((1 - self.share) * fast + self.share * slow, np.complex128)


class Lc(msgspec.Struct, frozen=True, tag="lc", forbid_unknown_fields=True):
    """A filter that rings at ``frequency_hz`` with damping ratio ``damping``."""

    frequency_hz: float
    damping: float

    def response(self, omega: Doubles) -> NDArray[np.complex128]:
        turn = omega / (2 * math.pi * self.frequency_hz)
        return np.asarray(1 / (1 - turn**2 + 2j * self.damping * turn), np.complex128)


class BurstMode(msgspec.Struct, frozen=True, tag="burst-mode", forbid_unknown_fields=True):
    """A regulator that moves ``packet_j`` at a time, at ``peak_w``, whenever that is used up."""

    packet_j: float
    peak_w: float
    efficiency: float = 0.9


class Efficiency(msgspec.Struct, frozen=True, tag="efficiency", forbid_unknown_fields=True):
    """A regulator whose input is load / best + fixed + load^2 / droop."""

    best: float = 0.9
    fixed_w: float = 0.002
    droop_w: float = 100.0

    def input_w(self, load_w: Doubles) -> Doubles:
        return load_w / self.best + self.fixed_w + load_w**2 / self.droop_w


Network = Rc | TwoPoles | Lc | BurstMode | Efficiency


def check(network: Network) -> None:
    """Refuse constants that no network has.

    Raises:
        ConfigError: naming it.
    """
    for name in network.__struct_fields__:
        value = getattr(network, name)
        if not (math.isfinite(value) and (value > 0 or (name == "fixed_w" and value == 0))):
            raise ConfigError(
                "the simulated supply cannot be so",
                cause=f"{name} is {value}",
                fix="give a number over 0",
            )


def input_energy_j(network: Network | None, rail_j: Doubles, period_s: float) -> Doubles:
    """Energy that went into the supply in one period in steady state.

    Args:
        network: the supply; None is a wire.
        rail_j: float64 (n + 1,), energy taken out since the period's start, at n + 1 even times.
        period_s: of the repetition.

    Returns:
        float64 (n + 1,), energy put in since the period's start at the same times.
    """
    count = len(rail_j) - 1
    power = np.diff(rail_j) * (count / period_s)
    if network is None:
        return rail_j
    if isinstance(network, Efficiency):
        power = network.input_w(power)
    elif isinstance(network, BurstMode):
        return _packets(network, rail_j, period_s)
    else:
        omega = 2 * math.pi * np.fft.rfftfreq(count, period_s / count).astype(np.float64)
        power = np.fft.irfft(np.fft.rfft(power) * network.response(omega), count)
    return np.concatenate([[0.0], np.cumsum(power)]) * (period_s / count)


def _packets(network: BurstMode, rail_j: Doubles, period_s: float) -> Doubles:
    """Packets at the times at which the ones before are used up, a whole number in a period."""
    needed = float(rail_j[-1]) / network.efficiency
    count = max(1, round(needed / network.packet_j))
    size_j = needed / count
    times = np.linspace(0, period_s, len(rail_j))
    begins = np.interp(np.arange(count) * (rail_j[-1] / count), rail_j, times)
    lasts_s = size_j / network.peak_w
    if lasts_s > float(np.diff(np.append(begins, begins[0] + period_s)).min()):
        raise ConfigError(
            "the simulated regulator cannot move so much",
            cause=f"{count} packets of {size_j:.3g} J a period, each {lasts_s:.3g} s, overlap",
            fix="raise peak_w or lower packet_j",
        )
    # The last packet may end in the next period; this one has the end of such a one too.
    over = max(0.0, begins[-1] + lasts_s - period_s)
    before = np.searchsorted(begins, times, side="right")
    begun = begins[np.maximum(before, 1) - 1]
    put = (before - 1 + np.clip((times - begun) / lasts_s, 0, 1)) * size_j
    found: Doubles = put + np.minimum(times, over) * network.peak_w
    return found

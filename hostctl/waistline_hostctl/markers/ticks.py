"""A microcontroller's ticks against a trace: its clock's drift, and layers that its pin hides.

One pair of edges for each inference and the ticks of its layers place these better than an edge at
every layer, and disturb less. ``waistline mcu bench --json`` writes the ticks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from waistline.errors import MarkerMissing, TraceError
from waistline.files import read_regular
from waistline.trace.base import Doubles
from waistline.trace.clocks import ClockMap
from waistline.trace.markers import EDGE_SIGMA, Pass
from waistline_bridge.messages import Mark

_MOST_BYTES = 16 << 20
_MOST_LAYERS = 100_000
_MOST_OFF = 0.2
"""An oscillator without a crystal may be off by a few per cent; more is another head."""


class LayerTicks(msgspec.Struct, frozen=True):
    """Ticks of a layer; ``shape`` is "" of the coding behind the last one."""

    ticks: int
    name: str = ""
    shape: str = "?"


class HeadTicks(msgspec.Struct, frozen=True):
    """What is read of ``mcu bench``; ``{"tick_hz": .., "layers": [{"ticks": ..}]}`` will do."""

    tick_hz: float
    layers: tuple[LayerTicks, ...]

    @property
    def of_layers(self) -> tuple[LayerTicks, ...]:
        """Without the coding."""
        return tuple(layer for layer in self.layers if layer.shape)


def read_ticks(path: Path) -> HeadTicks:
    """Ticks of a head's layers.

    Raises:
        TraceError: the file cannot be read, or holds no ticks.
    """
    try:
        found = msgspec.json.decode(read_regular(path, _MOST_BYTES), type=HeadTicks)
        ticks = [layer.ticks for layer in found.layers]
        if not 1 <= len(found.of_layers) <= _MOST_LAYERS:
            raise ValueError(f"it has {len(found.of_layers)} layers")
        if not (0 < found.tick_hz <= 1e10 and min(ticks) >= 0 and 0 < sum(ticks) < 1 << 48):
            raise ValueError("its ticks, or how many there are a second, cannot be")
    except (OSError, ValueError, RecursionError) as error:
        raise TraceError(
            f"the ticks in {path} cannot be read",
            cause=getattr(error, "strerror", None) or str(error),
            fix="write them by: waistline mcu bench HEAD --port PORT --json",
        ) from error
    return found


@dataclass(frozen=True, slots=True)
class Ticked:
    """Runs of a head placed by ticks.

    Attributes:
        passes: every layer's begin and end.
        clock: of the ticks; its time 0 is the begin of the first run, and so is every other's.
    """

    passes: list[Pass]
    clock: ClockMap


def place_ticks(
    passes: Sequence[Pass], ticks: HeadTicks, mode: Mark, rate_hz: float, settle_s: float
) -> Ticked:
    """Fit one rate, and each run's begin, to what the pin shows; place all layers by it.

    Args:
        passes: as the pin shows them.
        ticks: of the layers.
        mode: of the pin.
        rate_hz: nominal, of the trace.
        settle_s: as MARK had it; ticks exclude it.

    Raises:
        MarkerMissing: the runs are not of this head.
    """
    begins = np.cumsum([0, *(layer.ticks for layer in ticks.of_layers)]) / ticks.tick_hz
    begins = begins + _settled(len(begins) - 1, mode, settle_s)
    seen = [_seen(one, begins, mode) for one in passes]
    away = np.concatenate([times - times.mean() for times, _ in seen])
    there = np.concatenate([places - places.mean() for _, places in seen]) / rate_hz
    square = float(away @ away)
    drift = float(away @ (there - away)) / square if square else 0.0
    if not square or abs(drift) > _MOST_OFF:
        raise MarkerMissing(
            "the runs in the trace are not of the head that ticked",
            cause=f"they last {1 + drift:.3g} times what the ticks say" if square else "no time",
            fix="give the ticks of this head on this board, and its --settle",
        )
    residuals = there - (1 + drift) * away
    free = len(away) - len(seen) - 1
    quantum = EDGE_SIGMA / rate_hz
    off = float(residuals @ residuals)
    sigma_s = max(math.sqrt(off / free), quantum) if free > 0 else quantum
    times, places = seen[0]
    clock = ClockMap(
        rate_hz=rate_hz,
        middle_s=float(times.mean()),
        middle=float(places.mean()),
        drift=drift,
        residual_s=math.sqrt(off / len(away)),
        n=len(away),
        missed=len(passes) * len(begins) - len(away),
        extra=0,
        spread_s=math.sqrt(square),
        sigma_s=sigma_s,
        locked=False,
    )
    return Ticked([_placed(clock, begins, *rows, mode, settle_s) for rows in seen], clock)


def _settled(layers: int, mode: Mark, settle_s: float) -> Doubles:
    """What settling adds up to before each layer but the first, and before the last one's end."""
    number = np.arange(layers + 1, dtype=np.float64)
    each = {Mark.LAYERS: number, Mark.PULSES: number * (number + 3)}.get(mode, 0 * number)
    each[-1] = each[-2]
    settled: Doubles = each * settle_s
    return settled


def _seen(one: Pass, begins: Doubles, mode: Mark) -> tuple[Doubles, Doubles]:
    """(time by the ticks, place) of all that the pin shows of a run."""
    if mode == Mark.HEAD:
        return begins[[0, -1]], np.array([one.begins[0], one.ends[-1]])
    layers = np.array(one.layers)
    times, places = begins[layers], one.begins
    if layers[-1] == len(begins) - 2 and not math.isnan(one.ends[-1]):
        times, places = np.append(times, begins[-1]), np.append(places, one.ends[-1])
    return times, places


def _placed(
    clock: ClockMap, begins: Doubles, times: Doubles, places: Doubles, mode: Mark, settle_s: float
) -> Pass:
    """Every layer of a run, by its own begin and the rate that all have."""
    own = replace(clock, middle_s=float(times.mean()), middle=float(places.mean()))
    before = np.diff(_settled(len(begins) - 1, mode, settle_s))
    ends = begins[1:] - before
    return Pass(tuple(range(len(ends))), own.place(begins[:-1]), own.place(ends))

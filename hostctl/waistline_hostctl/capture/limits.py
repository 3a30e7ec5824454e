"""When a capture has lasted long enough, or too long without a sample."""

from __future__ import annotations

import time
from typing import NamedTuple

from waistline_hostctl.capture.live import Live
from waistline_hostctl.capture.record import Ending
from waistline_hostctl.meters.base import MeterInfo

_STILL_S, _CATCH_UP_S = 0.3, 0.5
"""Not having looked for so long means that the machine stood still; then the others get time."""
_SILENT_S = 5.0
_NO_START_S = 30.0
LATE_S, _CLOCKS = 12.0, 1e-3
"""Samples behind a loss are held back for up to ten seconds; two clocks differ by less."""
_PERIODS = 20
"""Of a slow meter's samples, which come in blocks."""


def samples_of(duration_s: float, rate_hz: float) -> int:
    """Samples of a trace that lasts so long: the nearest number, at least one."""
    return max(1, round(duration_s * rate_hz))


class Reached(NamedTuple):
    """A limit, and why where that is no good end."""

    ended: Ending
    why: str = ""


class Limits:
    """A trace ends with its samples, not with the time: a delay makes it no shorter.

    Args:
        info: of the meter.
        live: kept up to date by whoever asks.
        duration_s: of the trace; None: it has no end of its own.

    Attributes:
        samples: of the trace; None as ``duration_s``.
    """

    def __init__(self, info: MeterInfo, live: Live, duration_s: float | None) -> None:
        self._info, self._live, self._duration_s = info, live, duration_s
        self.samples = None if duration_s is None else samples_of(duration_s, info.rate_hz)
        self._room_s = _PERIODS / info.rate_hz
        self._began_s = self._looked_s = self._awake_s = 0.0

    def begin(self, now_s: float) -> None:
        """The meter was started."""
        self._began_s = self._looked_s = now_s

    def look(self, now_s: float) -> None:
        """To be called often: a pause between two calls is one of the whole machine."""
        if now_s - self._looked_s > _STILL_S:
            self._awake_s = self._live.moved_s = now_s
        self._looked_s = now_s

    @property
    def full(self) -> bool:
        """Whether all samples are written."""
        return self.samples is not None and self._live.samples >= self.samples

    def passed_s(self) -> float:
        """Since sample 0, by the host's clock; below 0 before it is known."""
        if not (self._live.samples and self._live.began_ns):
            return -1.0
        return (time.monotonic_ns() - self._live.began_ns) * 1e-9

    def passed(self, now_s: float) -> Reached | None:
        """The limit of time that is reached."""
        live = self._live
        if now_s - self._awake_s < _CATCH_UP_S:
            return None
        if not live.samples and now_s - self._began_s > _NO_START_S + self._room_s:
            waited_s = now_s - self._began_s
            return Reached("silent", f"for {waited_s:.0f} s no sample came that can be placed")
        if self._info.patient:
            return None
        if self._duration_s is not None:
            limit_s = self._duration_s * (1 + _CLOCKS) + LATE_S + self._room_s
            if self.passed_s() > limit_s:
                return Reached("duration")
        if now_s - live.moved_s > _SILENT_S + self._room_s:
            still_s = now_s - live.moved_s
            return Reached("silent", f"no byte came from the meter for {still_s:.0f} s")
        return None

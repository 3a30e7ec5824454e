"""The host's clock against the meter's: where on the trace a moment of this machine lies.

Bytes come late by some latency, never early. So of the reads of each second the one that came with
least delay is kept, and between those the map is a straight line. On a busy machine a whole second
may have no prompt read; but two clocks drift apart by no more than `_DRIFT`, so what a point is
later than that by another one is latency, too, and taken off. What is left is the latency of
the promptest read, which shifts all alike, and its scatter, which `HostClock.residual_s` states.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_SPAN_S = 1.0
_DRIFT = 1e-3
"""Of a crystal and of a clock that is being set right by the network (0.5e-3), with room."""
_NS = 1e9


@dataclass
class HostClock:
    """Collects reads; asks for places afterwards.

    Attributes:
        rate_hz: nominal, of the meter.
    """

    rate_hz: float
    _points: list[tuple[int, int]] = field(default_factory=list)
    _best: tuple[float, int, int] | None = None
    _span: int = -1

    def add(self, sample: int, host_ns: int) -> tuple[int, int] | None:
        """All samples before ``sample`` had been read at ``host_ns``.

        Returns:
            The point (sample, host_ns) of a second that is over, once a second.
        """
        span = int(host_ns / _NS / _SPAN_S)
        done = None
        if span > self._span:
            done = self.finish()
            self._span = span
        late = host_ns - sample / self.rate_hz * _NS
        if self._best is None or late < self._best[0]:
            self._best = late, sample, host_ns
        return done

    def finish(self) -> tuple[int, int] | None:
        """End the second that runs: its point, if it gives one; nothing may come behind it."""
        if self._best is None:
            return None
        _, sample, host_ns = self._best
        self._best = None
        if self._points:
            before, before_ns = self._points[-1]
            if sample <= before:
                return None
            latest_ns = before_ns + (sample - before) / self.rate_hz * (1 + _DRIFT) * _NS
            host_ns = min(host_ns, round(latest_ns))
        self._points.append((sample, host_ns))
        return self._points[-1]

    def sample_at(self, host_ns: int) -> float:
        """Place of a moment, in samples; straight on beyond the ends. NaN before the first read."""
        samples, times = self._line()
        if not len(samples):
            return float("nan")
        at_s = (host_ns - self._origin()) / _NS
        if len(samples) == 1:
            return float(samples[0] + (at_s - times[0]) * self.rate_hz)
        k = int(np.clip(np.searchsorted(times, at_s), 1, len(times) - 1))
        slope = (samples[k] - samples[k - 1]) / (times[k] - times[k - 1])
        return float(samples[k - 1] + (at_s - times[k - 1]) * slope)

    def host_ns_at(self, sample: float) -> int:
        """Moment of a sample by the last point and the nominal rate; 0 before the first read."""
        points = self._all()
        if not points:
            return 0
        last, host_ns = points[-1]
        return host_ns + round((sample - last) / self.rate_hz * _NS)

    @property
    def residual_s(self) -> float:
        """Standard deviation of the points from one straight line, seconds; NaN below three."""
        samples, times = self._line()
        if len(samples) < 3:
            return float("nan")
        fit = np.polyfit(times, samples, 1)
        return float(np.std(samples - np.polyval(fit, times)) / self.rate_hz)

    @property
    def known_until_ns(self) -> int:
        """Moments up to here lie between points that are final."""
        return self._points[-1][1] if self._points else 0

    def _origin(self) -> int:
        return self._points[0][1] if self._points else self._best[2] if self._best else 0

    def _line(self) -> tuple[Floats, Floats]:
        """Samples and seconds since `_origin` of the points, no later than the others allow."""
        points = self._all()
        origin = self._origin()
        samples = np.array([sample for sample, _ in points], np.float64)
        times = np.array([(ns - origin) / _NS for _, ns in points])
        span = samples / self.rate_hz
        late = times - span
        room = _DRIFT * span
        late = np.minimum.accumulate(late - room) + room
        late = np.minimum.accumulate((late + room)[::-1])[::-1] - room
        return samples, span + late

    def _all(self) -> list[tuple[int, int]]:
        """The final points, and the best of the second that runs."""
        if self._best is None or (self._points and self._best[1] <= self._points[-1][0]):
            return self._points
        return [*self._points, (self._best[1], self._best[2])]

"""The host's clock against the meter's: where on the trace a moment of this machine lies.

Bytes come late by some latency, never early. So of the reads of each second the one that came with
least delay is kept, and between those the map is a straight line. What is left is the latency of
the promptest read, which shifts all alike, and its scatter, which `HostClock.residual_s` states.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_SPAN_S = 1.0
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
            done = self._finish()
            self._span = span
        late = host_ns - sample / self.rate_hz * _NS
        if self._best is None or late < self._best[0]:
            self._best = late, sample, host_ns
        return done

    def _finish(self) -> tuple[int, int] | None:
        if self._best is None:
            return None
        _, sample, host_ns = self._best
        self._best = None
        if self._points and sample <= self._points[-1][0]:
            return None
        self._points.append((sample, host_ns))
        return self._points[-1]

    def sample_at(self, host_ns: int) -> float:
        """Place of a moment, in samples; straight on beyond the ends. NaN before the first read."""
        points = self._all()
        if not points:
            return float("nan")
        if len(points) == 1:
            return points[0][0] + (host_ns - points[0][1]) / _NS * self.rate_hz
        times = np.array([ns - points[0][1] for _, ns in points], float)
        k = int(np.clip(np.searchsorted(times, host_ns - points[0][1]), 1, len(points) - 1))
        (s0, t0), (s1, t1) = points[k - 1], points[k]
        return s0 + (host_ns - t0) * (s1 - s0) / (t1 - t0)

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
        points = self._all()
        if len(points) < 3:
            return float("nan")
        samples = np.array([sample for sample, _ in points], float)
        times = np.array([(ns - points[0][1]) / _NS for _, ns in points])
        fit = np.polyfit(times, samples, 1)
        return float(np.std(samples - np.polyval(fit, times)) / self.rate_hz)

    @property
    def known_until_ns(self) -> int:
        """Moments up to here lie between points that are final."""
        return self._points[-1][1] if self._points else 0

    def _all(self) -> list[tuple[int, int]]:
        """The final points; while there are not two, the best of the second that runs, too."""
        if self._best is None or len(self._points) > 1:
            return self._points
        return [*self._points, (self._best[1], self._best[2])]

"""The line that shows how a capture goes, from what its processes leave in the ring."""

from __future__ import annotations

from collections import deque
from typing import TextIO

from waistline_hostctl.capture.ring import Ring
from waistline_hostctl.console import si
from waistline_hostctl.meters.base import MeterInfo

_WINDOW_S = 0.5
_EVERY_S = 0.2
_COUNTS = ("samples", "missing", "there", "charge", "power")


class Live:
    """One line on a terminal, rewritten.

    Args:
        ring: of the capture.
        info: of the meter.
        stream: standard error; nothing is written where it is no terminal.

    Attributes:
        samples: written so far, lost ones included.
        began_ns: monotonic time of sample 0; 0 before it is known.
        moved_s: when a byte last came from the meter, by ``now_s`` of `update`.
    """

    def __init__(self, ring: Ring, info: MeterInfo, stream: TextIO) -> None:
        self._ring, self._info, self._stream = ring, info, stream
        self._shown = stream.isatty()
        self._last: deque[tuple[float, dict[str, float]]] = deque()
        self._next_s = 0.0
        self._written = False
        self._reader: dict[str, object] = {}
        self._bytes = 0
        self.samples = self.began_ns = 0
        self.moved_s = 0.0

    def update(self, now_s: float) -> None:
        """Look at the notices, and show them now and then."""
        self._reader = self._ring.notice("reader") or self._reader
        total = _number(self._reader, "bytes")
        if total != self._bytes or not self.moved_s:
            self._bytes, self.moved_s = int(total), now_s
        notice = self._ring.notice("writer")
        if notice:
            counts = {key: _number(notice, key) for key in _COUNTS}
            self.samples = int(counts["samples"])
            self.began_ns = int(_number(notice, "began_ns"))
            if not self._last or self._last[-1][1]["samples"] != counts["samples"]:
                self._last.append((now_s, counts))
            while len(self._last) > 2 and now_s - self._last[1][0] > _WINDOW_S:
                self._last.popleft()
        if self._shown and now_s >= self._next_s and self._last:
            self._next_s = now_s + _EVERY_S
            self._written = True
            self._stream.write("\r\x1b[K" + self.text())
            self._stream.flush()

    def text(self) -> str:
        """The line."""
        now = self._last[-1][1]
        before = self._last[0][1] if len(self._last) > 1 else dict.fromkeys(_COUNTS, 0.0)
        there = max(1.0, now["there"] - before["there"])
        rate = self._info.rate_hz
        parts = [f"{now['samples'] / rate:.1f} s"]
        names = {signal.name for signal in self._info.signals}
        if "current" in names:
            parts.append(si((now["charge"] - before["charge"]) / there, "A"))
        if "power" in names or "voltage" in names or self._info.supply_v is not None:
            parts += [
                si((now["power"] - before["power"]) / there, "W"),
                si(now["power"] / rate, "J"),
            ]
        parts += [f"{now['samples']:,.0f} samples", f"{now['missing']:,.0f} lost"]
        return "  ".join([*parts, f"ring {_number(self._reader, 'full'):.0%}"])

    def close(self) -> None:
        """Wipe the line."""
        if self._written:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._written = False


def _number(notice: dict[str, object], key: str) -> float:
    value = notice.get(key, 0)
    return float(value) if isinstance(value, int | float) else 0.0

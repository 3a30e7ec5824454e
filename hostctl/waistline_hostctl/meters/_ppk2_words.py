"""Where the PPK2's samples begin in its byte stream, and where its counter jumps.

A sample is a little-endian word of 32 bits: ADC 0-13, range 14-16, a six-bit counter 18-23, logic
24-31. Nothing marks where one begins: the counter does. At a wrong byte phase it does not step by
one, which is how a lost byte shows; the phase at which it does is the right one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waistline.trace.base import GapKind

MODULO = 64
_WORD = 4
_FIELD = np.uint32(0x3F << 18)
_ONE = np.uint32(1 << 18)
_CODE = np.uint32(0x1FFFF)
_LOOK = 16
"""Words looked at to tell lost samples from lost bytes."""
_HISTORY = 1024
"""Words kept to tell repeated samples from lost ones."""

Uints = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Jump:
    """Samples are missing before the next words.

    Attributes:
        missing: how many, modulo 64; exactly as many if ``exact``.
        kind: what showed it.
        repeats: numbers of following samples that equal as many before, which then are copies.
        copied: that the first of them do is no coincidence: they differ from each other.
        spoiled: samples just before that may be damaged; they are not among the words.
    """

    missing: int
    kind: GapKind
    exact: bool = False
    repeats: frozenset[int] = frozenset()
    copied: bool = False
    spoiled: int = 0


class Words:
    """Cuts a byte stream into samples; the result does not depend on how the stream is chunked."""

    def __init__(self) -> None:
        self._buffer = b""
        self._seeking = True
        self._last: int | None = None
        self._skipped = 0
        self._spoiled = 0
        self._drop = 0
        self._recent: deque[Uints] = deque()
        self._recent_count = 0
        self._out: list[Uints | Jump] = []
        self.resyncs = 0
        self.resync_bytes = 0

    def feed(self, raw: bytes | memoryview) -> list[Uints | Jump]:
        """Samples and jumps, in order; the newest sample is held back."""
        if self._drop:
            cut = min(self._drop, len(raw))
            raw, self._drop = raw[cut:], self._drop - cut
        self._buffer += raw
        return self._scan(final=False)

    def skip(self, size_bytes: int) -> list[Uints | Jump]:
        """The same, where ``size_bytes`` are known to be missing now."""
        partial = len(self._buffer) % _WORD
        out = self._scan(final=True)
        if self._last is not None:
            gone = partial + size_bytes - self._drop
            if gone > 0:
                self._skipped += -(-gone // _WORD)
                self._drop = -gone % _WORD
            else:
                self._drop -= size_bytes
        return out

    def finish(self) -> list[Uints | Jump]:
        """The samples held back."""
        return self._scan(final=True)

    def _scan(self, *, final: bool) -> list[Uints | Jump]:
        while self._scan_once(final):
            pass
        out, self._out = self._out, []
        return out

    def _scan_once(self, final: bool) -> bool:
        """Emit what is certain; True where the rest is to be looked at again."""
        if self._skipped and self._buffer and not self._after_skip(final):
            return False
        if self._seeking and not self._seek(final):
            return False
        words = np.frombuffer(self._buffer, "<u4", len(self._buffer) // _WORD)
        start = 0
        for jump in _jumps(words):
            if not final and len(self._buffer) < _WORD * (jump + _LOOK + 1):
                self._emit(words[start : jump - 1])
                self._buffer = self._buffer[_WORD * (jump - 1) :]
                return False
            if _steady(words[jump : jump + _LOOK]):
                missing = (_counter(words[jump]) - _counter(words[jump - 1]) - 1) % MODULO
                before = np.concatenate([*self._recent, words[start:jump]])
                alike = _alike(before, words[jump:], missing, _LOOK)
                if not final and len(words) <= jump + max(alike, default=0):
                    self._emit(words[start : jump - 1])
                    self._buffer = self._buffer[_WORD * (jump - 1) :]
                    return False
                self._emit(words[start:jump])
                start = jump
                varied = len(np.unique(words[jump : jump + _LOOK] & _CODE)) > 2
                repeats = _alike(before, words[jump:], missing, _HISTORY)
                copied = bool(alike) and varied
                self._out.append(Jump(missing, "counter", repeats=repeats, copied=copied))
            else:
                # A byte lost from the end of a word leaves its counter whole, so it looked good.
                self._emit(words[start : jump - 1])
                self._last = _counter(words[jump - 1])
                self._spoiled = 1
                self._buffer = self._buffer[_WORD * jump :]
                self._seeking = True
                return True
        stop = len(words) if final else max(start, len(words) - 1)
        self._emit(words[start:stop])
        self._buffer = b"" if final else self._buffer[_WORD * stop :]
        return False

    def _emit(self, words: Uints) -> None:
        if len(words):
            self._out.append(words)
            self._last = _counter(words[-1])
            self._recent.append(words)
            self._recent_count += len(words)
            while self._recent_count - len(self._recent[0]) >= _HISTORY:
                self._recent_count -= len(self._recent.popleft())

    def _seek(self, final: bool) -> bool:
        """Find the first place where a row of samples begins."""
        size = len(self._buffer)
        rows = [
            _WORD * int(places[0]) + phase
            for phase in range(_WORD)
            if len(
                places := _rows(
                    np.frombuffer(self._buffer[phase:], "<u4", max(0, size - phase) // _WORD)
                )
            )
        ]
        if not rows:
            keep = 0 if final else _WORD * _LOOK - 1
            lost = max(0, size - keep)
            self.resync_bytes += lost
            self._buffer = self._buffer[lost:]
            return False
        begin = min(rows)
        self.resync_bytes += begin
        self._buffer = self._buffer[begin:]
        self._seeking = False
        if self._last is not None:
            self.resyncs += 1
            first = int.from_bytes(self._buffer[:_WORD], "little")
            missing = (_counter(first) - self._last - 1) % MODULO
            self._out.append(Jump(missing, "resync", spoiled=self._spoiled))
            self._spoiled = 0
        return True

    def _after_skip(self, final: bool) -> bool:
        """Compare the counter with the number of samples known to be missing."""
        if len(self._buffer) < _WORD * (_LOOK + 1) and not final:
            return False
        skipped, self._skipped = self._skipped, 0
        self._out.append(Jump(skipped, "ring", exact=True))
        words = np.frombuffer(self._buffer, "<u4", len(self._buffer) // _WORD)
        if self._last is None or not len(words):
            return True
        self._last = (self._last + skipped) % MODULO
        if not _steady(words[:_LOOK]):
            self._seeking = True
        elif more := (_counter(words[0]) - self._last - 1) % MODULO:
            self._out.append(Jump(more, "counter"))
        return True


def _alike(before: Uints, after: Uints, missing: int, look: int) -> frozenset[int]:
    """Numbers of samples ``after``, fitting the counter, that equal as many ``before``.

    At most ``look`` of them are compared.
    """
    found = set()
    for count in range(-missing % MODULO, _HISTORY, MODULO):
        some = min(count, look)
        if 0 < count <= len(before) and np.array_equal(
            after[:some], before[len(before) - count :][:some]
        ):
            found.add(count)
    return frozenset(found)


def _counter(word: np.uint32 | int) -> int:
    return int(word) >> 18 & 63


def _jumps(words: Uints) -> list[int]:
    """Indices of words whose counter is not one more than that of the word before."""
    field = words & _FIELD
    found: list[int] = (np.flatnonzero(((field[1:] - field[:-1]) & _FIELD) != _ONE) + 1).tolist()
    return found


def _steps(words: Uints) -> NDArray[np.bool_]:
    field = words & _FIELD
    right: NDArray[np.bool_] = ((field[1:] - field[:-1]) & _FIELD) == _ONE
    return right


def _steady(words: Uints) -> bool:
    """Whether most counters step by one, as they do at the right phase and at no other."""
    return len(words) < 2 or 2 * int(_steps(words).sum()) >= len(words) - 1


def _rows(words: Uints) -> NDArray[np.intp]:
    """Where `_LOOK` words in a row step by one."""
    if len(words) < _LOOK:
        return np.empty(0, np.intp)
    wrong = np.cumsum(np.concatenate([[0], ~_steps(words)]))
    return np.flatnonzero(wrong[_LOOK - 1 :] == wrong[: len(wrong) - _LOOK + 1])

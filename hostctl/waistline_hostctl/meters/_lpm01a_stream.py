"""The two forms in which an LPM01A sends currents, each with messages in between.

Binary: a sample is two bytes, high first: a nibble ``e`` and twelve bits ``m``, m * 16**-e amperes.
A message begins with 0xF0 and a type 0xF1 to 0xF5, which no sample does, and ends with 0xFF 0xFF; a
time stamp (0xF3) has four bytes of milliseconds and one of buffer load in percent.
Text: a sample is a line such as ``6409-07`` for 6409e-7 A; other lines are messages, but for those
of digits and signs alone, which are torn samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_FIRST, _LAST = 0xF0F1, 0xF0F5
_STAMP, _END = 0xF3, 0xF4
_STAMP_BYTES = 9
_MOST = 512
_PIECE = 4096
_MOST_A = 1000.0
_STAMP_FORM = re.compile(rb"\xf0\xf3.{5}\xff\xff", re.DOTALL)
_SAMPLE = re.compile(rb"(\d{4})([+-]\d\d)")
_TORN = re.compile(rb"[\d+\-\r]+")
"""A line of nothing but what samples are made of."""
_SCALE = (16.0 ** -np.arange(16)).astype(np.float32)


class Form(Protocol):
    """Bytes to currents, whatever the chunks."""

    slips: int
    ended: bool

    def feed(self, raw: bytes | memoryview) -> Floats:
        """float32 (n,) amperes of the samples that are whole now."""


class Binary:
    """Two bytes a sample; begins with the first time stamp."""

    def __init__(self) -> None:
        self._buffer = b""
        self._begun = False
        self.slips = 0
        self.ended = False

    def feed(self, raw: bytes | memoryview) -> Floats:
        found: list[Floats] = []
        # What is left is copied at each message: of many, only a little at a time.
        for place in range(0, len(raw), _PIECE):
            self._buffer += raw[place : place + _PIECE]
            while not self.ended and self._step(found.append):
                pass
        if self.ended:
            self._buffer = b""
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def _step(self, emit: Callable[[Floats], None]) -> bool:
        """Take samples up to a message, and the message; False where more bytes are needed."""
        if not self._begun:
            stamp = _STAMP_FORM.search(self._buffer)
            if stamp is None:
                self._buffer = self._buffer[-_STAMP_BYTES + 1 :]
                return False
            self._buffer = self._buffer[stamp.start() :]
            self._begun = True
        words = np.frombuffer(self._buffer, ">u2", len(self._buffer) // 2)
        messages = np.flatnonzero((words >= _FIRST) & (words <= _LAST))
        stop = int(messages[0]) if len(messages) else len(words)
        slip = _STAMP_FORM.search(self._buffer, 0, 2 * stop + _STAMP_BYTES)
        if slip is not None and slip.start() % 2 and slip.start() < 2 * stop:
            # A time stamp between two bytes of samples: a byte was lost since the last one.
            self.slips += 1
            stop = slip.start() // 2
            emit(_amperes(words[:stop]))
            self._buffer = self._buffer[slip.start() :]
            return True
        if not len(messages):
            # A stamp that is not whole yet may begin here, at any byte.
            stop = max(0, stop - _STAMP_BYTES)
        emit(_amperes(words[:stop]))
        self._buffer = self._buffer[2 * stop :]
        return bool(len(messages)) and self._message()

    def _message(self) -> bool:
        kind = self._buffer[1]
        if kind == _STAMP:
            size = _STAMP_BYTES
            if len(self._buffer) < size:
                return False
        else:
            end = self._buffer.find(b"\xff\xff", 2, _MOST)
            if end < 0 and len(self._buffer) < _MOST:
                return False
            size = end + 2 if end >= 0 else 2
            self.ended = kind == _END
        self._buffer = self._buffer[size:]
        return True


class Text:
    """One line a sample."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self.slips = 0
        self.ended = False

    def feed(self, raw: bytes | memoryview) -> Floats:
        *lines, self._rest = (self._rest + raw).split(b"\n")
        self._rest = self._rest[-_MOST:]
        values = []
        for line in lines:
            line = line.strip(b"\r\0 ")
            match = _SAMPLE.fullmatch(line)
            value = float(match[1]) * 10.0 ** int(match[2]) if match else 0.0
            if match and value <= _MOST_A:
                values.append(value)
                self._begun = True
            elif self._begun and _TORN.fullmatch(line):
                self.slips += 1
        return np.array(values, np.float32)


def _amperes(words: NDArray[np.uint16]) -> Floats:
    amps: Floats = (words & 0xFFF).astype(np.float32) * _SCALE[words >> 12]
    return amps

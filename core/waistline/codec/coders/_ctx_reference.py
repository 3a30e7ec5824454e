"""The context coder in Python: what core/c/waist_ctx.c does, bit for bit, a hundred times slower.

The tests compare the two; where there is no compiled codec, this is the codec.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from waistline.codec.coders._planes import Planes
from waistline.codec.pack import Codes, pack, unpack

_HALF = 1 << 15
_SETTLED = 60
_STEPS = [int((1 << 16) / (seen + 2.5)) for seen in range(_SETTLED + 1)]
_YOUNG = 4
_TOP = 1 << 24
_WORD = 0xFFFFFFFF
_COMMON = 16
_BIG_NODES = _COMMON + 32 * 16
_NODES = (0, 80, 272, 496, 1008, 784, 1040, 1552, 2576)

Bit = Callable[[int, int, int], int]
"""Code one bit: node, common node, bit (ignored by a decoder) -> bit."""


class _Model:
    """What is known of each decision."""

    def __init__(self, bits: int) -> None:
        self._one = [_HALF] * _NODES[bits]
        self._seen = [0] * _NODES[bits]
        self._young = True

    def part(self, width: int, node: int, common: int) -> int:
        """Width of the part of the range that stands for 1."""
        self._young = self._seen[node] < _YOUNG
        if self._seen[node] == 0 and self._seen[common]:
            self._one[node], self._seen[node] = self._one[common], 1
        return (width >> 15) * ((self._one[node] >> 1) | 1)

    def learn(self, node: int, common: int, bit: int) -> None:
        self._move(node, bit)
        if self._young:
            self._move(common, bit)

    def _move(self, node: int, bit: int) -> None:
        seen, one = self._seen[node], self._one[node]
        step = _STEPS[seen]
        self._one[node] = one + ((65536 - one) * step >> 16) if bit else one - (one * step >> 16)
        self._seen[node] = min(seen + 1, _SETTLED)


class _Encoder:
    def __init__(self, bits: int) -> None:
        self._model = _Model(bits)
        self._low, self._range = 0, _WORD
        self.out = bytearray()

    def bit(self, node: int, common: int, bit: int) -> int:
        part = self._model.part(self._range, node, common)
        if bit:
            self._range = part
        else:
            self._add(part)
            self._range -= part
        self._model.learn(node, common, bit)
        while self._range < _TOP:
            self.out.append(self._low >> 24)
            self._low = (self._low << 8) & _WORD
            self._range <<= 8
        return bit

    def _add(self, amount: int) -> None:
        self._low += amount
        if self._low > _WORD:
            self._low &= _WORD
            at = len(self.out) - 1
            while self.out[at] == 255:
                self.out[at] = 0
                at -= 1
            self.out[at] += 1

    def finish(self) -> bytes:
        size, amount = _end(self._low, self._range)
        self._add(amount)
        if size:
            self.out.append(self._low >> 24)
        return bytes(self.out)


class _Decoder:
    def __init__(self, bits: int, data: memoryview) -> None:
        self._model = _Model(bits)
        self._data, self._at, self._last = data, 0, 0
        for _ in range(4):
            self._read()
        self._code, self._range = self._last, _WORD

    def _read(self) -> int:
        byte = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        self._last = (self._last << 8 | byte) & _WORD
        return byte

    def bit(self, node: int, common: int, _: int) -> int:
        part = self._model.part(self._range, node, common)
        bit = int(self._code < part)
        if bit:
            self._range = part
        else:
            self._code -= part
            self._range -= part
        self._model.learn(node, common, bit)
        while self._range < _TOP:
            self._code = (self._code << 8 | self._read()) & _WORD
            self._range <<= 8
        return bit

    @property
    def may_end(self) -> bool:
        """Whether the stream can still be whole."""
        return self._at <= len(self._data) + 4 and self._code < self._range

    @property
    def ended(self) -> bool:
        """Whether these are the bytes that an encoder would have written, to the last."""
        size, amount = _end((self._last - self._code) & _WORD, self._range)
        return self._code == amount and len(self._data) == self._at - 4 + size


def _end(low: int, width: int) -> tuple[int, int]:
    """Bytes that end a stream, and how far above ``low`` the value lies that they complete."""
    amount = -low & _WORD
    return (0, amount) if amount < width else (1, amount & (_TOP - 1))


def _coarse(total: int) -> int:
    octave = 0
    while total >= 8:
        total >>= 1
        octave += 4
    return octave + total


def _context(bits: int, left: int, left2: int, up: int, up_left: int, up_right: int) -> int:
    total = left + up
    if bits == 1:
        return left | up << 1 | up_left << 2 | up_right << 3 | left2 << 4
    if bits == 2:
        return left | up << 2 | (up_left > 0) << 4 | (up_right > 0) << 5
    if bits == 3:
        return total << 2 | (up_right >= 2) << 1 | (abs(left - up) > 1)
    if bits == 4:
        return total << 1 | (abs(left - up) > 2)
    return _coarse(total)


def _code(bits: int, context: int, code: int, coder: Bit) -> int:
    """Code one code, most significant bit first."""
    first = _COMMON + (context << min(bits, 4))
    behind = _BIG_NODES + (context >> 2 << bits)
    prefix = 1
    for shift in range(bits - 1, -1, -1):
        node = (first if prefix < 16 else behind) + prefix
        common = prefix if prefix < 16 else 0
        prefix = prefix << 1 | coder(node, common, code >> shift & 1)
    return prefix - (1 << bits)


def _walk(planes: Planes, codes: Codes, coder: Bit, go_on: Callable[[], bool]) -> bool:
    """Code all of ``codes`` in place; False if ``go_on`` was, before a row."""
    for plane in planes.view(codes):
        above: list[int] = []
        for y in range(planes.rows):
            if not go_on():
                return False
            row = plane[y].tolist()
            _row(planes.bits, above, row, coder)
            plane[y] = row
            above = row
    return True


def _row(bits: int, above: list[int], row: list[int], coder: Bit) -> None:
    left = left2 = up = above[0] if above else 0
    for x, code in enumerate(row):
        up_left = up
        if above:
            up = above[x]
            up_right = above[x + 1] if x + 1 < len(row) else up
        else:
            up = up_left = up_right = left
        context = _context(bits, left, left2, up, up_left, up_right)
        left, left2 = _code(bits, context, code, coder), left
        row[x] = left


def encode(planes: Planes, packed: memoryview) -> bytes:
    """The stream, however long."""
    codes = unpack(np.frombuffer(packed, np.uint8), planes.count, planes.bits).copy()
    encoder = _Encoder(planes.bits)
    _walk(planes, codes, encoder.bit, lambda: True)
    return encoder.finish()


def decode(planes: Planes, data: memoryview) -> bytes | None:
    """The packed codes; None if ``data`` is not exactly what `encode` makes of them."""
    codes = np.zeros(planes.count, np.uint8)
    decoder = _Decoder(planes.bits, data)
    if not _walk(planes, codes, decoder.bit, lambda: decoder.may_end) or not decoder.ended:
        return None
    packed = np.empty((planes.count * planes.bits + 7) // 8, np.uint8)
    pack(codes, planes.bits, packed)
    return packed.tobytes()

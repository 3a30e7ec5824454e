"""The NumPy reference of the codec's arithmetic; ``core/c/waist.h`` is its twin, bit for bit.

Everything is IEEE float32, rounded to nearest after every single operation, never fused, in the
order written here. A tensor is (outer, channels, inner) in C order; one range per channel, one
channel for the whole tensor.

**Ranges.** lo and hi are the minimum and maximum, or limits found before. ``+ 0`` makes a negative
zero positive. Quantizers refuse NaN and infinity.

**Map** of a channel, with n = 2^b - 1 (affine) or n = 2^b (q1, q1h)::

    half = 0.5*hi - 0.5*lo
    pre  = 2^-8 if half > 2^120, 2^60 if half < 2^-64, else 1      post = 1/pre (exact)
    base = lo*pre        span = hi*pre - base        gain = n/span        step = span/n
    lo == hi: pre = post = 1, base = lo, gain = step = 0: encodes 0, decodes lo

``pre`` keeps spans that overflow and spans of denormals in the range of normal numbers; it is 1 for
every ordinary tensor, and multiplying by it is then left out.

**Encode** x: ``t = (x*pre - base)*gain + rounding``, rounding 0.5 (affine) or 0 (q1, q1h);
t = 0 unless t > 0 (so NaN, which only a constant channel can make, gives 0);
t = top unless t < top, with top = 2^b - 0.5; the code is t truncated. So affine rounds to
nearest (ties up) and clips, q1 is floor and clamps.

**Decode** u: ``v = (origin + u*step)*post``; v = hi unless v < hi. origin = base, for q1h
base + 0.5*step. No decoded value is above hi, and none below lo but by the rounding of a base that
``pre`` made denormal.

**q1** is the seed's quantizer: S = (M+m)/2, d = floor((f-S)/(M-S)*2^(b-1)) clamped to
2^(b-1) - 1, f' = d*(M-S)/2^(b-1) + S, stored as u = d + 2^(b-1). In exact arithmetic
u = floor((f-m)*2^b/(M-m)) and f' = m + u*(M-m)/2^b: the form used here, because it keeps zeros
exact when m = 0 and because its only roundings are those of f - m (exact near m, and for m = 0),
of the gain and of one product. It differs from the float64 floor for values within about 2^-23
(relative) of a level: at b = 8 about 7 of a million uniform values, 0.8 of rectified and 2.3 of
leaky normal ones (1.7 and 5.7 in the printed order); a code is then off by one, at the edge of its
step.

**q2**: with the mean mu (below), code 1 for x >= mu; decoded to {mu - M, mu}, literally the
seed's; **q2m**: to the two means of the values below and not below mu. M == m: code 0, both
values m.

**Sums** run in blocks of 1024 values, each block in 16 lanes (value k adds to lane k % 16), the
lanes folded by halves (8, 4, 2, 1); the totals of the blocks are summed likewise in 16 lanes, as
one block without end. Should a sum overflow, it is repeated with every value times 2^-32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from waistline.codec.kernels import Buffer, Floats, Rule
from waistline.codec.pack import Codes, pack, packed_size, unpack

_Keep = Callable[[Floats], NDArray[np.bool_]]

LANES = 16
BLOCK = 1024
_SUM_PRE = 2.0**-32
_CHUNK = 1 << 17
"""Elements worked on at once, so that intermediate arrays stay in cache (smaller ones pay more for
calls than they gain). A multiple of 8, so that chunks are whole bytes."""


@dataclass(frozen=True, slots=True)
class Map:
    """The channels' arithmetic, see the module's text; arrays float32 (channels,)."""

    bits: int
    scaled: bool
    rounding: np.float32
    top: np.float32
    pre: Floats
    base: Floats
    gain: Floats
    origin: Floats
    step: Floats
    post: Floats
    hi: Floats


def make_map(rule: Rule, bits: int, lo: Floats, hi: Floats) -> Map:
    """The map of ranges that are finite and ordered (see `ranges_are_sound`)."""
    f = np.float32
    steps = f((1 << bits) - (rule == "affine"))
    lo, hi = lo + f(0.0), hi + f(0.0)
    with np.errstate(all="ignore"):
        half = f(0.5) * hi - f(0.5) * lo
        pre = np.where(half > f(2.0**120), f(2.0**-8), f(1.0))
        pre = np.where(half < f(2.0**-64), f(2.0**60), pre)
        constant = lo == hi
        pre = np.where(constant, f(1.0), pre)
        base = lo * pre
        span = hi * pre - base
        gain = np.where(constant, f(0.0), steps / span)
        step = np.where(constant, f(0.0), span / steps)
        origin = (base + f(0.5) * step).astype(f) if rule == "q1h" else base
        post = (f(1.0) / pre).astype(f)
    return Map(
        bits=bits,
        scaled=bool((pre != 1).any()),
        rounding=f(0.5 if rule == "affine" else 0.0),
        top=f((1 << bits) - 0.5),
        pre=pre,
        base=base,
        gain=gain,
        origin=origin,
        step=step,
        post=post,
        hi=hi,
    )


def ranges_are_sound(lo: Floats, hi: Floats) -> bool:
    """Finite and ordered: what `make_map` needs."""
    return bool(np.isfinite(lo).all() and np.isfinite(hi).all() and (lo <= hi).all())


def pinned_sum(x: Floats, keep: _Keep | None = None, pre: float = 1.0) -> np.float32:
    """Sum of a flat array in the pinned order; may overflow.

    ``keep`` says which values count, the others add zero; each is multiplied by ``pre`` first.
    """
    totals = []
    with np.errstate(all="ignore"):
        for start in range(0, x.size, _CHUNK):
            part = x[start : start + _CHUNK]
            if keep is not None:
                part = np.where(keep(part), part, np.float32(0.0))
            if pre != 1.0:
                part = part * np.float32(pre)
            totals.append(_block_totals(part))
        return _lanes_of_totals(np.concatenate(totals))


def _block_totals(x: Floats) -> Floats:
    whole = x.size // BLOCK * BLOCK
    totals = [_folded(x[:whole].reshape(-1, BLOCK // LANES, LANES).swapaxes(0, 1))]
    if whole < x.size:
        last = np.zeros((BLOCK // LANES, 1, LANES), np.float32)
        last.reshape(-1)[: x.size - whole] = x[whole:]
        totals.append(_folded(last))
    return np.concatenate(totals)


def _lanes_of_totals(totals: Floats) -> np.float32:
    rows = -(-totals.size // LANES)
    padded = np.zeros((rows, 1, LANES), np.float32)
    padded.reshape(-1)[: totals.size] = totals
    return np.float32(_folded(padded)[0])


def _folded(rows: Floats) -> Floats:
    """Add (rows, blocks, LANES) row after row, then the lanes by halves; (blocks,)."""
    lanes = np.zeros(rows.shape[1:], np.float32)
    for row in rows:
        lanes += row
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half : 2 * half]
    return lanes[:, 0] + np.float32(0.0)


def _mean(x: Floats, lo: np.float32, hi: np.float32, keep: _Keep | None = None) -> np.float32:
    """Mean of the values that ``keep`` says, at least one, within [lo, hi]."""
    count = np.float32(x.size if keep is None else np.count_nonzero(keep(x)))
    with np.errstate(all="ignore"):
        mean = pinned_sum(x, keep) / count
        if not np.isfinite(mean):
            mean = pinned_sum(x, keep, _SUM_PRE) / count / np.float32(_SUM_PRE)
    return np.float32(min(max(mean, lo), hi))


def q2_values(x: Floats, lo: np.float32, hi: np.float32, conditional: bool) -> tuple[Floats, float]:
    """What codes 0 and 1 decode to, and the threshold; infinite for a constant tensor."""
    f = np.float32
    if lo == hi:
        return np.array([lo, lo], np.float32), np.inf
    mean = _mean(x, lo, hi)
    values = [mean, mean]
    if conditional:
        if lo < mean:
            values[0] = _mean(x, lo, hi, lambda part: part < mean)
        if hi >= mean:
            values[1] = _mean(x, lo, hi, lambda part: part >= mean)
    else:
        with np.errstate(all="ignore"):
            values[0] = max(mean - hi, -np.finfo(np.float32).max)
    return np.array(values, np.float32) + f(0.0), float(mean)


class NumpyGrid:
    """The reference of `Grid`."""

    def __init__(self, arithmetic: Map) -> None:
        self._map = arithmetic

    def encode(self, x: Floats, out: Codes, *, within: bool) -> bool:
        bits = self._map.bits
        if x.shape[1] == 1:
            flat = x.reshape(1, 1, -1)
            shape = (1, 1, min(_CHUNK, x.size))
            scratch, codes = np.empty(shape, np.float32), np.empty(shape, np.uint8)
            for start, stream in _streams(out, x.size, bits):
                part = flat[..., start : start + _CHUNK]
                some = codes[..., : part.size]
                if not self._quantize(part, scratch[..., : part.size], some, slice(None), within):
                    return False
                pack(some, bits, stream)
            return True
        codes = np.empty(x.shape, np.uint8)
        for at, channels in _chunks(x):
            if not self._quantize(x[at], np.empty_like(x[at]), codes[at], channels, within):
                return False
        pack(codes, bits, out)
        return True

    def decode(self, packed: Codes, out: Floats) -> None:
        bits = self._map.bits
        if out.shape[1] == 1:
            flat = out.reshape(1, 1, -1)
            for start, stream in _streams(packed, out.size, bits):
                part = flat[..., start : start + _CHUNK]
                part[...] = unpack(stream, part.size, bits)
                self._dequantize(part, slice(None))
            return
        codes = unpack(packed, out.size, bits).reshape(out.shape)
        for at, channels in _chunks(out):
            out[at] = codes[at]
            self._dequantize(out[at], channels)

    def _quantize(self, x: Floats, t: Floats, codes: Codes, channels: slice, within: bool) -> bool:
        """Codes of (outer, some channels, inner); False for NaN or infinity unless ``within``."""
        if not within and not np.isfinite(x).all():
            return False
        grid = self._map
        with np.errstate(all="ignore"):
            if grid.scaled:
                x = np.multiply(x, grid.pre[channels, None], out=t)
            np.subtract(x, grid.base[channels, None], out=t)
            np.multiply(t, grid.gain[channels, None], out=t)
            if grid.rounding:
                np.add(t, grid.rounding, out=t)
            np.fmax(t, np.float32(0.0), out=t)
            np.minimum(t, grid.top, out=t)
            np.copyto(codes, t, casting="unsafe")
        return True

    def _dequantize(self, part: Floats, channels: slice) -> None:
        """From codes, as floats, to values, in place."""
        grid = self._map
        with np.errstate(all="ignore"):
            np.multiply(part, grid.step[channels, None], out=part)
            np.add(part, grid.origin[channels, None], out=part)
            if grid.scaled:
                np.multiply(part, grid.post[channels, None], out=part)
            np.minimum(part, grid.hi[channels, None], out=part)


class NumpyUniform:
    """The reference of `Uniform`."""

    def __init__(
        self,
        make: Callable[[Floats, Floats], NumpyGrid | None],
        shape: tuple[int, int, int],
        fixed: NumpyGrid | None,
        ranges: Codes,
        packed: Codes,
    ) -> None:
        self._make = make
        self._shape = shape
        self._fixed = fixed
        self._ranges, self._packed = ranges.view("<f4"), packed

    def encode(self, x: Floats) -> bool:
        x = x.reshape(self._shape)
        if self._fixed is not None:
            return self._fixed.encode(x, self._packed, within=False)
        found = NumpyKernels().minmax(x)
        grid = None if found is None else self._make(*found)
        if found is None or grid is None:
            return False
        np.concatenate(found, out=self._ranges)
        return grid.encode(x, self._packed, within=True)

    def decode(self, ranges: Buffer, packed: Buffer, out: Floats) -> bool:
        grid = self._fixed
        if grid is None:
            lo, hi = np.frombuffer(ranges, "<f4").astype(np.float32).reshape(2, -1)
            grid = self._make(lo, hi)
        if grid is not None:
            grid.decode(np.frombuffer(packed, np.uint8), out.reshape(self._shape))
        return grid is not None


class NumpyKernels:
    """The reference; also the fallback where no compiler was found."""

    name: Literal["c", "numpy"] = "numpy"

    def minmax(self, x: Floats) -> tuple[Floats, Floats] | None:
        if x.shape[1] == 1:
            flat = x.reshape(-1)
            parts = [flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK)]
            both = [(part.min(), part.max()) for part in parts]
            lo, hi = np.min(both, axis=0)[:1], np.max(both, axis=0)[1:]
        else:
            lo, hi = x.min(axis=(0, 2)), x.max(axis=(0, 2))
        # NaN comes through minimum and maximum, infinity is one of them.
        if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
            return None
        return lo + np.float32(0.0), hi + np.float32(0.0)

    def grid(self, rule: Rule, bits: int, lo: Floats, hi: Floats) -> NumpyGrid | None:
        return NumpyGrid(make_map(rule, bits, lo, hi)) if ranges_are_sound(lo, hi) else None

    def uniform(
        self,
        rule: Rule,
        bits: int,
        shape: tuple[int, int, int],
        limits: tuple[Floats, Floats] | None,
        ranges: Codes,
        packed: Codes,
    ) -> NumpyUniform | None:
        fixed = None if limits is None else self.grid(rule, bits, *limits)
        if limits is not None and fixed is None:
            return None
        return NumpyUniform(partial(self.grid, rule, bits), shape, fixed, ranges, packed)

    def encode_q2(self, x: Floats, conditional: bool, out: Codes) -> Floats | None:
        ends = self.minmax(x.reshape(1, 1, -1))
        if ends is None:
            return None
        flat = x.reshape(-1)
        values, threshold = q2_values(flat, ends[0][0], ends[1][0], conditional)
        out[:] = np.packbits(flat >= np.float32(threshold), bitorder="little")
        return values

    def decode_q2(self, packed: Codes, values: Floats, out: Floats) -> None:
        _look_up(packed, values, 1, out.reshape(-1))

    def encode_table(self, q: Codes, table: Codes, bits: int, out: Codes) -> None:
        pack(table[q.reshape(-1)], bits, out)

    def decode_table(self, packed: Codes, table: Codes, bits: int, out: Codes) -> None:
        _look_up(packed, table, bits, out.reshape(-1))


def _look_up(packed: Codes, table: NDArray[Any], bits: int, out: NDArray[Any]) -> None:
    """``out`` (flat) = table[code]."""
    for start, stream in _streams(packed, out.size, bits):
        part = out[start : start + _CHUNK]
        # mode="clip" lets take() write into `part` at once; no code exceeds the table.
        np.take(table, unpack(stream, part.size, bits), out=part, mode="clip")


def _streams(packed: Codes, count: int, bits: int) -> Iterator[tuple[int, Codes]]:
    """Every `_CHUNK` codes of ``count``: the first one's index, and the bytes that hold them."""
    for start in range(0, count, _CHUNK):
        first = start // 8 * bits
        yield start, packed[first : first + packed_size(min(_CHUNK, count - start), bits)]


def _chunks(x: Floats) -> Iterator[tuple[tuple[slice, slice], slice]]:
    """Cut (outer, channels, inner) into parts of about `_CHUNK` elements, and their channels."""
    outer, channels, inner = x.shape
    rows = max(1, _CHUNK // (channels * inner))
    some = max(1, min(channels, _CHUNK // inner))
    for row in range(0, outer, rows):
        for first in range(0, channels, some):
            band = slice(first, first + some)
            yield (slice(row, row + rows), band), band

"""Reading traces: JLS files mapped into memory, in NumPy alone.

pyjls is not used to read. Version 0.17 ends the process on many files whose writer was killed, and
mends others in place when it opens them; a measurement must survive being looked at. What is read
here is checked against the file's size, and nothing is loaded but what was asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waistline.errors import TraceError
from waistline.evidence import Evidence
from waistline.trace.base import (
    FLOAT_SIGNALS,
    GAP,
    SIGNALS,
    Annotation,
    Bits,
    Doubles,
    Energy,
    Floats,
    Overview,
    TraceSpec,
    UtcPoint,
    WindowEnergy,
)
from waistline.trace.jls_index import U1, Channel, Index, Run, read_index
from waistline.trace.lock import is_held
from waistline.trace.overview import envelope
from waistline.trace.snapshot import decode_start
from waistline.trace.sums import Samples, checked_edges, window_sums

PIECE = 1 << 20
"""Samples handled at once where a file's own chunks do not say."""


class JlsTrace:
    """A `Trace` in a JLS file.

    Args:
        path: of the file.
        salvage: read a file that was not closed, up to where all its signals reach.

    Raises:
        TraceError: it is no trace, is damaged, or its writer did not close it.
    """

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        index = read_index(path, salvage=salvage)
        self.path = path
        self.index = index
        if not salvage and not (index.ended and index.file.closed):
            index.file.close()
            raise _unclosed(path)
        try:
            self.spec = _spec(index)
            self._channels = _channels(index, self.spec)
        except TraceError:
            index.file.close()
            raise
        # Bits that are all alike are certain once their summary is written; after damage, that a
        # chunk is missing means nothing.
        ends = [
            channel.certain if salvage and not index.damaged else channel.end
            for channel in self._channels.values()
        ]
        self._base = max(
            (rows.runs[0].first for rows in self._channels.values() if rows.runs), default=0
        )
        self.length = max(0, min(ends, default=0) - self._base)
        # Other programs begin at the sample their instrument had come to.
        base = self._base
        gaps = (replace(gap, first=gap.first - base) for gap in index.gaps)
        self.gaps = tuple(sorted(gaps, key=lambda gap: gap.first))
        unsure = [(gap.first, gap.end) for gap in self.gaps if not gap.resolved]
        self._unsure = np.array(unsure, np.int64).reshape(-1, 2)
        notes = (_moved(note, base) for note in index.annotations)
        self.annotations = tuple(sorted(notes, key=lambda note: note.sample))
        self.utc = tuple(UtcPoint(point.sample - base, point.utc_ns) for point in index.utc)
        self.run = index.run
        self.ledger = index.ledger

    @property
    def duration_s(self) -> float:
        """Seconds, by the meter's nominal clock."""
        return self.length / self.spec.rate_hz

    def close(self) -> None:
        """Let go of the file."""
        self.index.file.close()

    def __enter__(self) -> JlsTrace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """float32 (stop - start,) of a float signal, NaN where samples were lost.

        ``power`` is computed where only current, and voltage or a supply, are there.
        """
        start, stop = self._range(start, stop)
        out = np.full(stop - start, np.nan, np.float32)
        for first, values in self.pieces(name, start, stop):
            out[first - start : first - start + len(values)] = values
        return out

    def bits(self, name: str, start: int = 0, stop: int | None = None) -> Bits:
        """uint8 (stop - start,) of 0 and 1: a logic bit, or ``gap``."""
        start, stop = self._range(start, stop)
        if name == GAP:
            lost: Bits = np.isnan(self.read(self.spec.floats[0], start, stop)).astype(np.uint8)
            return lost
        channel = self._channel(name)
        out = np.zeros(stop - start, np.uint8)
        for run, low, high in self._runs(channel, start, stop):
            at = run.first - self._base
            here = slice(max(at, start) - start, min(at + run.size, stop) - start)
            out[here] = _unpacked(self.index, run, low, high)
        return out

    def pieces(self, name: str, start: int, stop: int) -> Iterator[tuple[int, Samples]]:
        """(first sample, samples) of a float signal in file order, without copying where stored.

        The arrays look into the file and are read-only; a computed power is float64.
        """
        if name == "power" and name not in self._channels:
            yield from self._computed_power(start, stop)
            return
        channel = self._channel(name)
        for run, low, high in self._runs(channel, start, stop):
            values = np.frombuffer(self.index.file.map, "<f4", high - low, run.place + low * 4)
            yield run.first - self._base + low, values

    def overview(self, name: str, start: float, stop: float, columns: int) -> Overview:
        """Minimum, maximum and mean of ``columns`` equal parts, for plots only."""
        source, scale = self._drawn(name)
        channel = self._channels.get(source)

        def raw(first: int, end: int) -> Iterator[tuple[int, Samples]]:
            return self.pieces(source, first, end)

        return envelope(
            raw,
            self._summaries(channel) if channel else {},
            (max(0.0, start), min(float(self.length), stop)),
            columns,
            scale,
        )

    def windows(self, edges: Doubles) -> WindowEnergy:
        """Energy between consecutive edges (float64 (n + 1,), ascending, in samples)."""
        edges = checked_edges(edges, self.length)
        name, scale = self._summed()
        start, stop = int(edges[0]), min(self.length, int(edges[-1]) + 1)
        sums, missing = window_sums(self.pieces(name, start, stop), edges, self.length)
        return WindowEnergy(sums * (scale / self.spec.rate_hz), missing, self.uncertain(edges))

    def uncertain(self, edges: Doubles) -> NDArray[np.bool_]:
        """Bool (n,): whether a gap of unknown size touches what lies between two edges."""
        uncertain = np.zeros(len(edges) - 1, np.bool_)
        near = self._unsure[(self._unsure[:, 1] >= edges[0]) & (self._unsure[:, 0] <= edges[-1])]
        lows = np.maximum(np.searchsorted(edges, near[:, 0]) - 1, 0)
        highs = np.searchsorted(edges, near[:, 1], side="right")
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
            uncertain[low:high] = True
        return uncertain

    def energy(self, start: float = 0, stop: float | None = None) -> Energy:
        """Energy between two positions in samples."""
        stop = float(self.length) if stop is None else stop
        one = self.windows(np.array([start, stop], np.float64))
        return Energy(
            energy_j=float(one.energy_j[0]),
            duration_s=(stop - start) / self.spec.rate_hz,
            missing=float(one.missing[0]),
            uncertain=bool(one.uncertain[0]),
        )

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = self.length if stop is None else stop
        if not 0 <= start <= stop <= self.length:
            raise TraceError(
                f"samples {start} to {stop} are not all in the trace",
                cause=f"it holds samples 0 to {self.length}",
                fix=f"waistline trace info {self.path}",
            )
        return start, stop

    def _channel(self, name: str) -> Channel:
        if name in self._channels:
            return self._channels[name]
        raise TraceError(
            f"{self.path} holds no {name}",
            cause=f"it holds {', '.join(self._channels)}",
            fix="waistline trace import takes --supply VOLTS where only a current was recorded"
            if name in FLOAT_SIGNALS
            else "choose one of these",
        )

    def _runs(self, channel: Channel, start: int, stop: int) -> Iterator[tuple[Run, int, int]]:
        """Runs that touch [start, stop), with the part of each that does."""
        start, stop = start + self._base, stop + self._base
        place = max(0, bisect_right(channel.runs, start, key=lambda run: run.first) - 1)
        while place < len(channel.runs) and channel.runs[place].first < stop:
            run = channel.runs[place]
            low, high = max(0, start - run.first), min(run.size, stop - run.first)
            if high > low:
                yield run, low, high
            place += 1

    def _summed(self) -> tuple[str, float]:
        """What to add up for an energy, and times what."""
        names = self._channels
        if "power" in names or "voltage" in names or self.spec.supply_v is None:
            return "power", 1.0
        return "current", self.spec.supply_v

    def _drawn(self, name: str) -> tuple[str, float]:
        return self._summed() if name == "power" else (name, 1.0)

    def _computed_power(self, start: int, stop: int) -> Iterator[tuple[int, Samples]]:
        supply = self.spec.supply_v
        if "current" not in self._channels or ("voltage" not in self._channels and not supply):
            self._channel("power")
        for first in range(start, stop, PIECE):
            end = min(first + PIECE, stop)
            current = self.read("current", first, end).astype(np.float64)
            if "voltage" in self._channels:
                yield first, current * self.read("voltage", first, end)
            else:
                yield first, current * (supply or 0.0)

    def _summaries(self, channel: Channel) -> dict[int, list[tuple[int, Callable[[], Floats]]]]:
        """By samples an entry: (first sample, its entries float32 (n, 4)) of each chunk."""
        levels: dict[int, list[tuple[int, Callable[[], Floats]]]] = {}
        for level, runs in channel.summaries.items():
            step = channel.row * channel.higher ** (level - 1)
            levels[step] = [(run.first - self._base, self._entries(run)) for run in runs]
        return levels

    def _entries(self, run: Run) -> Callable[[], Floats]:
        return lambda: np.frombuffer(self.index.file.map, "<f4", run.size * 4, run.place).reshape(
            -1, 4
        )


def _unclosed(path: Path) -> TraceError:
    if is_held(path):
        return TraceError(
            f"{path} is still being written", cause="its capture runs", fix="wait, or stop it"
        )
    return TraceError(
        f"{path} was not closed by its writer",
        cause="the capture was killed",
        fix=f"waistline trace repair {path}",
    )


def _unpacked(index: Index, run: Run, low: int, high: int) -> Bits | int:
    if run.place < 0:
        return 1 if run.place == -2 else 0
    first = low // 8
    packed = np.frombuffer(index.file.map, np.uint8, (high + 7) // 8 - first, run.place + first)
    return np.unpackbits(packed, bitorder="little")[low - first * 8 : high - first * 8]


def _moved(note: Annotation, base: int) -> Annotation:
    if not base:
        return note
    end = None if note.end_sample is None else note.end_sample - base
    return replace(note, sample=note.sample - base, end_sample=end)


def _channels(index: Index, spec: TraceSpec) -> dict[str, Channel]:
    """Where each signal of the spec is stored; one that is stored as another kind is not there."""
    found = {}
    for signal in spec.signals:
        channel = index.channel(_stored_name(index, signal.name))
        if channel is not None and (channel.kind == U1) == (signal.dtype == "u1bit"):
            found[signal.name] = channel
    return found


def _stored_name(index: Index, name: str) -> str:
    """Logic bits are called d0 by Waistline and 0 by Joulescope."""
    if name.startswith("d") and not index.start:
        return name[1:]
    return name


def _spec(index: Index) -> TraceSpec:
    """The spec of the start snapshot; of a foreign file, what its signals tell."""
    where = str(index.file.path)
    if index.start:
        return decode_start(index.start, where)
    floats = [row for row in index.channels.values() if row.name in FLOAT_SIGNALS]
    if not floats:
        raise TraceError(
            f"{where} holds no current, voltage or power",
            cause=f"it holds {', '.join(row.name for row in index.channels.values()) or 'nothing'}",
            fix="use a trace of a power meter",
        )
    rate = floats[0].rate_hz
    same = [row for row in index.channels.values() if row.rate_hz == rate and row.runs]
    names = [row.name if row.kind != U1 else f"d{row.name}" for row in same]
    return TraceSpec(
        rate_hz=float(rate),
        signals=tuple(SIGNALS[name] for name in names if name in SIGNALS),
        source=f"{index.file.path.name}, written by another program",
        # Nothing in such a file shows that an instrument took it.
        evidence=Evidence.REPLAYED,
    )

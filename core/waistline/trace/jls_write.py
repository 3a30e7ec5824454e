"""Writing traces as JLS, with pyjls (extra ``capture``).

Chunks are a quarter of a second long, so that a killed writer loses little; the file opens in
Joulescope's own programs. pyjls writes from a thread of its own and only logs what goes wrong
there: free space is looked at beforehand, and its log is listened to.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyjls import AnnotationType, DataType, SignalType, Writer

from waistline.errors import TraceError
from waistline.files import place_new
from waistline.trace.base import GAP, Annotation, Bits, Block, Floats, Gap, TraceSpec
from waistline.trace.chunks import HEADER, stored_size
from waistline.trace.lock import hold
from waistline.trace.snapshot import (
    USER_LEDGER,
    USER_RUN,
    USER_START,
    annotation_text,
    encode_start,
    gap_text,
    plain,
    to_jls_time,
)

CHUNK_S = 0.25
RESERVE_BYTES = 160 << 20
"""Kept free, for what pyjls still holds (64 MiB) and for closing the file."""
# pyjls writes payloads of over 1 MiB and then cannot read them (0.17.0, "out of memory").
_MAX_SAMPLES = 1 << 17
_STRAIGHT = 1 << 14
_MAX_USER_BYTES = 1_000_000
_START_TIMEOUT_S = 10.0
_SOURCE_ID = 1
# Constant chunks of a bit signal are not stored once a summary has said what they were; before its
# first one they are. Its rows are multiples of 256 samples, a summary has ten at least.
_BIT_ROW, _BIT_ROWS = 256, 10


@dataclass(frozen=True)
class Layout:
    """How a signal is cut up: samples a summary row, samples a chunk, rows a summary."""

    row: int
    chunk: int
    rows: int
    higher: int


def layouts(rate_hz: float) -> tuple[Layout, Layout]:
    """Layout of float and of bit signals at a rate.

    No chunk is longer than half a second, but for logic bits below 512 Hz: the format rounds a
    chunk of bits up to 256 samples, and so many a killed writer may lose where there are bits.
    """
    target = min(int(rate_hz * CHUNK_S), _MAX_SAMPLES)
    rows = target // _BIT_ROW // _BIT_ROWS * _BIT_ROWS
    if rows:
        chunk = _BIT_ROW * rows
        floats = Layout(_BIT_ROW, chunk, rows * max(1, 640 // rows), 10)
        return floats, Layout(_BIT_ROW, chunk, rows, 10)
    rows = max(1, target // 16)
    floats = Layout(16, 16 * rows, rows * 20 * max(1, 32 // rows), 20)
    # Rows of a chunk divide those of a summary.
    most = max(one for one in (1, 2, 5) if one <= max(1, target // _BIT_ROW))
    return floats, Layout(_BIT_ROW, _BIT_ROW * most, _BIT_ROWS, 10)


def _exists(path: Path) -> TraceError:
    return TraceError(
        f"{path} exists, and a measurement is not overwritten",
        cause=f"it holds {path.stat().st_size} bytes",
        fix="choose another name or move it away",
    )


class _Listener(logging.Handler):
    """Remembers the first error pyjls logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


class JlsWriter:
    """A `TraceWriter` that writes JLS.

    Args:
        path: of the new file; one that exists is refused.
        spec: of the trace.
        reserve_bytes: free space below which it stops, while the file can still be closed.

    Raises:
        TraceError: the file exists or cannot be made.
    """

    def __init__(self, path: Path, spec: TraceSpec, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.path = path
        self.spec = spec
        self._reserve_bytes = reserve_bytes
        if path.exists():
            raise _exists(path)
        # Nobody else's: two captures may be started at once, and folders may be shared.
        hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        self._log = logging.getLogger("pyjls.c")
        self._listener = _Listener()
        self._log.addHandler(self._listener)
        self._open = False
        try:
            self._check_space()
            self._writer = Writer(str(hidden))
            self._open = True
            self._define()
            self._introduce(hidden, encode_start(spec))
            self._lock = hold(hidden)
            place_new(hidden, path)
        except BaseException as error:
            self._log.removeHandler(self._listener)
            if self._open:
                self._open = False
                self._writer.close()
            hidden.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise _exists(path) from error
            if isinstance(error, (RuntimeError, OSError, ValueError)):
                raise TraceError(
                    f"{path} cannot be made",
                    cause=self._listener.first or str(error),
                    fix="choose a folder that exists and can be written",
                ) from error
            raise

    def _introduce(self, file: Path, start: bytes) -> None:
        """Store the start snapshot and wait for it: a file of the final name has one."""
        size = file.stat().st_size + HEADER.size + stored_size(len(start))
        self._writer.user_data(USER_START, start)
        # pyjls waits for its thread only together with a sync, which may take seconds.
        limit = time.monotonic() + _START_TIMEOUT_S
        while file.stat().st_size < size and time.monotonic() < limit:
            self._check()
            time.sleep(0.001)

    def _define(self) -> None:
        floats, bits = layouts(self.spec.rate_hz)
        self._writer.source_def(
            _SOURCE_ID,
            name="waistline",
            vendor="Waistline",
            model=self.spec.evidence.value,
            version="1",
            serial_number=plain(self.spec.source)[:200],
        )
        self._ids: dict[str, int] = {}
        names = (*self.spec.floats, GAP, *(f"d{bit}" for bit in self.spec.bits))
        units = {signal.name: signal.unit for signal in self.spec.signals}
        for number, name in enumerate(names, 1):
            is_float = name in self.spec.floats
            layout = floats if is_float else bits
            self._ids[name] = number
            self._writer.signal_def(
                number,
                _SOURCE_ID,
                signal_type=SignalType.FSR,
                data_type=DataType.F32 if is_float else DataType.U1,
                # JLS rates are whole hertz; the exact one is in the snapshot.
                sample_rate=max(1, min(round(self.spec.rate_hz), 0xFFFF_FFFF)),
                samples_per_data=layout.chunk,
                sample_decimate_factor=layout.row,
                entries_per_summary=layout.rows,
                summary_decimate_factor=layout.higher,
                name=name,
                units=units.get(name, ""),
            )
        self._size = floats.chunk
        self._first = 0
        self._fill = 0
        self._floats = {name: np.empty(self._size, np.float32) for name in self.spec.floats}
        self._logic = np.zeros(self._size, np.uint8) if self.spec.bits else None

    @property
    def next_sample(self) -> int:
        """Id the next block or gap must begin with."""
        return self._first + self._fill

    def write(self, block: Block) -> None:
        """Append a block.

        Raises:
            TraceError: the disk is full or the file cannot be written.
            ValueError: it does not begin where the last ended, or lacks a signal of the spec.
        """
        self._expect(block.first)
        count = len(block)
        arrays = {name: block.values(name) for name in self._floats}
        logic = block.logic if self._logic is not None else None
        for name, values in arrays.items():
            if values is None or len(values) != count:
                raise ValueError(f"the block lacks {name}, or its arrays differ in length")
        if self._logic is not None and (logic is None or len(logic) != count):
            raise ValueError("the block lacks logic bits, or its arrays differ in length")
        found = {
            # What pyjls takes: also where the block looks into memory that is not its own.
            name: np.require(values, np.float32, ("C", "W"))
            for name, values in arrays.items()
            if values is not None
        }
        done = 0
        while done < count:
            straight = self._straight(count - done)
            take = straight or self._room(count - done)
            now = slice(done, done + take)
            bits = None if self._logic is None or logic is None else logic[now]
            if straight:
                self._put({name: values[now] for name, values in found.items()}, bits, straight)
            else:
                here = slice(self._fill, self._fill + take)
                for name, values in found.items():
                    self._floats[name][here] = values[now]
                if self._logic is not None and bits is not None:
                    self._logic[here] = bits
                self._advance(take)
            done += take

    def _room(self, left: int) -> int:
        """Samples to collect next: up to a whole chunk, or to where many can go straight."""
        room = self._size - self._fill
        return min(left, room, -self._fill % _BIT_ROW if left >= _STRAIGHT else room)

    def _straight(self, left: int) -> int:
        """Samples that go to pyjls without being collected first; whole bytes of every bit."""
        if left < _STRAIGHT:
            return 0
        if self._fill % _BIT_ROW == 0:
            self._send()
        return 0 if self._fill else min(left, _MAX_SAMPLES) // _BIT_ROW * _BIT_ROW

    def gap(self, gap: Gap) -> None:
        """Record lost samples: NaN in the float signals, 0 in the logic bits."""
        self._expect(gap.first)
        self._annotate(GAP, gap.first, gap_text(gap), AnnotationType.TEXT)
        left = gap.count
        while left:
            take = min(self._size - self._fill, left)
            here = slice(self._fill, self._fill + take)
            for values in self._floats.values():
                values[here] = np.nan
            if self._logic is not None:
                self._logic[here] = 0
            self._advance(take)
            left -= take

    def utc(self, sample: int, utc_ns: int) -> None:
        """Say when a sample was taken."""
        with self._translated():
            for name in self._floats:
                self._writer.utc(self._ids[name], sample, to_jls_time(utc_ns))

    def annotate(self, annotation: Annotation) -> None:
        """Add a marker, segment or note, in any order."""
        kind = AnnotationType.TEXT if annotation.kind == "note" else AnnotationType.VMARKER
        self._annotate(
            self.spec.floats[0], int(annotation.sample), annotation_text(annotation), kind
        )

    def user_data(self, data: bytes) -> None:
        """Store run.json as it is now."""
        if len(data) > _MAX_USER_BYTES:
            raise ValueError(f"run.json is over {_MAX_USER_BYTES} bytes")
        with self._translated():
            self._writer.user_data(USER_RUN, data)

    def flush(self) -> None:
        """Raise what pyjls' thread ran into; it writes whole chunks by itself, within moments."""
        self._check()

    def sync(self) -> None:
        """Wait until whole chunks are on the disk, safe from a power cut; may take seconds."""
        with self._translated():
            self._writer.flush()
        self._check()

    def close(self, ledger: bytes = b"") -> None:
        """Write the rest and end the file; safe to call twice.

        Raises:
            TraceError: something of the trace could not be written; `repair` saves the rest.
        """
        if not self._open:
            return
        self._open = False
        try:
            self._send()
            if len(ledger) > _MAX_USER_BYTES:
                ledger = b'{"ledger":"too long; it is in run.json"}'
            if ledger:
                with self._translated():
                    self._writer.user_data(USER_LEDGER, ledger)
        finally:
            self._writer.close()
            self._log.removeHandler(self._listener)
            os.close(self._lock)
        self._check()

    def __enter__(self) -> JlsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _annotate(self, name: str, sample: int, text: str, kind: int) -> None:
        with self._translated():
            self._writer.annotation(self._ids[name], sample, np.nan, kind, 0, text)

    def _expect(self, first: int) -> None:
        if first != self.next_sample:
            raise ValueError(f"samples {self.next_sample} and on are next, not {first}")

    def _advance(self, count: int) -> None:
        self._fill += count
        if self._fill == self._size:
            self._send()

    def _send(self) -> None:
        count, self._fill = self._fill, 0
        if count:
            floats = {name: values[:count] for name, values in self._floats.items()}
            self._put(floats, None if self._logic is None else self._logic[:count], count)

    def _put(self, floats: dict[str, Floats], logic: Bits | None, count: int) -> None:
        self._check_space()
        lost = np.isnan(floats[self.spec.floats[0]])
        with self._translated():
            for name, values in floats.items():
                self._writer.fsr_f32(self._ids[name], self._first, values)
            self._bits(GAP, lost)
            if logic is not None:
                for bit in self.spec.bits:
                    self._bits(f"d{bit}", logic & np.uint8(1 << bit))
        self._first += count
        self._check()

    def _bits(self, name: str, values: np.ndarray) -> None:
        self._writer.fsr(self._ids[name], self._first, np.packbits(values, bitorder="little"))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Pyjls raises RuntimeError, as when the disk does not keep up for seconds."""
        try:
            yield
        except RuntimeError as error:
            raise self._failed(str(error)) from error

    def _check(self) -> None:
        if self._listener.first:
            raise self._failed(self._listener.first)

    def _check_space(self) -> None:
        state = os.statvfs(self.path.parent)
        free = state.f_bavail * state.f_frsize
        if free < self._reserve_bytes:
            raise TraceError(
                f"the disk under {self.path.parent} is full",
                cause=f"{free >> 20} MiB are left; {self._reserve_bytes >> 20} MiB are kept to "
                "close the trace",
                fix="free space, or write the trace elsewhere",
            )

    def _failed(self, cause: str) -> TraceError:
        return TraceError(
            f"{self.path} could not be written to the end",
            cause=cause,
            fix=f"free space, then: waistline trace repair {self.path}",
        )

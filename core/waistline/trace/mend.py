"""The child that mends a trace: ``python -m waistline.trace.mend SOURCE NEW``.

It writes NEW, reads it back twice, once itself and once with pyjls as other programs will, and
prints one line of JSON. It never writes to SOURCE.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from waistline.errors import TraceError, WaistlineError
from waistline.trace.base import Annotation, Gap
from waistline.trace.jls_read import JlsTrace
from waistline.trace.repair import RepairReport, report_json
from waistline.trace.rewrite import ordered, stretches, write_samples
from waistline.trace.store import create


def mend(source: Path, new: Path) -> RepairReport:
    """Write what can be recovered of ``source`` into ``new``, and check it."""
    with JlsTrace(source, salvage=True) as old:
        index = old.index
        whole = index.ended and index.file.closed and not index.damaged
        # Bits fill up their last byte; floats say how far it was.
        ends = [channel.end for channel in index.channels.values() if channel.bits == 32]
        lost = damage(old) if index.damaged else ()
        report = RepairReport(
            path=str(source),
            repaired=not whole,
            length=old.length,
            duration_s=old.duration_s,
            dropped=max(ends, default=0) - old.length,
            torn_bytes=index.file.size - index.end,
            damaged_bytes=index.damaged,
            damaged_samples=sum(gap.count for gap in lost),
            left_out=_left_out(old),
        )
        if whole:
            return report
        gaps = ordered([*old.gaps, *lost], old.length)
        _write(old, new, gaps)
        _compare(old, new, gaps)
    _read_by_pyjls(new, report.length)
    return report


def _left_out(old: JlsTrace) -> tuple[str, ...]:
    kept = {*old.spec.floats, "gap", *(f"d{bit}" for bit in old.spec.bits)}
    names = (channel.name for channel in old.index.channels.values())
    return tuple(name for name in names if name not in kept and f"d{name}" not in kept)


def damage(old: JlsTrace) -> tuple[Gap, ...]:
    """Holes that no gap explains: a chunk of some float signal that is not there."""
    holes: list[tuple[int, int]] = []
    for name in old.spec.floats:
        end = 0
        for first, values in old.pieces(name, 0, old.length):
            if first > end:
                holes.append((end, first))
            end = first + len(values)
        if end < old.length:
            holes.append((end, old.length))
    return tuple(_between(_joined(holes), old.gaps))


def _joined(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(holes):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _between(holes: list[tuple[int, int]], gaps: tuple[Gap, ...]) -> Iterator[Gap]:
    """What of the holes no gap explains."""
    for start, end in holes:
        for gap in gaps:
            if gap.end > start and gap.first < end:
                if gap.first > start:
                    yield Gap(start, gap.first - start, "damage")
                start = gap.end
        if end > start:
            yield Gap(start, end - start, "damage")


def _write(old: JlsTrace, new: Path, gaps: list[Gap]) -> None:
    with create(new, old.spec) as writer:
        write_samples(old, writer, gaps)
        for note in old.annotations:
            if note.sample <= old.length:
                writer.annotate(note)
        writer.annotate(Annotation(old.length, "note", "recovered up to here"))
        for point in old.utc:
            if point.sample <= old.length:
                writer.utc(point.sample, point.utc_ns)
        if old.run:
            writer.user_data(old.run)


def _compare(old: JlsTrace, new: Path, gaps: list[Gap]) -> None:
    """Every sample outside gaps, bit by bit."""
    with JlsTrace(new) as made:
        same = made.length == old.length and made.spec == old.spec
        for start, end, gap in stretches(old.length, gaps):
            if gap is not None or not same:
                continue
            for name in old.spec.floats:
                here, there = old.read(name, start, end), made.read(name, start, end)
                same &= bool((here.view(np.uint32) == there.view(np.uint32)).all())
            for bit in old.spec.bits:
                here_bits = old.bits(f"d{bit}", start, end)
                same &= bool((here_bits == made.bits(f"d{bit}", start, end)).all())
    if not same:
        raise TraceError(
            "the mended trace is not the same as what was recovered",
            cause="reading it back gave other samples",
            fix="keep the original, and report this",
        )


def _read_by_pyjls(new: Path, length: int) -> None:
    from pyjls import Reader

    with Reader(str(new)) as reader:
        ends = [signal.length for signal in reader.signals.values() if signal.units]
    if length and ends and min(ends) != length:
        raise TraceError(
            "the mended trace is not whole",
            cause=f"pyjls finds {min(ends)} samples, {length} were written",
            fix="keep the original, and report this",
        )


def main() -> None:
    source, new = (Path(argument) for argument in sys.argv[1:])
    try:
        print(report_json(mend(source, new)))
    except WaistlineError as error:
        print(json.dumps({"error": error.what, "cause": error.cause, "fix": error.fix}))


if __name__ == "__main__":
    main()

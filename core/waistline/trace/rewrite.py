"""A trace written anew, bit by bit, with other notes: a JLS file is written once and never changed.

The new file gets its name when it is whole; until then, and where the command is killed, there is
none, and the one it is made of is only read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from waistline.errors import TraceError
from waistline.files import place_new, unwritable
from waistline.trace.base import Annotation, Bits, Block, Gap
from waistline.trace.jls_read import PIECE, JlsTrace
from waistline.trace.store import create

if TYPE_CHECKING:
    from waistline.trace.jls_write import JlsWriter

_NOTES = 20_000
"""Written at once."""
LEFT = "the original is as it was"


def rewrite(
    old: JlsTrace,
    target: Path,
    notes: Iterable[Annotation],
    run: bytes,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write a trace with the samples, gaps, times and ledger of another.

    Args:
        old: a whole trace.
        target: a new file.
        notes: all that the new one gets.
        run: its run.json; b"" is none.
        progress: called with samples done.

    Raises:
        TraceError: the file exists, or the disk is full.
        ConfigError: the folder cannot be written.
        MissingExtra: pyjls is not installed.
    """
    check_new(target)
    try:
        folder = tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise unwritable(target, error, left=LEFT) from error
    new = Path(folder) / "new.jls"
    try:
        _write(old, new, notes, run, progress)
        with new.open("rb") as stream:
            os.fsync(stream.fileno())
        place_new(new, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        raise unwritable(target, error, left=LEFT) from error
    except TraceError as error:
        raise TraceError(
            f"{target} could not be written; {LEFT}",
            cause=str(error).replace(str(new), target.name),
            fix="free space, or choose another place for it",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_new(target: Path) -> None:
    """Refuse a name that no new trace can get.

    Raises:
        TraceError: it exists.
    """
    if target.exists() or target.is_symlink():
        raise _exists(target)


def _exists(target: Path) -> TraceError:
    return TraceError(
        f"{target} exists, and is not overwritten",
        cause="traces are written once",
        fix="choose another name",
    )


def _write(
    old: JlsTrace,
    new: Path,
    notes: Iterable[Annotation],
    run: bytes,
    progress: Callable[[int], None],
) -> None:
    with create(new, old.spec) as writer:
        write_samples(old, writer, ordered(old.gaps, old.length), progress)
        for number, note in enumerate(notes, 1):
            writer.annotate(note)
            if number % _NOTES == 0:
                writer.sync()
        for point in old.utc:
            writer.utc(point.sample, point.utc_ns)
        if run:
            writer.user_data(run)
        writer.close(old.ledger)


def write_samples(
    old: JlsTrace,
    writer: JlsWriter,
    gaps: Sequence[Gap],
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Everything on the time base; ``gaps`` as `ordered` gives them."""
    synced = 0
    for start, end, gap in stretches(old.length, gaps):
        if gap is None:
            writer.write(block_of(old, start, end))
        else:
            writer.gap(gap)
        # What pyjls holds for its thread has an end, and for a slow disk it waits seconds only.
        if end - synced >= PIECE:
            writer.sync()
            synced = end
        progress(end)


def ordered(gaps: Iterable[Gap], length: int) -> list[Gap]:
    """Gaps in order, none over another, none past the end; what is unknown of them stays so."""
    found: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: gap.first):
        first = max(gap.first, found[-1].end if found else 0)
        count = min(gap.end, length) - first
        if (first, count) == (gap.first, gap.count):
            found.append(gap)
        elif count > 0:
            found.append(_cut(gap, first, count))
        elif found and not gap.resolved and gap.first <= length:
            found[-1] = replace(found[-1], low=0, high=max(found[-1].count + 1, gap.high or 0))
    return found


def _cut(gap: Gap, first: int, count: int) -> Gap:
    """What is left of a gap."""
    if gap.resolved:
        return replace(gap, first=first, count=count, low=None, high=None)
    return replace(gap, first=first, count=count, low=0, high=max(count + 1, gap.high or 0))


def stretches(length: int, gaps: Sequence[Gap]) -> Iterator[tuple[int, int, Gap | None]]:
    """(start, end, gap): what lies between gaps, and the gaps, in order."""
    start = 0
    for gap in gaps:
        for first in range(start, gap.first, PIECE):
            yield first, min(first + PIECE, gap.first), None
        yield gap.first, gap.end, gap
        start = gap.end
    for first in range(start, length, PIECE):
        yield first, min(first + PIECE, length), None


def block_of(old: JlsTrace, start: int, end: int) -> Block:
    """Samples of a trace as they were written."""
    values = {name: old.read(name, start, end) for name in old.spec.floats}
    return Block(
        start,
        logic=logic_of(old, start, end) if old.spec.bits else None,
        current_a=values.get("current"),
        voltage_v=values.get("voltage"),
        power_w=values.get("power"),
    )


def logic_of(old: JlsTrace, start: int, end: int) -> Bits:
    """uint8 (end - start,): bit k is D k."""
    logic = np.zeros(end - start, np.uint8)
    for bit in old.spec.bits:
        logic |= old.bits(f"d{bit}", start, end) << np.uint8(bit)
    return logic

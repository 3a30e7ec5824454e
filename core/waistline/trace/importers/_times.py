"""Sample ids from a column of times: the rate, the holes, and what cannot be a clock."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waistline.errors import TraceError
from waistline.trace.base import Block, Gap, Source
from waistline.trace.importers.base import ImportOptions, to_block

Batch = Mapping[str, NDArray[np.float64]]
# A time may lie this share of a sample period off its place before it means another sample.
_JITTER = 0.4
_MAX_GAP_S = 3600.0
_MAX_LOST, _MAX_LOST_TIMES = 100_000_000, 100
"""Samples that may be missing in all, or times those that are there."""


def timed_source(
    batches: Callable[[], Iterator[Batch]], path: Path, options: ImportOptions
) -> Source:
    """A source whose batches hold ``time`` in seconds.

    Args:
        batches: begins to read the file, each time anew.
        path: of the file.
        options: a rate given there is believed.

    Raises:
        TraceError: the times do not ascend in equal steps.
    """
    head = first_of(batches)
    if head is None or len(head["time"]) < 2:
        raise TraceError(
            f"{path.name} holds fewer than two samples",
            cause="a rate needs two times",
            fix="give --rate HERTZ and leave the time column out",
        )
    rate_hz = options.rate_hz or _rate(head["time"], path)
    names = [name for name in head if name != "time"]
    remarks = [f"rate {rate_hz:.9g} Hz from the time column"] if options.rate_hz is None else []

    def parts() -> Iterator[Block | Gap]:
        yield from _parts(batches(), 1 / rate_hz, path)

    return Source(options.spec(path, rate_hz, names), parts(), remarks=remarks)


def first_of(batches: Callable[[], Iterator[Batch]]) -> Batch | None:
    """The first batch; the file is closed again."""
    reading = batches()
    try:
        return next(reading, None)
    finally:
        # What reads a file is a generator, and closing it closes the file.
        if isinstance(reading, Generator):
            reading.close()


def _rate(times: NDArray[np.float64], path: Path) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.diff(times)
    period = float(np.median(steps))
    if not period > 0 or not np.isfinite(period):
        raise _uneven(path, "its times do not ascend, or are too coarse to tell samples apart")
    # Over all steps that are one period long, which a hole is not.
    ones = steps[np.abs(steps - period) < _JITTER * period]
    if len(ones) * 2 < len(steps):
        raise _uneven(path, f"most steps are not near their median of {period:.3g} s")
    rate_hz = 1 / float(ones.mean())
    rounded = float(f"{rate_hz:.6g}")
    # Times written with few digits scatter more than a clock does.
    return rounded if abs(rounded - rate_hz) < 1e-6 * rate_hz else rate_hz


def _parts(batches: Iterable[Batch], period_s: float, path: Path) -> Iterator[Block | Gap]:
    first, lost, last = 0, 0, None
    for batch in batches:
        times = batch["time"]
        if not len(times):
            continue
        before = times[0] - period_s if last is None else last
        with np.errstate(invalid="ignore", over="ignore"):
            steps = np.diff(times, prepend=before) / period_s
            whole = np.rint(steps)
            off = np.abs(steps - whole)
        # A hole may be a fraction of a sample long where an instrument was started again.
        if not (whole >= 1).all() or (off[whole == 1] > _JITTER).any():
            place = int(np.argmax(~(whole >= 1) | (off > _JITTER)))
            raise _uneven(
                path,
                f"sample {first + place} comes {steps[place]:.3g} periods after the one before",
            )
        if whole.max() * period_s > _MAX_GAP_S:
            raise _uneven(path, f"it has a hole of {whole.max() * period_s:.0f} s")
        cuts = [*np.flatnonzero(whole > 1).tolist(), len(times)]
        start = 0
        for cut in cuts:
            if cut > start:
                part = {name: values[start:cut] for name, values in batch.items()}
                yield to_block(first, part)
                first += cut - start
            if cut < len(times):
                missing = int(whole[cut]) - 1
                there = first - lost
                lost += missing
                # A few rows could fill a disk with holes.
                if lost > max(_MAX_LOST, _MAX_LOST_TIMES * there):
                    raise _uneven(path, f"it lacks {lost:,} samples and has {there:,}")
                yield Gap(first, missing, "import")
                first += missing
            start = cut
        last = float(times[-1])


def _uneven(path: Path, cause: str) -> TraceError:
    return TraceError(
        f"{path.name} is not sampled in equal steps",
        cause=cause,
        fix="give --rate HERTZ to count samples instead of reading their times",
    )

"""A trace, played again: samples, gaps and notes, at its own rate or as fast as they are taken.

The trace is given as ``--port FILE.jls``. Options: ``pace`` (``real`` or ``fast``). The clock of
what comes out is the trace's; its samples are ``replayed``, or of a weaker grade if they were
before. Markers and segments come at the samples they lay on, once what they mark has been played.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from waistline.errors import ConfigError
from waistline.evidence import Evidence, weakest
from waistline.trace.base import Annotation, Block, Gap
from waistline.trace.jls_read import JlsTrace
from waistline.trace.rewrite import logic_of
from waistline.trace.store import open_trace
from waistline_hostctl.meters._options import check_options
from waistline_hostctl.meters._planar import Form, PlanarDecoder
from waistline_hostctl.meters.base import Found, MeterChoice, MeterInfo, Part

_OPTIONS = ("pace",)
_END = -1


class Settings(msgspec.Struct, frozen=True):
    """What reader and decoder need to know."""

    path: str
    floats: tuple[str, ...]
    bits: tuple[int, ...]
    fast: bool


def find() -> list[Found]:
    """A trace is named, not found."""
    return []


def open_meter(choice: MeterChoice) -> Replay:
    """Look at the trace.

    Raises:
        ConfigError: none was named, or an option does not exist or fit.
        TraceError: it cannot be read.
    """
    check_options(choice, _OPTIONS)
    pace = choice.options.get("pace", "real")
    if pace not in ("real", "fast"):
        raise ConfigError(f"pace={pace} is neither real nor fast", fix="leave it out")
    if choice.port is None or not Path(choice.port).is_file():
        raise ConfigError(
            "there is no trace to replay" + (f" at {choice.port}" if choice.port else ""),
            cause="the trace is given as the port",
            fix="waistline capture --meter replay --port FILE.jls",
        )
    return Replay(Path(choice.port), fast=pace == "fast")


def reader_from(settings: Mapping[str, object]) -> ReplayReader:
    """What plays the trace."""
    return ReplayReader(msgspec.convert(settings, Settings))


def decoder_from(settings: Mapping[str, object]) -> ReplayDecoder:
    """What takes its blocks apart, and puts its notes between them.

    Raises:
        TraceError: the trace cannot be read any more.
    """
    found = msgspec.convert(settings, Settings)
    with open_trace(found.path) as trace:
        return ReplayDecoder(PlanarDecoder(_form(found)), trace.annotations)


def _form(settings: Settings) -> Form:
    return Form(settings.floats, bool(settings.bits))


class Replay:
    """A trace that can be played."""

    def __init__(self, path: Path, *, fast: bool) -> None:
        with open_trace(path) as trace:
            spec = trace.spec
        self._settings = Settings(str(path.resolve()), spec.floats, spec.bits, fast)
        self.info = MeterInfo(
            name="replay",
            id=f"replay of {spec.source}",
            rate_hz=spec.rate_hz,
            signals=spec.signals,
            evidence=weakest((Evidence.REPLAYED, spec.evidence)),
            untried=False,
            ledger="counter",
            supply_v=spec.supply_v,
            details={"trace": str(path), "recorded": spec.evidence.value, "fast": fast},
            sample_bytes=_form(self._settings).sample_bytes,
            pause_s=0.02,
            patient=fast,
        )

    def settings(self) -> dict[str, object]:
        """As `Settings`."""
        return msgspec.structs.asdict(self._settings)

    def close(self) -> None:
        """Nothing is open."""


class ReplayDecoder:
    """Blocks, gaps, and each note behind the last sample that it is about.

    A note of a later sample than what was played, and a segment that was cut short, are left out.

    Args:
        samples: takes blocks apart.
        notes: of the trace.
    """

    def __init__(self, samples: PlanarDecoder, notes: Sequence[Annotation]) -> None:
        self._samples = samples
        self._notes = deque(sorted(notes, key=_last))
        self._next = 0

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        return self._with_notes(self._samples.feed(raw, host_ns))

    def skip(self, size_bytes: int, host_ns: int) -> list[Part]:
        return self._with_notes(self._samples.skip(size_bytes, host_ns))

    def finish(self, host_ns: int) -> list[Part]:
        return self._with_notes(self._samples.finish(host_ns))

    def ledger(self) -> dict[str, object]:
        return self._samples.ledger()

    def _with_notes(self, parts: list[Part]) -> list[Part]:
        found: list[Part] = []
        for part in parts:
            found.append(part)
            if isinstance(part, Block):
                self._next = part.first + len(part)
            elif isinstance(part, Gap):
                self._next = part.end
            while self._notes and _last(self._notes[0]) <= self._next:
                found.append(self._notes.popleft())
        return found


def _last(note: Annotation) -> float:
    """Where what it is about ends."""
    return note.sample if note.end_sample is None else note.end_sample


class ReplayReader:
    """The trace's samples as raw blocks, holes as holes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._form = _form(settings)
        self._trace: JlsTrace | None = None
        self._gaps: list[Gap] = []
        self._next = 0
        self._start_ns = 0

    def start(self) -> None:
        self._trace = open_trace(self._settings.path)
        self._gaps = list(reversed(self._trace.gaps))
        self._start_ns = time.monotonic_ns()

    def fileno(self) -> int:
        return -1

    def read_into(self, buffer: memoryview) -> int:
        trace = self._trace
        if trace is None or self._next >= trace.length:
            return _END
        due = trace.length
        if not self._settings.fast:
            passed_s = (time.monotonic_ns() - self._start_ns) * 1e-9
            due = min(due, int(passed_s * trace.spec.rate_hz))
        while self._gaps and self._gaps[-1].end <= self._next:
            self._gaps.pop()
        stop = due
        if self._gaps and self._gaps[-1].first <= self._next:
            gap = self._gaps[-1]
            if due < gap.end:
                return 0
            self._next = gap.end
            return self._form.put_gap(buffer, gap)
        if self._gaps:
            stop = min(due, self._gaps[-1].first)
        count = min(stop - self._next, self._form.most(len(buffer)))
        if count <= 0:
            return 0
        size = self._form.put(buffer, self._next, count, self._planes(trace, count))
        self._next += count
        return size

    def stop(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.close()

    def _planes(self, trace: JlsTrace, count: int) -> list[NDArray[np.generic]]:
        start, stop = self._next, self._next + count
        planes: list[NDArray[np.generic]] = [
            trace.read(name, start, stop) for name in self._settings.floats
        ]
        if self._settings.bits:
            planes.append(logic_of(trace, start, stop))
        return planes

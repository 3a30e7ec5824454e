"""The control process of a capture: opens the meter, starts reader and writer, ends both in order.

It touches no sample. Whatever happens (interrupt, a pulled plug, a full disk, a killed child), what
was captured up to there is a trace that opens.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from waistline.bench import ResolvedBench
from waistline.errors import ConfigError, MeterError, TraceError
from waistline.evidence import Figure
from waistline.plugins import missing_extra
from waistline.run import RunFolder, RunRecord, new_run
from waistline.trace.accuracy import figures_of, trace_figures
from waistline.trace.repair import repair
from waistline.trace.store import open_trace
from waistline_hostctl.capture.command import Command
from waistline_hostctl.capture.limits import LATE_S, samples_of
from waistline_hostctl.capture.page import with_page
from waistline_hostctl.capture.record import (
    FAILURES,
    Captured,
    calibration_of,
    problems_of,
    record_of,
)
from waistline_hostctl.capture.session import BEGIN, Outcome, Session
from waistline_hostctl.capture.signals import Signals
from waistline_hostctl.capture.wanted import TRACE, Wanted, check_output, check_rate
from waistline_hostctl.capture.writer import Kept, spec_of
from waistline_hostctl.console import Console
from waistline_hostctl.meters.base import Meter, MeterInfo, open_on_bench

_ENDED = {
    "meter": "the meter is gone",
    "silent": "the meter says nothing more",
    "reader": "the reader process died",
    "writer": "the writer process died",
    "trace": "the trace could not be written",
    "no command": "the command did not run",
}


def run(wanted: Wanted, bench: ResolvedBench, console: Console) -> Captured:
    """Capture; returns once the trace is closed.

    Raises:
        ConfigError, MissingExtra, MeterError, TraceError: no sample came; nothing is left.
        KeyboardInterrupt: interrupted before the first sample; nothing is left.
        RateTooLow: the meter is slower than 100 kHz.
    """
    if importlib.util.find_spec("pyjls") is None:
        raise missing_extra("pyjls", needed_by="capture")
    check_output(wanted.output)
    command = None
    if wanted.command:
        command = Command(wanted.command, wanted.log, wanted.beside)
    signals = Signals()
    with signals.taken():
        meter = open_on_bench(wanted.choice, bench.bench)
        try:
            check_rate(meter.info, allow_slow=wanted.allow_slow)
            if command is not None and meter.info.patient:
                raise ConfigError(
                    f"{meter.info.name} has no time that {command.name} could be placed in",
                    cause="it plays as fast as it is taken",
                    fix="leave out pace=fast, or the command",
                )
            found = _Run(wanted, bench, meter.info, command).capture(meter, signals, console)
        finally:
            meter.close()
        return with_page(found, signals, console)


class _Run:
    """Where a capture goes, and what is written beside it."""

    def __init__(
        self, wanted: Wanted, bench: ResolvedBench, info: MeterInfo, command: Command | None
    ) -> None:
        self._wanted, self._bench, self._info, self._command = wanted, bench, info, command
        self._started = datetime.now(UTC)
        self._name = wanted.name or info.name
        self._folder: RunFolder | None = None
        self._details: dict[str, Any] = {}

    def capture(self, meter: Meter, signals: Signals, console: Console) -> Captured:
        if self._wanted.output is None:
            self._folder = new_run(self._wanted.runs, self._name, now=self._started)
            path = self._folder.path / TRACE
        else:
            path = self._wanted.output
        there = path.exists()
        try:
            with Session(
                self._info,
                meter.settings(),
                path,
                duration_s=self._wanted.duration_s,
                buffer_s=self._wanted.buffer_s,
                command=self._command,
                signals=signals.received,
                stream=console.beside,
            ) as session:
                self._details = {"reader": session.begin(self._encoded())}
                there = True
                session.watch()
                self._details |= {"ended": session.ended}
                outcome = session.finish(self._encoded)
        except BaseException:
            if not there:
                self._discard(path)
            raise
        return self._captured(path, outcome)

    def _captured(self, path: Path, outcome: Outcome) -> Captured:
        """What is on the disk now; mends it where the writer did not close it."""
        kept, remarks = outcome.kept, []
        if kept is None or kept.error:
            mended = self._mend(path, outcome)
            remarks.append(f"the trace was mended, and holds {mended:,} samples")
        samples, missing, figures = self._found(path, kept)
        if not samples:
            self._discard(path)
            raise self._nothing(outcome)
        ledger = kept.ledger if kept else {}
        problems = problems_of(ledger) if kept else ["the account of samples is lost"]
        if outcome.ended in FAILURES:
            problems.insert(0, f"{_ENDED[outcome.ended]}: {outcome.why}")
        remarks += self._short(samples, outcome) + self._unseen(path, outcome)
        remarks += self._remarks(missing, ledger)
        self._details |= {
            "ended": outcome.ended,
            "problems": problems,
            "samples": samples,
            "missing": missing,
            "ledger": ledger,
            "clock_residual_s": kept.clock_residual_s if kept else None,
        } | self._of_command()
        if self._folder is not None:
            self._folder.finish(self._record(figures, remarks))
        return Captured(
            trace=path,
            folder=self._folder.path if self._folder else None,
            info=self._info,
            ended=outcome.ended,
            figures=figures,
            ledger=ledger,
            problems=tuple(problems),
            remarks=tuple(remarks),
            samples=samples,
            missing=missing,
            command_code=self._command.code() if self._command else None,
        )

    def _found(self, path: Path, kept: Kept | None) -> tuple[int, int, dict[str, Figure]]:
        """(samples, missing, figures); of the trace itself where its writer cannot say."""
        calibration = calibration_of(self._info)
        if kept is not None and not kept.error:
            spec = spec_of(self._info)
            unknown = bool(kept.ledger.get("unknown"))
            found = figures_of(kept.parts, spec, kept.samples, calibration, uncertain=unknown)
            return kept.samples, kept.missing, found
        with open_trace(path) as trace:
            if not trace.length:
                return 0, 0, {}
            missing = round(trace.energy().missing)
            return trace.length, missing, trace_figures(trace, calibration=calibration)

    def _mend(self, path: Path, outcome: Outcome) -> int:
        _hidden(path).unlink(missing_ok=True)
        if not path.exists():
            raise outcome.failure or MeterError("the capture did not begin", cause=outcome.why)
        try:
            return repair(path).length
        except TraceError as error:
            raise outcome.failure or error from error

    def _nothing(self, outcome: Outcome) -> BaseException:
        """Why there is no sample."""
        if outcome.ended == "interrupted":
            return KeyboardInterrupt()
        told = [_ENDED.get(outcome.ended, ""), outcome.why]
        return MeterError(
            f"{self._info.name} gave no sample that can be placed",
            cause=": ".join(part for part in told if part),
            fix="check that the instrument measures: waistline devices",
        )

    def _short(self, samples: int, outcome: Outcome) -> list[str]:
        if outcome.ended != "duration" or self._wanted.duration_s is None:
            return []
        wanted = samples_of(self._wanted.duration_s, self._info.rate_hz)
        told = f"{samples:,} of {wanted:,} samples came in the time, and {LATE_S:g} s more"
        return [told] if samples < wanted else []

    def _unseen(self, path: Path, outcome: Outcome) -> list[str]:
        """That the time was over before the command ran."""
        if self._command is None or outcome.ended != "duration":
            return []
        with open_trace(path) as trace:
            seen = any(
                note.text == BEGIN and note.sample < trace.length for note in trace.annotations
            )
        told = f"the duration ended before {self._command.name} began: none of it is in the trace"
        return [] if seen else [f"{told}; give a longer --duration, or none"]

    def _remarks(self, missing: int, ledger: Mapping[str, Any]) -> list[str]:
        found = []
        if self._command is not None and self._command.told():
            found.append(self._command.told())
        if missing:
            lost, invalid = ledger.get("lost"), ledger.get("invalid")
            by = ", ".join(f"{n:,} by {kind}" for kind, n in lost.items() if n) if lost else ""
            found.append(
                f"{missing:,} samples are gaps in the trace"
                + (f": lost {by}" if by else "")
                + (f", {invalid:,} of uncertain place" if invalid else "")
            )
        if not self._details.get("reader", {}).get("real_time", True):
            found.append(
                "the reader had no real-time priority (ulimit -r, or CAP_SYS_NICE, would give it)"
            )
        if self._info.untried:
            found.append(f"the driver of {self._info.name} is untried on hardware")
        return found

    def _of_command(self) -> dict[str, Any]:
        if self._command is None:
            return {}
        return {"command": {"words": self._command.words, "exit_code": self._command.code()}}

    def _record(
        self, figures: Mapping[str, Figure] | None = None, remarks: Sequence[str] = ()
    ) -> RunRecord:
        return record_of(
            self._name, self._started, self._bench, self._info, self._details, figures, remarks
        )

    def _encoded(self) -> bytes:
        self._details |= self._of_command()
        return msgspec.json.encode(self._record())

    def _discard(self, path: Path) -> None:
        """Nothing was captured: leave nothing."""
        with contextlib.suppress(OSError):
            for file in (path, _hidden(path)):
                file.unlink(missing_ok=True)
            if self._folder is not None:
                self._folder.path.rmdir()


def _hidden(path: Path) -> Path:
    """What a trace is called before it says what it is."""
    return path.with_name(f".{path.name}.new")

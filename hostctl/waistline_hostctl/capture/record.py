"""What a capture found: its figures, what is wrong with it, and its run.json."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from waistline import __version__, provenance
from waistline.bench import ResolvedBench
from waistline.errors import SamplesLost
from waistline.evidence import Figure
from waistline.instrument import Calibration, calibration_from
from waistline.run import RunRecord
from waistline.trace.accuracy import SETTING
from waistline_hostctl.meters.base import MeterInfo

LIBRARIES = ("waistline", "numpy", "msgspec", "pyjls", "pyserial")
Ending = Literal[
    "duration", "command", "interrupted", "source",
    "meter", "silent", "reader", "writer", "trace", "no command",
]  # fmt: skip
"""Why a capture ended; the second line are failures: the meter is gone or says nothing more, a
process died, the trace could not be written, the command did not run."""
FAILURES = ("meter", "silent", "reader", "writer", "trace", "no command")


@dataclass(frozen=True, slots=True)
class Captured:
    """A capture that is on disk.

    Attributes:
        trace: its file, closed and readable.
        folder: of the run; None where only a trace was asked for.
        info: of the meter.
        ended: why.
        figures: by name, as in run.json.
        ledger: the account of what was lost; {} where its writer was killed.
        problems: why it cannot be trusted, one line each; () is good.
        remarks: what else there is to know.
        samples: in the trace, lost ones included.
        missing: of these, lost.
        command_code: exit code of the program it was made around; below 0 the signal that ended it.
        report: the page of the run's folder; None where there is none.
    """

    trace: Path
    folder: Path | None
    info: MeterInfo
    ended: Ending
    figures: dict[str, Figure]
    ledger: dict[str, Any]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    samples: int
    missing: int
    command_code: int | None = None
    report: Path | None = None

    def check(self) -> None:
        """Refuse a capture that cannot be trusted.

        Raises:
            SamplesLost: naming the first problem; the trace is kept.
        """
        if self.problems:
            raise SamplesLost(
                f"the capture in {self.trace} cannot be trusted",
                cause=self.problems[0],
                fix="capture again on a quiet machine; see its ledger: "
                f"waistline trace info {self.trace}",
            )


def calibration_of(info: MeterInfo) -> Calibration | None:
    """What the bench file says of this instrument."""
    stored = info.details.get(SETTING)
    return None if stored is None else calibration_from(stored)


def problems_of(ledger: Mapping[str, Any]) -> list[str]:
    """Why an account does not hold."""
    found = []
    if ledger.get("unknown"):
        holes = f"{ledger['holes']:,}" if "holes" in ledger else "?"
        found.append(f"{ledger['unknown']:,} of {holes} holes are of unknown size")
    if ledger.get("contradictions"):
        found.append(f"time took back {ledger['contradictions']:,} of the losses it had shown")
    if not ledger.get("closes") and not found:
        off = ledger.get("balance")
        found.append(
            f"samples and the host's clock disagree by {off:+,.0f} samples"
            if isinstance(off, int | float)
            else "the account of samples does not close"
        )
    return found


def meter_entry(info: MeterInfo) -> dict[str, Any]:
    """A meter as run.json tells of it."""
    entry: dict[str, Any] = msgspec.to_builtins(info)
    return entry


def record_of(
    name: str,
    started: datetime,
    bench: ResolvedBench,
    info: MeterInfo,
    details: Mapping[str, Any],
    figures: Mapping[str, Figure] | None = None,
    remarks: Sequence[str] = (),
) -> RunRecord:
    """run.json of a capture, at its start or its end."""
    found = dict(figures or {})
    return RunRecord(
        name=name,
        started_utc=started.isoformat(timespec="seconds"),
        ended_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("waistline", *sys.argv[1:]),
        version=__version__,
        commit=_commit(),
        seeds={},
        inputs={},
        libraries=_libraries(),
        machine=_machine(),
        threads={},
        bench=bench,
        codec="none",
        evidence={"trace": info.evidence.value}
        | {key: figure.evidence.value for key, figure in found.items()},
        settings={
            "title": f"Capture with {info.name}",
            "remarks": list(remarks),
            "capture": {"meter": meter_entry(info), **details},
        },
        figures=found,
        tables=(),
    )


# They do not change while a capture lasts, and git takes a moment.
_commit = functools.cache(provenance.commit)
_machine = functools.cache(provenance.machine)


@functools.cache
def _libraries() -> tuple[provenance.Library, ...]:
    return provenance.libraries(LIBRARIES)

"""What ``capture``, ``trace`` and ``meter`` print with ``--json``."""

from __future__ import annotations

from typing import Any

from waistline.evidence import Evidence, Figure
from waistline_hostctl.results import Result


class CaptureResult(Result, frozen=True, kw_only=True, tag="capture"):
    """A capture that is on disk; fields as `capture.record.Captured`."""

    trace: str
    folder: str
    meter: str
    rate_hz: float
    evidence: Evidence
    ended: str
    trusted: bool
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    samples: int
    missing: int
    figures: dict[str, Figure]
    ledger: dict[str, Any]
    command_code: int | None = None
    report: str = ""

"""The page of a capture that is on disk; whatever becomes of it, the capture is what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from waistline.errors import WaistlineError
from waistline_hostctl.capture.record import Captured
from waistline_hostctl.capture.signals import Signals
from waistline_hostctl.console import Console

LONG = 50_000_000
"""Samples whose page takes over a second."""


def with_page(found: Captured, signals: Signals, console: Console) -> Captured:
    """Make the tables and the report of a run's folder; a trace alone has none.

    What prevents it is said, and may be mended: ``waistline report FOLDER`` makes them later. One
    interrupt leaves them out, and those behind it do not keep the result from being shown.
    """
    if found.folder is None:
        return found
    later = f"waistline report {found.folder} makes it"
    if found.samples > LONG:
        console.note("making the report; Ctrl-C leaves it out, the capture is on the disk")
    try:
        with signals.raised():
            return _made(found, found.folder)
    except WaistlineError as error:
        console.note(f"there is no report: {error.what} ({error.cause}); {later}")
    except KeyboardInterrupt:
        console.note(f"there is no report, for it was interrupted; {later}")
    return found


def _made(found: Captured, folder: Path) -> Captured:
    from waistline_hostctl.recording import report_again

    return replace(found, report=report_again(folder, recompute=True).path)

"""The page of a capture that is on disk; whatever becomes of it, the capture is what it is."""

from __future__ import annotations

from dataclasses import replace

from waistline.errors import WaistlineError
from waistline_hostctl.capture.record import Captured
from waistline_hostctl.console import Console


def with_page(found: Captured, console: Console) -> Captured:
    """Make the tables and the report of a run's folder; a trace alone has none.

    What prevents it is said, and may be mended: ``waistline report FOLDER`` makes them later.
    """
    from waistline_hostctl.recording import report_again

    if found.folder is None:
        return found
    later = f"waistline report {found.folder} makes it"
    try:
        return replace(found, report=report_again(found.folder, recompute=True).path)
    except WaistlineError as error:
        console.note(f"there is no report: {error.what} ({error.cause}); {later}")
    except KeyboardInterrupt:
        console.note(f"there is no report, for it was interrupted; {later}")
    return found

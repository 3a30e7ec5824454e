"""How a program of ours begins and ends: Ctrl-C, a full disk and a closed pipe are no tracebacks.

Its first lines import nothing but this, and an interrupt among them is for the caller to catch.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

from waistline import interrupts, output
from waistline.errors import WaistlineError

_UNREAD = 1
"""Exit code where nobody read what was said."""


def run(module: str) -> NoReturn:
    """Run ``main()`` of ``module``, which gives the exit code or exits with it."""
    try:
        interrupts.end_at_once()
        output.guard()
        code, exited = _ended(module)
        interrupts.end_at_once()
        code = _said(code, exited=exited)
    except KeyboardInterrupt:
        os._exit(interrupts.INTERRUPTED)
    sys.exit(code)


def _ended(module: str) -> tuple[int, bool]:
    """Exit code, and whether it exited with that, as parsers of arguments do."""
    try:
        return int(importlib.import_module(module).main()), False
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None), True
    except BrokenPipeError:
        return _UNREAD, False


def _said(code: int, *, exited: bool) -> int:
    """Write out what is still waiting, so that the interpreter need not."""
    try:
        output.finish(well=exited and code == 0)
    except BrokenPipeError:
        return code or _UNREAD
    except WaistlineError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return code or error.exit_code
    return code

"""``waistline``: where the command line begins; `waistline_hostctl.verbs` is what it does."""

from __future__ import annotations

import os


def main() -> None:
    """Entry point of the ``waistline`` program; before it can be interrupted it imports nothing."""
    try:
        from waistline.program import run
    except KeyboardInterrupt:
        os._exit(130)
    run("waistline_hostctl.verbs")

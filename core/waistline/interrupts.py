"""Ctrl-C from the first line of a program to its last: never a traceback, always exit code 130.

Until a program holds something (a child, half a file) an interrupt ends it on the spot, also in the
middle of an import, which extension modules do not survive. Then it is a KeyboardInterrupt, so that
``with`` and ``finally`` tidy up. When that is done it ends on the spot again, since Python on its
way out would show where it was. What comes before the first line of ours is the interpreter's own.

Imports little: programs call this before they import anything else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

INTERRUPTED = 130
"""Exit code: 128 + SIGINT, as shells count."""
_AGAIN_S = 0.001


def end_at_once() -> None:
    """An interrupt ends the process with exit code 130; one that a launcher held back comes now.

    Where interrupts are ignored (a background job of a script, nohup) they stay so.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """No interrupt reaches a process that is started inside before it calls `end_at_once`.

    A child is in our process group until it has left it, and an interrupt at the terminal is for
    the whole group.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def be_raised() -> None:
    """An interrupt is a KeyboardInterrupt from here on, and none gets lost in a callback."""
    sys.unraisablehook = _unraisable
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def behind(error: BaseException) -> bool:
    """Whether an interrupt is what an error comes from: imports turn it into errors of theirs."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        if isinstance(each, KeyboardInterrupt):
            return True
        seen.add(id(each))
        each = each.__cause__ or each.__context__
    return False


def _end(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


def _again(number: int, frame: object) -> None:
    """An interrupt as it would be met now: raised, collected, or the end."""
    signal.raise_signal(signal.SIGINT)


def _unraisable(found: Any) -> None:
    """Python drops what is raised in callbacks of weak references, of which imports are full."""
    if isinstance(found.exc_value, KeyboardInterrupt):
        # Raised here it would be dropped again: a moment later, then.
        signal.signal(signal.SIGALRM, _again)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        return
    sys.__unraisablehook__(found)

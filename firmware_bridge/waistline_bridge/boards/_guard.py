"""``python _guard.py PARENT alone|group COMMAND..``: a program that ends with whoever started it.

Linux sends SIGTERM when the thread that started this process is gone, however it went: a killed
node leaves no emulator behind. The request is made here, after exec, and not between fork and exec,
where no Python may run once there are threads. A parent that died before it was made is no longer
the parent, which is looked at last.

``alone`` becomes the program. ``group`` stays beside it, for a program that starts others, which
hear nothing of a death that is not their parent's: all of the session ends, which the caller opens.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_ASKED_S = 3.0
"""To end in order; what is left then is killed."""
_HEARD = (signal.SIGTERM, signal.SIGCHLD)


def main() -> None:
    parent, how, *command = sys.argv[1:]
    _end_with(int(parent))
    if how == "group":
        _watch(command)
    _become(command)


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
        if os.getppid() != parent:
            sys.exit(1)


def _become(command: list[str]) -> None:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


def _watch(command: list[str]) -> None:
    """In the child return, to become the program; here wait for its end, and end as it did."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    own = os.getpid()
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        _end_with(own)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program hears it, too
    status = None
    while status is None:
        if signal.sigwait(_HEARD) == signal.SIGTERM:
            os.killpg(0, signal.SIGTERM)  # blocked here
            signal.sigtimedwait((signal.SIGCHLD,), _ASKED_S)
            os.killpg(0, signal.SIGKILL)
        ended, found = os.waitpid(child, os.WNOHANG)
        status = found if ended else None
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        os.kill(own, -code)
    os._exit(code)


if __name__ == "__main__":
    main()

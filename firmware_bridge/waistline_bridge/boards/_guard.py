"""``python _guard.py PARENT COMMAND..``: a program that ends with whoever started it.

Linux sends SIGTERM when the thread that started this process is gone, however it went: a killed
node leaves no emulator behind. The request is made here, after exec, and not between fork and exec,
where no Python may run once there are threads. A parent that died before it was made is no longer
the parent, which is looked at last.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
        if os.getppid() != int(parent):
            sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()

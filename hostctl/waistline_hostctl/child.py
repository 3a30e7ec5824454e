"""``python -m waistline_hostctl.child PARENT MODULE ARGUMENTS..``: a service that ends with us.

Linux sends SIGTERM when the thread that started this process is gone, however it went: a killed
``waistline run`` leaves no edge behind. The request is made here, after exec, and not between fork
and exec, where no Python may run once there are threads. A parent that died before it was made is
no longer the parent, which is looked at last.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Have this process end with SIGTERM when process ``parent``, its parent, ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM)) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    parent, module, *arguments = sys.argv[1:]
    end_with(int(parent))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

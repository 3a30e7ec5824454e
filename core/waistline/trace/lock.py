"""Whether a trace is being written: an advisory lock, which ends with its writer however killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


def hold(path: Path) -> int:
    """Lock a file; the descriptor to close when it is finished."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    # On a file system without locks a repair in the midst of a capture is not prevented.
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def is_held(path: Path) -> bool:
    """Whether a writer has the file open."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False

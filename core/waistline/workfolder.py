"""Folders in which something is made: gone in the end, and at the next try after a kill.

Such a folder lies beside what is made in it and is locked while its maker lives. Who makes the
same thing next removes those that nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".making"


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A new folder in the folder of ``target``, which is made if it is not there.

    It may be renamed to ``target``; what is left of it in the end is removed.

    Raises:
        OSError: it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(target)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent))
    handle = -1
    try:
        # Not inherited: what was started meanwhile must not keep it.
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a file system without locks: then nobody sweeps
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle >= 0:
            os.close(handle)


def _remove_orphans(target: Path) -> None:
    for found in list(target.parent.iterdir()):
        if found.name.startswith(f".{target.name}.") and found.name.endswith(_SUFFIX):
            with contextlib.suppress(OSError):
                _remove_orphan(found)


def _remove_orphan(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)

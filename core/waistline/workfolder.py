"""Folders in which something is made: gone in the end, and at the next try after a kill.

Such a folder lies beside what is made in it and is locked while its maker lives. Who makes the
same thing next removes those that nobody holds any more. A lock on a folder is known to one
machine alone, also where the file system is shared, so a machine removes its own folders only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import zlib
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
    with held_folder(target) as (folder, _):
        yield folder


@contextmanager
def held_folder(target: Path) -> Iterator[tuple[Path, int]]:
    """As `work_folder`, with the handle of its lock.

    A program that inherits the handle holds the folder, too: if we are killed it is swept only once
    that program has ended.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.{_machine()}."
    _remove_orphans(target.parent, prefix)
    folder, handle = _made(target.parent, prefix)
    try:
        yield folder, handle
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _machine() -> str:
    return f"{zlib.crc32(os.uname().nodename.encode()):08x}"


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    """A folder and the handle that holds its lock, which no program inherits by chance."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX, dir=parent))
        try:
            handle = _opened(folder)
        except FileNotFoundError:  # who swept was faster than the lock
            continue
        if _is_held(folder, handle):
            return folder, handle
        os.close(handle)


def _is_held(folder: Path, handle: int) -> bool:
    """Lock it; False if somebody took it for an orphan before, and removes it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks: then nobody sweeps.
        return error.errno != errno.EWOULDBLOCK
    return folder.exists()


def _remove_orphans(parent: Path, prefix: str) -> None:
    with contextlib.suppress(OSError):  # a folder that may be written, but not be listed
        for found in list(parent.iterdir()):
            if found.name.startswith(prefix) and found.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_orphan(found)


def _remove_orphan(folder: Path) -> None:
    handle = _opened(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

"""Reading and writing whole files: never more than was allowed, never half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from waistline.errors import ConfigError

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def read_limited(path: Path, limit_bytes: int) -> bytes:
    """The whole file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is over ``limit_bytes``; no more than that was read.
    """
    with path.open("rb") as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ValueError(f"{path.name} is over {limit_bytes} bytes")
    return data


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """As `read_limited`, of a file of bytes alone: what was opened is looked at, not its name.

    Raises:
        OSError: it cannot be read, or is a pipe, a socket, a device or a folder.
        ValueError: it is over ``limit_bytes``; no more than that was read.
    """
    # Without O_NONBLOCK the opening itself of a pipe waits for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        _refuse_others(os.fstat(handle).st_mode, path)
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ValueError(f"{path.name} is over {limit_bytes} bytes")
    return data


def check_regular(path: Path) -> None:
    """Refuse what is no file of bytes, which could be waited for or read for ever.

    Raises:
        OSError: it is a pipe, a socket, a device, a folder, or not there.
    """
    _refuse_others(path.stat().st_mode, path)


def _refuse_others(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def place_new(made: Path, target: Path) -> None:
    """Give a finished file its name in the same file system; never over one that exists.

    Raises:
        FileExistsError: meanwhile there is one.
        OSError: the folder cannot be written.
    """
    try:
        os.link(made, target)
    except FileExistsError:
        raise
    except OSError as error:
        # A file system without hard links, such as that of a memory card.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        if target.exists() or target.is_symlink():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        made.rename(target)
    else:
        made.unlink()


def write_atomically(target: Path, data: bytes) -> None:
    """Write ``target`` by a synced temporary file beside it; nothing half-written is ever seen."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sha256_file(path: str | Path) -> str:
    """Hash of a file's content."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def unwritable(
    what: str | Path, error: OSError, *, left: str = "", elsewhere: str = "choose another place"
) -> ConfigError:
    """The error for ``what`` not being written.

    Args:
        what: the file or folder.
        error: as the system gave it.
        left: what is true now of what was to be written.
        elsewhere: how to choose another place for it.
    """
    remedy = f"free space or {elsewhere}" if error.errno in DISK_FULL else elsewhere
    return ConfigError(
        f"{what} could not be written{left and f'; {left}'}",
        cause=error.strerror or str(error),
        fix=f"{remedy}, then run the same command again",
    )

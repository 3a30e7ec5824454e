"""Serial ports of devices to be flashed: which one, and whether it may be opened."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from waistline import plugins
from waistline.errors import ConfigError, LinkError
from waistline_bridge import boards
from waistline_bridge.boards.base import permission_fix
from waistline_bridge.flash.base import Found, NoDevice


def find_ports() -> list[Found]:
    """Serial ports that are there.

    Raises:
        MissingExtra: pyserial is not installed.
    """
    serial = plugins.load(boards.__name__, boards.SERIAL)
    return [Found(f"--port {port.id}", f"{port.path} {port.text}") for port in serial.ports()]


def the_port(wanted: str) -> str:
    """Path of the port to open; an address such as ``socket://HOST:PORT`` is taken as it is.

    Raises:
        NoDevice: none fits.
        ConfigError: several fit.
        MissingExtra: pyserial is not installed.
    """
    if "://" in wanted or wanted.startswith("/"):
        return wanted
    serial = plugins.load(boards.__name__, boards.SERIAL)
    found = serial.ports()
    try:
        path: str = serial.choose(wanted or None, found)
    except ConfigError as error:
        if any(wanted in ("", port.id, port.path) for port in found):
            raise
        what = error.what if wanted else "there is no serial port to write to"
        raise NoDevice(what, cause=error.cause, fix=error.fix) from error
    return path


def planned_port(wanted: str) -> str:
    """As `the_port`; one that was named and is not there yet is taken as it was named.

    Raises:
        NoDevice, ConfigError, MissingExtra: as `the_port`, where none was named.
    """
    try:
        return the_port(wanted)
    except NoDevice:
        if not wanted:
            raise
        return wanted


def check_port(path: str) -> None:
    """Raise what is in the way of opening a port, while it can still be told apart.

    Raises:
        NoDevice: there is none.
        LinkError: not permitted, or another program has it.
    """
    if "://" in path:
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise _unopened(path, error) from error
    try:
        # pyserial holds this lock as long as it has the port; TIOCEXCL shows as EBUSY above.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _busy(path) from error
    finally:
        os.close(descriptor)


def busy_or_gone(path: str, cause: str) -> LinkError:
    """The error for a port that a tool could not open."""
    try:
        check_port(path)
    except LinkError as error:
        return error
    except NoDevice:
        pass
    return LinkError(
        f"{path} cannot be opened", cause=cause, fix="plug the device in again, then try again"
    )


def _unopened(path: str, error: OSError) -> NoDevice | LinkError:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return LinkError(
            f"{path} may not be opened by you",
            cause="it belongs to a group that you are not in",
            fix=permission_fix(Path(path)),
        )
    if error.errno == errno.EBUSY:
        return _busy(path)
    return NoDevice(
        f"there is no serial port {path}" if error.errno == errno.ENOENT else f"no port at {path}",
        cause=error.strerror or str(error),
        fix="waistline flash --list shows those that are there",
    )


def _busy(path: str) -> LinkError:
    holder = _holder(path)
    return LinkError(
        f"{path} is in use",
        cause=f"process {holder} has it open" if holder else "another program has it open",
        fix=f"close that program (fuser -v {path} names it), then try again",
    )


def _holder(path: str) -> str:
    """Number and name of a process, not this one, that has a file open; "" where not to be seen."""
    wanted = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            if any(os.path.realpath(link) == wanted for link in (process / "fd").iterdir()):
                return f"{process.name} ({(process / 'comm').read_text().strip()})"
    return ""

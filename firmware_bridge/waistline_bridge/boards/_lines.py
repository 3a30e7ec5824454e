"""Lines of the standard library: a TCP socket, a pseudoterminal."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import termios
import time
import tty

from waistline.errors import ConfigError, LinkClosed
from waistline_bridge.boards.base import SOCKET

_CHUNK_BYTES = 65536
_CONNECT_S = 5.0
_LAST_PORT = 65535
_STUCK_S = 10.0
"""A device that takes nothing for so long is gone."""


def _closed(name: str, error: BaseException | None = None) -> LinkClosed:
    return LinkClosed(
        f"the line to {name} is closed",
        cause=str(error) if error else "the other side ended it",
        fix="plug the board in again, or start it again",
    )


class _DescriptorLine:
    """Bytes through a non-blocking file descriptor, whose owner the subclass is."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        deadline = time.monotonic() + _STUCK_S
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                _, writable, _ = select.select([], [self._descriptor], [], 0.1)
                if not writable and time.monotonic() > deadline:
                    raise LinkClosed(
                        f"the line to {self.name} takes no bytes",
                        cause=f"none in {_STUCK_S:g} s",
                        fix="reset the board",
                    ) from None
            except (OSError, ValueError) as error:
                raise _closed(self.name, error) from error

    def receive(self, timeout_s: float) -> bytes:
        try:
            readable, _, _ = select.select([self._descriptor], [], [], max(0.0, timeout_s))
            if not readable:
                return b""
            data = os.read(self._descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return b""
        except (OSError, ValueError) as error:
            raise _closed(self.name, error) from error
        if not data:
            raise _closed(self.name)
        return data

    def close(self) -> None:
        self._descriptor = -1


class TcpLine(_DescriptorLine):
    """A board behind a TCP connection, which is this line's from now on."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        # Requests are small: without this each waits for the acknowledgement of the one before.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self._socket = connection
        super().__init__(name, connection.fileno())

    def close(self) -> None:
        super().close()
        self._socket.close()


def connected(address: str) -> TcpLine:
    """A line to ``socket://HOST:PORT``.

    Raises:
        ConfigError: not such an address.
        LinkClosed: nobody accepts there.
    """
    host, _, port = address.removeprefix(SOCKET).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= _LAST_PORT:
        raise ConfigError(
            f"{address} is no address",
            cause=f"it does not end with :PORT, a number up to {_LAST_PORT}",
            fix=f"give it as in --port {SOCKET}127.0.0.1:4000",
        )
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S)
    except (OSError, UnicodeError) as error:  # a name that no name server could hold
        raise LinkClosed(
            f"cannot connect to {address}",
            cause=getattr(error, "strerror", None) or str(error),
            fix="start what listens there",
        ) from error
    return TcpLine(connection, address)


class TerminalLine(_DescriptorLine):
    """A pseudoterminal: no rate, no control lines."""

    def __init__(self, path: str) -> None:
        try:
            self._owned = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(self._owned, termios.TCSANOW)
        except (OSError, termios.error) as error:
            raise LinkClosed(
                f"cannot open {path}", cause=str(error), fix="start what serves it again"
            ) from error
        super().__init__(path, self._owned)

    def close(self) -> None:
        super().close()
        if self._owned >= 0:
            with contextlib.suppress(OSError):
                os.close(self._owned)
            self._owned = -1

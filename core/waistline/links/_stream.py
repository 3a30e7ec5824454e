"""A connected stream socket as a `Link`; shared by the links that end in one."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
from collections.abc import Sequence

from waistline.errors import LinkClosed, LinkError, LinkTimeout
from waistline.links.base import Buffer, LinkProfile

_MAX_BUFFERS = 512
"""Linux takes 1024 buffers in one write (IOV_MAX)."""


class SocketLink:
    """Blocking reads and writes that `abort` ends from any thread.

    The descriptor is closed by whoever leaves last: a number that is closed under a reader could be
    given to another file, and the reader would read that.
    """

    def __init__(self, sock: socket.socket, profile: LinkProfile) -> None:
        sock.settimeout(None)
        self.profile = profile
        self._sock = sock
        self._lock = threading.Lock()
        self._users = 0
        self._aborted = False

    def send(self, buffers: Sequence[Buffer]) -> None:
        """See `waistline.links.base.Link`."""
        views = [view for part in buffers if (view := memoryview(part).cast("B")).nbytes]
        with _Use(self):
            while views:
                sent = self._sock.sendmsg(views[:_MAX_BUFFERS])
                while sent:
                    if sent >= len(views[0]):
                        sent -= len(views.pop(0))
                    else:
                        views[0] = views[0][sent:]
                        sent = 0

    def recv_into(self, view: memoryview, timeout_s: float | None = None) -> int:
        """See `waistline.links.base.Link`."""
        with _Use(self):
            if timeout_s is not None and not self._readable(timeout_s):
                raise LinkTimeout("nothing came from the other side", cause=f"waited {timeout_s} s")
            count = self._sock.recv_into(view)
        if count == 0:
            side = "this" if self._aborted else "the other"
            raise LinkClosed(f"{side} side closed the connection")
        return count

    def abort(self) -> None:
        """See `waistline.links.base.Link`."""
        with self._lock:
            if self._aborted:
                return
            self._aborted = True
            # Wakes every thread that is blocked in this socket.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            if self._users == 0:
                self._sock.close()

    def _readable(self, timeout_s: float) -> bool:
        """Waits outside the socket: ``settimeout`` would change the sending thread's waits too."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(math.ceil(timeout_s * 1e3)))

    def _enter(self) -> None:
        with self._lock:
            if self._aborted:
                raise LinkClosed("the connection was closed here")
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._aborted and self._users == 0:
                self._sock.close()


class _Use:
    """One thread's stay in the socket; an error of the socket leaves it as a `LinkClosed`."""

    def __init__(self, link: SocketLink) -> None:
        self._link = link

    def __enter__(self) -> None:
        self._link._enter()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._link._leave()
        # A LinkTimeout is an OSError as well.
        if isinstance(error, OSError) and not isinstance(error, LinkError):
            raise LinkClosed("the connection broke", cause=str(error)) from error

"""An edge in a thread, over a pair of sockets: for tests of the node alone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from waistline.errors import LinkError
from waistline.frame import EdgeTimes
from waistline.links._stream import SocketLink
from waistline.links.base import LOCAL
from waistline.session.edge import EdgeSession
from waistline.session.events import Broken, Left, Requested
from waistline.session.store import BundleLimits, SessionStore

BUNDLE_ID = "ab" * 32
MAX_PAYLOAD_BYTES = 1 << 16


class MiniEdge:
    """Calls ``answer(edge, session, request)`` for each frame; by default replies ``payload[:4]``.

    Attributes:
        up: whether `connect` finds somebody.
        requests: payloads in the order in which they came.
    """

    def __init__(self, answer=None, bundle_id=BUNDLE_ID, max_in_flight=16):
        self._limits = {bundle_id: BundleLimits(None, MAX_PAYLOAD_BYTES)}
        self._max_in_flight = max_in_flight
        self.store = self._new_store()
        self.answer = answer or (lambda edge, session, request: edge.reply(session, request))
        self.up = True
        self.requests = []
        self.said_bye = threading.Event()
        self.connections = 0
        self._sockets = []
        self._threads = []
        self._lock = threading.RLock()

    def _new_store(self):
        return SessionStore(self._limits, edge="mini", max_in_flight=self._max_in_flight)

    def connect(self):
        if not self.up:
            raise LinkError("nothing listens here", cause="the edge is down")
        near, far = socket.socketpair()
        self.connections += 1
        thread = threading.Thread(target=self._serve, args=(far,), daemon=True)
        self._sockets.append(far)
        self._threads.append(thread)
        thread.start()
        return SocketLink(near, LOCAL)

    def reply(self, session, request, **times):
        session.reply(request.seq, EdgeTimes(**times), bytes(request.payload[:4]))

    def leave(self, session):
        """Whether to close once the session is over."""
        return session.over

    def hang_up(self):
        """As a killed process: every connection is gone at once, and all that was remembered."""
        self.store = self._new_store()
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.up = False
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _serve(self, sock):
        session = EdgeSession(self.store, now=time.monotonic())
        try:
            while data := sock.recv(1 << 16):
                with self._lock:
                    for event in session.receive(data, time.monotonic()):
                        if isinstance(event, Requested):
                            self.requests.append(bytes(event.payload))
                            self.answer(self, session, event)
                        elif isinstance(event, Left):
                            self.said_bye.set()
                        elif isinstance(event, Broken):
                            session.bye()
                    out = session.to_send()
                if out:
                    sock.sendall(b"".join(bytes(part) for part in out))
                if self.leave(session):
                    break
        except OSError:
            return
        finally:
            sock.close()

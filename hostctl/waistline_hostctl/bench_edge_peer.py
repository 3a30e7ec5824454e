"""One node of the load generator: a connection that never blocks once it is welcomed."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

from waistline.bundle.store import Bundle
from waistline.codec.waist import EncodedWaist
from waistline.errors import LinkClosed, LinkError, LinkTimeout
from waistline.links.base import parse_endpoint
from waistline.session import bodies
from waistline.wire import (
    MAX_CONTROL_BYTES,
    Message,
    MessageType,
    Parser,
    bundle_tag,
    encode_message,
)

WAIT_S = 30.0
"""For a WELCOME, and for the last answers: far above what an edge in order takes."""
BUDGET_MS = 60_000
MAX_OPEN = 200
"""Unanswered frames of a node; an edge may cut off one that has more than `MAX_IN_FLIGHT`."""
_READ_BYTES = 1 << 18


class Peer:
    """Says HELLO at once, then sends the same frame as often as it is told.

    Attributes:
        window: frames the edge lets it have under way.
        open: unanswered frames by number, and when each was sent.

    Raises:
        LinkError: nobody answers, or the edge turned it away.
    """

    def __init__(self, endpoint: str, bundle: Bundle, frame: EncodedWaist, name: str) -> None:
        self._frame = frame
        self._session = random.getrandbits(32)
        self._tag = bundle_tag(bundle.id)
        self._parser = Parser(
            {
                MessageType.WELCOME: MAX_CONTROL_BYTES,
                MessageType.ERROR: MAX_CONTROL_BYTES,
                MessageType.REPLY: bodies.REPLY_TIMES_BYTES + bundle.answer_kind.max_bytes,
                MessageType.BUSY: bodies.BUSY_BYTES,
                MessageType.BYE: 0,
            }
        )
        self._seq = 0
        self._left: list[memoryview] = []
        self.open: dict[int, float] = {}
        self.sock = _connected(endpoint)
        try:
            self.window = self._greet(bundle, name)
        except BaseException:
            self.sock.close()
            raise
        self.sock.setblocking(False)

    def _greet(self, bundle: Bundle, name: str) -> int:
        hello = bodies.Hello(name, bundle.id, max_in_flight=bodies.MAX_IN_FLIGHT)
        said: list[Message] = []
        with _translated():
            self.sock.sendall(b"".join(self._message(MessageType.HELLO, bodies.dump(hello))))
            while not said:
                data = self.sock.recv(_READ_BYTES)
                if not data:
                    raise LinkClosed("the edge closed a connection instead of welcoming it")
                said = list(self._parser.feed(data))
        if said[0].type is not MessageType.WELCOME:
            fault = bodies.load(said[0].payload, bodies.Fault)
            raise LinkError(
                f"the edge turned a node away ({fault.kind})",
                cause=fault.message,
                fix="give the edge this bundle, and at least as many --max-connections",
            )
        return bodies.load(said[0].payload, bodies.Welcome).max_in_flight

    def _message(self, kind: MessageType, payload: bytes, **fields: int) -> list[memoryview]:
        parts = encode_message(kind, [payload], session=self._session, bundle=self._tag, **fields)
        return [memoryview(part) for part in parts]

    @property
    def is_full(self) -> bool:
        """The kernel has not taken all of what was sent, or too many answers are still to come."""
        return bool(self._left) or len(self.open) >= MAX_OPEN

    def send(self, now: float) -> bool:
        """Send one frame more; False: the kernel did not take all, the rest waits for `flush`."""
        self._seq += 1
        self.open[self._seq] = now
        self._left += self._message(
            MessageType.DATA,
            self._frame.payload,
            seq=self._seq,
            raw_len=self._frame.raw_len,
            budget_ms=BUDGET_MS,
        )
        return self.flush()

    def flush(self) -> bool:
        """Hand the kernel what it takes now; whether that was all.

        Raises:
            LinkClosed: the edge is gone.
        """
        with _translated(), contextlib.suppress(BlockingIOError):
            while self._left:
                count = self.sock.sendmsg(self._left)
                while self._left and count >= len(self._left[0]):
                    count -= len(self._left.pop(0))
                if count:
                    self._left[0] = self._left[0][count:]
        return not self._left

    def read(self) -> list[Message]:
        """What has come.

        Raises:
            LinkClosed: the edge is gone.
            WireError: it says what no edge says.
        """
        with _translated():
            try:
                data = self.sock.recv(_READ_BYTES)
            except BlockingIOError:
                return []
        if not data:
            raise LinkClosed("the edge closed the connection of a node under load")
        return list(self._parser.feed(data))

    def close(self) -> None:
        """Leave without a word."""
        self.sock.close()


def _connected(endpoint: str) -> socket.socket:
    parsed = parse_endpoint(endpoint)
    try:
        sock = socket.create_connection((parsed.host, parsed.port), WAIT_S)
    except OSError as error:
        raise LinkError(
            f"no edge answers at {endpoint}",
            cause=error.strerror or str(error),
            fix="start one: waistline edge NAME.bundle",
        ) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """An error of the socket leaves as a `LinkError`."""
    try:
        yield
    except (LinkError, BlockingIOError):
        raise
    except TimeoutError as error:
        raise LinkTimeout("the edge does not answer", cause=f"waited {WAIT_S:g} s") from error
    except OSError as error:
        raise LinkClosed("the connection to the edge broke", cause=str(error)) from error

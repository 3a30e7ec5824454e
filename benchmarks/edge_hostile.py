"""Peers that want an edge to stop serving others, as a process of their own.

    python benchmarks/edge_hostile.py KIND HOST PORT BUNDLE

It says "ready" when all connections are open and ends with a JSON line when its standard input
does. A connection that the edge closes is counted and opened anew.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import selectors
import socket
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fuzz"))

from bombs import bombs, payload_of

from waistline.bundle.store import Bundle, load_bundle
from waistline.codec.native import kernels
from waistline.codec.spec import parse_spec
from waistline.codec.tensor_codec import open_tensor_codec
from waistline.session import bodies
from waistline.wire import HEADER_BYTES, MessageType, bundle_tag, encode_message

TURN_S = 0.1
"""Between two bytes of a slow one."""
RECEIVE_BYTES = 4096


@dataclass
class Peer:
    sock: socket.socket
    opened_at: float
    left: bytes
    """Still to be said; sent a byte a turn by a slow peer."""


class Hostile(ABC):
    """One kind of peer; subclasses say what each of them does in its turn."""

    count = 200
    reads = True

    def __init__(self, address: tuple[str, int], bundle: Bundle) -> None:
        self._address, self._bundle = address, bundle
        self._numbers = itertools.count()
        self.lives_s: list[float] = []
        self._peers = [self._open() for _ in range(self.count)]

    def _open(self) -> Peer:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        sock.connect(self._address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return Peer(sock, time.monotonic(), self.first(next(self._numbers)))

    def message(self, number: int, kind: MessageType, payload: bytes = b"", **fields: int) -> bytes:
        tag = bundle_tag(self._bundle.id)
        return b"".join(encode_message(kind, [payload], session=number, bundle=tag, **fields))

    def hello(self, number: int) -> bytes:
        body = bodies.Hello(f"hostile-{number % self.count}", self._bundle.id, max_in_flight=4)
        return self.message(number, MessageType.HELLO, bodies.dump(body))

    def first(self, number: int) -> bytes:
        return self.hello(number)

    @abstractmethod
    def turn(self, peer: Peer) -> None:
        """What a peer does ten times a second."""

    def run(self) -> dict[str, object]:
        print("ready", flush=True)
        with selectors.DefaultSelector() as ending:
            ending.register(sys.stdin, selectors.EVENT_READ)
            for peer in itertools.cycle(range(self.count)):
                if ending.select(TURN_S / self.count):
                    break
                self._visit(peer)
        for peer in self._peers:
            peer.sock.close()
        return {"closed": len(self.lives_s), "longest_s": max(self.lives_s, default=0.0)}

    def _visit(self, index: int) -> None:
        peer = self._peers[index]
        try:
            with contextlib.suppress(BlockingIOError):
                self.turn(peer)
            with contextlib.suppress(BlockingIOError):
                if self.reads and not peer.sock.recv(1 << 16):
                    raise ConnectionResetError
        except OSError:
            self.lives_s.append(time.monotonic() - peer.opened_at)
            peer.sock.close()
            self._peers[index] = self._open()


class Loris(Hostile):
    """Says HELLO a byte at a time."""

    def turn(self, peer: Peer) -> None:
        count = peer.sock.send(peer.left[:1])
        peer.left = peer.left[count:]


class Silent(Hostile):
    """Connects and says nothing."""

    def turn(self, peer: Peer) -> None:
        pass


class Deaf(Hostile):
    """Joins, has one answer said again 2,000 times a second and reads none of them."""

    count = 16
    reads = False
    turn_bytes = 200 * (HEADER_BYTES + 1)

    def first(self, number: int) -> bytes:
        whole = self._bundle.waist_codec()
        raw_len = whole.raw_len if whole else 1
        asked = {"seq": 1, "raw_len": raw_len, "budget_ms": 60_000}
        return self.hello(number) + self.message(number, MessageType.DATA, b"x", **asked) * 50_000

    def turn(self, peer: Peer) -> None:
        peer.left = peer.left[peer.sock.send(peer.left[: self.turn_bytes]) :]


class Flood(Deaf):
    """Joins and sends 16,000 PINGs a second."""

    turn_bytes = 1 << 16

    def first(self, number: int) -> bytes:
        return self.hello(number) + self.message(number, MessageType.PING) * 50_000


class Bomber(Hostile):
    """Joins and sends payloads that unpack to 64 MiB or say that they do."""

    count = 4

    def first(self, number: int) -> bytes:
        waist = self._bundle.cut.tensors[0]
        codec = open_tensor_codec(waist, kernels())
        charges = [
            payload_of(coded[: codec.size_bytes - 1], codec.range_bytes)
            for coded in bombs(parse_spec(waist.codec).coder)
        ]
        whole = self._bundle.waist_codec()
        raw_len = whole.raw_len if whole else 0
        frames = [
            self.message(
                number, MessageType.DATA, charges[seq % len(charges)],
                seq=seq, raw_len=raw_len, budget_ms=60_000,
            )
            for seq in range(1, 2_000)
        ]  # fmt: skip
        return self.hello(number) + b"".join(frames)

    def turn(self, peer: Peer) -> None:
        peer.left = peer.left[peer.sock.send(peer.left[:8192]) :]


KINDS: dict[str, type[Hostile]] = {
    "loris": Loris, "silent": Silent, "bombs": Bomber, "flood": Flood, "deaf": Deaf,
}  # fmt: skip


def main() -> None:
    kind, host, port, bundle = sys.argv[1:]
    print(json.dumps(KINDS[kind]((host, int(port)), load_bundle(bundle)).run()))


if __name__ == "__main__":
    main()

"""Mutated frames against a running edge, and what its answers must be; see benchmarks/edge.py."""

from __future__ import annotations

import random
import select
import socket
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fuzz"))

import mutations

from waistline.bundle.store import Bundle
from waistline.errors import WireError
from waistline.session import bodies
from waistline.wire import (
    HEADER_BYTES,
    MAX_CONTROL_BYTES,
    Message,
    MessageType,
    Parser,
    bundle_tag,
    encode_message,
)

WAIT_S = 120.0
ANSWERS = (MessageType.REPLY, MessageType.ERROR, MessageType.BUSY)
SOUND_FRAMES = 8
"""Of each bundle, to be mutated."""


class Ends(Protocol):
    """What both ends of a cut compute, without a network between them."""

    bundles: list[Bundle]

    def encode(self, bundle: Bundle, index: int) -> tuple[bytes, int]: ...

    def answer(self, bundle: Bundle, payload: bytes, raw_len: int) -> bytes | None: ...


@dataclass(frozen=True)
class Sound:
    """An unmutated frame and its answer."""

    bundle: Bundle
    payload: bytes
    raw_len: int
    answer: bytes


def sound_frame(rig: Ends, bundle: Bundle, index: int) -> Sound:
    payload, raw_len = rig.encode(bundle, index)
    answer = rig.answer(bundle, payload, raw_len)
    assert answer is not None
    return Sound(bundle, payload, raw_len, answer)


class Talk:
    """A bare connection that has been welcomed; says what it is told to."""

    def __init__(self, address: tuple[str, int], bundle: Bundle, node: str, session: int) -> None:
        self.bundle, self.session = bundle, session
        self._parser = Parser({kind: MAX_CONTROL_BYTES for kind in MessageType})
        self._inbox: list[Message] = []
        self.closed = False
        self._sock = socket.create_connection(address, WAIT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = bodies.Hello(node, bundle.id, max_in_flight=4)
        self.send(self.message(MessageType.HELLO, bodies.dump(hello)))
        if self.next(lambda message: message.type is MessageType.WELCOME) is None:
            raise SystemExit("the edge did not welcome a sound HELLO")

    def message(self, kind: MessageType, payload: bytes = b"", **fields: int) -> bytes:
        tag = bundle_tag(self.bundle.id)
        parts = encode_message(kind, [payload], session=self.session, bundle=tag, **fields)
        return b"".join(parts)

    def frame(self, sound: Sound, seq: int) -> bytes:
        fields = {"seq": seq, "raw_len": sound.raw_len, "budget_ms": 60_000}
        return self.message(MessageType.DATA, sound.payload, **fields)

    @property
    def what_follows(self) -> bytes:
        """Sound messages that take the place of bytes a frame has lost, as on a real link."""
        return self.message(MessageType.PING) * 8

    def send(self, data: bytes) -> None:
        with suppress(OSError):
            self._sock.sendall(data)

    def next(self, wanted: Callable[[Message], bool]) -> Message | None:
        """The next message that is ``wanted``; None: the edge closed first."""
        while True:
            while self._inbox:
                message = self._inbox.pop(0)
                if wanted(message):
                    return message
            if not select.select([self._sock], [], [], WAIT_S)[0]:
                raise SystemExit(f"the edge said nothing for {WAIT_S:g} s")
            try:
                data = self._sock.recv(1 << 16)
                self._inbox += self._parser.feed(data)
            except (OSError, WireError):
                data = b""
            if not data:
                self.closed = True
                if not self._inbox:
                    return None

    def close(self) -> None:
        self._sock.close()


class Attack:
    """Sends mutated frames and judges the answers."""

    def __init__(self, rig: Ends, address: tuple[str, int], seed: int) -> None:
        self._rig, self._address = rig, address
        self._rng = random.Random(seed)
        self._sounds = [
            sound_frame(rig, bundle, index)
            for bundle in rig.bundles
            for index in range(SOUND_FRAMES)
        ]
        self._forger: dict[str, Talk] = {}
        self._honest = Talk(address, rig.bundles[0], "honest", 1)
        self._seq = 0
        self.ends: Counter[str] = Counter()
        self.wrong = self.honest_wrong = self.honest_asked = 0

    def ask_honestly(self) -> None:
        """A sound frame on a connection of its own; only the right answer will do."""
        sound = self._sounds[self.honest_asked % SOUND_FRAMES]
        self.honest_asked += 1
        seq = self.honest_asked
        self._honest.send(self._honest.frame(sound, seq))
        reply = self._honest.next(lambda message: message.seq == seq)
        if reply is None or answer_of(reply) != sound.answer:
            self.honest_wrong += 1

    def damage(self) -> None:
        """One damaged frame on a fresh connection."""
        sound = self._rng.choice(self._sounds)
        node = f"n{self._rng.randrange(8)}"
        talk = Talk(self._address, sound.bundle, node, self._rng.getrandbits(32))
        frame = talk.frame(sound, 1)
        talk.send(mutations.damaged(self._rng, frame) + talk.what_follows)
        reply = talk.next(lambda message: message.type in ANSWERS)
        talk.close()
        self._note("damaged", reply, sound.answer)

    def forge_payload(self) -> None:
        """A forged payload; the connection lives on unless the header cannot be kept."""
        sound = self._rng.choice(self._sounds)
        talk = self._forging(sound.bundle)
        self._seq += 1
        data = mutations.forged_payload(self._rng, talk.frame(sound, self._seq))
        talk.send(data)
        seq = self._seq
        reply = talk.next(lambda message: message.seq == seq or message.type in ANSWERS)
        talk.closed |= reply is None or reply.seq == 0
        payload = data[HEADER_BYTES:]
        expected = self._rig.answer(sound.bundle, payload, sound.raw_len)
        self._note("forged payload", reply, expected)

    def forge_header(self) -> None:
        """A lying header, the last thing said on its connection."""
        sound = self._rng.choice(self._sounds)
        talk = self._forging(sound.bundle)
        self._seq += 1
        data = mutations.forged_header(self._rng, talk.frame(sound, self._seq))
        talk.send(data + talk.what_follows)
        reply = talk.next(lambda message: message.type in ANSWERS)
        talk.close()
        talk.closed = True
        self._note("forged header", reply, sound.answer)

    def _forging(self, bundle: Bundle) -> Talk:
        talk = self._forger.get(bundle.id)
        if talk is None or talk.closed:
            session = self._rng.getrandbits(32)
            talk = Talk(self._address, bundle, f"forger-{bundle.short_id}", session)
            self._forger[bundle.id] = talk
        return talk

    def _note(self, kind: str, reply: Message | None, expected: bytes | None) -> None:
        answer = None if reply is None else answer_of(reply)
        if answer is not None:
            right = answer == expected
            self.wrong += not right
            self.ends[f"{kind}: answered{'' if right else ' wrongly'}"] += 1
        elif reply is None:
            self.ends[f"{kind}: closed"] += 1
        elif reply.type is MessageType.ERROR:
            fault = bodies.load(reply.payload, bodies.Fault)
            self.ends[f"{kind}: refused ({fault.kind})"] += 1
        else:
            self.ends[f"{kind}: busy"] += 1

    def close(self) -> None:
        for talk in (self._honest, *self._forger.values()):
            talk.close()


def answer_of(message: Message) -> bytes | None:
    return bodies.load_reply(message.payload)[1] if message.type is MessageType.REPLY else None

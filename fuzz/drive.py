"""Mutated DATA frames through a real edge session and codec, and what must be true of each.

Whatever the bytes: the session raises nothing, says only what a node's parser takes, and answers
every frame it hands over once. A payload that it hands over decodes or ends as a `CodecError`.
What decodes are the tensors of the codes it carries, found again by `waists.Reference`; if its
checksums are those of the sound frame, they are the tensors of that frame.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import mutations
import numpy as np
from bombs import bombs, payload_of
from waists import Case, Sound, all_cases

from waistline.errors import CodecError
from waistline.frame import EdgeTimes
from waistline.session import bodies
from waistline.session.edge import EdgeSession
from waistline.session.events import Event, Requested
from waistline.session.store import BundleLimits, SessionStore
from waistline.wire import (
    HEADER_BYTES,
    MAX_CONTROL_BYTES,
    Message,
    MessageType,
    Parser,
    bundle_tag,
    encode_message,
)

BLOCK = 500
"""Frames that share a store: a frame is reproduced by running its block."""
_ANSWER = b"answer"
_KINDS = (
    *("damaged",) * 10,
    *("forged payload",) * 6,
    *("forged header",) * 2,
    *("several", "bomb"),
)
_LIMITS = {kind: MAX_CONTROL_BYTES for kind in MessageType}


class Wrong(AssertionError):
    """Something that must be true is not."""


@dataclass
class Findings:
    """What became of the frames.

    Attributes:
        ends: by kind of mutation and end.
        problems: (frame number, what) of crashes and of wrong tensors; the first few.
        frames, crashes, wrong: how many.
    """

    ends: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str]] = field(default_factory=list)
    frames: int = 0
    crashes: int = 0
    wrong: int = 0


class Driver:
    """Runs frames by number; the same seed and number make the same frame."""

    def __init__(self, seed: int, cases: list[Case] | None = None) -> None:
        self._seed = seed
        self._cases = all_cases() if cases is None else cases
        self._ids = [f"{k:08x}" + "0" * 56 for k in range(len(self._cases))]
        self.found = Findings()

    def block(self, number: int, count: int = BLOCK) -> None:
        """Run ``count`` frames of block ``number``; what goes wrong is noted in `found`."""
        store = self._store()
        for index in range(number * BLOCK, number * BLOCK + count):
            rng = random.Random(self._seed << 40 | index)
            self.found.frames += 1
            try:
                self._frame(rng, index, store)
            except Wrong as error:
                self.found.wrong += 1
                self._problem(index, str(error))
            except Exception as error:  # that is what is looked for
                self.found.crashes += 1
                self._problem(index, f"{type(error).__name__}: {error}")

    def _problem(self, index: int, what: str) -> None:
        if len(self.found.problems) < 20:
            self.found.problems.append((index, what[:300]))

    def _store(self) -> SessionStore:
        limits = {
            bundle: BundleLimits(case.codec.raw_len, case.codec.max_payload_bytes)
            for bundle, case in zip(self._ids, self._cases, strict=True)
        }
        return SessionStore(limits, max_sessions=64, replay_bytes=4096, total_replay_bytes=65536)

    def _frame(self, rng: random.Random, index: int, store: SessionStore) -> None:
        number = index % len(self._cases)
        case, bundle = self._cases[number], self._ids[number]
        sound = rng.choice(case.sounds)
        talk = Talk(store, bundle, f"n{rng.randrange(8)}", rng.getrandbits(32))
        kind = rng.choice(_KINDS)
        stream = _mutated(rng, kind, talk, case, sound)
        requests = talk.say(rng, stream)
        for request in requests:
            ended = _decoded(case, sound, request, kind)
            self.found.ends[f"{kind}: {ended}"] += 1
            talk.answer(request, ended)
        if not requests:
            self.found.ends[f"{kind}: {talk.told or 'ignored'}"] += 1
        talk.leave()


class Talk:
    """A node's connection, in memory."""

    def __init__(self, store: SessionStore, bundle: str, node: str, session: int) -> None:
        self._tag, self._session = bundle_tag(bundle), session
        self.edge = EdgeSession(store, now=0.0)
        self._heard = Parser(_LIMITS)
        self.told = ""
        hello = bodies.dump(bodies.Hello(node, bundle, max_in_flight=4))
        self.edge.receive(self.message(MessageType.HELLO, hello), 0.0)
        if [each.type for each in self._listen()] != [MessageType.WELCOME]:
            raise Wrong("a sound HELLO was not welcomed")

    def message(self, kind: MessageType, payload: bytes = b"", **fields: int) -> bytes:
        parts = encode_message(kind, [payload], session=self._session, bundle=self._tag, **fields)
        return b"".join(parts)

    def data(self, payload: bytes, raw_len: int, seq: int = 1) -> bytes:
        return self.message(MessageType.DATA, payload, seq=seq, raw_len=raw_len, budget_ms=60_000)

    def say(self, rng: random.Random, stream: bytes) -> list[Requested]:
        """In pieces of any size; the frames that the session hands over."""
        events: list[Event] = []
        while stream:
            count = rng.choice((1, HEADER_BYTES, rng.randint(1, len(stream)), len(stream)))
            events += self.edge.receive(stream[:count], 0.0)
            stream = stream[count:]
        for message in self._listen():
            if message.type is MessageType.ERROR:
                self.told = f"refused ({bodies.load(message.payload, bodies.Fault).kind})"
        if self.edge.over and not self.told:
            self.told = "closed"
        return [event for event in events if isinstance(event, Requested)]

    def answer(self, request: Requested, ended: str) -> None:
        """End a frame as the edge would; the node hears of it once, or the connection is over."""
        if ended == "decoded":
            self.edge.reply(request.seq, EdgeTimes(), _ANSWER)
        else:
            self.edge.error(request.seq, "codec", ended)
        heard = [each.seq for each in self._listen()]
        if heard != ([] if self.edge.over else [request.seq]):
            raise Wrong(f"frame {request.seq} ended {len(heard)} times")

    def _listen(self) -> list[Message]:
        heard = []
        for part in self.edge.to_send():
            heard += self._heard.feed(part)
        return heard

    def leave(self) -> None:
        self.edge.disconnected()


def _mutated(rng: random.Random, kind: str, talk: Talk, case: Case, sound: Sound) -> bytes:
    raw_len = case.codec.raw_len
    frame = talk.data(sound.payload, raw_len)
    follows = talk.message(MessageType.PING) * rng.choice((0, 2, 8))
    if kind == "damaged":
        return mutations.damaged(rng, frame) + follows
    if kind == "forged payload":
        return mutations.forged_payload(rng, frame)
    if kind == "forged header":
        return mutations.forged_header(rng, frame) + follows
    if kind == "bomb":
        return talk.data(_bomb(rng, case, sound), raw_len)
    others = [talk.data(rng.choice(case.sounds).payload, raw_len, seq) for seq in (1, 2, 3)]
    others += [mutations.forged_payload(rng, frame), talk.message(MessageType.PING), follows]
    rng.shuffle(others)
    return b"".join(others)


def _bomb(rng: random.Random, case: Case, sound: Sound) -> bytes:
    """A bomb of the coder of the first tensor, cut to what its bundle lets through."""
    codec = case.reference.first
    choice = bombs(codec.spec.coder)
    if not choice or codec.size_bytes < 2:
        return sound.payload[:-1]
    coded = rng.choice(choice)[: codec.size_bytes - 1]
    return payload_of(coded, codec.range_bytes)


def _decoded(case: Case, sound: Sound, request: Requested, kind: str) -> str:
    """How a frame that was handed over ends; raises `Wrong` for a wrong tensor."""
    if len(request.payload) > case.codec.max_payload_bytes or request.raw_len != case.codec.raw_len:
        raise Wrong("a frame was handed over that its bundle does not allow")
    if kind == "damaged" and request.payload != sound.payload:
        raise Wrong("a damaged payload passed its checksum")
    try:
        arrays = case.codec.decode(request.payload, request.raw_len)
    except CodecError:
        if request.payload in {each.payload for each in case.sounds}:
            raise Wrong("a sound payload did not decode") from None
        return "refused (codec)"
    check_tensors(case, request.payload, arrays)
    for each in case.sounds:
        if each.payload == request.payload and not _same(arrays, each.arrays):
            raise Wrong("a sound payload gave other tensors")
    return "decoded"


def check_tensors(case: Case, payload: bytes, arrays: list[np.ndarray]) -> None:
    """Raise `Wrong` unless ``arrays`` are what the bundle says and what the reference finds."""
    for waist, array, quantized in zip(case.waist, arrays, case.quantized, strict=True):
        spec = waist.tensor
        if array.shape != spec.shape or array.dtype != spec.numpy_dtype:
            raise Wrong(f"{spec.name} came out as {array.dtype} {array.shape}")
        if quantized and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Wrong(f"{spec.name} holds a value that no code stands for")
    try:
        expected = case.reference.decode(payload)
    except Exception as error:
        raise Wrong(f"{case.name} decodes what the reference refuses: {error}") from error
    if not _same(arrays, expected):
        raise Wrong(f"{case.name} gives other tensors than the reference")


def _same(one: list[np.ndarray], other: list[np.ndarray] | tuple[np.ndarray, ...]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def check_stream(talk: Talk, case: Case, stream: bytes) -> None:
    """Any bytes after a sound HELLO; every frame that is handed over is decoded and answered."""
    for request in talk.say(random.Random(len(stream)), stream):
        talk.answer(request, _decoded(case, case.sounds[0], request, "any bytes"))
    talk.leave()

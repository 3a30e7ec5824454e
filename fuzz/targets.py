"""What the guided fuzzer calls: each target takes any bytes and lets out only what is a bug.

Its seeds come from tests/vectors and from sound frames and files made here; none is stored.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from bombs import bombs, payload_of
from drive import Talk, Wrong, check_stream, check_tensors
from waists import all_cases

from waistline.bundle.schema import MANIFEST
from waistline.bundle.store import load_bundle
from waistline.errors import CodecError, WaistlineError, WireError
from waistline.session.store import BundleLimits, SessionStore
from waistline.task.archive import NpzReader
from waistline.wire import (
    HEADER_BYTES,
    MessageType,
    Parser,
)
from waistline_hostctl.bench_edge_bundle import sleeping_bundle

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors"
_U32 = struct.Struct("<I")


class Target(ABC):
    """One kind of input."""

    max_bytes = 4096

    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Inputs to begin with."""

    @abstractmethod
    def run(self, data: bytes) -> None:
        """Raises only what is a bug."""

    def words(self) -> list[bytes]:
        """What inputs are made of."""
        return []

    def close(self) -> None:  # noqa: B027  # most have nothing to put away
        """Remove what was written."""


def signed(stream: bytes) -> bytes:
    """``stream`` with right checksums wherever a header begins that leaves room for them.

    A guided fuzzer finds branches, not CRCs.
    """
    data, at = bytearray(stream), 0
    while data[at : at + 2] == b"WL" and at + HEADER_BYTES <= len(data):
        header_len = max(HEADER_BYTES, min(int.from_bytes(data[at + 6 : at + 8], "little"), 256))
        size_bytes = int.from_bytes(data[at + 20 : at + 24], "little")
        payload = data[at + header_len : at + header_len + size_bytes]
        _U32.pack_into(data, at + 32, zlib.crc32(payload))
        extension = data[at + HEADER_BYTES : at + header_len]
        _U32.pack_into(data, at + 36, zlib.crc32(extension, zlib.crc32(data[at : at + 36])))
        at += header_len + size_bytes
    return bytes(data)


class Wire(Target):
    """The parser on any stream: typed errors, payloads that were sent, within their limits."""

    def __init__(self) -> None:
        self._limits = {kind: 600 for kind in MessageType if kind is not MessageType.ACK}

    def seeds(self) -> list[bytes]:
        vectors = json.loads((VECTORS / "wire.json").read_text())["vectors"]
        found = [bytes.fromhex(each["bytes"]) for each in vectors]
        return [b"\0" + each for each in found] + [b"\1" + b"".join(found)]

    def run(self, data: bytes) -> None:
        mode, stream = (data[0], data[1:]) if data else (0, b"")
        stream = signed(stream) if mode & 1 else stream
        step = (1, 7, HEADER_BYTES, len(stream) or 1)[mode >> 1 & 3]
        parser = Parser(self._limits)
        try:
            for at in range(0, len(stream), step):
                for message in parser.feed(stream[at : at + step]):
                    if len(message.payload) > self._limits[message.type]:
                        raise Wrong(f"a {message.type.name} over its limit")
                    if message.payload not in stream:
                        raise Wrong("a payload that was not sent")
        except WireError:
            return


class Session(Target):
    """A session after a sound HELLO, on any stream, and the codec on what it hands over."""

    max_bytes = 8192

    def __init__(self) -> None:
        # The context coder's reference is Python, and crawls when it is instrumented.
        fast = [each for each in all_cases() if "ctx" not in "".join(w.codec for w in each.waist)]
        self._cases = fast[::3]
        self._id = "5" * 64

    def _store(self, number: int) -> SessionStore:
        codec = self._cases[number].codec
        limits = BundleLimits(codec.raw_len, codec.max_payload_bytes)
        return SessionStore({self._id: limits}, max_sessions=4)

    def seeds(self) -> list[bytes]:
        found = []
        for number, case in enumerate(self._cases):
            talk = Talk(self._store(number), self._id, "n", 1)
            frames = [
                talk.data(each.payload, case.codec.raw_len, seq)
                for seq, each in enumerate(case.sounds, 1)
            ]
            tail = talk.message(MessageType.PING) + talk.message(MessageType.BYE)
            found.append(bytes([number, 1]) + frames[0] + tail)
            found.append(bytes([number, 1]) + b"".join(frames[:2]) + frames[0])
        return found

    def run(self, data: bytes) -> None:
        if len(data) < 2:
            return
        number = data[0] % len(self._cases)
        stream = signed(data[2:]) if data[1] & 1 else data[2:]
        talk = Talk(self._store(number), self._id, "n", 1)
        check_stream(talk, self._cases[number], stream)


class Codec(Target):
    """Every waist codec on any payload: a `CodecError`, or the tensors that the reference finds."""

    def __init__(self) -> None:
        self._cases = all_cases()

    def seeds(self) -> list[bytes]:
        found = []
        for number, case in enumerate(self._cases):
            first = case.reference.first
            found += [bytes([number]) + each.payload for each in case.sounds[:2]]
            found += [
                bytes([number]) + payload_of(coded[: first.size_bytes - 1], first.range_bytes)
                for coded in bombs(first.spec.coder)
                if first.size_bytes > 1
            ]
        return found

    def run(self, data: bytes) -> None:
        if not data:
            return
        case = self._cases[data[0] % len(self._cases)]
        try:
            arrays = case.codec.decode(data[1:], case.codec.raw_len)
        except CodecError:
            return
        check_tensors(case, data[1:], arrays)


class BundleJson(Target):
    """The loader on any bundle.json: a `WaistlineError`, or a bundle whose codec opens."""

    max_bytes = 16_384

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="waistline-fuzz-")
        self._bundle = Path(self._folder.name) / "a.bundle"
        sleeping_bundle(self._bundle, 1.0)
        self._sound = (self._bundle / MANIFEST).read_bytes()

    def seeds(self) -> list[bytes]:
        small = json.dumps(json.loads(self._sound), separators=(",", ":")).encode()
        return [self._sound, small, b"{}", b"[" * 2000, small.replace(b"128", b"1e999")]

    def words(self) -> list[bytes]:
        keys: set[str] = set()

        def walk(value: object) -> None:
            if isinstance(value, dict):
                keys.update(value)
            for each in value.values() if isinstance(value, dict) else value:
                if isinstance(each, dict | list):
                    walk(each)

        walk(json.loads(self._sound))
        codecs = ("q1:b=4|deflate", "affine:b=4,clip=mse,per=channel|ctx", "f32|none", "png")
        numbers = ("-1", "0", "1e308", "NaN", "null", "18446744073709551616", "268435457")
        names = [f'"{key}"' for key in (*sorted(keys), *codecs, "int8", "NHWC", "../x", "boxes")]
        return [each.encode() for each in (*names, *numbers)]

    def run(self, data: bytes) -> None:
        (self._bundle / MANIFEST).write_bytes(data)
        try:
            bundle = load_bundle(self._bundle)
            bundle.waist_codec()
        except WaistlineError:
            return
        if bundle.answer_kind.max_bytes < 0:
            raise Wrong("answers of a negative size")

    def close(self) -> None:
        self._folder.cleanup()


class Npz(Target):
    """The archive reader on any file: a `ConfigError`, or arrays of the size they claim."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="waistline-fuzz-")
        self._path = Path(self._folder.name) / "a.npz"

    def seeds(self) -> list[bytes]:
        found = []
        arrays = {"frames": np.arange(60, dtype=np.uint8).reshape(3, 4, 5), "labels": np.arange(3)}
        for save in (np.savez, np.savez_compressed):
            save(self._path, **arrays)
            found.append(self._path.read_bytes())
        return found

    def run(self, data: bytes) -> None:
        self._path.write_bytes(data)
        try:
            with NpzReader(self._path) as reader:
                for name in reader.names[:8]:
                    if reader.read(name).dtype.hasobject:
                        raise Wrong("an array of Python objects")
        except WaistlineError:
            return

    def close(self) -> None:
        self._folder.cleanup()


TARGETS: dict[str, type[Target]] = {
    "wire": Wire,
    "session": Session,
    "codec": Codec,
    "bundle": BundleJson,
    "npz": Npz,
}

"""The message format: golden bytes, any chunking, and nothing wrong ever accepted."""

from __future__ import annotations

import contextlib
import json
import random
import tracemalloc
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline.errors import BadFrame, VersionMismatch, WireError
from waistline.frame import EdgeTimes
from waistline.session import bodies
from waistline.wire import (
    MAX_HEADER_BYTES,
    Message,
    MessageType,
    Parser,
    bundle_tag,
    encode_message,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())["vectors"]
ANY = dict.fromkeys(MessageType, 1 << 20)
U32 = st.integers(0, 2**32 - 1)
messages = st.builds(
    Message,
    type=st.sampled_from(MessageType),
    session=U32,
    seq=U32,
    bundle=U32,
    payload=st.binary(max_size=300),
    raw_len=U32,
    budget_ms=U32,
)


def encoded(message: Message) -> bytes:
    return b"".join(
        encode_message(
            message.type,
            [message.payload],
            session=message.session,
            seq=message.seq,
            bundle=message.bundle,
            raw_len=message.raw_len,
            budget_ms=message.budget_ms,
        )
    )


def parsed(data: bytes, limits=ANY) -> list[Message]:
    return list(Parser(limits).feed(data))


def expected(vector) -> Message:
    return Message(
        type=MessageType[vector["type"]],
        session=vector["session"],
        seq=vector["seq"],
        bundle=vector["bundle"],
        payload=bytes.fromhex(vector["payload"]),
        raw_len=vector["raw_len"],
        budget_ms=vector["budget_ms"],
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_golden_bytes(vector):
    data = bytes.fromhex(vector["bytes"])
    assert parsed(data) == [expected(vector)]
    if not vector["extension"]:
        assert encoded(expected(vector)) == data


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_golden_meaning(vector):
    payload, meaning = bytes.fromhex(vector["payload"]), vector["meaning"]
    if "json" in meaning:
        kind = {"HELLO": bodies.Hello, "WELCOME": bodies.Welcome, "ERROR": bodies.Fault}
        body = bodies.load(payload, kind[vector["type"]])
        assert json.loads(bodies.dump(body)) == meaning["json"]
    elif "times_us" in meaning:
        times, answer = bodies.load_reply(payload)
        assert answer == bytes.fromhex(meaning["answer"])
        assert b"".join(bodies.dump_reply(times, answer)) == payload
        assert times.residence_s == pytest.approx(sum(meaning["times_us"]) * 1e-6)
    elif "retry_after_ms" in meaning:
        assert bodies.load_busy(payload) == pytest.approx(meaning["retry_after_ms"] * 1e-3)
        assert bodies.dump_busy(bodies.load_busy(payload)) == payload


def test_each_message_type_has_a_vector():
    assert {vector["type"] for vector in VECTORS} == {kind.name for kind in MessageType}


def test_a_bundle_tag_is_the_first_four_bytes_of_the_id():
    assert bundle_tag("01020304" + "0" * 56) == 0x04030201


def test_payloads_are_not_copied_when_encoding():
    payload = bytes(1 << 16)
    assert encode_message(MessageType.DATA, [payload])[1] is payload


@pytest.mark.parametrize("seq", [-1, 2**32])
def test_a_field_that_does_not_fit_is_the_callers_mistake(seq):
    with pytest.raises(ValueError, match="does not fit"):
        encode_message(MessageType.DATA, seq=seq)


@given(st.lists(messages, max_size=5), st.data())
def test_any_chunking_gives_the_same_messages(sent, data):
    stream = b"".join(encoded(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    parser, got = Parser(ANY), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += parser.feed(memoryview(stream)[start:stop])
    assert got == sent


def test_one_byte_at_a_time():
    stream = b"".join(bytes.fromhex(vector["bytes"]) for vector in VECTORS)
    parser = Parser(ANY)
    got = [message for byte in stream for message in parser.feed(bytes([byte]))]
    assert got == [expected(vector) for vector in VECTORS]


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if len(v["bytes"]) < 200], ids=lambda vector: vector["name"]
)
def test_every_flipped_bit_is_refused(vector):
    good = bytes.fromhex(vector["bytes"])
    follower = encoded(Message(MessageType.PING)) * (MAX_HEADER_BYTES // 40 + 1)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            parsed(bytes(bad) + follower)


def test_ten_thousand_mutated_streams_neither_crash_nor_lie():
    """Whatever is accepted before the damage is what was sent."""
    rng = random.Random(20)
    sent = [expected(vector) for vector in VECTORS if not vector["extension"]]
    stream = b"".join(encoded(message) for message in sent)
    refused = 0
    for _ in range(10_000):
        bad = bytearray(stream)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(bad))
            kind = rng.randrange(4)
            if kind == 0:
                bad[place] = rng.randrange(256)
            elif kind == 1:
                del bad[place : place + rng.randint(1, 50)]
            elif kind == 2:
                bad[place:place] = rng.randbytes(rng.randint(1, 50))
            else:
                bad[place : place + 4] = b"\xff\xff\xff\xff"
            if not bad:
                bad = bytearray(b"\0")
        parser, got = Parser(ANY), []
        try:
            for message in parser.feed(bad):
                got.append(message)
        except WireError:
            refused += 1
        assert all(message in sent for message in got)
    assert refused > 9_000


@given(st.binary(min_size=1, max_size=200))
def test_hostile_bytes_are_refused_or_awaited(noise):
    with contextlib.suppress(WireError):
        assert not parsed(noise)


@given(st.binary(min_size=28, max_size=28), st.integers(0, 255))
def test_hostile_headers_with_a_sound_crc(fields, kind):
    """A header that passes its CRC still gets no further than its limits."""
    guarded = b"WL\x01" + bytes([kind]) + b"\0\0\x28\0" + fields
    header = guarded + zlib.crc32(guarded).to_bytes(4, "little")
    parser = Parser({MessageType.DATA: 1000})
    try:
        list(parser.feed(header))
    except WireError:
        return
    assert kind == MessageType.DATA
    assert int.from_bytes(header[20:24], "little") <= 1000


def test_garbage_is_refused_at_its_first_bytes():
    with pytest.raises(BadFrame, match="does not start with a Waistline header"):
        parsed(b"GE")


def test_a_four_gigabyte_length_is_refused_by_the_header_alone():
    header = bytearray(encoded(Message(MessageType.DATA, seq=1)))
    header[20:24] = b"\xff\xff\xff\xff"
    header[36:40] = zlib.crc32(header[:36]).to_bytes(4, "little")
    with pytest.raises(BadFrame, match="announces 4294967295 bytes, 1000 are allowed"):
        parsed(bytes(header), {MessageType.DATA: 1000})


def test_memory_follows_what_came_not_what_was_announced():
    big = encoded(Message(MessageType.DATA, seq=1, payload=bytes(1 << 20)))
    tracemalloc.start()
    parsers = [Parser(ANY) for _ in range(50)]
    for parser in parsers:
        assert not list(parser.feed(big[:1000]))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_a_message_out_of_place_is_refused():
    with pytest.raises(BadFrame, match="DATA is out of place"):
        parsed(encoded(Message(MessageType.DATA)), {MessageType.HELLO: 10})


def test_another_major_version_is_told_from_damage():
    header = bytearray(encoded(Message(MessageType.PING)))
    header[2] = 2
    with pytest.raises(BadFrame):
        parsed(bytes(header))
    header[36:40] = zlib.crc32(header[:36]).to_bytes(4, "little")
    with pytest.raises(VersionMismatch, match="major version is 2, ours is 1"):
        parsed(bytes(header))


def test_a_parser_that_failed_stays_failed():
    parser = Parser(ANY)
    for _ in range(2):
        with pytest.raises(BadFrame):
            list(parser.feed(b"HTTP/1.1"))


def test_messages_before_the_damage_are_delivered():
    parser = Parser(ANY)
    stream = parser.feed(encoded(Message(MessageType.PING)) + b"garbage")
    assert next(stream).type is MessageType.PING
    with pytest.raises(BadFrame):
        next(stream)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kind": 1}',
        b'{"kind": "x", "message": NaN}',
        b'{"kind": NaN}',
        b'{"kind": "x", "later": NaN}',
        b'{"kind": "Two Words"}',
        b'{"kind": "x\\n"}',
        b'{"kind": "x", "message": null}',
        b'{"kind": "\xff"}',
        b'{"kind": "x", "later": ' + b"[" * 8000,
        b'{"kind": "x", "message": "' + b"m" * 5000 + b'"}',
        b'{"kind": "x", "bundles": ["ab"]}',
    ],
)
def test_hostile_json_is_refused(payload):
    with pytest.raises(BadFrame, match="a FAULT that cannot be read"):
        bodies.load(payload, bodies.Fault)


def test_unknown_json_keys_are_ignored():
    fault = bodies.load(b'{"kind": "x", "later": {"a": [1, 2.5, null]}}', bodies.Fault)
    assert fault.kind == "x"


@pytest.mark.parametrize("changes", [
    {"node_id": ""}, {"node_id": "a b"}, {"node_id": "x" * 129}, {"node_id": "a\n"},
    {"bundle": "ab"}, {"bundle": "G" * 64}, {"max_in_flight": 0}, {"max_in_flight": 257},
    {"max_in_flight": 1.5}, {"max_in_flight": True}, {"minor_min": -1},
])  # fmt: skip
def test_a_hello_out_of_range_is_refused(changes):
    hello = {"node_id": "n", "bundle": "0" * 64, **changes}
    with pytest.raises(BadFrame):
        bodies.load(json.dumps(hello).encode(), bodies.Hello)


def test_short_replies_and_busies_are_refused():
    with pytest.raises(BadFrame):
        bodies.load_reply(bytes(19))
    for size_bytes in (0, 3, 5):
        with pytest.raises(BadFrame):
            bodies.load_busy(bytes(size_bytes))


@given(st.lists(st.floats(-1, 5000), min_size=5, max_size=5), st.binary(max_size=20))
def test_stage_times_survive_to_the_microsecond(stages_s, answer):
    times, got = bodies.load_reply(b"".join(bodies.dump_reply(EdgeTimes(*stages_s), answer)))
    assert got == answer
    wanted = [min(max(stage_s, 0), (2**32 - 1) * 1e-6) for stage_s in stages_s]
    assert msgspec.structs.astuple(times) == pytest.approx(tuple(wanted), abs=0.6e-6)

"""Frames of the bridge, in Python and in the firmware's C, against each other and against noise."""

from __future__ import annotations

import json
import random
import subprocess

import pytest
from bridge_help import ROOT, check_program, needs_compiler
from hypothesis import given
from hypothesis import strategies as st

from waistline.errors import BadFrame
from waistline_bridge.frames import Frame, FrameParser, cobs_decode, cobs_encode, encode_frame
from waistline_bridge.shim import Damage

VECTORS = json.loads((ROOT / "tests" / "vectors" / "mcu_frames.json").read_text())
FRAMES = st.builds(
    Frame,
    st.integers(1, 255),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=600) | st.integers(0, 600).map(bytes),
)


def _body(row):
    return f"{row['command']:02x}{row['seq']:02x}{row['status']:02x}00{row['payload']}"


def _frame(row):
    return Frame(row["command"], row["seq"], row["status"], bytes.fromhex(row["payload"]))


def _c(*arguments, data):
    command = [str(check_program("frames")), *arguments]
    done = subprocess.run(command, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{len(row['payload']) // 2}")
def test_vectors(row):
    coded = bytes.fromhex(row["frame"])
    assert encode_frame(_frame(row)) == coded
    assert FrameParser(512).feed(coded) == [_frame(row)]


@needs_compiler
def test_the_firmware_encodes_and_decodes_the_vectors():
    bodies = [_body(row) for row in VECTORS]
    coded = [row["frame"] for row in VECTORS]
    assert _c("encode", data="\n".join(bodies).encode()) == coded
    assert _c("decode", "512", data=bytes.fromhex("".join(coded))) == bodies


@given(st.binary(max_size=800) | st.integers(0, 800).map(bytes))
def test_cobs_leaves_no_zero_and_comes_back(data):
    coded = cobs_encode(data)
    assert 0 not in coded
    assert len(coded) <= len(data) + len(data) // 254 + 1
    assert cobs_decode(coded) == data


@pytest.mark.parametrize("data", [b"\0", b"\x02", b"\x03a", b"\x02\0", b"\x01\0\x01"])
def test_what_is_no_cobs_stream_is_refused(data):
    with pytest.raises(BadFrame):
        cobs_decode(data)


@given(st.lists(FRAMES, max_size=4), st.binary(max_size=60), st.integers(1, 40))
def test_frames_arrive_in_any_pieces_behind_any_garbage(frames, garbage, step):
    stream = garbage + b"".join(encode_frame(frame) for frame in frames)
    parser = FrameParser(600)
    got = [
        frame for at in range(0, len(stream), step) for frame in parser.feed(stream[at : at + step])
    ]
    assert got == frames


def test_a_frame_over_the_limit_is_dropped_and_the_next_one_is_not():
    long, short = (Frame(3, 1, 0, bytes(range(1, 102))), Frame(1, 2, 0, b"x"))
    parser = FrameParser(100)
    assert parser.feed(encode_frame(long) + encode_frame(short)) == [short]
    assert parser.damaged == 1


def test_a_line_without_delimiters_fills_no_memory():
    parser = FrameParser(64)
    for _ in range(1000):
        assert parser.feed(b"\x55" * 1000) == []
    assert len(parser._pending) <= 2 * 64 + 64
    good = Frame(1, 1, 0, b"")
    assert parser.feed(encode_frame(good)) == [good]


@needs_compiler
@pytest.mark.parametrize("limit", [0, 1, 64, 600])
def test_both_parsers_accept_the_same_of_damaged_streams(limit):
    source = random.Random(limit)
    stream = b"".join(
        encode_frame(
            Frame(
                source.randrange(1, 256),
                n % 256,
                0,
                source.randbytes(source.choice((0, 1, 64, 300))),
            )
        )
        for n in range(600)
    )
    damaged = Damage(flip=3e-4, drop=5e-4, insert=5e-4).apply(stream, source)
    damaged += source.randbytes(20_000)
    expected = [
        bytes((f.command, f.seq, f.status, 0)) + f.payload for f in FrameParser(limit).feed(damaged)
    ]
    assert [bytes.fromhex(row) for row in _c("decode", str(limit), data=damaged)] == expected
    assert len(expected) > (0 if limit else 20)


def _noise(count, ber):
    sent, delivered, wrong = map(int, _c("noise", str(count), ber, "11", data=b""))
    assert sent == count
    return delivered / sent, wrong


@needs_compiler
@pytest.mark.parametrize(("ber", "least"), [("1e-6", 0.995), ("1e-4", 0.75), ("1e-3", 0.15)])
def test_noise_is_never_taken_for_a_frame(ber, least):
    delivered, wrong = _noise(10_000, ber)
    assert wrong == 0
    assert delivered > least


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("ber", ["1e-6", "1e-5", "1e-4", "1e-3"])
def test_noise_is_never_taken_for_a_frame_in_a_million(ber):
    assert _noise(250_000, ber)[1] == 0


def test_the_frames_written_out_in_the_protocol_are_those_that_are_sent():
    text = (ROOT / "firmware_bridge" / "PROTOCOL.md").read_text()
    for command in (0x01, 0x81):
        coded = (b"\0" + encode_frame(Frame(command, 0, 0, b"12345678")).lstrip(b"\0")).hex(" ")
        assert f"\n    {coded}\n" in text

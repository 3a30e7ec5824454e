"""The client against the firmware as a process: every command, bad lines, hostile blobs."""

from __future__ import annotations

import random
import struct
import zlib

import numpy as np
import pytest
from bridge_help import host_program, needs_compiler, payload_of, small_head

from waistline.errors import ConfigError, LinkClosed, LinkTimeout
from waistline_bridge.boards import open_board
from waistline_bridge.client import Client
from waistline_bridge.frames import REPLY, Frame, FrameParser, encode_frame
from waistline_bridge.messages import Area, Command, Mark, Refusal, Status
from waistline_bridge.shim import BadLine, Damage

pytestmark = needs_compiler
PLANES = (6, 4, 5)


@pytest.fixture
def board():
    with open_board("host", firmware=str(host_program()), arena="65536") as board:
        yield board


@pytest.fixture
def client(board):
    return Client(board.line, deadline_s=30)


def test_a_new_device_says_what_it_is_and_has_no_head(client):
    info = client.info
    assert (info.board, info.protocol, info.arena_bytes) == ("host", 1, 65536)
    assert (info.sequence, info.active_crc, info.stack_free) == (0, 0, None)
    assert client.head() is None
    for ask in (
        client.infer,
        lambda: client.read(Area.ARENA, 0, 4),
        lambda: client.load_input(b"x"),
    ):
        with pytest.raises(Refusal) as refused:
            ask()
        assert refused.value.status == Status.NOT_NOW


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("coder", ["none", "ctx"])
def test_a_head_gives_the_bytes_that_the_host_codec_gives(client, bits, coder):
    blob, values, codes = small_head(bits, coder, seed=bits)
    client.load_blob(blob.bytes())
    client.load_input(values.tobytes())
    result = client.infer()
    assert result.output == payload_of(codes, bits, PLANES, coder)
    assert result.raw_len == (len(codes) * bits + 7) // 8
    ticks = client.ticks()
    assert len(ticks) == 3
    assert sum(ticks) == result.ticks


def test_codes_of_eight_bits_without_a_table_are_the_elements(client):
    blob, values, _ = small_head(8)
    blob.waists = []
    blob.waist(2, 8, PLANES)
    client.load_blob(blob.bytes())
    client.load_input(values.tobytes())
    output = client.infer().output
    client.load_input(values.tobytes())
    client.infer(layers=2)
    assert output == payload_of(
        np.frombuffer(client.read(Area.ARENA, 960, 120), np.uint8), 8, PLANES
    )


def test_layers_can_be_looked_at_one_by_one(client):
    blob, values, _ = small_head()
    client.load_blob(blob.bytes())
    client.load_input(values.tobytes())
    assert client.infer(layers=0).output == b""
    assert client.read(Area.ARENA, 0, 480) == values.tobytes()
    assert client.ticks() == [0, 0, 0]
    client.infer(layers=1)
    middle = np.frombuffer(client.read(Area.ARENA, 480, 480), np.int8).reshape(values.shape)
    for value in np.unique(values):
        assert len(np.unique(middle[values == value])) == 1


def test_golden_inputs_need_no_upload(client):
    blob, values, codes = small_head()
    expected = payload_of(codes, 4, PLANES)
    blob.golden(values.tobytes(), zlib.crc32(expected))
    client.load_blob(blob.bytes())
    assert client.head().goldens == 1
    assert client.infer(golden=0).output == expected
    with pytest.raises(Refusal) as refused:
        client.infer(golden=1)
    assert refused.value.status == Status.ARGUMENT


def test_an_input_is_kept_where_there_is_room_for_it():
    blob, values, codes = small_head()
    for arena, kept in ((20480 + 480, True), (20480 + 479, False)):
        options = {"firmware": str(host_program()), "arena": str(arena)}
        with open_board("host", **options) as board:
            client = Client(board.line, deadline_s=30)
            client.load_blob(blob.bytes())
            assert client.head().keeps_input is kept
            client.load_input(values.tobytes())
            for again in range(2):
                if again and not kept:
                    with pytest.raises(Refusal):
                        client.infer()
                else:
                    assert client.infer().output == payload_of(codes, 4, PLANES)


def test_a_head_outlives_reset_and_replug(tmp_path):
    blob, values, codes = small_head()
    options = {"firmware": str(host_program()), "flash": str(tmp_path / "slots")}
    with open_board("host", **options) as board:
        client = Client(board.line, deadline_s=30)
        client.load_blob(blob.bytes())
        assert client.reset().sequence == 1
        with pytest.raises(Refusal):
            client.infer()
    with pytest.raises(LinkClosed):
        client.ping()
    with open_board("host", **options) as board:
        client = Client(board.line, deadline_s=30)
        assert client.info.active_crc == zlib.crc32(blob.bytes())
        assert client.read(Area.BLOB, 0, client.info.active_bytes) == blob.bytes()
        client.load_input(values.tobytes())
        assert client.infer().output == payload_of(codes, 4, PLANES)


def test_a_line_that_dies_says_so(board, client):
    board.close()
    with pytest.raises(LinkClosed):
        client.ping()


class _Silent:
    name = "nobody"

    def send(self, data):
        pass

    def receive(self, timeout_s):
        return b""

    def close(self):
        pass


def test_a_device_that_never_answers_ends_in_a_timeout():
    with pytest.raises(LinkTimeout, match="no reply to PING on nobody"):
        Client(_Silent(), deadline_s=0.05, retry_s=0.01)


def test_marks_and_what_is_no_mark(client):
    blob, values, _ = small_head()
    client.load_blob(blob.bytes())
    for mode in Mark:
        client.mark(mode, settle_us=3)
        client.load_input(values.tobytes())
        client.infer()
    with pytest.raises(Refusal):
        client._ask(Command.MARK, struct.pack("<BBH", 4, 0, 0))


class _Wire:
    """Frames by hand."""

    def __init__(self, line):
        self.line = line
        self.parser = FrameParser(4096)

    def ask(self, frame, copies=1):
        self.line.send(encode_frame(frame) * copies)
        return self.frames(1)[0]

    def frames(self, count, timeout_s=20.0):
        got = []
        while len(got) < count:
            data = self.line.receive(timeout_s)
            assert data, "no reply"
            got += self.parser.feed(data)
        return got


def test_a_repeated_request_is_answered_from_memory(board):
    wire = _Wire(board.line)
    blob, _, _ = small_head()
    data = blob.bytes()
    for at in range(0, len(data), 512):
        load = Frame(3, at // 512, 0, struct.pack("<B3xI", 0, at) + data[at : at + 512])
        assert wire.ask(load).status == 0
    commit = Frame(4, 77, 0, struct.pack("<II", len(data), zlib.crc32(data)))
    first = wire.ask(commit)
    assert (first.command, first.seq, first.status) == (4 | REPLY, 77, 0)
    assert wire.ask(commit) == first, "a second COMMIT would be refused"
    other = Frame(4, 77, 0, struct.pack("<II", len(data), 0))
    assert wire.ask(other).status == Status.NOT_NOW, "same number, another request"


def test_requests_that_came_meanwhile_are_thrown_away(board):
    wire = _Wire(board.line)
    ping = Frame(1, 9, 0, b"once")
    assert wire.ask(ping, copies=5).payload == b"once"
    assert wire.ask(Frame(1, 10, 0, b"next")).payload == b"next"


@pytest.mark.parametrize(
    ("command", "payload", "status"),
    [
        (0x33, b"", Status.UNKNOWN),
        (1, bytes(65), Status.LENGTH),
        (2, b"", Status.LENGTH),
        (2, b"\x02\0\0\0", Status.ARGUMENT),
        (2, b"\0\1\0\0", Status.ARGUMENT),
        (3, bytes(7), Status.LENGTH),
        (3, struct.pack("<B3xI", 2, 0), Status.ARGUMENT),
        (3, struct.pack("<B3xI", 0, 4), Status.ORDER),
        (3, struct.pack("<B3xI", 0, 0xFFFFFFFC) + bytes(64), Status.NO_ROOM),
        (4, bytes(8), Status.NOT_NOW),
        (6, bytes(11), Status.LENGTH),
        (8, b"\1\0\0\0", Status.ARGUMENT),
    ],
)
def test_requests_that_are_wrong_are_refused(board, command, payload, status):
    wire = _Wire(board.line)
    reply = wire.ask(Frame(command, 1, 0, payload))
    assert (reply.command, reply.status, len(reply.payload)) == (command | REPLY, status, 8)
    assert wire.ask(Frame(command, 2, 1, payload)).status == Status.ARGUMENT


def test_reads_beyond_an_area_are_refused(client):
    client.load_blob(small_head()[0].bytes())
    for area, offset, count in ((4, 65536, 1), (4, 0xFFFFFFFF, 2), (0, 0, 0xFFFFFFFF), (9, 0, 0)):
        with pytest.raises(Refusal):
            client._ask(Command.READ, struct.pack("<B3xII", area, offset, count))


@pytest.mark.parametrize(
    "damage",
    [Damage(flip=1e-4), Damage(drop=2e-4), Damage(insert=2e-4), Damage(1e-4, 1e-4, 1e-4)],
    ids=["flip", "drop", "insert", "all"],
)
def test_everything_arrives_over_a_bad_line(board, damage):
    line = BadLine(board.line, damage, seed=5)
    client = Client(line, deadline_s=60, retry_s=0.05)
    blob, values, codes = small_head(filler=8000)
    client.load_blob(blob.bytes())
    assert client.read(Area.BLOB, 0, client.info.active_bytes) == blob.bytes()
    for _ in range(5):
        client.load_input(values.tobytes())
        assert client.infer().output == payload_of(codes, 4, PLANES)
    assert client.resent > 0
    assert client.refresh().sequence == 1, "COMMIT was carried out once"


def _damaged(data, at, layout, value):
    changed = bytearray(data)
    struct.pack_into(layout, changed, at, value)
    struct.pack_into("<I", changed, 12, zlib.crc32(changed[16:]))
    return bytes(changed)


_TENSORS = 64
_LAYERS = _TENSORS + 3 * 12
_WAISTS = _LAYERS + 2 * 64
HOSTILE = {
    "magic": (0, "<I", 1, 1),
    "version": (4, "<H", 1, 1),
    "kernels": (6, "<H", 99, 1),
    "no tensors": (20, "<H", 0, 2),
    "too many layers": (22, "<H", 257, 2),
    "more inputs than tensors": (24, "<H", 4, 2),
    "size": (8, "<I", 1 << 31, 3),
    "tensor table": (32, "<I", 0xFFFFFFF0, 3),
    "layer table unaligned": (36, "<I", _LAYERS + 1, 3),
    "waist table in the header": (40, "<I", 0, 3),
    "arena": (16, "<I", 65537, 4),
    "tensor beyond the arena": (_TENSORS + 12, "<I", 20480 - 476, 5),
    "tensor of no rows": (_TENSORS + 16, "<H", 0, 5),
    "tensor without end": (_TENSORS + 16, "<H", 0xFFFF, 5),
    "op": (_LAYERS, "<B", 11, 6),
    "inputs": (_LAYERS + 1, "<B", 5, 6),
    "two inputs": (_LAYERS + 1, "<B", 2, 6),
    "input number": (_LAYERS + 4, "<H", 3, 6),
    "output number": (_LAYERS + 2, "<H", 0xFFFF, 6),
    "reserved": (_LAYERS + 60, "<I", 1, 6),
    "reads itself": (_LAYERS + 4, "<H", 1, 7),
    "reads the future": (_LAYERS + 4, "<H", 2, 7),
    "writes the input": (_LAYERS + 2, "<H", 0, 8),
    "shape": (_TENSORS + 16, "<H", 9, 9),
    "stride": (_LAYERS + 64 + 14, "<B", 0, 9),
    "clamp of a lookup": (_LAYERS + 22, "<b", -127, 10),
    "clamp upside down": (_LAYERS + 64 + 22, "<H", 0x807F, 10),
    "weights size": (_LAYERS + 28, "<I", 255, 11),
    "weights beyond the end": (_LAYERS + 24, "<I", 0xFFFFFF00, 11),
    "weights unaligned": (_LAYERS + 24, "<I", 1025, 11),
    "scratch beyond the arena": (_LAYERS + 44, "<I", 0xFFFFFFFF, 12),
    "output on its input": (_TENSORS + 12, "<I", 4, 13),
    "scratch on its output": (_LAYERS + 44, "<I", 20480, 13),
    "waist nobody writes": (_WAISTS, "<H", 3, 14),
    "bits": (_WAISTS + 2, "<B", 9, 15),
    "no bits": (_WAISTS + 2, "<B", 0, 15),
    "codes too wide": (_WAISTS + 2, "<B", 3, 15),
    "coder": (_WAISTS + 3, "<B", 2, 15),
    "no table": (_WAISTS + 4, "<I", 0, 15),
    "table beyond the end": (_WAISTS + 4, "<I", 0xFFFFFF80, 15),
    "planes": (_WAISTS + 8, "<I", 1 << 30, 15),
    "no scratch for ctx": (_WAISTS + 3, "<B", 1, 16),
    "output beyond the arena": (48, "<I", 20480, 17),
    "output on the waist": (48, "<I", 1000, 17),
    "output size": (52, "<I", 65, 17),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_blobs_are_refused_and_the_old_head_stays(client, case):
    at, layout, value, reason = HOSTILE[case]
    good, values, codes = small_head()
    client.load_blob(good.bytes())
    with pytest.raises(Refusal) as refused:
        client.load_blob(_damaged(good.bytes(), at, layout, value))
    assert refused.value.status == Status.REFUSED
    assert refused.value.reason == reason
    client.load_input(values.tobytes())
    assert client.infer().output == payload_of(codes, 4, PLANES)
    assert client.refresh().sequence == 1


def test_a_blob_that_is_not_what_was_announced_is_refused(client):
    data = small_head()[0].bytes()
    client._load(Area.BLOB, data, 4, None)
    with pytest.raises(Refusal) as refused:
        client._ask(Command.COMMIT, struct.pack("<II", len(data), zlib.crc32(data) ^ 1))
    assert refused.value.status == Status.CRC
    inner = data[:-1] + bytes((data[-1] ^ 1,))
    with pytest.raises(Refusal) as refused:
        client.load_blob(inner)
    assert refused.value.status == Status.CRC
    with pytest.raises(Refusal, match="the head has"):
        client.load_blob(bytes(client.info.slot_bytes + 1))


def test_random_mutations_of_blobs_never_break_the_device(client):
    source = random.Random(12)
    good, values, _ = small_head(4, "ctx")
    good.golden(values.tobytes(), 0)
    data = good.bytes()
    accepted = 0
    for _ in range(150):
        changed = data
        for _ in range(source.randrange(1, 4)):
            at = source.choice((source.randrange(16, 64), source.randrange(64, _WAISTS + 40)))
            changed = _damaged(
                changed, at, "<B", source.choice((0, 1, 127, 255, source.randrange(256)))
            )
        try:
            client.load_blob(changed)
        except Refusal:
            continue
        accepted += 1
        if client.head().goldens:
            client.infer(golden=0)
    assert client.ping() < 30
    assert accepted > 0


def test_unknown_boards_and_options_are_named():
    with pytest.raises(ConfigError, match="no emulated board 'qemu-mps2-an999'"):
        open_board("qemu-mps2-an999")
    with pytest.raises(ConfigError, match="'speed'"):
        open_board("host", speed="1")
    with pytest.raises(ConfigError, match="no firmware for host"):
        open_board("host", firmware="/nonexistent/program")

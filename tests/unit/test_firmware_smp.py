"""The firmware's update mode, driven by a stock MCUmgr client and by one that misbehaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import struct
import time
from binascii import crc_hqx

import pytest
from bridge_help import board_elf, host_program, needs_compiler, payload_of, small_head
from qemu_help import needs_boards

from waistline.errors import LinkClosed
from waistline_bridge.boards import open_board
from waistline_bridge.client import Client
from waistline_bridge.messages import Area, Feature, Refusal, Status

smpclient = pytest.importorskip("smpclient", reason="needs smpclient")
cbor2 = pytest.importorskip("cbor2", reason="smpclient brings it")
packet = pytest.importorskip("smp.packet")
images = pytest.importorskip("smpclient.requests.image_management")
system = pytest.importorskip("smpclient.requests.os_management")
serial = pytest.importorskip("smpclient.transport.serial", reason="needs smpclient[serial]")

PLANES = (6, 4, 5)
READ, WRITE = 0, 2


def _talk(path, work):
    async def conversation():
        async with smpclient.SMPClient(serial.SMPSerialTransport(), path, 20) as client:
            return await work(client)

    return asyncio.run(conversation())


async def _upload(client, data, **options):
    async for _ in client.upload(data, **options):
        pass


def _stock(board, head):
    """All that a flasher does; the head is in force afterwards."""
    blob, values, codes = head
    data = blob.bytes()
    Client(board.line, deadline_s=20).enter_update()

    async def work(client):
        assert (await client.request(system.EchoWrite(d="waist " * 30))).r == "waist " * 30
        assert (await client.request(system.MCUMgrParametersRead())).buf_count == 1
        assert (await client.request(system.BootloaderInformationRead())).rc == 8
        assert (await client.request(images.ImageStatesRead())).images == []
        await _upload(client, data)
        (image,) = (await client.request(images.ImageStatesRead())).images
        assert (image.slot, image.active, image.version) == (0, True, "0.0.1")
        assert image.hash == hashlib.sha256(data).digest()
        with pytest.raises(smpclient.exceptions.SMPUploadError, match="INVALID_IMAGE_TOO_LARGE"):
            await _upload(client, bytes(1 << 23))
        await client.request(system.ResetWrite())

    _talk(board.line.name, work)
    client = Client(board.line, deadline_s=20)
    assert client.info.sequence == 1
    client.load_input(values.tobytes())
    assert client.infer().output == payload_of(codes, 4, PLANES)


@needs_compiler
def test_a_stock_client_updates_the_host_board():
    with open_board("host", firmware=str(host_program(smp=True))) as board:
        _stock(board, small_head(seed=3, filler=9000))


@needs_boards
@pytest.mark.parametrize("name", ["qemu-mps2-an386", "qemu-netduinoplus2"])
def test_a_stock_client_updates_an_emulated_board(name):
    elf = str(board_elf(name, smp=True))
    with open_board(name, firmware=elf, line="pty") as board:
        _stock(board, small_head(seed=3, filler=9000))
        client = Client(board.line, deadline_s=20)
        client.enter_update()
        _talk(board.line.name, lambda smp: smp.request(images.ImageStatesRead()))
        assert client.open().stack_free > 512, "a hash takes the most of it"


@pytest.fixture
def board(tmp_path):
    flash = str(tmp_path / "slots")
    with open_board("host", firmware=str(host_program(smp=True)), flash=flash) as opened:
        yield opened


@needs_compiler
def test_firmware_without_it_refuses():
    with open_board("host", firmware=str(host_program())) as board:
        client = Client(board.line, deadline_s=20)
        assert Feature.SMP not in client.info.features
        with pytest.raises(Refusal) as caught:
            client.enter_update()
        assert caught.value.status == Status.ARGUMENT


@needs_compiler
def test_the_bridge_is_back_when_it_speaks(board):
    client = Client(board.line, deadline_s=20)
    assert Feature.SMP in client.info.features
    client.enter_update()
    client.enter_update()  # as one whose reply was lost
    client.ping()
    client.load_blob(small_head()[0].bytes())
    client.enter_update()
    assert client.open().sequence == 1
    assert client.head() is not None
    assert client.resent == 0


@needs_compiler
@pytest.mark.parametrize("over", [0, 1, 54, 55, 56, 63])
def test_hashes_of_every_kind_of_end(board, over):
    """SHA-256 pads by the length modulo 64."""
    size = len(small_head(filler=4)[0].bytes())
    data = small_head(filler=4 + (over - size) % 64)[0].bytes()
    assert len(data) % 64 == over
    Client(board.line, deadline_s=20).enter_update()

    async def work(client):
        await _upload(client, data)
        return (await client.request(images.ImageStatesRead())).images[0].hash

    assert _talk(board.line.name, work) == hashlib.sha256(data).digest()


class Raw:
    """Messages as they are written here; what comes back, decoded."""

    def __init__(self, board):
        self.line = board.line
        self._said = b""
        Client(board.line, deadline_s=20).enter_update()

    def send(self, body, *, op=WRITE, group=1, command=1, version=1):
        head = struct.pack(">BBHHBB", op | version << 3, 0, len(body), group, 7, command)
        for line in packet.encode(head + body):
            self.line.send(line)

    def reply(self, deadline_s=20.0):
        end = time.monotonic() + deadline_s
        decoder = packet.decode()
        next(decoder)
        while b"\n" in self._said or time.monotonic() < end:
            # Two replies may come at once: what is behind the first is the next one's.
            line, newline, rest = self._said.partition(b"\n")
            if not newline:
                self._said += self.line.receive(0.5)
                continue
            self._said = rest
            try:
                decoder.send(line + newline)
            except StopIteration as done:
                return done.value
        raise AssertionError("no reply")

    def ask(self, fields, *, deadline_s=20.0, **options):
        self.send(fields if isinstance(fields, bytes) else cbor2.dumps(fields), **options)
        reply = self.reply(deadline_s)
        assert reply[6] == 7
        assert struct.unpack(">H", reply[2:4])[0] == len(reply) - 8
        return cbor2.loads(reply[8:])


def _error(code):
    return {"err": {"group": 1, "rc": code}}


@needs_compiler
def test_chunks_out_of_turn_are_told_what_is_next(board):
    data = small_head(filler=3)[0].bytes()
    raw = Raw(board)
    assert raw.ask({"off": 40, "data": b"abcd"}) == {"off": 0}
    assert raw.ask({"off": 0, "len": len(data), "data": data[:103]}) == {"off": 100}
    assert raw.ask({"off": 50, "data": data[50:80]}) == {"off": 100}
    assert raw.ask({"off": 500, "data": b"x"}) == {"off": 100}
    assert raw.ask({"off": 0, "len": 150, "data": data[:103]}) == {"off": 100}
    assert raw.ask({"off": 100, "data": data[100:151]}) == _error(31)
    at = raw.ask({"off": 0, "len": len(data), "data": data[:100]})["off"]
    while at < len(data):
        at = raw.ask({"off": at, "data": data[at : at + 501]})["off"]
    assert at == len(data)
    client = Client(board.line, deadline_s=20)
    assert client.read(Area.BLOB, 0, len(data)) == data


@needs_compiler
def test_a_head_that_is_not_what_was_promised_is_not_sealed(board):
    good, bad = small_head(seed=1)[0].bytes(), bytearray(small_head(seed=2)[0].bytes())
    client = Client(board.line, deadline_s=20)
    client.load_blob(good)
    raw = Raw(board)
    digest = hashlib.sha256(bad).digest()
    bad[-1] ^= 1
    first = {"off": 0, "len": len(bad), "data": bytes(bad[:600])}
    for extra, end in (({"sha": digest}, {"match": False, "off": len(bad)}), ({}, _error(22))):
        at = raw.ask({**first, **extra})["off"]
        while at < len(bad) - 500:
            at = raw.ask({"off": at, "data": bytes(bad[at : at + 500])})["off"]
        assert raw.ask({"off": at, "data": bytes(bad[at:])}) == end
    assert raw.ask({}, op=READ, command=0)["images"][0]["hash"] == hashlib.sha256(good).digest()
    assert client.open().sequence == 1


@needs_compiler
@pytest.mark.parametrize("cut", ["0:100", "1:7", "2:0", "3:31", "3:32"])
def test_a_power_cut_leaves_a_head(tmp_path, cut):
    """Of an upload of two chunks: the erasing, two writes, the seal."""
    old, new = (small_head(seed=seed)[0].bytes() for seed in (1, 2))
    options = {"firmware": str(host_program(smp=True)), "flash": str(tmp_path / "slots")}
    with open_board("host", **options) as board:
        Client(board.line, deadline_s=20).load_blob(old)
    with open_board("host", **options, cut=cut) as board:
        raw = Raw(board)
        chunks = [{"off": 0, "len": len(new), "data": new[:900]}, {"off": 900, "data": new[900:]}]
        with pytest.raises(LinkClosed):
            _ = [raw.ask(chunk, deadline_s=60) for chunk in chunks]
    with open_board("host", **options) as board:
        client = Client(board.line, deadline_s=20)
        wanted = new if cut == "3:32" else old
        assert client.read(Area.BLOB, 0, client.info.active_bytes) == wanted


@needs_compiler
@pytest.mark.parametrize(
    ("body", "options", "wanted"),
    [
        ({"off": 0, "data": b"x"}, {}, _error(21)),
        ({"off": 0, "data": b"x", "len": 0}, {}, _error(21)),
        ({"off": 0, "data": b"x", "len": 9, "image": 1}, {}, _error(14)),
        ({"off": 0, "data": b"x", "len": 9, "image": 1}, {"version": 0}, {"rc": 3}),
        ({"off": 0, "data": b"x", "len": 2**32 - 1}, {}, _error(30)),
        ({"off": 0, "data": b"x", "len": 2**40}, {}, _error(30)),
        ({"off": 0, "data": b"x", "len": 9, "sha": b"short"}, {}, {"rc": 3}),
        ({"off": -1, "data": b"x", "len": 9}, {}, {"rc": 3}),
        ({"off": "0", "data": b"x", "len": 9}, {}, {"rc": 3}),
        ({"data": b"x"}, {}, {"rc": 3}),
        ({}, {"group": 0, "command": 0}, {"rc": 3}),
        ({}, {"group": 0, "command": 0, "op": READ}, {"rc": 8}),
        ({}, {"group": 0, "command": 5, "op": READ}, {"rc": 8}),
        ({"hash": bytes(32), "confirm": True}, {"command": 0}, {"rc": 8}),
        ({}, {"group": 64}, {"rc": 8}),
        (b"", {"command": 0, "op": READ}, {"images": []}),
        (b"\xa1\x61", {}, {"rc": 3}),
        (b"\xbf\x61d\x62hi\xff", {"group": 0, "command": 0}, {"r": "hi"}),
        (b"\xbf\x61d\x62hi", {"group": 0, "command": 0}, {"rc": 3}),
        (b"\xa1\x61d\x62hi\x00", {"group": 0, "command": 0}, {"rc": 3}),
        (b"\xbb" + b"\xff" * 8, {}, {"rc": 3}),
        (b"\xa1\x01\x02", {}, {"rc": 3}),
        (b"\x80", {}, {"rc": 3}),
        (cbor2.dumps({"z": [1, {"y": [2, b"3"]}, None, 1.5], "d": "u"}),
         {"group": 0, "command": 0}, {"r": "u"}),
        (cbor2.dumps({"z": [[[[[[1]]]]]], "d": "u"}), {"group": 0, "command": 0}, {"rc": 3}),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_carried_out_are_refused(board, body, options, wanted):
    assert Raw(board).ask(body, **options) == wanted


@needs_compiler
def test_damaged_lines_change_nothing(board):
    """Under sanitizers; each is followed by an echo, which must come."""
    source = random.Random(11)
    good = small_head(seed=1)[0].bytes()
    Client(board.line, deadline_s=20).load_blob(good)
    raw = Raw(board)
    body = cbor2.dumps({"off": 0, "len": 900, "sha": bytes(32), "data": os.urandom(300)})
    head = struct.pack(">BBHHBB", WRITE | 8, 0, len(body), 1, 7, 1)
    whole = b"".join(packet.encode(head + body))
    for number in range(300):
        damaged = bytearray(whole)
        for _ in range(source.randrange(1, 6)):
            at = source.randrange(len(damaged))
            kind = source.random()
            if kind < 0.5:
                damaged[at] = source.choice(b"\x06\x09\x04\x14\n=A\xff\x01Zz/")
            elif kind < 0.7:
                damaged.insert(at, source.randrange(1, 256))
            elif kind < 0.9:
                del damaged[at]
            else:
                del damaged[at:]
                damaged.append(10)
        raw.line.send(bytes(damaged))
        raw.send(cbor2.dumps({"d": str(number)}), group=0, command=0)
        while (found := cbor2.loads(raw.reply()[8:])).get("r") != str(number):
            assert "images" not in found
    assert raw.ask({}, op=READ, command=0)["images"][0]["hash"] == hashlib.sha256(good).digest()


@needs_compiler
def test_any_map_is_taken_or_refused(board):
    """Random CBOR in sound messages: an answer to each."""
    source = random.Random(5)
    raw = Raw(board)
    pieces = [b"\xbf", b"\xa2", b"\x63off", b"\x00", b"\x64data", b"\x43abc", b"\xff", b"\x9f",
              b"\x5f", b"\x1b" + b"\xff" * 8, b"\xc1", b"\xf6", b"\xfb" + b"\x00" * 8, b"\x63len",
              b"\x19\x03\xe8", b"\x7b", b"\x81", b"\xbb"]  # fmt: skip
    codes = set()
    for _ in range(400):
        body = b"".join(source.choice(pieces) for _ in range(source.randrange(12)))
        reply = raw.ask(body)
        codes.add(next(iter(reply)))
    assert "rc" in codes
    assert crc_hqx(b"123456789", 0) == 0x31C3, "the CRC of the lines is XMODEM's"

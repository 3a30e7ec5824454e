"""The UART bootloader in an ESP32's ROM, as far as a flasher sees it, behind TCP.

Written from Espressif's "Serial Protocol" page: SLIP frames, SYNC, registers, flash begin, data,
end and MD5. It has no stub loader, no control lines and no baud rate.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import operator
import socket
import struct
import threading

END, ESC = 0xC0, 0xDB
FLASH_BEGIN, FLASH_DATA, FLASH_END, SYNC = 0x02, 0x03, 0x04, 0x08
WRITE_REG, READ_REG, SPI_SET_PARAMS, SPI_ATTACH = 0x09, 0x0A, 0x0B, 0x0D
CHANGE_BAUD, FLASH_MD5 = 0x0F, 0x13
INVALID_MESSAGE, FAILED, BAD_CHECKSUM, WRITE_ERROR = 0x05, 0x06, 0x07, 0x08
CHIP_MAGIC_AT, ESP32_MAGIC, ESP32S2_MAGIC = 0x40001000, 0x00F01D83, 0x000007C6
SPI_W0 = 0x3FF42080
EFUSE_MAC = (0x3FF5A004, 0x3FF5A008)
FLASH_ID_4MB = 0x1640EF
UART_CLKDIV, DIVIDER_40MHZ_115200 = 0x3FF40014, 347
SYNC_VALUE = 0x20120707
"""What tells a ROM from a stub loader, which answers with zero."""
FLASH_BYTES = 4 << 20
_GREETING = bytes((0x07, 0x07, 0x12, 0x20)) + b"\x55" * 32


class Frames:
    """Takes SLIP frames out of bytes."""

    def __init__(self):
        self._inside, self._escaped, self._data = False, False, bytearray()

    def feed(self, data):
        for byte in data:
            if byte == END:
                if self._inside and self._data:
                    yield bytes(self._data)
                self._inside, self._escaped = True, False
                self._data.clear()
            elif self._inside and self._escaped:
                self._data.append({0xDC: END, 0xDD: ESC}[byte])
                self._escaped = False
            elif self._inside and byte == ESC:
                self._escaped = True
            elif self._inside:
                self._data.append(byte)


def frame(data):
    inner = data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return b"\xc0" + inner + b"\xc0"


class Esp32Rom:
    """A chip in its bootloader. ``with Esp32Rom() as rom: ... rom.port ... rom.flash``.

    Args:
        magic: what the chip says it is.
        silent: it never answers.
        wears: the flash keeps one byte wrong.
        breaks_at: number of the data block that fails with a write error.
        hangs_up_at: number of the data block at which the line goes down.
    """

    def __init__(
        self, *, magic=ESP32_MAGIC, silent=False, wears=False, breaks_at=None, hangs_up_at=None
    ):
        self.flash = bytearray(b"\xff" * FLASH_BYTES)
        self.seen = []
        self.reset = False
        self._registers = {CHIP_MAGIC_AT: magic, SPI_W0: FLASH_ID_4MB}
        self._registers[UART_CLKDIV] = DIVIDER_40MHZ_115200
        self._registers |= dict(zip(EFUSE_MAC, (0x5EF00D01, 0x00B0240A), strict=True))
        self._silent, self._wears = silent, wears
        self._breaks_at, self._hangs_up_at = breaks_at, hangs_up_at
        self._area = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self):
        return f"socket://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection, contextlib.suppress(ConnectionError):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._talk(connection)

    def _talk(self, connection):
        frames = Frames()
        while data := connection.recv(65536):
            for request in frames.feed(data):
                answer = None if self._silent else self._answer(request)
                if answer is StopIteration:
                    return
                if answer:
                    connection.sendall(answer)

    def _answer(self, request):
        if len(request) < 8:
            return None
        direction, command, size, checksum = struct.unpack_from("<BBHI", request)
        body = request[8:]
        if direction != 0 or size != len(body):
            return None
        self.seen.append(command)
        if command == FLASH_DATA and self._number(body) == self._hangs_up_at:
            return StopIteration
        value, data, error = self._do(command, body, checksum)
        # ESP32: two status bytes that mean something and two that do not.
        status = struct.pack("<BBxx", int(error != 0), error)
        reply = struct.pack("<BBHI", 1, command, len(data) + 4, value) + data + status
        return frame(reply) * (8 if command == SYNC else 1)

    def _do(self, command, body, checksum):
        """Value, data and error of a command."""
        if command == SYNC:
            return SYNC_VALUE, b"", 0 if body == _GREETING else FAILED
        if command == READ_REG:
            return self._registers.get(*struct.unpack("<I", body), 0), b"", 0
        if command in {WRITE_REG, SPI_SET_PARAMS, SPI_ATTACH, CHANGE_BAUD}:
            return 0, b"", 0
        if command == FLASH_BEGIN:
            return 0, b"", self._begin(*struct.unpack("<4I", body))
        if command == FLASH_DATA:
            return 0, b"", self._write(body, checksum)
        if command == FLASH_END:
            self.reset = struct.unpack("<I", body) == (0,)
            return 0, b"", 0
        if command == FLASH_MD5:
            start, size, _, _ = struct.unpack("<4I", body)
            if start + size > FLASH_BYTES:
                return 0, b"", FAILED
            return 0, hashlib.md5(self.flash[start : start + size]).hexdigest().encode(), 0
        return 0, b"", INVALID_MESSAGE

    def _begin(self, size, blocks, block_bytes, offset):
        if offset + size > FLASH_BYTES or blocks * block_bytes < size:
            return FAILED
        self._area = (offset, blocks, block_bytes)
        first, end = offset & ~0xFFF, (offset + size + 0xFFF) & ~0xFFF
        self.flash[first:end] = b"\xff" * (end - first)
        return 0

    @staticmethod
    def _number(body):
        return struct.unpack_from("<4I", body)[1]

    def _write(self, body, checksum):
        size, number, _, _ = struct.unpack_from("<4I", body)
        data = body[16:]
        if self._area is None or size != len(data) or number >= self._area[1]:
            return FAILED
        if functools.reduce(operator.xor, data, 0xEF) != checksum:
            return BAD_CHECKSUM
        if number == self._breaks_at:
            return WRITE_ERROR
        start = self._area[0] + number * self._area[2]
        kept = bytearray(data)
        if self._wears and number == 0:
            kept[7] ^= 0x10
        self.flash[start : start + len(kept)] = kept
        return 0

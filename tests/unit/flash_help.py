"""Shared by the tests of flashing: files of every format, written apart from our own readers."""

from __future__ import annotations

import json
import struct
import sys

ARM, XTENSA, RISCV = 40, 94, 243
FLASH = 0x08000000


def pattern(size, seed=1):
    """Bytes that repeat late."""
    return bytes((seed * 7 + index * 31 + (index >> 8) * 17) & 0xFF for index in range(size))


def elf(segments, machine=ARM, symbols=(), *, kind=2, bits=1):
    """An executable of (address, bytes) and absolute (name, value) symbols."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _ in symbols)
    rows, at = bytes(16), 1
    for name, value in symbols:
        rows += struct.pack("<IIIBBH", at, value, 0, 0x10, 0, 0xFFF1)
        at += len(name) + 1
    start = 52 + 32 * len(segments)
    programs, body = b"", b""
    for address, data in segments:
        offset = start + len(body)
        size = len(data)
        programs += struct.pack("<8I", 1, offset, address, address, size, size, 5, 4)
        body += data
    tables = start + len(body)
    sections = bytes(40)
    sections += struct.pack("<10I", 0, 2, 0, 0, tables, len(rows), 2, 0, 4, 16)
    sections += struct.pack("<10I", 0, 3, 0, 0, tables + len(rows), len(names), 0, 0, 1, 0)
    head = struct.pack(
        "<4sBBB9xHHIIIIIHHHHHH", b"\x7fELF", bits, 1, 1, kind, machine, 1, 0, 52,
        tables + len(rows) + len(names), 0, 52, 32, len(segments), 40, 3, 0,
    )  # fmt: skip
    return head + programs + body + rows + names + sections


def hex_record(kind, offset, data):
    raw = bytes((len(data), offset >> 8, offset & 0xFF, kind)) + data
    return f":{(raw + bytes((-sum(raw) & 0xFF,))).hex().upper()}\n"


def intel_hex(segments):
    text = ""
    for address, data in segments:
        text += hex_record(4, 0, (address >> 16).to_bytes(2, "big"))
        for at in range(0, len(data), 16):
            text += hex_record(0, (address + at) & 0xFFFF, data[at : at + 16])
    return text + hex_record(1, 0, b"")


def uf2_block(address, data, number=0, total=1, family=0xE48BFF56, flags=0x2000):
    head = struct.pack(
        "<8I", 0x0A324655, 0x9E5D5157, flags, address, len(data), number, total, family
    )
    return head + data.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)


def esp_image(chip=0, size=512):
    """An application image of ESP-IDF, header only."""
    head = struct.pack(
        "<BBBBIB3sHBHHIB", 0xE9, 2, 2, 0x20, 0x40080000, 0xEE, bytes(3), chip, 0, 0, 0, 0, 1
    )
    return head + pattern(size - len(head))


def ignore(done, total):
    """Progress that nobody looks at."""


def program(folder, name, body):
    """A program on PATH: Python that sees its arguments as ``argv`` and can ``note`` them."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable} -IS\n"
        "import json, pathlib, sys\n"
        "argv = sys.argv[1:]\n"
        f"log = pathlib.Path({str(folder / (name + '.log'))!r})\n"
        "with log.open('a') as stream:\n"
        "    stream.write(json.dumps(argv) + '\\n')\n" + body
    )
    path.chmod(0o755)
    return path


def calls(folder, name):
    """Arguments of each time that a program of `program` was run."""
    log = folder / f"{name}.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

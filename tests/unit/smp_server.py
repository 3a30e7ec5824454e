"""An SMP server on a pseudoterminal, as MCUmgr's and MCUboot's serial recovery have it.

Written from Zephyr's "SMP protocol" and "SMP over console" pages; the CBOR is cbor2's. Groups: os
(echo, reset, parameters) and image (state, upload). One message at a time.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import struct
import threading
import tty

import cbor2

OS, IMAGE = 0, 1
ECHO, RESET, PARAMS = 0, 5, 6
STATE, UPLOAD = 0, 1
_HEAD = struct.Struct(">BBHHBB")
_FIRST, _NEXT = b"\x06\x09", b"\x04\x14"


class SmpServer:
    """``with SmpServer() as server: ... server.port ... server.image``.

    Args:
        slot_bytes: of the slot that takes an image.
        buffer_bytes: what it says it takes at once.
        silent: it never answers.
        bends: it keeps a byte wrong.
        mute_after: it stops answering after this many messages.
        jumps: it asks for an offset outside the image.
    """

    def __init__(
        self, *, slot_bytes=1 << 20, buffer_bytes=512, silent=False, bends=False, mute_after=None,
        jumps=False,
    ):  # fmt: skip
        self._slot_bytes, self._buffer_bytes = slot_bytes, buffer_bytes
        self._silent, self._bends, self._mute_after = silent, bends, mute_after
        self._jumps = jumps
        self.image = b""
        self.slot = None
        self.resets = self.messages = 0
        self._size = 0
        self._master, slave = os.openpty()
        tty.setraw(slave)
        # Kept, or the terminal hangs up between two clients.
        self._slave = slave
        self.port = os.ttyname(slave)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ends, self._tell = os.pipe()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        os.write(self._tell, b"x")
        self._thread.join(10)
        for descriptor in (self._master, self._slave, self._ends, self._tell):
            os.close(descriptor)

    def _serve(self):
        import select

        open_line, frame = b"", b""
        while True:
            ready, _, _ = select.select([self._master, self._ends], [], [])
            if self._ends in ready:
                return
            with contextlib.suppress(OSError):
                open_line += os.read(self._master, 4096)
            *lines, open_line = open_line.split(b"\n")
            for line in lines:
                if line[:2] == _FIRST:
                    frame = b""
                elif line[:2] != _NEXT:
                    continue
                frame += base64.b64decode(line[2:])
                if len(frame) > 2 and len(frame) == 2 + int.from_bytes(frame[:2], "big"):
                    self._take(frame[2:])

    def _take(self, body):
        if binascii.crc_hqx(body, 0) != 0:  # over its own CRC: XMODEM's is then zero
            return
        self.messages += 1
        if self._silent or (self._mute_after is not None and self.messages > self._mute_after):
            return
        op, _, _, group, seq, command = _HEAD.unpack_from(body)
        answer = cbor2.dumps(self._do(group, command, cbor2.loads(body[_HEAD.size : -2])))
        message = _HEAD.pack(op + 1, 0, len(answer), group, seq, command) + answer
        message += binascii.crc_hqx(message, 0).to_bytes(2, "big")
        text = base64.b64encode(len(message).to_bytes(2, "big") + message)
        for at in range(0, len(text), 124):
            mark = _FIRST if at == 0 else _NEXT
            os.write(self._master, mark + text[at : at + 124] + b"\n")

    def _do(self, group, command, request):
        if (group, command) == (OS, ECHO):
            return {"r": request["d"]}
        if (group, command) == (OS, PARAMS):
            return {"buf_size": self._buffer_bytes, "buf_count": 1}
        if (group, command) == (OS, RESET):
            self.resets += 1
            return {}
        if (group, command) == (IMAGE, UPLOAD):
            return self._upload(request)
        if (group, command) == (IMAGE, STATE):
            return {"images": self._states()}
        return {"rc": 8}

    def _upload(self, request):
        if request["off"] == 0:
            if request["len"] > self._slot_bytes:
                return {"err": {"group": IMAGE, "rc": 30}}
            self.image, self._size, self.slot = b"", request["len"], request.get("image", 0)
        if self._jumps and self.image:
            return {"off": self._size + 1000}
        if request["off"] == len(self.image):
            self.image += request["data"]
        if self._bends and len(self.image) == self._size:
            self.image = self.image[:-1] + bytes((self.image[-1] ^ 1,))
        return {"off": len(self.image)}

    def _states(self):
        old = {"slot": 0, "version": "1.0.0", "hash": bytes(32), "active": True}
        if not self._size or len(self.image) != self._size:
            return [old]
        return [old, {"slot": 1, "version": "2.0.0", "hash": hashlib.sha256(self.image).digest()}]

"""The host's end of the bridge: one request outstanding, resent until it is answered.

A request is sent again, byte for byte, when no reply came in time; the device answers a repeated
one from its memory (``PROTOCOL.md`` section 2), so nothing is carried out twice.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from waistline.errors import BadFrame, BridgeError, LinkTimeout
from waistline_bridge.boards.base import Line
from waistline_bridge.frames import REPLY, Frame, FrameParser, encode_frame
from waistline_bridge.messages import (
    ALL_LAYERS,
    MIN_PAYLOAD,
    Area,
    Command,
    DeviceInfo,
    HeadInfo,
    Mark,
    Refusal,
    Status,
    device_info,
    head_info,
    output_info,
    refusal,
)
from waistline_bridge.places import release_fix

# A page takes seconds to erase on some parts, and the first layers of a large head do, too.
DEADLINE_S = 20.0
RETRY_S = 0.25
MAX_OUTPUT_BYTES = 16 << 20
_MAX_RETRY_S = 1.0
# A request and its reply may take this long on the line itself: below 115,200 baud.
_SLOWEST_BYTES_PER_S = 8000.0
_LOAD_HEAD_BYTES = 8
_NONCE_BYTES = 8
_MAX_PAYLOAD = 1 << 15
"""More than this is not asked for at once, whatever a device says that it takes."""
_NO_REPLY_FIX = "check the cable and the board's power, or press its reset button"

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Inference:
    """What one INFER gave.

    Attributes:
        output: the encoded waist, ready for DATA; empty where not all layers ran.
        raw_len: packed bytes before entropy coding.
        ticks: of all layers and of encoding together.
    """

    output: bytes
    raw_len: int
    ticks: int


class Client:
    """A conversation with one device. Not for several threads at once.

    Attributes:
        info: what the device said when it was last asked.
        resent: requests that had to be sent again.
        deadline_s: a request that is not answered for so long is given up.
    """

    def __init__(
        self, line: Line, *, deadline_s: float = DEADLINE_S, retry_s: float = RETRY_S
    ) -> None:
        self._line = line
        self.deadline_s = deadline_s
        self._retry_s = retry_s
        self._parser = FrameParser(1 << 16)
        self._seq = os.urandom(1)[0]
        self._payload_bytes = MIN_PAYLOAD
        self.resent = 0
        self.info = self.open()

    def open(self) -> DeviceInfo:
        """Find out who is there; also after the device was reset or plugged in again.

        Raises:
            LinkTimeout, LinkClosed: nobody answers.
            VersionMismatch: its firmware speaks another protocol.
        """
        self._payload_bytes = MIN_PAYLOAD
        self.ping()
        info = self.refresh()
        self._payload_bytes = min(max(MIN_PAYLOAD, info.max_payload), _MAX_PAYLOAD)
        return info

    def ping(self) -> float:
        """Seconds until the device has sent a nonce back."""
        nonce = os.urandom(_NONCE_BYTES)
        begin = time.monotonic()
        self._ask(Command.PING, nonce, accept=lambda frame: frame.payload == nonce)
        return time.monotonic() - begin

    def refresh(self) -> DeviceInfo:
        """INFO anew."""
        self.info = device_info(self._ask(Command.INFO, bytes(4)))
        return self.info

    def head(self) -> HeadInfo | None:
        """What the active head is; None: there is none."""
        try:
            return head_info(self._ask(Command.INFO, bytes((1, 0, 0, 0))))
        except Refusal as fault:
            if fault.status == Status.NOT_NOW:
                return None
            raise

    def load_blob(self, blob: bytes, progress: Progress | None = None) -> int:
        """Send a head into the inactive slot and make it the active one; its sequence number.

        Raises:
            Refusal: too large, refused by the checks, or the flash failed, and the old head stays;
            or it was lost at once.
        """
        if len(blob) > self.info.slot_bytes:
            raise Refusal(
                f"the head has {len(blob)} bytes",
                cause=f"{self.info.board} takes {self.info.slot_bytes}",
                fix="cut earlier, or choose a larger board",
                status=Status.NO_ROOM,
            )
        self._load(Area.BLOB, blob, self.info.program_bytes, progress)
        reply = self._ask(Command.COMMIT, struct.pack("<II", len(blob), zlib.crc32(blob)))
        (sequence, _) = _unpack("<II", reply, "COMMIT")
        if self.refresh().active_crc != zlib.crc32(blob):
            raise Refusal(
                f"{self.info.board} does not hold the head that it took",
                cause=f"the CRC of its head is {self.info.active_crc:08x}, "
                f"{zlib.crc32(blob):08x} was sent",
                fix="it may have been reset meanwhile; run the same command again",
                status=Status.NOT_NOW,
            )
        return int(sequence)

    def load_input(self, data: bytes) -> None:
        """Send the bytes of all inputs, one after the other, int8 NHWC."""
        self._load(Area.INPUT, data, 1, None)

    def infer(
        self,
        *,
        golden: int | None = None,
        layers: int = ALL_LAYERS,
        limit_bytes: int = MAX_OUTPUT_BYTES,
    ) -> Inference:
        """Run the head on the loaded input, or on a golden input of the blob.

        Args:
            golden: number of a golden input.
            layers: run this many only, and encode nothing.
            limit_bytes: the most that the head can give.
        """
        source, index = (0, 0) if golden is None else (1, golden)
        reply = self._ask(Command.INFER, struct.pack("<BBHHH", source, 0, index, layers, 0))
        front = output_info(reply)
        if front.output_bytes > limit_bytes:
            raise BadFrame(
                "the device announces more than its head can give",
                cause=f"{front.output_bytes} bytes, at most {limit_bytes} are possible",
                fix=release_fix(),
            )
        output = front.inline
        if len(output) < front.output_bytes:
            output += self.read(Area.OUTPUT, len(output), front.output_bytes - len(output))
        if zlib.crc32(output) != front.crc:
            raise BadFrame(
                "the output is not what the head gave",
                cause="its CRC differs",
                fix="run the same command again; reset the board if it stays so",
            )
        return Inference(output, front.raw_len, front.ticks)

    def ticks(self) -> list[int]:
        """Of each layer of the last INFER, and of encoding."""
        head = self.head()
        if head is None:
            raise BridgeError("there are no ticks", cause="no head is loaded", fix="load one")
        data = self.read(Area.TICKS, 0, 4 * (head.layers + 1))
        return [value for (value,) in struct.iter_unpack("<I", data)]

    def read(self, area: Area, offset: int, size_bytes: int) -> bytes:
        """Bytes of the blob, the output, the ticks or the arena."""
        parts = []
        while size_bytes > 0:
            count = min(size_bytes, self._payload_bytes)
            part = self._ask(Command.READ, struct.pack("<B3xII", area, offset, count))
            if len(part) != count:
                raise BadFrame("not a reply to READ", cause=f"{len(part)} bytes of {count}")
            parts.append(part)
            offset += count
            size_bytes -= count
        return b"".join(parts)

    def mark(self, mode: Mark, settle_us: int = 0) -> None:
        """What the marker pin does during INFER."""
        self._ask(Command.MARK, struct.pack("<BBH", mode, 0, settle_us))

    def reset(self) -> DeviceInfo:
        """Start the device again and greet it."""
        self._ask(Command.RESET, bytes(4))
        return self.open()

    def enter_update(self) -> None:
        """Let the device speak SMP from now on, until it is told to reset or is pinged.

        Raises:
            Refusal: its firmware was built without (``Feature.SMP`` of its info).
        """
        self._ask(Command.RESET, bytes((1, 0, 0, 0)))

    def close(self) -> None:
        self._line.close()

    def _load(self, area: Area, data: bytes, unit: int, progress: Progress | None) -> None:
        size = self._payload_bytes - _LOAD_HEAD_BYTES
        size -= size % max(1, min(unit, size))
        for at in range(0, max(len(data), 1), size):
            chunk = data[at : at + size]
            reply = self._ask(Command.LOAD, struct.pack("<B3xI", area, at) + chunk)
            crc, following = _unpack("<II", reply, "LOAD")
            if crc != zlib.crc32(chunk) or following != at + len(chunk):
                raise Refusal(
                    f"{self.info.board} did not keep what was written",
                    cause=f"bytes {at} to {at + len(chunk)} read back differently",
                    fix="its flash may be worn out; try again",
                    status=Status.FLASH,
                )
            if progress is not None:
                progress(at + len(chunk), len(data))

    def _ask(
        self, command: Command, payload: bytes, accept: Callable[[Frame], bool] | None = None
    ) -> bytes:
        """Payload of the reply to one request.

        Raises:
            Refusal: the device answered with an error.
            LinkTimeout: no reply before the deadline; LinkClosed: the line is gone.
        """
        self._seq = (self._seq + 1) % 256
        request = encode_frame(Frame(command, self._seq, 0, payload))
        frame = self._exchange(command, request, accept)
        if frame.status != Status.OK:
            raise refusal(command, frame.status, frame.payload)
        return frame.payload

    def _exchange(
        self, command: Command, request: bytes, accept: Callable[[Frame], bool] | None
    ) -> Frame:
        deadline = time.monotonic() + self.deadline_s
        retry_s = self._retry_s
        for attempt in range(1 << 30):
            self.resent += attempt > 0
            self._line.send(request)
            on_line_s = (len(request) + self._payload_bytes) / _SLOWEST_BYTES_PER_S
            again = min(time.monotonic() + retry_s + on_line_s, deadline)
            while (left := again - time.monotonic()) > 0:
                for frame in self._parser.feed(self._line.receive(left)):
                    if frame.command != command | REPLY or frame.seq != self._seq:
                        continue
                    if accept is None or accept(frame):
                        return frame
            if time.monotonic() >= deadline:
                break
            retry_s = min(2 * retry_s, _MAX_RETRY_S)
        raise LinkTimeout(
            f"no reply to {command.name} on {self._line.name}",
            cause=f"{attempt + 1} requests in {self.deadline_s:g} s, "
            f"{self._parser.damaged} damaged frames",
            fix=_NO_REPLY_FIX,
        )


def _unpack(layout: str, payload: bytes, what: str) -> tuple[int, ...]:
    if len(payload) != struct.calcsize(layout):
        raise BadFrame(f"not a reply to {what}", cause=f"it has {len(payload)} bytes")
    return struct.unpack(layout, payload)

"""Write ``wire.json``: messages with their fields and exact bytes, for every reader of the format.

The bytes are laid out here by hand, field by field, so that the file does not merely repeat what
the library does. A changed vector is a changed protocol: raise the version in `waistline.wire`.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

BUNDLE_ID = "1f2e3d4c5b6a79880f1e2d3c4b5a69788796a5b4c3d2e1f0ffeeddccbbaa9988"
TYPES = ("HELLO", "WELCOME", "DATA", "REPLY", "ERROR", "BUSY", "PING", "PONG", "ACK", "BYE")
HELLO = {"node_id": "node-1", "bundle": BUNDLE_ID, "policy": "live", "max_in_flight": 4,
         "minor_min": 0, "minor_max": 0, "software": "waistline 0.1.0"}  # fmt: skip
WELCOME = {"edge": "edge-1", "max_in_flight": 2, "minor": 0}
ERROR = {"kind": "backend", "message": "the tail failed"}
BUNDLE_ERROR = {"kind": "bundle", "message": "edge edge-1", "bundles": [BUNDLE_ID]}
TIMES_US = (120, 35, 0, 4_321, 7)


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def vector(
    name: str,
    kind: str,
    payload: bytes = b"",
    *,
    seq: int = 0,
    raw_len: int = 0,
    budget_ms: int = 0,
    extension: bytes = b"",
    **meaning: object,
) -> dict[str, object]:
    fields = {
        "session": 0xA1B2C3D4,
        "seq": seq,
        "bundle": int.from_bytes(bytes.fromhex(BUNDLE_ID)[:4], "little"),
        "raw_len": raw_len,
        "budget_ms": budget_ms,
    }
    header = b"WL" + bytes([1, TYPES.index(kind) + 1]) + bytes(2)
    header += (40 + len(extension)).to_bytes(2, "little")
    header += u32(fields["session"], fields["seq"], fields["bundle"], len(payload))
    header += u32(raw_len, budget_ms, zlib.crc32(payload))
    header += u32(zlib.crc32(header + extension)) + extension
    return {
        "name": name,
        "type": kind,
        **fields,
        "extension": extension.hex(),
        "payload": payload.hex(),
        "meaning": meaning,
        "bytes": (header + payload).hex(),
    }


VECTORS = [
    vector("hello", "HELLO", text(HELLO), json=HELLO),
    vector("welcome", "WELCOME", text(WELCOME), json=WELCOME),
    vector("data", "DATA", bytes(range(256)), seq=1, raw_len=1_000, budget_ms=5_000),
    vector("data with the largest numbers", "DATA", b"\xff", seq=2**32 - 1, raw_len=2**32 - 1,
           budget_ms=2**32 - 1),
    vector("data without payload", "DATA", seq=2, budget_ms=1),
    vector("data with a header extension", "DATA", b"waist", seq=3, raw_len=5, budget_ms=250,
           extension=b"\x01\x02later"),
    vector("reply", "REPLY", u32(*TIMES_US) + b"answer", seq=1, times_us=TIMES_US,
           answer=b"answer".hex()),
    vector("reply without answer", "REPLY", u32(0, 0, 0, 0, 2**32 - 1), seq=2,
           times_us=(0, 0, 0, 0, 2**32 - 1), answer=""),
    vector("error about a frame", "ERROR", text(ERROR), seq=1, json=ERROR),
    vector("error about the connection", "ERROR", text(BUNDLE_ERROR), json=BUNDLE_ERROR),
    vector("busy", "BUSY", u32(1_500), seq=4, retry_after_ms=1_500),
    vector("ping", "PING"),
    vector("pong", "PONG"),
    vector("ack", "ACK", seq=9),
    vector("bye", "BYE"),
]  # fmt: skip


if __name__ == "__main__":
    path = Path(__file__).with_name("wire.json")
    path.write_text(json.dumps({"version": [1, 0], "vectors": VECTORS}, indent=1) + "\n")

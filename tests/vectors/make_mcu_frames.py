"""Writes mcu_frames.json: frames as bytes, read by the tests of both ends of the bridge."""

from __future__ import annotations

import json
import random
from pathlib import Path

from waistline_bridge.frames import Frame, encode_frame

LENGTHS = (0, 1, 7, 245, 246, 247, 248, 249, 253, 254, 255, 500, 501, 502, 503, 512)


def payloads():
    source = random.Random(6)
    for length in LENGTHS:
        yield source.randbytes(length)
        yield bytes(length)
        yield bytes(source.randrange(1, 256) for _ in range(length))


def main():
    source = random.Random(7)
    rows = []
    for payload in payloads():
        frame = Frame(
            source.randrange(1, 256), source.randrange(256), source.randrange(11), payload
        )
        rows.append(
            {
                "command": frame.command,
                "seq": frame.seq,
                "status": frame.status,
                "payload": payload.hex(),
                "frame": encode_frame(frame).hex(),
            }
        )
    Path(__file__).with_name("mcu_frames.json").write_text(json.dumps(rows, indent=0) + "\n")


if __name__ == "__main__":
    main()

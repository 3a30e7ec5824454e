"""What a bad line and a failing supply do to a microcontroller: wrong frames, lost ones, bricks.

    python benchmarks/mcu_line.py [--frames N] [--json FILE]

Needs a C compiler with sanitizers: the firmware's parser, device and slots are built with them.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import mcu_tools
from bridge_help import check_program, small_head
from device_help import client_over, device_program

from waistline.errors import LinkTimeout
from waistline_bridge.client import Client
from waistline_bridge.messages import Area
from waistline_bridge.shim import Damage

FRAMES = 1_000_000
RATES = ("1e-6", "1e-5", "1e-4", "1e-3")
RESEND_RATE = 1e-4
UPDATES = ((256, 128, 4), (1024, 512, 8), (2048, 1016, 4))
"""Page, chunk of LOAD, unit of programming."""


def noise(frames: int) -> list[dict[str, Any]]:
    """Random frames through the firmware's parser, bits flipped at random."""
    program, rows = check_program("frames"), []
    for rate in RATES:
        mcu_tools.note(f"  {frames:,} frames at {rate} ...")
        command = [str(program), "noise", str(frames), rate, "11"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        sent, delivered, wrong = map(int, done.stdout.split())
        rows.append({"rate": rate, "sent": sent, "delivered": delivered, "wrong": wrong})
    return rows


def resent(frames: int) -> dict[str, Any]:
    """Requests of every length to the firmware as a device until so many frames went either way."""
    source, found = random.Random(5), {"requests": 0, "frames": 0, "lost": 0, "wrong": 0}
    blob = small_head(seed=1, filler=6000)[0].bytes()
    with client_over(device_program(), Damage(flip=RESEND_RATE), 3) as client:
        client.load_blob(blob)
        while 2 * found["requests"] + client.resent < frames:
            found["requests"] += 1
            try:
                found["wrong"] += not _exchange(client, source, blob)
            except LinkTimeout:
                found["lost"] += 1
            if found["requests"] % 20_000 == 0:
                mcu_tools.note(f"  {found['requests']:,} requests, {client.resent:,} resent ...")
        found["resent"] = client.resent
    found["frames"] = 2 * found["requests"] + found["resent"]
    return found


def _exchange(client: Client, source: random.Random, blob: bytes) -> bool:
    """One request and its reply, long one way or the other; whether the reply is right."""
    if source.random() < 0.5:
        client.load_input(source.randbytes(source.randrange(1, 481)))  # checks the CRC
        return True
    count = source.randrange(1, 513)
    at = source.randrange(len(blob) - count)
    return client.read(Area.BLOB, at, count) == blob[at : at + count]


def updates(folder: Path) -> list[dict[str, Any]]:
    """Every operation of an update cut at every byte, in three ways; see slots.c."""
    rows = []
    for name, seed, filler in (("old", 1, 0), ("new", 2, 333)):
        (folder / name).write_bytes(small_head(seed=seed, filler=filler)[0].bytes())
    for page, chunk, unit in UPDATES:
        command = [check_program("slots"), folder / "old", folder / "new", page, chunk, unit]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        counts = [int(word) for word in done.stdout.split()] or [0, 0, 0, 0]
        rows.append(
            dict(zip(("operations", "cuts", "old", "new"), counts, strict=True))
            | {"page": page, "chunk": chunk, "unit": unit, "brick": done.stderr.strip()}
        )
    return rows


def measure(chosen: argparse.Namespace) -> tuple[str, dict[str, Any], bool]:
    mcu_tools.need("cc", "make")
    with tempfile.TemporaryDirectory() as temporary:
        cuts = updates(Path(temporary))
    sent, asked = noise(chosen.frames), resent(chosen.frames)
    figures = {"noise": sent, "resent": asked, "updates": cuts}
    none_wrong = not asked["wrong"] and not any(row["wrong"] for row in sent)
    no_brick = not any(row["brick"] or row["old"] + row["new"] != row["cuts"] for row in cuts)
    fine = none_wrong and no_brick and not asked["lost"]
    return report(figures, none_wrong, no_brick), figures, fine


def report(figures: dict[str, Any], none_wrong: bool, no_brick: bool) -> str:
    asked = figures["resent"]
    requests, lost = asked["requests"], asked["lost"]
    rates = [
        (row["rate"], f"{row['sent']:,}", f"{100 * row['delivered'] / row['sent']:.2f} %",
         row["wrong"])
        for row in figures["noise"]
    ]  # fmt: skip
    cuts = [
        (row["page"], row["chunk"], row["unit"], row["operations"], f"{row['cuts']:,}",
         f"{row['old']:,}", f"{row['new']:,}", row["brick"] or 0)
        for row in figures["updates"]
    ]  # fmt: skip
    return "\n".join(
        [
            "## A bad line and a failing supply\n",
            f"Random frames of 0..512 bytes through the firmware's parser, built with sanitizers; "
            f"goal: no frame is taken that was not sent, {mcu_tools.verdict(none_wrong)}.\n",
            mcu_tools.table(
                ("bit error rate", "frames", "delivered at once", "wrongly taken"), rates
            ),
            "",
            f"With resending, both ways at {RESEND_RATE:g}: the client against the firmware as a "
            f"device, {requests:,} requests, {asked['frames']:,} frames on the line and "
            f"{asked['resent']:,} requests sent again; goal: 100 % delivered. "
            f"{100 * (1 - lost / requests):.4f} % were ({lost} lost, {asked['wrong']} wrong): "
            f"{mcu_tools.verdict(lost == 0)}.\n",
            "Power cuts in every operation of an update of the head, at every byte of it, with the "
            "rest untouched, as noise, and torn; then the next update; goal: no brick, "
            f"{mcu_tools.verdict(no_brick)}.\n",
            mcu_tools.table(
                ("page, B", "chunk, B", "unit, B", "operations", "cut points", "old head",
                 "new head", "bricks"), cuts
            ),
        ]
    )  # fmt: skip


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=FRAMES, help="at each rate")


if __name__ == "__main__":
    sys.exit(mcu_tools.main(__doc__, measure, _options))

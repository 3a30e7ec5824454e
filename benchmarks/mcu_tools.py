"""What the microcontroller's benchmarks share: boards built from these sources, models, goals."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from waistline_bridge.boards import open_board
from waistline_bridge.boards.qemu import PROGRAM
from waistline_bridge.client import Client

ROOT = Path(__file__).resolve().parents[1]
FIRMWARE = ROOT / "firmware_bridge" / "firmware"
FASHION = ROOT / "examples" / "fashion"
BOARDS = ("qemu-mps2-an385", "qemu-mps2-an386", "qemu-mps2-an505", "qemu-mps2-an547")
CORES = {
    "qemu-mps2-an385": "M3",
    "qemu-mps2-an386": "M4",
    "qemu-mps2-an505": "M33",
    "qemu-mps2-an547": "M55",
    "qemu-netduinoplus2": "M4, 128 KB of RAM",
}
SKIPPED = 77
"""Exit status that says: a tool is missing, and the figures of an earlier run stand."""
DEADLINE_S = 300.0


class Skip(Exception):
    """A tool that is not here."""


def need(*programs: str) -> None:
    """Raises `Skip` with what to install."""
    packages = {
        "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
        PROGRAM: "qemu-system-arm",
        "cc": "gcc",
        "make": "make",
    }
    for program in programs:
        if shutil.which(program) is None:
            raise Skip(f"there is no {program}; sudo apt install {packages[program]}")


Measure = Callable[[argparse.Namespace], tuple[str, dict[str, Any], bool]]
"""Options -> page, figures for the JSON file, whether all goals are reached."""
Options = Callable[[argparse.ArgumentParser], object]


def main(doc: str, measure: Measure, options: Options = lambda parser: None) -> int:
    """Parse, measure, print Markdown, write JSON; the exit status.

    A goal that is missed is printed as missed and is not a failure of the program.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options(parser)
    chosen = parser.parse_args()
    try:
        page, figures, fine = measure(chosen)
    except Skip as reason:
        print(f"Not measured: {reason}.")
        return SKIPPED
    if chosen.json:
        content = {"schema": 1, "reached": fine, **figures}
        chosen.json.write_text(json.dumps(content, indent=1) + "\n")
    print(page)
    return 0


def verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def firmware(folder: Path, boards: Sequence[str]) -> dict[str, Path]:
    """ELFs of the boards, of the sources as they are."""
    need("make", "arm-none-eabi-gcc")
    command = ["make", "-s", "-C", str(FIRMWARE), *boards, f"OUT={folder}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return {board: folder / f"{board}.elf" for board in boards}


def flags(name: str) -> str:
    """What a variable of the firmware's Makefile holds."""
    command = ["make", "-s", "-C", str(FIRMWARE), f"print-{name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def compiler() -> str:
    done = subprocess.run(["arm-none-eabi-gcc", "--version"], capture_output=True, text=True)
    return done.stdout.splitlines()[0]


def emulator() -> str:
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True)
    return done.stdout.splitlines()[0]


@contextlib.contextmanager
def device(board: str, elf: Path, **options: str) -> Iterator[Client]:
    """A client of a board in QEMU, under no limit that a busy machine would meet."""
    need(PROGRAM)
    with open_board(board, firmware=str(elf), **options) as opened:
        yield Client(opened.line, deadline_s=DEADLINE_S)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

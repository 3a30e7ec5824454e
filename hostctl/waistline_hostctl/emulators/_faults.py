"""Faults an emulated instrument makes on purpose, and the log of what truly happened."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO, get_args

from waistline.errors import ConfigError

FaultKind = Literal["drop", "dup", "byte", "stall", "unplug"]
_FORM = re.compile(r"(?P<kind>[a-z]+)@(?P<at>\d+)(:(?P<size>[\d.]+))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """Before sample ``at`` goes out.

    ``size``: samples dropped or repeated, seconds stalled; a byte and the plug are one.
    """

    at: int
    kind: FaultKind
    size: float = 1


def parse(text: str) -> Fault:
    """Read ``KIND@SAMPLE[:SIZE]``.

    Raises:
        ConfigError: it is none.
    """
    match = _FORM.fullmatch(text)
    for kind in get_args(FaultKind):
        if match and match["kind"] == kind:
            return Fault(int(match["at"]), kind, float(match["size"] or 1))
    raise ConfigError(
        f"{text!r} is no fault",
        cause=f"kinds: {', '.join(get_args(FaultKind))}",
        fix="write drop@200000:455, dup@1000:3, byte@5000, stall@1000:0.1 or unplug@90000",
    )


def at_random(count: int, length: int, seed: int) -> list[Fault]:
    """``count`` faults of all kinds but the plug, between 0.5 s and ``length`` samples."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        at = draw.randrange(50_000, max(50_001, length))
        kind: FaultKind = draw.choice(("drop", "drop", "dup", "byte", "stall"))
        sizes: dict[str, float] = {
            "drop": draw.choice((draw.randint(1, 63), draw.randint(64, 5000))),
            "byte": 1,
        }
        sizes |= {"dup": draw.randint(1, 20), "stall": draw.uniform(0.01, 0.15)}
        found.append(Fault(at, kind, sizes[kind]))
    return sorted(found, key=lambda one: one.at)


class Truth:
    """JSON lines: what the instrument sampled, dropped, damaged; sample numbers are its own."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = None if path is None else path.open("w", encoding="utf-8")

    def say(self, event: str, **details: object) -> None:
        """One line, with the monotonic time."""
        if self._file is not None:
            row = {"event": event, "monotonic_ns": time.monotonic_ns(), **details}
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

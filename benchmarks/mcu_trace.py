"""Instructions, words loaded and modelled cycles of what QEMU carried out, from its log of blocks.

The model, for memory without wait states: an instruction takes 1 cycle; a load 2, or 1 right behind
another single load or store whose result is not its address; a double or multiple load or store 1
and 1 a word; a store with an index in a register 2; a division 7; a branch that is taken 3. On a
Cortex-M3 a multiplication that adds takes 2 and one of 64 bits 4 (the manual: 3 to 7). Alignment,
flash wait states and caches are not in it.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*([^@;]*)")
SYMBOL = re.compile(r"^([0-9a-f]+) <(.+)>:")
BLOCK = re.compile(rb"\[[0-9a-f]+/([0-9a-f]+)/")
LONG = ("smull", "umull", "smlal", "umlal")


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str

    @property
    def is_branch(self) -> bool:
        if re.fullmatch(
            r"(b|bl|bx|blx|cbn?z|tbb|tbh|bkpt)(eq|ne|cs|cc|hs|lo|mi|pl|hi|ls|ge|lt|gt|le)?",
            self.name,
        ):
            return True
        return "pc" in self.operands and self.name.startswith(("pop", "ldm", "ldr"))

    @property
    def words(self) -> int:
        """Moved to or from memory."""
        if "{" in self.operands:
            inside = self.operands.partition("{")[2].partition("}")[0]
            return sum(_registers(part) for part in inside.split(","))
        if self.name.startswith(("ldr", "str")):
            return 2 if self.name.startswith(("ldrd", "strd")) else 1
        return 0

    @property
    def loads(self) -> bool:
        return self.name.startswith(("ldr", "ldm", "pop"))

    @property
    def is_single(self) -> bool:
        return self.words == 1 and "{" not in self.operands


def _registers(part: str) -> int:
    first, _, last = part.strip().partition("-")
    names = {"sl": 10, "fp": 11, "ip": 12, "sp": 13, "lr": 14, "pc": 15}
    numbers = [names[n] if n in names else int(n[1:]) for n in (first, last or first)]
    return numbers[1] - numbers[0] + 1


@dataclass
class Cost:
    instructions: int = 0
    loaded: int = 0
    cycles: int = 0

    def add(self, other: Cost, times: int) -> None:
        self.instructions += other.instructions * times
        self.loaded += other.loaded * times
        self.cycles += other.cycles * times


class Program:
    """A linked program, disassembled."""

    def __init__(self, path: Path, core: str) -> None:
        text = subprocess.run(
            ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", str(path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self.core = core
        self.symbols = {m[2]: int(m[1], 16) for m in map(SYMBOL.match, text.splitlines()) if m}
        found = (LINE.match(line) for line in text.splitlines())
        self.code = [
            Instruction(int(m[1], 16), m[2].split(".")[0], m[3].strip()) for m in found if m
        ]
        self.place = {one.address: number for number, one in enumerate(self.code)}

    def cost(self, start: int, following: int) -> Cost:
        """Of a block from `start` on, after which `following` came."""
        cost, previous = Cost(), None
        for one in self._block(start, following):
            cost.instructions += 1
            cost.loaded += one.words if one.loads else 0
            cost.cycles += self._cycles(one, previous)
            previous = one
        if previous is not None and previous.is_branch and following != self._after(previous):
            cost.cycles += 2
        return cost

    def _after(self, one: Instruction) -> int:
        number = self.place[one.address] + 1
        return self.code[number].address if number < len(self.code) else -1

    def _block(self, start: int, following: int) -> list[Instruction]:
        """Up to a branch; if that cannot lead to `following`, QEMU has cut the block there."""
        first = number = self.place[start]
        while not self.code[number].is_branch:
            number += 1
        last = self.code[number]
        target = re.search(r"\b([0-9a-f]+) <", last.operands)
        reached = target is None or following in (int(target[1], 16), self._after(last))
        if not reached and start < following <= last.address:
            number = self.place[following] - 1
        return self.code[first : number + 1]

    def _cycles(self, one: Instruction, previous: Instruction | None) -> int:
        if one.is_single:
            base = one.operands.partition("[")[2]
            if not one.loads:
                return 2 if re.match(r"\w+, *[a-z]", base) else 1
            made = previous.operands.split(",")[0] if previous and previous.loads else "none"
            piped = previous is not None and previous.is_single
            return 1 if piped and not re.search(rf"\b{made}\b", base) else 2
        if one.words:
            return 1 + one.words
        if one.name.startswith(("sdiv", "udiv")):
            return 7
        if self.core == "m3" and one.name.startswith(LONG):
            return 4
        return 2 if self.core == "m3" and one.name.startswith(("mla", "mls")) else 1


class Trace:
    """Counts pairs of blocks that followed each other, per layer, while QEMU writes its log."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.pipe = folder / "trace.pipe"
        self.layers: list[Counter[tuple[int, int]]] = []
        os.mkfifo(self.pipe)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    @property
    def options(self) -> tuple[str, ...]:
        return ("-d", "exec,nochain", "-D", str(self.pipe))

    def _read(self) -> None:
        begins, ends = (self.program.symbols[name] for name in ("layer_begins", "layer_ends"))
        counts: Counter[tuple[int, int]] | None = None
        last = 0
        with self.pipe.open("rb") as file:
            for line in file:
                found = BLOCK.search(line)
                if found is None:
                    continue
                address = int(found[1], 16)
                if address == begins:
                    counts, last = Counter(), 0
                    self.layers.append(counts)
                elif address == ends:
                    counts = None
                elif counts is not None:
                    if last:
                        counts[last, address] += 1
                    last = address

    def costs(self) -> list[Cost]:
        """Of each layer, once QEMU has ended."""
        self.thread.join()
        self.pipe.unlink()
        return [self._cost(counts) for counts in self.layers]

    def _cost(self, counts: Counter[tuple[int, int]]) -> Cost:
        total = Cost()
        for (start, following), times in counts.items():
            total.add(self.program.cost(start, following), times)
        return total

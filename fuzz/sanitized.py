"""The microcontroller's firmware under address and undefined behaviour sanitizers.

    python fuzz/sanitized.py [blobs] [talks] [updates] [--seconds 240] [--seed N] [--json FILE]
    python fuzz/sanitized.py --input FILE     what was found, again

*blobs*: head blobs changed field by field and sealed anew. Firmware and Python reader must give the
same verdict with the same reason and record; what they take is run, twice as compiled (portable C
and the DSP kernels) on a random input, while all memory that a layer does not own is poisoned; the
tensors must be those of the NumPy interpreter. What is refused must not run.
*talks*: conversations over a bad line; every reply must be what PROTOCOL.md says (see talks.py).
*updates*: uploads by SMP; the head in force afterwards must be a sound one (see updates.py).

Inputs that reach new code are changed further. Each target takes ``--seconds`` (FUZZ_SECONDS) on
every core. An input that breaks something is kept in runs/fuzz/ (FUZZ_KEPT). Exit status 5 when
something broke, 3 without a C compiler that has sanitizers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import blobs
import talks
import updates
from driver import PATHS, BuildFailed, Died, Driver, build
from heads import random_blob

from waistline.blob.records import Reason

SECONDS = 240.0
SEEDS = 200
MAX_CORPUS = 4000
MAX_ARENA_BYTES = 40_000
MAX_PROBLEMS = 20
KEPT = Path(os.environ.get("FUZZ_KEPT") or Path(__file__).resolve().parents[1] / "runs" / "fuzz")
Sizes = tuple[int, int, int]
_DEVICES: tuple[Sizes, ...] = (
    (16_384, 8_192, 8_192),
    (4_096, 4_096, 4_096),
    (MAX_ARENA_BYTES, 16_384, 16_384),
    (MAX_ARENA_BYTES, 12_288, 2_048),
)
"""Arena and slots."""
_CASE, _SIZES = struct.Struct("<2I"), struct.Struct("<3I")


class Found:
    """What a worker counts; ``ends`` by what became of an input."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs = 0
        self.ends: Counter[str] = Counter()
        self.problems: list[str] = []

    def problem(self, what: str, content: bytes) -> None:
        """Keep the input."""
        KEPT.mkdir(parents=True, exist_ok=True)
        path = KEPT / f"{self.name}-{zlib.crc32(content):08x}"
        path.write_bytes(content)
        self.problems.append(f"{path.name}: {what}")


def try_blob(
    drivers: Sequence[Driver], data: bytes, arena_bytes: int, seed: int
) -> tuple[str, int]:
    """(how it ended, new edges).

    Raises:
        Wrong, Died: it is a finding.
    """
    ran = [driver.blob(data, arena_bytes, seed) for driver in drivers]
    reason, record, blob = blobs.verdict(data, arena_bytes)
    for one in ran:
        found = one.record if one.reason not in (0, Reason.CRC) else 0
        if (one.reason, found) != (reason, record):
            raise talks.Wrong(
                f"the firmware says reason {one.reason} of record {found}, "
                f"the reader {reason} of {record}"
            )
        if one.reason and (one.layers or one.output):
            raise talks.Wrong(f"a refused blob ran {one.layers} layers")
    edges = sum(one.new_edges for one in ran)
    if blob is None:
        return f"refused: {Reason(reason).name.lower()}", edges
    expected = blobs.expected_tensors(blob, seed)
    if expected is None:
        return "ran; no numbers promised", edges
    for one in ran:
        if one.tensors != expected:
            raise talks.Wrong("the tensors differ from the NumPy interpreter's")
        if one.output != ran[0].output:
            raise talks.Wrong("the kernels' outputs differ from each other")
    return "ran; tensors equal", edges


def fuzz_blobs(drivers: Sequence[Driver], seed: int, more: Callable[[], bool]) -> Found:
    rng, found = random.Random(seed), Found("blobs")
    sound = [random_blob(seed * SEEDS + k) for k in range(SEEDS)]
    corpus = [(each.data, each.plan.size_bytes) for each in sound]
    for data, arena_bytes in corpus:
        if (end := try_blob(drivers, data, arena_bytes, seed)[0]) != "ran; tensors equal":
            found.problem(f"a sound blob: {end}", _CASE.pack(arena_bytes, seed) + data)
    while more() and len(found.problems) < MAX_PROBLEMS:
        data, own_bytes = rng.choice(corpus)
        data = blobs.changed(rng, data, own_bytes)
        said = int.from_bytes(data[16:20], "little")
        # Mostly an arena of just the size that the blob asks for.
        arena_bytes = min(said, MAX_ARENA_BYTES) if rng.random() < 0.9 else own_bytes
        case = rng.getrandbits(20)
        found.inputs += 1
        try:
            end, edges = try_blob(drivers, data, arena_bytes, case)
        except Exception as error:
            found.problem(f"{type(error).__name__}: {error}", _CASE.pack(arena_bytes, case) + data)
            continue
        found.ends[end] += 1
        if edges and len(corpus) < MAX_CORPUS:
            corpus.append((data, max(arena_bytes, 1)))
    return found


def try_talk(driver: Driver, sizes: Sizes, said: Sequence[bytes]) -> set[str]:
    """Requests and statuses that came up.

    Raises:
        Wrong, Died: it is a finding.
    """
    driver.begin(*sizes)
    model = talks.Model(*sizes)
    for arrival in filter(None, said):
        layers, _, sent = driver.take(arrival)
        model.check(arrival, sent, layers)
    return model.asked


def try_update(driver: Driver, sizes: Sizes, said: Sequence[bytes]) -> str:
    """How it ended.

    Raises:
        Wrong, Died: it is a finding.
    """
    driver.begin(*sizes)

    def take(arrival: bytes) -> tuple[int, bytes]:
        layers, _, sent = driver.take(arrival)
        return layers, sent

    return updates.check(take, list(said), sizes[0])


def _converse(
    found: Found,
    drivers: Sequence[Driver],
    seed: int,
    more: Callable[[], bool],
    heads: int,
    arrivals: Callable[[random.Random, list[bytes]], Iterable[bytes]],
    attempt: Callable[[Driver, Sizes, Sequence[bytes]], Iterable[str]],
) -> Found:
    """Devices of all sizes in turn, each told of ``heads`` heads, some of them damaged."""
    rng = random.Random(seed)
    sound = [random_blob(seed * SEEDS + k).data for k in range(SEEDS)]
    for driver in itertools.cycle(drivers):
        if not more() or len(found.problems) >= MAX_PROBLEMS:
            break
        sizes = rng.choice(_DEVICES)
        pool = [
            data if rng.random() < 0.7 else blobs.changed(rng, data, sizes[0])
            for data in rng.sample(sound, heads)
        ]
        said = list(arrivals(rng, pool))
        found.inputs += len(said)
        try:
            found.ends.update(attempt(driver, sizes, said))
        except Exception as error:
            kept = b"".join(struct.pack("<I", len(one)) + one for one in said)
            found.problem(f"{type(error).__name__}: {error}", _SIZES.pack(*sizes) + kept)
    return found


def fuzz_talks(drivers: Sequence[Driver], seed: int, more: Callable[[], bool]) -> Found:
    return _converse(Found("talks"), drivers, seed, more, 3, talks.arrivals, try_talk)


def fuzz_updates(drivers: Sequence[Driver], seed: int, more: Callable[[], bool]) -> Found:
    def attempt(driver: Driver, sizes: Sizes, said: Sequence[bytes]) -> list[str]:
        return [try_update(driver, sizes, said)]

    return _converse(Found("updates"), drivers, seed, more, 2, updates.arrivals, attempt)


TARGETS: dict[str, tuple[Callable[..., Found], tuple[str, ...]]] = {
    "blobs": (fuzz_blobs, PATHS),
    "talks": (fuzz_talks, PATHS),
    "updates": (fuzz_updates, ("update",)),
}
"""What is fuzzed, and by which programs."""


def again(drivers: Sequence[Driver], path: Path) -> None:
    """One kept input; lets out what it breaks."""
    content = path.read_bytes()
    if path.name.startswith("blobs"):
        print(try_blob(drivers, content[_CASE.size :], *_CASE.unpack_from(content))[0])
        return
    said, sizes, rest = [], _SIZES.unpack_from(content), content[_SIZES.size :]
    while rest:
        size = int.from_bytes(rest[:4], "little")
        said.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    for driver in drivers:
        if path.name.startswith("updates"):
            print(try_update(driver, sizes, said))
        else:
            print(*sorted(try_talk(driver, sizes, said)), sep="\n")


def work(target: str, programs: Sequence[str], seed: int, seconds: float) -> None:
    """One process; says what it found as a line of JSON."""
    drivers = [Driver(Path(program)) for program in programs]
    found = TARGETS[target][0](drivers, seed, _for(seconds))
    for driver in drivers:
        try:
            driver.close()
        except Died as error:
            found.problems.append(str(error))
    print(json.dumps({"inputs": found.inputs, "ends": found.ends, "problems": found.problems}))


def _for(seconds: float) -> Callable[[], bool]:
    """Whether that time has not passed since the first call."""
    began: list[float] = []

    def more() -> bool:
        if not began:
            began.append(time.monotonic())
        return time.monotonic() < began[0] + seconds

    return more


def run(
    target: str, programs: Sequence[str], seed: int, seconds: float, jobs: int
) -> dict[str, Any]:
    """All workers; what they found, together."""
    command = [sys.executable, __file__, target, "--seconds", str(seconds), "--programs", *programs]
    workers = [
        subprocess.Popen(
            [*command, "--seed", str(seed * 1000 + k)], stdout=subprocess.PIPE, text=True
        )
        for k in range(jobs)
    ]
    said = [worker.communicate()[0] for worker in workers]
    lines = [json.loads(text) for text in said if text.strip()]
    ends: Counter[str] = sum((Counter(line["ends"]) for line in lines), Counter())
    problems = [problem for line in lines for problem in line["problems"]]
    problems += [f"a worker ended with {one.returncode}" for one in workers if one.returncode]
    inputs = sum(line["inputs"] for line in lines)
    return {"inputs": inputs, "ends": dict(sorted(ends.items())), "problems": problems,
            "seconds": seconds * jobs}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    told = os.environ.get
    add = parser.add_argument
    add("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)}")
    add("--seconds", type=float, default=float(told("FUZZ_SECONDS") or SECONDS), help="for each")
    add("--seed", type=int, default=int(told("FUZZ_SEED") or 1))
    add("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (cores)")
    add("--json", type=Path)
    add("--input", type=Path, help="run what was kept of a finding")
    add("--programs", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no target named {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    if chosen.programs:
        work(chosen.targets[0], chosen.programs, chosen.seed, chosen.seconds)
        return 0
    with tempfile.TemporaryDirectory(prefix="waistline-fuzz-") as folder:
        try:
            names = [chosen.input.name.partition("-")[0]] if chosen.input else chosen.targets
            names = names or list(TARGETS)
            kinds = dict.fromkeys(kind for name in names for kind in TARGETS[name][1])
            programs = {kind: build(kind, Path(folder)) for kind in kinds}
        except BuildFailed as error:
            print("error: fuzzing the firmware needs a C compiler with sanitizers", file=sys.stderr)
            print(f"cause: {' '.join(str(error).split())[-200:]}", file=sys.stderr)
            print("fix:   sudo apt install gcc", file=sys.stderr)
            return 3
        if chosen.input:
            again([Driver(program) for program in programs.values()], chosen.input)
            return 0
        results = {}
        for name in names:
            built = [str(programs[kind]) for kind in TARGETS[name][1]]
            results[name] = run(name, built, chosen.seed, chosen.seconds, chosen.jobs)
            print(shown(name, results[name]), flush=True)
    failed = [
        name for name, result in results.items() if result["problems"] or not result["inputs"]
    ]
    if chosen.json:
        chosen.json.write_text(json.dumps({"seed": chosen.seed, **results}, indent=1) + "\n")
    print("passed" if not failed else f"FAILED: {', '.join(failed)}; see {KEPT}")
    return 5 if failed else 0


def shown(name: str, result: dict[str, Any]) -> str:
    rows = [f"{name}: {result['inputs']:,} inputs in {result['seconds']:.0f} s of processes"]
    rows += [f"  {count:>9,}  {end}" for end, count in result["ends"].items()]
    rows += [f"  {problem}" for problem in result["problems"][:MAX_PROBLEMS]]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())

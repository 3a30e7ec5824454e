"""One edge process under load and under attack.

    python benchmarks/edge.py [--quick] [--frames N] [--nodes N] [--json FILE]

*Load*: node processes stream real images to one edge process; the four outcomes must add up to the
frames that were sent, in the nodes' records and in the edge's own count, and every remote answer
must equal the one computed here. *Overload*: `waistline bench edge`, three times the peak.
*Peers*: see edge_peers.py; a good client among slow, silent and deaf strangers and bombs.
*Mutated frames*: see edge_attack.py; the edge must not crash, must not answer from a tensor it was
not sent, and may not grow by more than 10 %. A million of them, without sockets: fuzz/run.py.
Exit status 5 when a figure is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import edge_peers
from edge_attack import Attack, sound_frame

from waistline import plugins
from waistline.backends.base import Backend, BackendOptions
from waistline.bundle.cuts import list_cuts, pick_default_cut
from waistline.bundle.store import Bundle
from waistline.errors import CodecError
from waistline.links.base import parse_endpoint
from waistline.model.load import load_model
from waistline.split import split
from waistline.stages import HeadStages, TailStages, open_slice
from waistline.task.load import load_task
from waistline_node.records import read_records

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "fashion"
OUTCOMES = ("remote", "local", "dropped", "error")
STATIC, DYNAMIC = "affine:b=4,clip=mse,per=channel|zstd:1", "q1:b=4|deflate"
MAX_GROWTH = 0.10
HONEST_EVERY = 25
WAIT_S = 120.0


class Rig:
    """The example's bundles, and what both ends compute for a frame, in this process."""

    def __init__(self, folder: Path) -> None:
        model, task = load_model(EXAMPLE / "model.onnx"), load_task(EXAMPLE / "task.toml")
        latest = pick_default_cut(list_cuts(model, task)).x
        wide = next(row.x for row in model.graph.frontiers if len(row.tensors) > 1)
        self.cuts = {latest: STATIC, wide: DYNAMIC}
        self.bundles = [
            split(model, x, folder / f"{x}.bundle", codec=codec, task=task)
            for x, codec in self.cuts.items()
        ]
        engine = plugins.load("waistline.backends", "onnxruntime")
        backend: Backend = engine.open_backend(BackendOptions())
        self.frames = list(task.data("report"))
        self._heads, self._tails = {}, {}
        for bundle in self.bundles:
            head, tail = (open_slice(backend, bundle, s) for s in (bundle.head, bundle.tail))
            self._heads[bundle.id] = HeadStages(bundle, head)
            self._tails[bundle.id] = TailStages(bundle, tail)

    def encode(self, bundle: Bundle, index: int) -> tuple[bytes, int]:
        stages = self._heads[bundle.id]
        waist = stages.encode(stages.head(stages.preprocess(self.frames[index])))
        return waist.payload, waist.raw_len

    def answer(self, bundle: Bundle, payload: bytes, raw_len: int) -> bytes | None:
        """None: the payload does not decode."""
        stages = self._tails[bundle.id]
        try:
            return stages.postprocess(stages.tail(stages.decode(payload, raw_len)))
        except CodecError:
            return None


class Edge:
    """One edge process."""

    def __init__(self, rig: Rig, folder: Path, name: str, *flags: str) -> None:
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "waistline_edge"),
                    *(str(bundle.path) for bundle in rig.bundles),
                    *("--listen", "tcp://127.0.0.1:0", *flags),
                ],
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.endpoint: str = json.loads(self.process.stdout.readline())["endpoint"]
        parsed = parse_endpoint(self.endpoint)
        self.address = parsed.host, parsed.port

    @property
    def crashes(self) -> int:
        """1 when the process is gone, plus the tracebacks in its log."""
        return int(self.process.poll() is not None) + self._log.read_text().count("Traceback")

    @property
    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def stop(self) -> dict[str, Any]:
        """Drain it; the summary it prints."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=WAIT_S)
        if self.process.returncode:
            raise SystemExit(f"the edge ended with {self.process.returncode}: see {self._log}")
        return json.loads(out.splitlines()[-1])

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@contextmanager
def running(rig: Rig, folder: Path, name: str, *flags: str) -> Iterator[Edge]:
    edge = Edge(rig, folder, name, *flags)
    try:
        yield edge
    finally:
        edge.kill()


def load(rig: Rig, folder: Path, nodes: int, frames: int) -> dict[str, Any]:
    """``nodes`` processes send ``frames`` frames in all; every outcome is counted three times."""
    shares = [frames // nodes + (k < frames % nodes) for k in range(nodes)]
    bundle = rig.bundles[0]
    with ExitStack() as stack:
        edge = stack.enter_context(running(rig, folder, "load"))
        started = time.monotonic()
        processes = []
        for k, share in enumerate(shares):
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "waistline_node", str(bundle.path)),
                    *("--source", str(EXAMPLE / "report.npz"), "--edge", edge.endpoint),
                    *("--count", str(share), "--loop", "--node-id", f"node-{k}"),
                    *("--budget-s", "60", "--records", str(folder / f"{k}.csv")),
                ],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            processes.append(process)
            stack.callback(_end, process)
        summaries = [json.loads(p.communicate()[0].splitlines()[-1]) for p in processes]
        duration_s = time.monotonic() - started
        counted = edge.stop()
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for summary in summaries:
        outcomes.update(summary["outcomes"])
        reasons.update(summary["reasons"])
    by_node = [list(read_records(folder / f"{k}.csv")) for k in range(nodes)]
    records = [row for rows in by_node for row in rows]
    expected = _expected(rig, bundle, max(shares))
    wrong = sum(
        row.answer != expected[row.index % len(rig.frames)]
        for row in records
        if row.outcome == "remote"
    )
    found = {
        "nodes": nodes,
        "frames": frames,
        "outcomes": {kind: outcomes[kind] for kind in OUTCOMES},
        "reasons": dict(sorted(reasons.items())),
        "records": dict(Counter(row.outcome for row in records)),
        "edge_frames": counted["frames"],
        "wrong_answers": wrong,
        "duration_s": duration_s,
    }
    found["passed"] = (
        sum(outcomes.values()) == frames == len(records)
        and all(outcomes[kind] == found["records"].get(kind, 0) for kind in OUTCOMES)
        and counted["frames"].get("remote", 0) == outcomes["remote"] > 0
        and all(sorted(row.index for row in rows) == list(range(len(rows))) for rows in by_node)
        and [len(rows) for rows in by_node] == shares
        and wrong == 0
    )
    return found


def _expected(rig: Rig, bundle: Bundle, most: int) -> list[bytes | None]:
    count = min(most, len(rig.frames))
    return [rig.answer(bundle, *rig.encode(bundle, index)) for index in range(count)]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


def overload(rig: Rig, folder: Path) -> dict[str, Any]:
    """`waistline bench edge` for a tail that sleeps and for the example's."""
    found: dict[str, Any] = {}
    for name, bundle in (("sleeping tail", ""), ("example", str(rig.bundles[0].path))):
        command = [sys.executable, "-m", "waistline_hostctl", "bench", "edge", "--json"]
        command += ["--runs", str(folder / "runs"), *([bundle] if bundle else [])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 5) or not done.stdout:
            raise SystemExit(f"waistline bench edge ended with {done.returncode}: {done.stderr}")
        found[name] = json.loads(done.stdout)
    found["passed"] = all(
        row.get("goals") and all(row["goals"].values()) for row in list(found.values())
    )
    return found


def peers(rig: Rig, folder: Path) -> dict[str, Any]:
    with running(rig, folder, "peers") as edge:
        sound = sound_frame(rig, rig.bundles[0], 0)
        found = edge_peers.among(edge, sound)
        found["crashes"] = edge.crashes
        edge.stop()
    found["passed"] = found["passed"] and not found["crashes"]
    return found


def mutated(rig: Rig, folder: Path, frames: int, seed: int) -> dict[str, Any]:
    """``frames`` mutated frames: six in ten damaged, three forged payloads, one forged header."""
    with running(rig, folder, "mutated") as edge:
        attack = Attack(rig, edge.address, seed)
        for _ in range(200):
            attack.ask_honestly()
        before_bytes = edge.rss_bytes
        steps = (*[attack.damage] * 6, *[attack.forge_payload] * 3, attack.forge_header)
        for number in range(frames):
            steps[number % len(steps)]()
            if number % HONEST_EVERY == 0:
                attack.ask_honestly()
        after_bytes, crashes = edge.rss_bytes, edge.crashes
        attack.close()
        summary = edge.stop()
    growth = after_bytes / before_bytes - 1
    found: dict[str, Any] = {
        "frames": frames,
        "seed": seed,
        "ends": dict(sorted(attack.ends.items())),
        "crashes": crashes,
        "internal_errors": summary["frames"].get("edge", 0),
        "wrong_tensors": attack.wrong,
        "honest_asked": attack.honest_asked,
        "honest_answers_wrong": attack.honest_wrong,
        "rss_before_bytes": before_bytes,
        "rss_after_bytes": after_bytes,
        "rss_growth": growth,
        "edge_rejects": summary["rejects"],
    }
    clean = crashes == found["internal_errors"] == attack.wrong == attack.honest_wrong == 0
    found["passed"] = clean and growth <= MAX_GROWTH
    return found


def markdown(result: dict[str, Any]) -> str:
    run, attack = result["load"], result["mutated"]
    cuts = ", ".join(f"{x}: `{codec}`" for x, codec in result["cuts"].items())
    verdict = {True: "reached", False: "**missed**"}
    rows = [
        "## One edge process",
        "",
        f"Fashion-MNIST example, ONNX Runtime on both ends, loopback TCP, x: codec {cuts}. "
        f"{run['nodes']} node processes, {run['frames']} frames of the first cut:",
        "",
        "| outcome | frames | reasons |",
        "| --- | ---: | --- |",
    ]
    for kind in OUTCOMES:
        reasons = [f"{name} {n}" for name, n in run["reasons"].items() if name.startswith(kind)]
        rows.append(f"| {kind} | {run['outcomes'][kind]} | {', '.join(reasons)} |")
    total = sum(run["outcomes"].values())
    rows += [
        f"| **sum** | **{total}** | of {run['frames']} sent; {verdict[run['passed']]} |",
        "",
        f"The edge counted {run['edge_frames']}. Remote answers that differ from those computed "
        f"without the network: {run['wrong_answers']}.",
        "",
        *(_overload_rows(result["overload"]) if "overload" in result else []),
        *(edge_peers.markdown(result["peers"]) if "peers" in result else []),
        "",
        f"{attack['frames']} mutated frames against a running edge (seed {attack['seed']}), an "
        "honest frame between every 25:",
        "",
        "| what became of it | frames |",
        "| --- | ---: |",
        *(f"| {name} | {count} |" for name, count in attack["ends"].items()),
        "",
        f"Crashes {attack['crashes']}, internal errors {attack['internal_errors']}, wrong tensors "
        f"{attack['wrong_tensors']}, honest frames answered wrongly "
        f"{attack['honest_answers_wrong']} of {attack['honest_asked']}, resident memory "
        f"{attack['rss_before_bytes'] / 2**20:.1f} -> {attack['rss_after_bytes'] / 2**20:.1f} MiB "
        f"({attack['rss_growth']:+.1%}; at most +10 %): {verdict[attack['passed']]}.",
    ]
    return "\n".join(rows)


def _overload_rows(found: dict[str, Any]) -> list[str]:
    rows = [
        "Offered three times the peak by `waistline bench edge`, half of the nodes twice as often "
        "as the others; means of the rounds:",
        "",
        "| tail | peak, frames/s | overload / peak | most / least served node | Jain | p50 / p99 "
        "at peak, ms | under overload, ms | edge, cores | generator, cores | ends | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for name, row in found.items():
        if name == "passed":
            continue
        if "figures" not in row:
            rows.append(f"| {name} | not measured: {row['what']}; {row['cause']} |")
            continue
        value = {key: figure["value"] for key, figure in row["figures"].items()}
        ends = ", ".join(f"{kind} {count}" for kind, count in row["outcomes"].items())
        verdict = "reached" if all(row["goals"].values()) else "**missed**"
        spent = [
            " / ".join(f"{value[f'{phase}_latency_{q}'] * 1e3:.0f}" for q in ("p50", "p99"))
            for phase in ("peak", "overload")
        ]
        rows.append(
            f"| {name} | {value['peak_goodput']:.0f} | **{value['goodput_share']:.3f}** | "
            f"**{value['fairness_most_over_least']:.3f}** | {value['fairness_jain']:.4f} | "
            f"{spent[0]} | {spent[1]} | {value['overload_edge_cpu']:.2f} | "
            f"{value['generator_cpu']:.2f} | {ends} | {verdict} |"
        )
    return [*rows, ""]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="4 nodes, 400 frames, 2,500 mutated, nothing that is timed",
    )
    parser.add_argument("--nodes", type=int, help="node processes (32)")
    parser.add_argument("--frames", type=int, help="frames in all (10,000)")
    parser.add_argument("--mutated", type=int, help="mutated frames (10,000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    nodes, frames, attacks = (4, 400, 2_500) if chosen.quick else (32, 10_000, 10_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rig = Rig(folder)
        result: dict[str, Any] = {
            "schema": 1,
            "benchmark": "edge",
            "cuts": {
                str(bundle.cut.partition_point): rig.cuts[bundle.cut.partition_point]
                for bundle in rig.bundles
            },
            "load": load(rig, folder, chosen.nodes or nodes, chosen.frames or frames),
            "mutated": mutated(rig, folder, chosen.mutated or attacks, chosen.seed),
        }
        if not chosen.quick:
            result["overload"] = overload(rig, folder)
            result["peers"] = peers(rig, folder)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))
    parts = ("load", "overload", "peers", "mutated")
    return 0 if all(result[part]["passed"] for part in parts if part in result) else 5


if __name__ == "__main__":
    sys.exit(main())

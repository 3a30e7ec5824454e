"""How much a live run costs above the work itself.

    python benchmarks/live.py [--frames N] [--json FILE]

*One at a time*: latency of a frame from source to answer, over (head alone + tail alone), all of
one run and interleaved: before each frame, this process runs the head and the tail by themselves.
*Overlapped, sleeping*: interval between answers over the slowest stage, where head and tail sleep,
so that nothing but the runtime is measured. *Overlapped, computing*: interval between answers over
the processor time per frame of the busier side, each pinned to a core of its own.
Node in this process, edge in another, TCP over loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from waistline import endpoints, plugins
from waistline.backends.base import BackendOptions, Slice
from waistline.backends.fake import FakeModel, write_fake
from waistline.bundle import golden
from waistline.bundle.schema import SCHEMA_VERSION, Cut, Manifest, Stage
from waistline.bundle.store import Bundle
from waistline.bundle.write import stored_file, write_bundle
from waistline.frame import SensorFrame
from waistline.model.load import load_model
from waistline.session.node import NodeSession
from waistline.split import split
from waistline.stages import open_slice
from waistline.task.spec import AnswerSpec
from waistline.tensors import TensorSpec, WaistTensor
from waistline_node.heads.tensor import TensorHead
from waistline_node.records import FrameRecord
from waistline_node.runtime import NodeRuntime, Pace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from graphs import graph_path

MODELS = {"mobilenetv2": 1.0, "resnet50": 0.3}
"""Graphs of examples/graphs.py, and their share of --frames; the first is also overlapped."""
CODEC = "affine:b=4|zstd:1"
HEAD_MS, TAIL_MS = 10.0, 12.0
ETA_LIMIT, PHI_LIMIT = 1.10, 1.08
WARM_UP = 10
WAIT_S = 60.0
BUDGET_S = 10.0


@contextmanager
def edge(bundle: Bundle, backend: str, cpu: int | None = None) -> Iterator[tuple[str, int]]:
    """An edge process with one worker; yields its endpoint and pid."""
    arguments = [str(bundle.path), "--listen", "tcp://127.0.0.1:0", "--backend", backend]
    process = subprocess.Popen(
        [sys.executable, "-m", "waistline_edge", *arguments, "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=None if cpu is None else lambda: os.sched_setaffinity(0, {cpu}),
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["endpoint"], process.pid
    finally:
        process.terminate()
        process.wait(WAIT_S)
        process.stdout.close()


@dataclass
class MadeFrames:
    """A source of ``count`` frames; ``before`` is called ahead of each and counts as no stage."""

    make: Callable[[int], tuple[np.ndarray, ...]]
    count: int
    before: Callable[[tuple[np.ndarray, ...]], None] = lambda arrays: None
    live = False
    index = 0

    def read(self) -> SensorFrame | None:
        if self.index == self.count:
            return None
        arrays = self.make(self.index)
        self.before(arrays)
        self.index += 1
        return SensorFrame(self.index - 1, arrays)

    def close(self) -> None:
        pass


def stream(
    bundle: Bundle, head: Slice, source: MadeFrames, endpoint: str, pace: Pace
) -> list[FrameRecord]:
    """Records of a run after its warm-up, by time of the answer; fails if one went astray."""
    codec = bundle.waist_codec()
    session = NodeSession(
        node_id="bench",
        session_id=random.getrandbits(32),
        bundle_id=bundle.id,
        max_payload_bytes=codec.max_payload_bytes if codec else 0,
        max_answer_bytes=bundle.answer_kind.max_bytes,
        queue_limit=2,
        budget_s=BUDGET_S,
    )
    records: list[FrameRecord] = []

    def keep(record: FrameRecord) -> None:
        records.append(record)
        if record.outcome != "remote":
            runtime.stop()

    runtime = NodeRuntime(
        bundle, TensorHead(bundle, head), source, session,
        lambda: endpoints.connect(endpoint, 5.0), pace=pace, on_record=keep,
    )  # fmt: skip
    summary = runtime.run()
    if summary.outcomes["remote"] != source.count:
        sys.exit(f"only {summary.outcomes['remote']} of {source.count} frames: {summary.reasons}")
    return sorted(records, key=ended)[WARM_UP:]


def ended(record: FrameRecord) -> float:
    return record.started_s + record.latency_s


def interval_s(records: Sequence[FrameRecord]) -> float:
    return (ended(records[-1]) - ended(records[0])) / (len(records) - 1)


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def picture(index: int, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """A smooth seeded image, (1, 3, H, W): noise on a coarse grid, each cell 16 x 16 pixels."""
    grid = np.random.default_rng(index).standard_normal((1, 3, shape[2] // 16, shape[3] // 16))
    return (np.kron(grid, np.ones((1, 1, 16, 16))).astype(np.float32),)


def computing_bundle(folder: Path, name: str) -> Bundle:
    """A graph cut at the single-tensor frontier next to half of its MACs."""
    model = load_model(graph_path(name))
    half = sum(layer.macs for layer in model.graph.layers) / 2
    single = [row for row in model.graph.frontiers[1:-1] if len(row.tensors) == 1]
    x = min(single, key=lambda row: abs(row.macs_before - half)).x
    return split(model, x, folder / f"{name}.bundle", codec=CODEC)


def sleeping_bundle(folder: Path) -> Bundle:
    """Head and tail sleep; the waist has 128 x 26 x 26 elements."""
    given = TensorSpec("x", "float32", (1, 64))
    waist = TensorSpec("w", "float32", (1, 128, 26, 26), "NCHW", 1)
    answer = TensorSpec("y", "float32", (1, 10))

    def build(place: Path) -> Manifest:
        write_fake(place / "head.fake", FakeModel((given,), (waist,), "cycle", HEAD_MS))
        write_fake(place / "tail.fake", FakeModel((waist,), (answer,), "cycle", TAIL_MS))
        stages = (
            Stage("head", stored_file(place, "head.fake"), "fake", (given,), (waist,)),
            Stage("tail", stored_file(place, "tail.fake"), "fake", (waist,), (answer,)),
        )
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            model_name="sleeping",
            model_sha256="0" * 64,
            partition_points=3,
            stages=stages,
            cuts=(Cut(2, "head", (WaistTensor(waist, "affine:b=8|zstd:1"),)),),
            model_inputs=(given,),
            model_outputs=(answer,),
            preprocess=None,
            answer=AnswerSpec("tensors", {"outputs": [msgspec.to_builtins(answer)]}),
            opsets={},
            golden=golden.EMPTY,
            created_by="benchmarks/live.py",
        )
        backend = plugins.load("waistline.backends", "fake").open_backend(BackendOptions())
        frame = golden.invented_frame((given,), None)
        unsigned = Bundle(place, manifest, "0" * 64)
        made = golden.write_golden(place, unsigned, backend, frame)
        return msgspec.structs.replace(manifest, golden=made)

    return write_bundle(folder / "sleeping.bundle", build)


def slices(bundle: Bundle, backend: str) -> tuple[Slice, Slice]:
    engine = plugins.load("waistline.backends", backend).open_backend(BackendOptions())
    head, tail = open_slice(engine, bundle, bundle.head), open_slice(engine, bundle, bundle.tail)
    assert head is not None
    assert tail is not None
    return head, tail


def one_at_a_time(bundle: Bundle, count: int) -> dict[str, Any]:
    head, tail = slices(bundle, "onnxruntime")
    shape = bundle.manifest.model_inputs[0].shape
    alone: list[tuple[float, float]] = []

    def run_alone(arrays: tuple[np.ndarray, ...]) -> None:
        waist: list[np.ndarray] = []
        head_s = timed(lambda: waist.extend(head.run(arrays)))
        alone.append((head_s, timed(lambda: tail.run(waist))))

    with edge(bundle, "onnxruntime") as (endpoint, _):
        source = MadeFrames(lambda index: picture(index, shape), count + WARM_UP, run_alone)
        records = stream(bundle, head, source, endpoint, Pace(sequential=True))
    ideal = [sum(alone[record.index]) for record in records]
    real = [record.latency_s - record.source_s for record in records]
    parts = ("encode_s", "node_queue_s", "transit_s", "edge_queue_s", "decode_s", "postprocess_s")
    return {
        "frames": len(records),
        "head_alone_s": statistics.median(alone[record.index][0] for record in records),
        "tail_alone_s": statistics.median(alone[record.index][1] for record in records),
        "end_to_end_s": statistics.median(real),
        "eta": statistics.median(real) / statistics.median(ideal),
        "eta_paired_quartiles": statistics.quantiles(
            (a / b for a, b in zip(real, ideal, strict=True)), n=4
        ),
        "waist_bytes": statistics.median(record.waist_bytes for record in records),
        "head_s": statistics.median(record.head_s for record in records),
        "tail_s": statistics.median(record.tail_s for record in records),
        **{part: statistics.median(getattr(record, part) for record in records) for part in parts},
    }


def overlapped_sleeping(bundle: Bundle, count: int) -> dict[str, Any]:
    head, tail = slices(bundle, "fake")
    given = (np.ones(bundle.manifest.model_inputs[0].shape, np.float32),)
    waist = head.run(given)

    def alone() -> float:
        return max(
            statistics.median(timed(lambda: head.run(given)) for _ in range(20)),
            statistics.median(timed(lambda: tail.run(waist)) for _ in range(20)),
        )

    before_s = alone()
    with edge(bundle, "fake") as (endpoint, _):
        source = MadeFrames(lambda index: given, count + WARM_UP)
        records = stream(bundle, head, source, endpoint, Pace(queue_limit=2))
    slowest_s = statistics.mean((before_s, alone()))
    found_s = interval_s(records)
    return {
        "frames": len(records),
        "slowest_stage_alone_s": slowest_s,
        "interval_s": found_s,
        "phi": found_s / slowest_s,
    }


def overlapped_computing(bundle: Bundle, count: int) -> dict[str, Any]:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return {}
    head, _ = slices(bundle, "onnxruntime")
    shape = bundle.manifest.model_inputs[0].shape
    frames = [picture(index, shape) for index in range(16)]
    os.sched_setaffinity(0, {allowed[0]})
    try:
        with edge(bundle, "onnxruntime", allowed[1]) as (endpoint, pid):
            edge_before, node_before = process_cpu_s(pid), time.process_time()
            source = MadeFrames(lambda index: frames[index % 16], count + WARM_UP)
            records = stream(bundle, head, source, endpoint, Pace(queue_limit=2))
            node_s = (time.process_time() - node_before) / source.count
            edge_s = (process_cpu_s(pid) - edge_before) / source.count
    finally:
        os.sched_setaffinity(0, set(allowed))
    found_s = interval_s(records)
    return {
        "frames": len(records),
        "node_cpu_s": node_s,
        "edge_cpu_s": edge_s,
        "interval_s": found_s,
        "ratio": found_s / max(node_s, edge_s),
    }


def process_cpu_s(pid: int) -> float:
    """User and system time of a process and its threads (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def verdict(value: float, limit: float) -> str:
    return f"**{value:.3f}**, goal <= {limit:.2f}{'' if value <= limit else ', missed'}"


def report_one(name: str, one: dict[str, Any]) -> None:
    ms = {key: value * 1e3 for key, value in one.items() if key.endswith("_s")}
    low, middle, high = one["eta_paired_quartiles"]
    above_ms = ms["end_to_end_s"] - ms["head_alone_s"] - ms["tail_alone_s"]
    parts = ("head", "encode", "node_queue", "transit", "edge_queue", "decode", "tail",
             "postprocess")  # fmt: skip
    medians = ", ".join(f"{part} {ms[f'{part}_s']:.2f}" for part in parts)
    print(
        f"{name}, waist `{CODEC}` of {one['waist_bytes']:.0f} bytes, {one['frames']} frames, one "
        f"thread: head alone {ms['head_alone_s']:.2f} ms, tail alone {ms['tail_alone_s']:.2f} ms, "
        f"end to end {ms['end_to_end_s']:.2f} ms.\n\n"
        f"- end to end / (head + tail): {verdict(one['eta'], ETA_LIMIT)}; quartiles of the paired "
        f"ratios {low:.3f}, {middle:.3f}, {high:.3f}; above the work: {above_ms:.2f} ms\n"
        f"- medians in ms: {medians}\n"
    )


def report(found: dict[str, Any]) -> None:
    sleeping, computing = found["sleeping"], found["computing"]
    print("## Live run\n\n### One frame at a time\n")
    for name, one in found["sequential"].items():
        report_one(name, one)
    print("### Stages overlapped\n")
    print(
        f"- sleeping stages of {HEAD_MS:g} and {TAIL_MS:g} ms, {sleeping['frames']} frames: "
        f"interval {sleeping['interval_s'] * 1e3:.2f} ms / slowest stage alone "
        f"{sleeping['slowest_stage_alone_s'] * 1e3:.2f} ms = {verdict(sleeping['phi'], PHI_LIMIT)}"
    )
    if computing:
        print(
            f"- {next(iter(MODELS))}, node and edge each on a core of its own: interval "
            f"{computing['interval_s'] * 1e3:.2f} ms / processor time of the busier side "
            f"{max(computing['node_cpu_s'], computing['edge_cpu_s']) * 1e3:.2f} ms "
            f"(node {computing['node_cpu_s'] * 1e3:.2f}, edge {computing['edge_cpu_s'] * 1e3:.2f})"
            f" = **{computing['ratio']:.2f}** (stated; other load on these cores counts against it)"
        )
    else:
        print("- computing stages: this machine has one core, so nothing can overlap")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="waistline-live-") as folder:
        bundles = {name: computing_bundle(Path(folder), name) for name in MODELS}
        sleeping = sleeping_bundle(Path(folder))
        found = {
            "sequential": {
                name: one_at_a_time(bundle, max(10, int(chosen.frames * MODELS[name])))
                for name, bundle in bundles.items()
            },
            "sleeping": overlapped_sleeping(sleeping, chosen.frames),
            "computing": overlapped_computing(next(iter(bundles.values())), chosen.frames),
        }
    report(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

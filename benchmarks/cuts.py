"""Is head + tail the whole model? Cut real graphs at their frontiers, run both parts, compare.

    python benchmarks/cuts.py [NAME..] [--sample] [--json FILE]

Each slice is extracted and run by ONNX Runtime on one thread, as it would be deployed, with the
weights shared in memory instead of rewritten for every cut. With graph optimisations off the
answers must be equal bit for bit; with them on, an engine fuses other layers in a slice than in
the whole model, so the largest difference is given in standard deviations of the logits. Where the
model ends in a softmax, which would hide errors, the logits before it are compared as well, and
they alone are measured. Exit status 5 when a cut is not bitwise equal, or the logits' standard
deviation is outside 0.1..10.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import graphs
import graphs_light
import graphs_net
import numpy as np
import onnx
import onnxruntime as ort

from waistline.model import onnx_cut, onnx_graph
from waistline.model.frontiers import list_frontiers
from waistline.model.graph import Frontier

SHARED_ELEMENTS = 4096
"""Larger weights are handed to each session from memory."""
SAMPLE = 5
"""Frontiers of each graph in a sample."""
HEAVY = {"vgg16", "alexnet", "light_vgg19", "light_bvlc_alexnet", "light_zfnet512"}
"""More than 200 MB of weights; a sample leaves them out."""
MAX_OPTIMISED = 1e-5
"""Largest difference with optimisations on, in standard deviations of the logits."""

Arrays = dict[str, np.ndarray]


@dataclass
class Row:
    """What one graph gave."""

    graph: str
    layers: int
    frontiers: int
    single_tensor: int
    widest: int
    macs: int
    list_s: float
    logits_std: float
    cuts_tried: int = 0
    bitwise_equal: int = 0
    optimised_max_over_std: float = 0.0
    duration_s: float = 0.0

    @property
    def passed(self) -> bool:
        return self.bitwise_equal == self.cuts_tried and 0.1 <= self.logits_std <= 10


class SharedWeights:
    """A model whose heavy weights live here once, and sessions over parts of it."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.values: dict[str, ort.OrtValue] = {}
        for tensor in proto.graph.initializer:
            if np.prod(tensor.dims) <= SHARED_ELEMENTS:
                continue
            array = onnx.numpy_helper.to_array(tensor)
            self.values[tensor.name] = ort.OrtValue.ortvalue_from_numpy(array)
            place = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            place.data_location = onnx.TensorProto.EXTERNAL
            for key, text in (
                ("location", "memory"),
                ("offset", "0"),
                ("length", str(array.nbytes)),
            ):
                place.external_data.add(key=key, value=text)
            tensor.CopyFrom(place)

    def run(self, proto: onnx.ModelProto, feeds: Arrays, *, exact: bool) -> Arrays:
        options = graphs_net.session_options(exact=exact)
        names = [t.name for t in proto.graph.initializer if t.name in self.values]
        if names:
            options.add_external_initializers(names, [self.values[name] for name in names])
        session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        inputs = [item.name for item in session.get_inputs()]
        outputs = [item.name for item in session.get_outputs()]
        results = session.run(outputs, {name: feeds[name] for name in inputs})
        return dict(zip(outputs, results, strict=True))


def measure(name: str, *, sample: bool) -> Row:
    """Try the frontiers of one graph."""
    start = time.perf_counter()
    proto = onnx.load(graphs.graph_path(name)) if name in graphs.GRAPHS else graphs.build(name)
    logits = graphs_light.logits_of(proto)
    feeds = graphs_net.sample_input(proto, seed=1)
    weights = SharedWeights(proto)
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    wanted = [value.name for value in proto.graph.output]
    measured = list(wanted)
    if logits not in wanted:
        measured = [logits]
        wanted.append(logits)
        whole.graph.output.append(onnx.ValueInfoProto(name=logits))
    reference = {exact: weights.run(whole, feeds, exact=exact) for exact in (True, False)}
    model = onnx_graph.from_proto(proto, Path(name))
    row = _row(name, model, reference[True][logits])
    std = {key: float(reference[True][key].std()) for key in measured}
    for frontier in _chosen(model.graph.frontiers, sample):
        row.cuts_tried += 1
        got = run_cut(weights, model, frontier, wanted, feeds, exact=True)
        row.bitwise_equal += all(
            got[key].tobytes() == reference[True][key].tobytes() for key in wanted
        )
        got = run_cut(weights, model, frontier, wanted, feeds, exact=False)
        worst = max(
            float(np.abs(got[key] - reference[False][key]).max()) / std[key] for key in measured
        )
        row.optimised_max_over_std = max(row.optimised_max_over_std, worst)
    row.duration_s = time.perf_counter() - start
    return row


def _row(name: str, model: onnx_graph.OnnxModel, logits: np.ndarray) -> Row:
    graph = model.graph
    specs = {spec.name: spec for frontier in graph.frontiers for spec in frontier.tensors}
    start = time.perf_counter()
    list_frontiers(graph.inputs, graph.outputs, graph.layers, specs)
    list_s = time.perf_counter() - start
    widths = [len(frontier.tensors) for frontier in graph.frontiers]
    return Row(
        graph=name,
        layers=len(graph.layers),
        frontiers=len(widths),
        single_tensor=widths.count(1),
        widest=max(widths),
        macs=graph.frontiers[-1].macs_before,
        list_s=list_s,
        logits_std=float(logits.std()),
    )


def _chosen(frontiers: Sequence[Frontier], sample: bool) -> list[Frontier]:
    if not sample:
        return list(frontiers)
    picks = np.linspace(0, len(frontiers) - 1, SAMPLE + 2).round().astype(int)[1:-1]
    return [frontiers[k] for k in dict.fromkeys(picks.tolist())]


def run_cut(
    weights: SharedWeights,
    model: onnx_graph.OnnxModel,
    frontier: Frontier,
    wanted: Sequence[str],
    feeds: Arrays,
    *,
    exact: bool,
) -> Arrays:
    """Head, then tail, each extracted and run on its own."""
    inputs = [spec.name for spec in model.graph.inputs]
    if frontier.x == model.graph.last_x:
        return weights.run(onnx_cut.extract(model, inputs, wanted), feeds, exact=exact)
    if frontier.x > 1:
        head = onnx_cut.extract(model, inputs, frontier.names)
        feeds = weights.run(head, feeds, exact=exact)
    tail = onnx_cut.extract(model, frontier.names, wanted)
    return weights.run(tail, feeds, exact=exact)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| graph | layers | frontiers (single) | widest | GMAC | listed in (ms) | logits std "
        "| bitwise equal, exact | max diff / std, optimised | time (s) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r.graph} | {r.layers} | {r.frontiers} ({r.single_tensor}) | {r.widest} "
            f"| {r.macs / 1e9:.2f} | {r.list_s * 1e3:.1f} | {r.logits_std:.2f} "
            f"| {r.bitwise_equal}/{r.cuts_tried} | {r.optimised_max_over_std:.1e} "
            f"| {r.duration_s:.0f} |"
        )
    return "\n".join(lines)


HEADING = f"""## Head and tail against the whole model

Every frontier is cut and run with onnxruntime, one thread. Exact: graph optimisations off, head +
tail bitwise equal to the whole (goal: all). Optimised: largest difference of the logits over their
standard deviation (goal: <= {MAX_OPTIMISED:g}). `light_*` are the onnx package's models with random
weights.
"""


def main() -> int:
    known = [*graphs.GRAPHS, *graphs_light.light_files()]
    parser = argparse.ArgumentParser(description="Compare head + tail with the whole model.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="graphs; all without a name")
    parser.add_argument("--sample", action="store_true", help="a few frontiers, no heavy graph")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"no graph {', '.join(unknown)}; known: {', '.join(known)}")
    names = options.names or [name for name in known if not (options.sample and name in HEAVY)]
    rows = []
    for name in names:
        rows.append(measure(name, sample=options.sample))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(HEADING)
    print(table(rows))
    over = [row.graph for row in rows if row.optimised_max_over_std > MAX_OPTIMISED]
    if over:
        print(f"over {MAX_OPTIMISED:g} standard deviations with optimisations: {', '.join(over)}")
    if options.json:
        report = {
            "schema": 1,
            "benchmark": "cuts",
            "onnxruntime": ort.__version__,
            "onnx": onnx.__version__,
            "machine": platform.machine(),
            "threads": 1,
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(row.passed for row in rows) else 5


if __name__ == "__main__":
    sys.exit(main())

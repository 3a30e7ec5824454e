"""Accuracy lost by quantizing the waist of the example network, at every cut.

For each partition point x in 2..N-1 the example is cut, the head run on every test image, its
waist encoded and decoded by the real codec, and the tail run on the result.
Paired: each image is judged with and without the codec, so that the network's own mistakes cancel.
No weight is touched; clip limits come from the 256 calibration images alone. The entropy coder is
left out, because it is lossless. Only the batch axis of the slices is freed, for speed.

The full 10,000 test images are used where the Debian package dataset-fashion-mnist is installed,
else the 1,000 report images of the repository, and the page says which.

    python benchmarks/accuracy.py [--frames N] [--jobs N] [--json FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import msgspec
import numpy as np
import onnx
import onnxruntime

from waistline.codec.calibrate import calibrate
from waistline.codec.spec import parse_spec
from waistline.codec.waist import WaistCodec
from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure
from waistline.model.graph import Frontier
from waistline.model.load import load_model
from waistline.model.onnx_cut import cut_model
from waistline.task.load import Task, load_task
from waistline.task.preprocess import apply
from waistline.tensors import WaistTensor

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "fashion"
MODEL, TASK = EXAMPLE / "model.onnx", EXAMPLE / "task.toml"
CODECS = (
    "affine:b=4,clip=mse,per=channel",
    "affine:b=2,clip=mse,per=channel",
    "affine:b=1,clip=mse,per=channel",
    "q1:b=4",
    "q1:b=2",
    "q2",
    "q2m",
)
TARGETS = {CODECS[0]: 0.3, CODECS[1]: 1.0}
"""Largest median loss in points."""
BATCH = 250
CHECKED_FRAMES = 10
RESAMPLES, SEED = 4000, 20_170_825
QUANTILES = (2.5, 97.5)


class Slice:
    """One slice of the model with its batch axis freed, on one thread."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        free = onnx.ModelProto()
        free.CopyFrom(proto)
        del free.graph.value_info[:]
        for value in (*free.graph.input, *free.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            free.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, names: tuple[str, ...], arrays: list[np.ndarray], outputs: tuple[str, ...]):
        """Arrays (n, ...) in the order of ``names`` -> arrays (n, ...) in that of ``outputs``."""
        return self._session.run(list(outputs), dict(zip(names, arrays, strict=True)))


def batches(task: Task, data: str, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Model inputs float32 (n, C, H, W) and labels int64 (n,) of the first ``limit`` images."""
    inputs, labels = [], []
    for frame in task.data(data):
        if frame.index >= limit:
            break
        inputs.append(apply(task.preprocess, frame.arrays[0]))
        labels.append(frame.label)
        if len(inputs) == BATCH:
            yield np.concatenate(inputs), np.array(labels)
            inputs, labels = [], []
    if inputs:
        yield np.concatenate(inputs), np.array(labels)


class Channel:
    """Encodes and decodes the waists of many frames with one codec.

    Static clip limits treat a block of frames as they treat each frame, so a block goes through
    the codec at once; that it is bit-identical to frame by frame is checked on each first block.
    A dynamic codec finds its range in each frame, and gets one frame at a time.
    """

    def __init__(self, spec: str, frontier: Frontier, samples: list[np.ndarray]) -> None:
        parsed = parse_spec(spec)
        self._static = parsed.needs_calibration
        self._rows = []
        for tensor, waists in zip(frontier.tensors, samples, strict=True):
            frames = (waist[None] for waist in waists)
            ranges = calibrate(tensor, parsed, frames) if self._static else None
            self._rows.append(WaistTensor(tensor, str(parsed), ranges))
        self.codec = WaistCodec(self._rows)
        self._blocks: dict[int, WaistCodec] = {}

    def through(self, waists: list[np.ndarray]) -> list[np.ndarray]:
        """What the tail receives for ``waists``, an array (n, ...) a tensor."""
        count = len(waists[0])
        if not self._static:
            return self._one_by_one(waists, count)
        new = count not in self._blocks
        if new:
            self._blocks[count] = WaistCodec([_block(row, count) for row in self._rows])
        decoded = _there_and_back(self._blocks[count], waists)
        if new:
            few = min(count, CHECKED_FRAMES)
            for fast, slow in zip(decoded, self._one_by_one(waists, few), strict=True):
                np.testing.assert_array_equal(fast[:few], slow)
        return decoded

    def _one_by_one(self, waists: list[np.ndarray], count: int) -> list[np.ndarray]:
        frames = ([waist[index : index + 1] for waist in waists] for index in range(count))
        decoded = [_there_and_back(self.codec, frame) for frame in frames]
        return [np.concatenate(column) for column in zip(*decoded, strict=True)]


def _block(row: WaistTensor, count: int) -> WaistTensor:
    """``row`` for ``count`` frames at once."""
    tensor = msgspec.structs.replace(row.tensor, shape=(count, *row.tensor.shape[1:]))
    return msgspec.structs.replace(row, tensor=tensor)


def _there_and_back(codec: WaistCodec, waists: list[np.ndarray]) -> list[np.ndarray]:
    sent = codec.encode(waists)
    return codec.decode(sent.payload, sent.raw_len)


def judge(x: int, data: str, limit: int) -> dict[str, Any]:
    """One cut: which images each codec gets right, bool (n,), under its spec; "float" without."""
    model, task = load_model(MODEL), load_task(TASK)
    frontier = next(row for row in model.graph.frontiers if row.x == x)
    head, tail = (Slice(proto) for proto in cut_model(model, frontier) if proto)
    image = tuple(spec.name for spec in model.graph.inputs)
    logits = tuple(spec.name for spec in model.graph.outputs)

    calibration = [
        head.run(image, [part], frontier.names) for part, _ in batches(task, "calibration", 256)
    ]
    samples = [np.concatenate(column) for column in zip(*calibration, strict=True)]
    channels = {spec: Channel(spec, frontier, samples) for spec in CODECS}
    right: dict[str, list[np.ndarray]] = {spec: [] for spec in ("float", *CODECS)}
    for part, labels in batches(task, data, limit):
        waists = head.run(image, [part], frontier.names)
        for spec in right:
            tensors = waists if spec == "float" else channels[spec].through(waists)
            answer = tail.run(frontier.names, tensors, logits)[0].argmax(axis=1)
            right[spec].append(answer == labels)
    return {
        "x": x,
        "names": frontier.names,
        "raw_len": {spec: channel.codec.raw_len for spec, channel in channels.items()},
        "implementation": channels[CODECS[0]].codec.implementation,
        "right": {spec: np.concatenate(rows) for spec, rows in right.items()},
    }


def bootstrap(losses: np.ndarray) -> tuple[float, float, float]:
    """Median over the cuts with a 95 % interval and standard error, all in points.

    ``losses``: int8 (cuts, images), +1 where the codec spoils an image, -1 where it mends one.
    Images are resampled, the same ones at every cut, so that the cuts stay as correlated as
    they are; the cuts themselves are not a sample of anything.
    """
    rng = np.random.default_rng(SEED)
    count = losses.shape[1]
    share = losses.T.astype(np.float32)
    medians = []
    for _ in range(RESAMPLES):
        times_drawn = np.bincount(rng.integers(count, size=count), minlength=count)
        medians.append(np.median(times_drawn.astype(np.float32) @ share))
    points = 100 * np.array(medians) / count
    low, high = np.percentile(points, QUANTILES)
    return float(low), float(high), float(points.std(ddof=1))


def per_cut(loss: np.ndarray) -> dict[str, float]:
    """Mean loss of int8 (images,) with its paired 95 % interval (normal), in points."""
    error = 100 * float(loss.std(ddof=1)) / len(loss) ** 0.5
    mean = 100 * float(loss.mean())
    return {"loss_points": mean, "low": mean - 1.96 * error, "high": mean + 1.96 * error}


def over_cuts(spec: str, losses: np.ndarray, source: str) -> dict[str, Any]:
    """What one codec costs over all cuts; ``losses`` int8 (cuts, images)."""
    values = 100 * losses.mean(axis=1)
    median = float(np.median(values))
    low, high, error = bootstrap(losses)
    target = TARGETS.get(spec)
    return {
        "median_loss": Figure(
            median / 100, "1", Evidence.MEASURED, source, error / 100, losses.shape[1]
        ),
        "median_loss_points": median,
        "low": low,
        "high": high,
        "quartiles_points": statistics.quantiles(values.tolist(), n=4),
        "worst_points": float(values.max()),
        "target_points": target,
        "reached": None if target is None else median <= target,
    }


def summarize(cuts: list[dict[str, Any]], data: str) -> dict[str, Any]:
    """The machine-readable result."""
    whole = cuts[0]["right"]["float"]
    count = len(whole)
    source = f"benchmarks/accuracy.py, {count} {data} images, {len(cuts)} cuts"
    share, error = float(whole.mean()), float(whole.std(ddof=1)) / count**0.5
    result: dict[str, Any] = {
        "benchmark": "accuracy",
        "version": 1,
        "data": data,
        "images": count,
        "model_sha256": load_model(MODEL).graph.sha256,
        "implementation": cuts[0]["implementation"],
        "float": Figure(share, "1", Evidence.MEASURED, source, error, count),
        "codecs": {},
        "cuts": [{"x": cut["x"], "names": cut["names"], "codecs": {}} for cut in cuts],
    }
    for spec in CODECS:
        losses = np.stack(
            [cut["right"]["float"].astype(np.int8) - cut["right"][spec] for cut in cuts]
        )
        result["codecs"][spec] = over_cuts(spec, losses, source)
        for row, cut, loss in zip(result["cuts"], cuts, losses, strict=True):
            row["codecs"][spec] = {**per_cut(loss), "codes_bytes": cut["raw_len"][spec]}
    return result


def markdown(result: dict[str, Any]) -> str:
    whole: Figure = result["float"]
    rows = [
        "## Accuracy lost at the waist\n",
        f"`examples/fashion`, {result['images']:,} {result['data']} images, "
        f"uncut {100 * whole.value:.2f} % +- {100 * (whole.standard_uncertainty or 0):.2f}; "
        f"{len(result['cuts'])} cuts (x = 2..N-1), codec in {result['implementation']}. "
        "Points lost against the uncut float model, paired by image, no retraining, clip limits "
        "from 256 calibration images; 95 % intervals, images resampled.\n",
        "| codec | median over cuts | 95 % | quartiles | worst cut | target |",
        "|---|---|---|---|---|---|",
    ]
    if result["data"] != "test":
        rows.insert(
            2, "The full test set is not installed (`apt install dataset-fashion-mnist`).\n"
        )
    for spec, row in result["codecs"].items():
        target = row["target_points"]
        verdict = "" if target is None else f"<= {target}: {'yes' if row['reached'] else 'MISSED'}"
        first, _, third = row["quartiles_points"]
        rows.append(
            f"| `{spec}` | {row['median_loss_points']:.2f} | {row['low']:.2f} .. {row['high']:.2f} "
            f"| {first:.2f}, {third:.2f} | {row['worst_points']:.2f} | {verdict} |"
        )
    short = [spec.replace(",clip=mse,per=channel", "") for spec in CODECS]
    rows += [
        "\nPoints lost at each cut, +- half a 95 % interval (affine: clip=mse, per=channel):\n",
        "| x | waist | " + " | ".join(short) + " |",
        "|---" * (2 + len(short)) + "|",
    ]
    for cut in result["cuts"]:
        cells = [
            f"{cell['loss_points']:.2f} +- {(cell['high'] - cell['low']) / 2:.2f}"
            for cell in cut["codecs"].values()
        ]
        rows.append(f"| {cut['x']} | {', '.join(cut['names'])} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def pick_data(task: Task) -> str:
    """``test`` where the full test set is installed, else ``report``."""
    try:
        return "test" if len(task.data("test")) else "report"
    except ConfigError as error:
        print(f"{error}; using the report images", file=sys.stderr)
        return "report"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000, help="at most this many images")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = pick_data(load_task(TASK))
    last = load_model(MODEL).graph.last_x
    context = multiprocessing.get_context("spawn")
    cuts = []
    with ProcessPoolExecutor(options.jobs, context) as pool:
        waiting = [pool.submit(judge, x, data, options.frames) for x in range(2, last)]
        for done in waiting:
            cuts.append(done.result())
            print(f"cut {len(cuts)}/{len(waiting)}", file=sys.stderr, flush=True)
    result = summarize(cuts, data)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    print(markdown(result))


if __name__ == "__main__":
    main()

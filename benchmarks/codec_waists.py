"""Entropy coding of real feature maps, and mosaics: what `codec` prints beside its speeds."""

from __future__ import annotations

import os
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import onnx

from waistline import plugins
from waistline.codec import native
from waistline.codec.coders.base import CodeShape
from waistline.codec.tensor_codec import open_tensor_codec
from waistline.codec.waist import WaistCodec
from waistline.model.load import load_model
from waistline.task.load import load_task
from waistline.task.preprocess import apply
from waistline.tensors import TensorSpec, WaistTensor

EXAMPLES = {"fashion": 20, "biscuits": 3}
"""Networks of the repository, and how many report frames of each."""
LEAST_ELEMENTS = 1000
CTX_LIMIT, CTX_MEDIAN_LIMIT = 0.90, 0.85
MOSAICS = ("jpeg:50", "jpeg:75", "jpeg:95", "webp:50", "webp:75", "webp:95", "webp")
_ROOT = Path(__file__).resolve().parents[1] / "examples"


def judged(value: float, limit: float) -> str:
    return f"{value:.2f}" if value <= limit else f"**{value:.2f} (over {limit})**"


def example_waists() -> list[dict[str, object]]:
    """Context coder over zlib 6 on every feature map of the examples: a row per network and width.

    Bytes are summed over the first frames of the report set, each a message of its own.
    """
    rows: list[dict[str, object]] = []
    for example, frames in EXAMPLES.items():
        folder = _ROOT / example
        if not (folder / "model.onnx").is_file():
            continue
        maps = _feature_maps(folder, frames)
        for bits in (4, 3, 2, 1):
            ratios = {name: _ratio(frames_of, bits) for name, frames_of in maps.items()}
            worst = max(ratios, key=ratios.__getitem__)
            rows.append(
                {
                    "example": example,
                    "bits": bits,
                    "tensors": len(ratios),
                    "images": frames,
                    "median": float(np.median(list(ratios.values()))),
                    "worst": ratios[worst],
                    "worst_tensor": worst,
                }
            )
    return rows


def _feature_maps(folder: Path, count: int) -> dict[str, list[np.ndarray]]:
    """float32 (1, C, H, W) of every frame, by name: all tensors that cross some cut."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
    import onnxruntime

    frontiers = load_model(folder / "model.onnx").graph.frontiers[1:-1]
    names = list(dict.fromkeys(
        tensor.name for row in frontiers for tensor in row.tensors if len(tensor.shape) == 4
    ))  # fmt: skip
    proto = onnx.load(folder / "model.onnx")
    known = {info.name for info in (*proto.graph.output, *proto.graph.input)}
    names = [name for name in names if name not in known]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    task = load_task(folder / "task.toml")
    assert task.preprocess is not None
    first = session.get_inputs()[0].name
    maps: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for frame in islice(task.data("report"), count):
        made = session.run(names, {first: apply(task.preprocess, frame.arrays[0])})
        for name, value in zip(names, made, strict=True):
            if value.size > LEAST_ELEMENTS and value.dtype.kind == "f":
                maps[name].append(value.astype(np.float32))
    return {name: values for name, values in maps.items() if values}


def _ratio(maps: list[np.ndarray], bits: int) -> float:
    """Bytes of the context coder over those of zlib 6."""
    coder = plugins.load("waistline.codec.coders", "ctx").open_coder(None)
    codec = open_tensor_codec(_waist(f"affine:b={bits}|none", maps[0]), native.kernels())
    shape = CodeShape(maps[0].shape, 1, bits)
    ctx = zlib6 = 0
    for x in maps:
        packed = codec.encode(x)[1]
        ctx += len(coder.compress(packed, shape))
        zlib6 += len(zlib.compress(packed, 6))
    return ctx / zlib6


def _waist(codec: str, x: np.ndarray) -> WaistTensor:
    return WaistTensor(TensorSpec("x", "float32", x.shape, "NCHW", 1), codec)


def mosaics(name: str, x: np.ndarray) -> dict[str, object]:
    """Bytes and signal over noise of 8-bit codes as they are, and through image coders."""
    coded = {}
    for coder in ("none", "zstd:1", "ctx", *MOSAICS):
        waist = WaistCodec([_waist(f"affine:b=8|{coder}", x)])
        sent = waist.encode([x])
        decoded = waist.decode(sent.payload, sent.raw_len)[0]
        noise = np.square(x.astype(np.float64) - decoded).sum()
        snr_db = 10 * np.log10(np.square(x, dtype=np.float64).sum() / noise)
        coded[coder] = {"bytes": len(sent.payload), "snr_db": float(snr_db)}
    return {"tensor": name, "coded": coded}


def examples_report(rows: list[dict]) -> list[str]:
    lines = [
        "",
        f"The same over zlib level 6 for the feature maps over {LEAST_ELEMENTS} elements of the "
        f"examples (limits: median {CTX_MEDIAN_LIMIT:.2f}, each {CTX_LIMIT:.2f}).",
        "",
        "| example | b | tensors | images | median | worst | which |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['example']} | {row['bits']} | {row['tensors']} | {row['images']} "
            f"| {judged(row['median'], CTX_MEDIAN_LIMIT)} | {judged(row['worst'], CTX_LIMIT)} "
            f"| {row['worst_tensor']} |"
        )
    return lines


def mosaics_report(rows: list[dict]) -> list[str]:
    lines = [
        "",
        "The 8-bit codes as a mosaic of the channels in one gray picture, lossy (`webp` alone is "
        "not): payload bytes, and signal over noise of the decoded waist in dB; uniform 8-bit "
        "quantization alone is the second column.",
        "",
        "| tensor | uniform dB | zstd:1 B | ctx B | " + " | ".join(MOSAICS) + " |",
        "|---" * (4 + len(MOSAICS)) + "|",
    ]
    for row in rows:
        coded = row["coded"]
        cells = [f"{coded[name]['bytes']} ({coded[name]['snr_db']:.1f})" for name in MOSAICS]
        lines.append(
            f"| {row['tensor']} | {coded['none']['snr_db']:.1f} | {coded['zstd:1']['bytes']} "
            f"| {coded['ctx']['bytes']} | {' | '.join(cells)} |"
        )
    return lines

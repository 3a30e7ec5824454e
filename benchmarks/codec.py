"""What the codec costs, against memcpy of the same tensor, and what it saves.

    python benchmarks/codec.py [--json FILE] [--rounds N]

Times are thread CPU time, medians over interleaved rounds; every call is made twice in a row and
the second one counts, so that each finds its data where its own first call left it, as memcpy
does. Feature maps are generated (seed printed): smooth per-channel noise with log-normal gains and
shifted means, rectified to about 60 % zeros, or leaky (slope 0.1, no zeros).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from codec_waists import (
    CTX_LIMIT,
    example_waists,
    examples_report,
    judged,
    mosaics,
    mosaics_report,
)

from waistline import plugins
from waistline.codec import native
from waistline.codec.coders.base import CodeShape
from waistline.codec.kernels import Kernels
from waistline.codec.pack import unpack
from waistline.codec.quantizers import NumpyKernels
from waistline.codec.tensor_codec import TensorCodec, open_tensor_codec
from waistline.codec.waist import WaistCodec
from waistline.tensors import StaticRanges, TensorSpec, WaistTensor

SEED = 7
TENSORS = {"26x26x256": (1, 256, 26, 26), "224x224x64": (1, 64, 224, 224)}
IN_CACHE = "26x26x256"
ENCODE_LIMIT = {True: 6.5, False: 3.0}
DECODE_LIMIT = {True: 4.5, False: 1.8}
NUMPY_LIMIT = 6.0
ZSTD_LIMIT, RLE_LIMIT = 0.08, 0.20
ENTROPY_LIMIT = 1.12
BITS = (8, 4, 3, 2, 1)
Call = Callable[[], object]


def feature_map(shape: tuple[int, int, int, int], leaky: bool) -> np.ndarray:
    """float32 (1, C, H, W): what a convolution leaves, without a network."""
    random = np.random.default_rng(SEED)
    _, channels, height, width = shape
    x = np.zeros(shape[1:], np.float32)
    for octave in (32, 12, 4, 1):
        size = (channels, height // octave + 2, width // octave + 2)
        noise = random.standard_normal(size, np.float32)
        x += _stretched(_stretched(noise, height, octave, 1), width, octave, 2) * octave**0.35
    x /= x.std(axis=(1, 2), keepdims=True)
    x *= random.lognormal(0, 0.3, (channels, 1, 1)).astype(np.float32)
    x += random.normal(-0.3, 0.4, (channels, 1, 1)).astype(np.float32)
    return np.where(x > 0, x, 0.1 * x if leaky else 0).astype(np.float32)[None]


def _stretched(x: np.ndarray, length: int, octave: int, axis: int) -> np.ndarray:
    """Linear interpolation by ``octave`` along ``axis``, cut to ``length``."""
    place = np.arange(length) / octave
    first = place.astype(int)
    share = (place - first).astype(np.float32)
    share = share[:, None] if axis == 1 else share
    return x.take(first, axis) * (1 - share) + x.take(first + 1, axis) * share


def medians_s(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Thread CPU seconds of each call."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    gc.disable()
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            start = time.thread_time_ns()
            call()
            times[name].append(time.thread_time_ns() - start)
    gc.enable()
    return {name: float(np.median(values)) * 1e-9 for name, values in times.items()}


def _waist_tensor(text: str, x: np.ndarray) -> WaistTensor:
    ranges = StaticRanges((0.0,), (float(x.max()) * 0.8,)) if "clip=" in text else None
    return WaistTensor(TensorSpec("x", "float32", x.shape, "NCHW", 1), text + "|none", ranges)


def codec_of(text: str, x: np.ndarray, kernels: Kernels) -> TensorCodec:
    return open_tensor_codec(_waist_tensor(text, x), kernels)


def speed(name: str, x: np.ndarray, rounds: int) -> list[dict[str, object]]:
    """One row per codec: encode and decode over memcpy, NumPy over C."""
    cached = name.startswith(IN_CACHE)
    target = np.empty_like(x)
    c, reference = native.kernels(), NumpyKernels()
    rows = []
    texts = [f"affine:b={bits}" for bits in BITS]
    texts += ["affine:b=4,clip=mse", "affine:b=4,per=channel", "q1:b=4", "q2m"]
    for text in texts:
        codec, slow = codec_of(text, x, c), codec_of(text, x, reference)
        ranges, packed = codec.encode(x)
        waist = WaistCodec([_waist_tensor(text, x)])
        payload = waist.encode([x]).payload
        calls: dict[str, Call] = {
            "memcpy": lambda: ctypes.memmove(target.ctypes.data, x.ctypes.data, x.nbytes),
            "encode": lambda codec=codec: codec.encode(x),
            "decode": lambda codec=codec, r=ranges, p=packed: codec.decode(memoryview(r), p),
            "numpy encode": lambda slow=slow: slow.encode(x),
            "numpy decode": lambda slow=slow, r=ranges, p=packed: slow.decode(memoryview(r), p),
            "whole encode": lambda waist=waist: waist.encode([x]),
            "whole decode": lambda waist=waist, p=payload: waist.decode(p, waist.raw_len),
        }
        took = medians_s(calls, rounds)
        copy = took["memcpy"]
        rows.append(
            {
                "tensor": name,
                "codec": text,
                "memcpy_s": copy,
                "encode": took["encode"] / copy,
                "encode_limit": ENCODE_LIMIT[cached],
                "decode": took["decode"] / copy,
                "decode_limit": DECODE_LIMIT[cached],
                "whole_encode": took["whole encode"] / copy,
                "whole_decode": took["whole decode"] / copy,
                "numpy_encode": took["numpy encode"] / took["encode"],
                "numpy_decode": took["numpy decode"] / took["decode"],
            }
        )
    return rows


def entropy(name: str, x: np.ndarray, rounds: int) -> list[dict[str, object]]:
    """One row per width: bytes of each coder, its CPU over zlib level 6, time of ctx."""
    rows = []
    for bits in (8, 4, 2, 1):
        codec = codec_of(f"affine:b={bits}", x, native.kernels())
        packed = codec.encode(x)[1]
        shape = CodeShape(x.shape, 1, bits)
        coders = {
            coder: plugins.load("waistline.codec.coders", coder).open_coder(None)
            for coder in ("deflate", "zstd", "ctx")
        }
        calls: dict[str, Call] = {
            coder: lambda opened=opened, p=packed, s=shape: opened.compress(p, s)
            for coder, opened in coders.items()
        }
        calls["zlib6"] = lambda p=packed: zlib.compress(p, 6)
        ctx, zlib6_bytes = coders["ctx"], len(zlib.compress(packed, 6))
        stream = bytes(ctx.compress(packed, shape))
        calls["ctx decode"] = lambda opened=ctx, d=stream, p=packed, s=shape: opened.decompress(
            memoryview(d), len(p), s
        )
        took = medians_s(calls, rounds)
        rows.append(
            {
                "tensor": name,
                "bits": bits,
                "raw_bytes": x.nbytes,
                "packed_bytes": len(packed),
                "deflate_bytes": len(coders["deflate"].compress(packed, shape)),
                "zstd_bytes": len(coders["zstd"].compress(packed, shape)),
                "ctx_bytes": len(stream),
                "zlib6_bytes": zlib6_bytes,
                "ctx_over_zlib6": len(stream) / zlib6_bytes,
                "ctx_over_entropy": len(stream) / neighbour_entropy_bytes(packed, shape),
                "ctx_encode_ns": took["ctx"] / x.size * 1e9,
                "ctx_decode_ns": took["ctx decode"] / x.size * 1e9,
                "zlib6_s": took["zlib6"],
                "deflate_cpu": took["deflate"] / took["zlib6"],
                "zstd_cpu": took["zstd"] / took["zlib6"],
            }
        )
    return rows


def neighbour_entropy_bytes(packed: memoryview, shape: CodeShape) -> float:
    """Entropy of the codes, given those to the left and above: as counted, no cost of learning."""
    count = int(np.prod(shape.shape))
    flat = unpack(np.frombuffer(packed, np.uint8), count, shape.bits)
    codes = flat.reshape(-1, *shape.shape[-2:]).astype(np.int64)
    left, up = np.zeros_like(codes), np.zeros_like(codes)
    left[:, :, 1:], up[:, 1:] = codes[:, :, :-1], codes[:, :-1]
    around = left << shape.bits | up
    whole = np.bincount((around << shape.bits | codes).reshape(-1))
    given = np.bincount(around.reshape(-1))
    return (_information(whole) - _information(given)) / 8


def _information(counts: np.ndarray) -> float:
    counts = counts[counts > 0]
    total = counts.sum()
    return float(total * np.log2(total) - (counts * np.log2(counts)).sum())


def report(speeds: list[dict], sizes: list[dict], zeros: dict[str, float]) -> list[str]:
    lines = [
        "## Codec",
        "",
        f"`{native.kernels().name}` kernels, {platform.machine()}, one thread, seed {SEED}. Ratios "
        "to memcpy of the float tensor in the same run. Limits for affine per tensor: encode "
        "<= 6.5 in cache and <= 3 out of cache, decode <= 4.5 and <= 1.8; NumPy / C <= 6. *encode* "
        "finds the ranges, quantizes and packs; *decode* makes a new array; *whole* is "
        "`WaistCodec` with `none`: checks, framing and the copy into one payload.",
        "",
        "zeros: " + ", ".join(f"{name} {share:.0%}" for name, share in zeros.items()),
        "",
        "| tensor | codec | memcpy ms | encode | whole | decode | whole | NumPy/C enc | dec |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in speeds:
        exact = row["codec"].startswith("affine") and "per=" not in row["codec"]
        far = float("inf")
        lines.append(
            f"| {row['tensor']} | {row['codec']} | {row['memcpy_s'] * 1e3:.3f} "
            f"| {judged(row['encode'], row['encode_limit'] if exact else far)} "
            f"| {row['whole_encode']:.2f} "
            f"| {judged(row['decode'], row['decode_limit'] if exact else far)} "
            f"| {row['whole_decode']:.2f} "
            f"| {judged(row['numpy_encode'], NUMPY_LIMIT if exact else far)} "
            f"| {judged(row['numpy_decode'], NUMPY_LIMIT if exact else far)} |"
        )
    lines += [
        "",
        f"Entropy coding of affine per tensor; CPU over zlib level 6 (limits at b=8: zstd:1 <= "
        f"{ZSTD_LIMIT}, deflate with Z_RLE <= {RLE_LIMIT:.2f}).",
        "",
        "| tensor | b | float32 B | none B | deflate B | zstd:1 B | zlib 6 B | zlib 6 ms "
        "| deflate CPU | zstd:1 CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sizes:
        strict = row["bits"] == 8
        lines.append(
            f"| {row['tensor']} | {row['bits']} | {row['raw_bytes']} | {row['packed_bytes']} "
            f"| {row['deflate_bytes']} | {row['zstd_bytes']} | {row['zlib6_bytes']} "
            f"| {row['zlib6_s'] * 1e3:.2f} "
            f"| {judged(row['deflate_cpu'], RLE_LIMIT if strict else float('inf'))} "
            f"| {judged(row['zstd_cpu'], ZSTD_LIMIT if strict else float('inf'))} |"
        )
    return lines + _context_report(sizes)


def _context_report(sizes: list[dict]) -> list[str]:
    lines = [
        "",
        f"The context coder: bytes over zlib level 6 (limit {CTX_LIMIT:.2f} at b <= 4) and over "
        "the entropy of a code given its left and upper neighbour "
        f"(limit {ENTROPY_LIMIT} at b <= 4), "
        "CPU time per element.",
        "",
        "| tensor | b | ctx B | / zlib 6 | / entropy | encode ns | decode ns |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sizes:
        strict = row["bits"] <= 4
        lines.append(
            f"| {row['tensor']} | {row['bits']} | {row['ctx_bytes']} "
            f"| {judged(row['ctx_over_zlib6'], CTX_LIMIT if strict else float('inf'))} "
            f"| {judged(row['ctx_over_entropy'], ENTROPY_LIMIT if strict else float('inf'))} "
            f"| {row['ctx_encode_ns']:.1f} | {row['ctx_decode_ns']:.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--rounds", type=int, default=60, help="of the small tensor")
    options = parser.parse_args()
    speeds: list[dict] = []
    sizes: list[dict] = []
    pictures: list[dict] = []
    zeros = {}
    for size, shape in TENSORS.items():
        rounds = options.rounds if size == IN_CACHE else max(3, options.rounds // 6)
        for kind in ("relu", "leaky"):
            x = feature_map(shape, kind == "leaky")
            name = f"{size} {kind}"
            zeros[name] = float((x == 0).mean())
            speeds += speed(name, x, rounds)
            sizes += entropy(name, x, max(3, rounds // 10))
            pictures.append(mosaics(name, x))
    examples = example_waists()
    lines = report(speeds, sizes, zeros) + examples_report(examples) + mosaics_report(pictures)
    print("\n".join(lines))
    if options.json:
        document = {"schema": 1, "seed": SEED, "zeros": zeros, "speed": speeds, "entropy": sizes}
        document |= {"example_waists": examples, "mosaics": pictures}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

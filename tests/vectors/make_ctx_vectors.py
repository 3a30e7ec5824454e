"""Write codec_ctx.json: packed codes and the streams that the context coder makes of them.

    python tests/vectors/make_ctx_vectors.py

The Python reference makes them; they are then frozen. A change of any byte is a change of the wire:
it needs a new major version of the protocol and a new WAIST_VERSION. Python, C and firmware tests
read the same file.

``cases``: bits, shape, channel_axis (or null), planes ([planes, rows, columns, interleaved] as
`waist_ctx` in core/c/waist.h has them), packed and stream (base64).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from waistline.codec.coders import _ctx_reference as reference
from waistline.codec.coders.base import CodeShape
from waistline.codec.coders.ctx import planes_of
from waistline.codec.pack import pack, packed_size

TARGET = Path(__file__).with_name("codec_ctx.json")
SHAPES = [
    ((1, 5, 9, 7), 1),
    ((1, 7, 9, 5), 3),
    ((2, 3, 4, 5), 1),
    ((300,), None),
    ((1, 33), None),
    ((4, 17, 3), None),
    ((31, 1, 1), 0),
    ((1,), None),
]


def main() -> None:
    random = np.random.default_rng(20260102)
    cases = []
    for bits in range(1, 9):
        for shape, axis in SHAPES:
            for kind in ("sparse", "dense", "constant"):
                cases.append(_case(bits, shape, axis, _codes(random, kind, shape, bits)))
    document = json.dumps({"version": 1, "cases": cases}).replace('{"bits":', '\n{"bits":')
    TARGET.write_text(document + "\n")
    print(f"{len(cases)} cases, {TARGET.stat().st_size} bytes")


def _codes(random: np.random.Generator, kind: str, shape: tuple[int, ...], bits: int) -> np.ndarray:
    top = (1 << bits) - 1
    if kind == "constant":
        return np.full(shape, top, np.uint8)
    if kind == "dense":
        return random.integers(0, top + 1, shape, np.uint8)
    smooth = np.cumsum(random.normal(0, 0.15, shape), axis=-1) * (top + 1)
    return np.clip(np.rint(smooth), 0, top).astype(np.uint8)


def _case(bits: int, shape: tuple[int, ...], axis: int | None, codes: np.ndarray) -> dict:
    packed = np.empty(packed_size(codes.size, bits), np.uint8)
    pack(codes.copy(), bits, packed)
    planes = planes_of(CodeShape(shape, axis, bits))
    return {
        "bits": bits,
        "shape": shape,
        "channel_axis": axis,
        "planes": [planes.planes, planes.rows, planes.columns, planes.interleaved],
        "packed": base64.b64encode(packed).decode(),
        "stream": base64.b64encode(reference.encode(planes, packed.data)).decode(),
    }


if __name__ == "__main__":
    main()

"""Write codec.json: what the codec must do with these inputs, byte for byte.

    python tests/vectors/make_codec_vectors.py

The NumPy reference makes them; they are then frozen. A change of any byte is a change of the wire:
it needs a new major version of the protocol and a new WAIST_VERSION. Python, C and firmware tests
read the same file.

``inputs``: name -> dtype, shape, channel_axis, data (little-endian, C order, base64).
``cases``: input, codec, ranges ({lo, hi} as base64 float32, or null), codes (`WaistCodec.codes`:
ranges of a dynamic codec, then packed codes) and decoded (base64, in the input's dtype), for i8
also the tables.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

os.environ["WAISTLINE_CODEC"] = "numpy"

import numpy as np

from waistline.codec.spec import parse_spec
from waistline.codec.tables import i8_tables
from waistline.codec.waist import WaistCodec
from waistline.tensors import StaticRanges, TensorSpec, WaistTensor

TARGET = Path(__file__).with_name("codec.json")
RAGGED = (1, 7, 9, 1023, 1025)
BITS = range(1, 9)


def main() -> None:
    inputs = {name: (axis, array) for name, axis, array in _inputs()}
    cases = [_case(name, *inputs[name], codec, ranges) for name, codec, ranges in _cases(inputs)]
    document = {
        "version": 1,
        "inputs": {
            name: {
                "dtype": str(array.dtype),
                "shape": array.shape,
                "channel_axis": axis,
                "data": _text(array),
            }
            for name, (axis, array) in inputs.items()
        },
        "cases": cases,
    }
    lines = json.dumps(document).replace('{"input":', '\n{"input":')
    TARGET.write_text(lines + "\n")
    print(f"{len(inputs)} inputs, {len(cases)} cases, {TARGET.stat().st_size} bytes")


def _inputs():
    random = np.random.default_rng(20260101)
    tiny = np.float32(1e-45)
    for count in RAGGED:
        yield f"dense{count}", None, _f32(random.standard_normal(count) * 3 + 0.5)
    yield "relu1023", None, _f32(np.maximum(random.standard_normal(1023), 0))
    yield "negative9", None, _f32(-1 - random.random(9))
    yield "zeros9", None, _f32(np.zeros(9))
    yield "minuszero7", None, _f32([-0.0, 0.0, -0.0, 1.5, -0.0, 0.75, -1.5])
    yield "constant7", None, _f32(np.full(7, -2.7182817))
    yield (
        "oneulp9",
        None,
        _f32(np.where(np.arange(9) % 2, 1000, np.nextafter(_f32(1000), _f32(2000)))),
    )
    yield "grid17", None, _f32(np.arange(17))
    yield "huge9", None, _f32(np.linspace(-3.4e38, 3.4e38, 9))
    yield "hugesum1025", None, _f32(random.random(1025) * 3e38)
    yield "denormal9", None, _f32(np.arange(-4, 5) * 3 * tiny)
    shape = (2, 5, 3, 7)
    spread = random.lognormal(0, 1, 5)
    chw = random.standard_normal(shape) * spread[:, None, None]
    chw[:, 3] = 0.25
    yield "chw", 1, _f32(chw)
    yield "hwc", 3, _f32(np.moveaxis(chw, 1, -1))
    yield "hwc_relu", 2, _f32(np.maximum(random.standard_normal((11, 13, 17)), 0))
    yield (
        "chw_mixed",
        0,
        _f32(random.standard_normal((3, 5, 5)) * np.array([1e38, 1, 1e-40])[:, None, None]),
    )
    yield "hwc_mixed", 2, _f32(random.standard_normal((5, 5, 3)) * np.array([1e38, 1, 1e-40]))
    yield "int8", None, random.permutation(np.arange(-128, 128)).astype(np.int8)
    yield "int8_1025", None, random.integers(-128, 128, 1025).astype(np.int8)
    yield "uint8", None, random.permutation(256).astype(np.uint8)
    yield "bool9", None, random.integers(0, 2, 9).astype(bool)
    yield "int64_7", None, random.integers(-(2**62), 2**62, 7)
    yield "special7", None, _f32([np.nan, np.inf, -np.inf, 65520, -1e-8, 1 / 3, 3e38])


def _cases(inputs):
    flat = [
        name for name, (axis, array) in inputs.items() if array.dtype == np.float32 and axis is None
    ]
    flat.remove("special7")
    for name in flat:
        for bits in BITS:
            for rule in ("affine", "q1", "q1h"):
                yield name, f"{rule}:b={bits}|none", None
        yield name, "q2|none", None
        yield name, "q2m|none", None
    for name in ("chw", "hwc", "hwc_relu", "chw_mixed", "hwc_mixed"):
        axis, array = inputs[name]
        flattened = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        lo, hi = np.percentile(flattened.astype(np.float64), (10, 80), axis=1)
        for bits in BITS:
            yield name, f"affine:b={bits},per=channel|none", None
            yield name, f"affine:b={bits},clip=p80,per=channel|none", (lo, hi)
    for bits in BITS:
        yield "dense1025", f"affine:b={bits},clip=mse|none", ([-2.5], [4.75])
        for name in ("int8", "int8_1025", "uint8"):
            yield name, f"i8:b={bits}|none", None
    yield "huge9", "affine:b=3,clip=mse|none", ([-1.0], [1.0])
    yield "huge9", "affine:b=3,clip=mse|none", ([2.0], [2.0])
    yield "huge9", "affine:b=8,clip=mse|none", ([-1e-42], [1e-42])
    yield "int8_1025", "i8:b=3,clip=mse|none", ([-100.0], [27.5])
    for name in ("bool9", "int64_7", "special7", "int8"):
        yield name, "raw|none", None
    yield "special7", "f32|none", None
    yield "special7", "f16|none", None


def _case(name, axis, array, codec, ranges):
    if ranges is not None:
        ranges = tuple(np.asarray(limits, np.float32) for limits in ranges)
    static = None if ranges is None else StaticRanges(*(tuple(map(float, r)) for r in ranges))
    tensor = TensorSpec(name, str(array.dtype), array.shape, "any", axis)
    waist = WaistCodec([WaistTensor(tensor, codec, static)])
    codes = waist.codes([array])
    (decoded,) = waist.decode_codes(codes)
    case = {
        "input": name,
        "codec": codec,
        "ranges": None if ranges is None else {"lo": _text(ranges[0]), "hi": _text(ranges[1])},
        "codes": base64.b64encode(codes).decode(),
        "decoded": _text(decoded),
    }
    spec = parse_spec(codec)
    if spec.quantizer == "i8" and spec.bits != 8:
        table, inverse = i8_tables(tensor.dtype, spec.bits, ranges)
        case |= {"table": _text(table), "inverse": _text(inverse)}
    return case


def _f32(values):
    return np.asarray(values, np.float32)


def _text(array) -> str:
    little = array.astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()


if __name__ == "__main__":
    main()

"""Waists of the example's int8 head, to be coded on an emulated Cortex-M in either way."""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import firmware_nets as nets
import numpy as np

from waistline.blob.interpret import every_tensor
from waistline.codec import native
from waistline.codec.calibrate import calibrate
from waistline.codec.coders._planes import planes_of
from waistline.codec.spec import parse_spec
from waistline.codec.tensor_codec import Table, open_tensor_codec
from waistline.codec.waist import WaistCodec, code_shape
from waistline.model.load import load_model
from waistline.task.load import load_task
from waistline.task.preprocess import apply
from waistline.tensors import TensorSpec, WaistTensor, quantize
from waistline_bridge.split import split_mcu

CODERS = ("none", "ctx")
FASHION = nets.ROOT / "examples" / "fashion"
CUT = 37
FITTED = (
    "image", "stem_relu", "block1_dw_relu", "block1_pw_relu", "block2_dw_relu", "block3_dw_relu",
    "block4_expand_relu", "block4_dw_relu", "block4_project_relu", "block4_add", "block5_dw_relu",
    "block6_dw_relu",
)  # fmt: skip
OTHERS = ("block2_add", "block3_pw_relu", "block5_expand_relu", "block5_add")
"""Not among those, so that the fit can be tried on them."""
FLAT = {"block2_dw_relu": 2048, "block6_dw_relu": 512, "block5_dw_relu": 128}
"""Beginnings of tensors without rows and columns, as behind a dense layer."""


@dataclass(frozen=True)
class Step:
    """A waist to be coded: values as they lie, the record's planes, and what must come out.

    Without a table the bytes go as they are.
    """

    planes: tuple[int, int, int, int]
    bits: int
    table: bytes
    values: bytes
    coder: int
    payload: bytes

    @property
    def elements(self) -> int:
        return len(self.values)

    @property
    def rows(self) -> int:
        return self.planes[0] * self.planes[1]

    @property
    def packed(self) -> int:
        return (self.elements * self.bits + 7) // 8

    @property
    def room(self) -> int:
        return 4 + self.packed

    @property
    def head(self) -> bytes:
        """Behind it comes the offset of the table; nodes and above are the program's."""
        return struct.pack("<7I", *self.planes, self.bits, 0, 0)


def image(steps: list[Step]) -> bytes:
    """What tests/firmware/kernels.c reads; outputs and scratch lie behind."""
    data = bytearray(4 + 28 * len(steps))

    def put(content: bytes) -> int:
        data.extend(bytes(-len(data) % 8))
        data.extend(content)
        return len(data) - len(content)

    rows = []
    for step in steps:
        table = put(step.table) if step.table else 0
        rows.append((put(step.head + struct.pack("<2I", table, step.coder)), put(step.values)))
    out = -(-len(data) // 8) * 8
    scratch = out + -(-max(step.room for step in steps) // 8) * 8
    struct.pack_into("<I", data, 0, len(steps))
    for number, (step, (parameters, values)) in enumerate(zip(steps, rows, strict=True)):
        numbers = (nets.CODE, parameters, values, 0, out, step.room, scratch)
        struct.pack_into("<7I", data, 4 + 28 * number, *numbers)
    return bytes(data)


@dataclass(frozen=True)
class Tensor:
    """int8 (h, w, c) and what its codes stand for."""

    name: str
    values: np.ndarray
    scale: float
    zero_point: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.values.shape


def example(frame: int) -> dict[str, Tensor]:
    """Every tensor of the example's head on a frame of the selection data."""
    task = load_task(FASHION / "task.toml")
    model = load_model(FASHION / "model.onnx")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.bundle"
        head = split_mcu(model, CUT, path, codec="i8:b=8|none", task=task).lowered.head
    (spec,) = (port.spec for port in head.inputs)
    array = next(one for one in task.data("selection") if one.index == frame).arrays[0]
    given = quantize(spec, np.moveaxis(apply(task.preprocess, array), 1, 3))
    return {
        head.tensors[k].name: Tensor(
            head.tensors[k].name, values, head.tensors[k].scale, head.tensors[k].zero_point
        )
        for k, values in every_tensor(head, [np.ascontiguousarray(given)])
    }


def fitted() -> list[Tensor]:
    """What coder_cost.json is fitted on."""
    found = example(0)
    flat = [flattened(found[name], size) for name, size in FLAT.items()]
    return [*(found[name] for name in FITTED), *flat]


def flattened(tensor: Tensor, size: int) -> Tensor:
    values = tensor.values.reshape(-1)[:size].reshape(1, 1, -1)
    return replace(tensor, name=f"{tensor.name}, flat", values=values)


def steps_of(tensor: Tensor) -> list[Step]:
    """Of each width and coder; limits are the tensor's own."""
    values = tensor.values[None]
    spec = TensorSpec(tensor.name, "int8", values.shape, "NHWC", 3,
                      scale=tensor.scale, zero_point=tensor.zero_point)  # fmt: skip
    found = []
    for bits in range(1, 9):
        for coder, name in enumerate(CODERS):
            text = f"i8:b={bits},clip=mse|{name}" if bits < 8 else f"i8:b=8|{name}"
            ranges = calibrate(spec, parse_spec(text), [values]) if bits < 8 else None
            waist = WaistTensor(spec, text, ranges)
            codec = open_tensor_codec(waist, native.kernels())
            tables = codec.tables if isinstance(codec, Table) else None
            table = b"" if tables is None else tables[0].tobytes()
            at = planes_of(code_shape(codec))
            planes = (at.planes, at.rows, at.columns, int(at.interleaved))
            payload = bytes(WaistCodec([waist]).encode([values]).payload[4:])
            found.append(Step(planes, bits, table, values.tobytes(), coder, payload))
    return found


def noise() -> Tensor:
    """What no coder makes smaller."""
    values = np.random.default_rng(3).integers(-128, 128, (10, 9, 30)).astype(np.int8)
    return Tensor("noise", values, 0.1, 0)

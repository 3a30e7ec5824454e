"""OpenVINO's ports (a model's parameters and results) as named tensors.

One tensor may carry several names, and one name may stand at a parameter and a result alike, so
ports are found by any of their names; which of them counts is the caller's choice, else the one in
the name of the port's node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from waistline.backends._tflite_file import Facts
from waistline.errors import BackendError
from waistline.tensors import NHWC_BY_RANK, TensorSpec

_TYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "i8": "int8",
    "u8": "uint8",
    "i16": "int16",
    "u16": "uint16",
    "i32": "int32",
    "i64": "int64",
    "boolean": "bool",
}
_SINK = "/sink_port_"
"""What the engine appends to a tensor's name for the node that stands for a result."""
_CODES = ("i8", "u8")
_EIGHT_BITS = (3, 9)
"""UINT8 and INT8 of TFLite's schema."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """Of a per-tensor quantized 8-bit tensor, ``value = scale * (q - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Port:
    """One parameter or result; ``shape`` is None where the file leaves it open."""

    index: int
    type_name: str
    shape: tuple[int, ...] | None
    shown: str

    def with_shape(self, shape: tuple[int, ...]) -> Port:
        return replace(self, shape=shape)

    def spec(self, name: str, path: Path, known: Mapping[str, Quantization] | None) -> TensorSpec:
        """The tensor under ``name``.

        Args:
            name: as wanted.
            path: the slice, for messages.
            known: what a TFLite file says of its quantized tensors; None for another format.

        Raises:
            BackendError: its shape is open, or its element type cannot cross a cut.
        """
        quantization = (known or {}).get(name)
        if quantization and self.type_name not in _CODES:
            raise BackendError(
                f"{path} cannot be run as a slice",
                cause=f"{name!r} is quantized in the file, this engine makes it {self.type_name}",
                fix="pip install 'waistline[openvino]': versions before 2026.2 lose such types",
            )
        if self.type_name not in _TYPES:
            cause = f"{name!r} has the element type {self.type_name}, which cannot cross a cut"
        elif self.shape is None or 0 in self.shape:
            cause = f"{name!r} has the open shape {self.shown}"
        else:
            layouts = {} if known is None else NHWC_BY_RANK
            layout, channel_axis = layouts.get(len(self.shape), ("any", None))
            return TensorSpec(
                name,
                _TYPES[self.type_name],
                self.shape,
                layout=layout,
                channel_axis=channel_axis,
                scale=quantization.scale if quantization else None,
                zero_point=quantization.zero_point if quantization else None,
            )
        raise BackendError(
            f"{path} cannot be run as a slice",
            cause=cause,
            fix=f"fix its shape: 'waistline split {path} --shape {name}=1,..'",
        )


def quantizations(path: Path) -> dict[str, Quantization]:
    """What a TFLite file says of its per-tensor quantized tensors, by name.

    The engine keeps it to itself, and the reader of such files comes with another one; without it
    nothing is known here, and the bundle's own specs, which count at run time in any case, say it.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        return {}
    graph = schema.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    found = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        scales = tensor.Quantization()
        if tensor.Type() in _EIGHT_BITS and scales is not None and scales.ScaleLength() == 1:
            zero_point = int(scales.ZeroPoint(0)) if scales.ZeroPointLength() else 0
            found[tensor.Name().decode()] = Quantization(float(scales.Scale(0)), zero_point)
    return found


def named(ports: Sequence[Any], wanted: Sequence[str] | None) -> dict[str, Port]:
    """Ports by name: under each wanted name they carry, else under the one they are known by."""
    found: dict[str, Port] = {}
    for index, port in enumerate(ports):
        shape = port.get_partial_shape()
        made = Port(
            index,
            port.get_element_type().get_type_name(),
            tuple(int(axis) for axis in port.get_shape()) if shape.is_static else None,
            str(shape),
        )
        names = port.get_names()
        for name in [name for name in wanted or () if name in names] or [_known_as(port, names)]:
            found.setdefault(name, made)
    return found


def under_file_names(ports: Mapping[str, Port], facts: Facts) -> tuple[dict[str, Port], set[str]]:
    """Results of a TFLite model, and which of them are inputs that only pass through.

    The engine gives such a result a name of its own, and of an 8-bit one the real values, cast.
    """
    passing = set(facts.inputs) & set(facts.outputs)
    if len(ports) != len(facts.outputs):
        return dict(ports), passing
    pairs = zip(ports.items(), facts.outputs, strict=True)
    return {own if own in passing else name: port for (name, port), own in pairs}, passing


def _known_as(port: Any, names: set[str]) -> str:
    friendly = str(port.get_node().get_friendly_name()).partition(_SINK)[0]
    return friendly if friendly in names or not names else min(names)

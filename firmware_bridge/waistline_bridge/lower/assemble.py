"""From the intermediate form to a blob: weights, folded zero points, arena, waist, golden frame."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from waistline.blob import records
from waistline.blob.check import check_blob, packed_bytes, waist_scratch
from waistline.blob.form import Int8Head, Int8s
from waistline.blob.interpret import run_head
from waistline.blob.records import (
    Blob,
    GoldenRecord,
    LayerRecord,
    TensorRecord,
    WaistRecord,
    aligned,
    read_blob,
    tables_bytes,
    write_blob,
)
from waistline.codec import native
from waistline.codec.coders._planes import planes_of
from waistline.codec.spec import parse_spec
from waistline.codec.tensor_codec import Table, open_tensor_codec
from waistline.codec.waist import LENGTH_BYTES, WaistCodec, code_shape
from waistline.errors import ConfigError, ModelError
from waistline.tensors import WaistTensor
from waistline_bridge.arena import ArenaPlan, Need, plan_arena
from waistline_bridge.lower.codecs import problem_of, refused_codec
from waistline_bridge.lower.layer_parts import fields_of, packed, sizes_of


@dataclass(frozen=True)
class LoweredHead:
    """A blob and what is known about it.

    Attributes:
        data: the blob.
        head: what it computes.
        waist: how its outputs are coded.
        plan: of its arena; ``largest_live_bytes`` counts scratch and the coded waist, too.
        largest_tensors_bytes: of the largest set of tensors alive at once, without scratch.
    """

    data: bytes
    head: Int8Head
    waist: tuple[WaistTensor, ...]
    plan: ArenaPlan
    largest_tensors_bytes: int


def assemble(
    head: Int8Head,
    waist: Sequence[WaistTensor],
    golden: Sequence[Sequence[Int8s]] = (),
    *,
    identity: bytes = b"",
) -> LoweredHead:
    """Make the blob of a head.

    Args:
        head: what a reader gave.
        waist: the codec of each output, in the order of the cut; names are those of the head.
        golden: input tensors of frames to store, int8 in the head's shapes.
        identity: goes into the head's id with all the rest of the blob, such as the SHA-256 of
            the model it is from.

    Raises:
        ConfigError: a codec that the firmware does not offer, or another waist.
        ModelError: more tensors or layers than a blob holds.
    """
    parts = _Parts(head, waist)
    plan, largest = parts.plan()
    contents = [(parts.waist_codec.encode(run_head(head, list(frame))), frame) for frame in golden]
    start = tables_bytes(len(head.tensors), len(head.layers), len(waist), len(golden))
    behind = _Behind(start)
    layers = parts.layer_records(plan, behind)
    waists = parts.waist_records(plan, behind)
    goldens = [
        GoldenRecord(behind.put(b"".join(map(_bytes, frame)))[0], zlib.crc32(encoded.payload))
        for encoded, frame in contents
    ]
    made = Blob(
        arena_bytes=plan.size_bytes,
        inputs=len(head.inputs),
        tensors=parts.tensor_records(plan),
        layers=layers,
        waists=waists,
        goldens=tuple(goldens),
        output=parts.output_range(plan),
        id=bytes(records.ID_BYTES),
    )
    unnamed = write_blob(made, bytes(behind.data))
    name = hashlib.sha256(identity + unnamed).digest()[: records.ID_BYTES]
    data = write_blob(replace(made, id=name), bytes(behind.data))
    check_blob(read_blob(data))
    return LoweredHead(data, head, tuple(waist), plan, largest)


def _bytes(array: Int8s) -> bytes:
    return np.ascontiguousarray(array).tobytes()


class _Behind:
    """Sections behind the tables, each at a multiple of 8."""

    def __init__(self, start: int) -> None:
        self._start = start
        self.data = bytearray()

    def put(self, content: bytes) -> tuple[int, int]:
        """(offset in the blob, bytes); an empty section lies nowhere."""
        if not content:
            return 0, 0
        self.data += bytes(aligned(len(self.data)) - len(self.data))
        at = self._start + len(self.data)
        self.data += content
        return at, len(content)


class _Parts:
    """Tensors in the blob's order, inputs first, and what needs the arena when."""

    def __init__(self, head: Int8Head, waist: Sequence[WaistTensor]) -> None:
        self._head, self._waist = head, waist
        _check_counts(head, waist)
        self.waist_codec = WaistCodec(waist)
        self._codecs = [_coded(item) for item in waist]
        inputs = [port.tensor for port in head.inputs]
        others = [k for k in range(len(head.tensors)) if k not in inputs]
        self._order = [*inputs, *others]
        self._place = {number: place for place, number in enumerate(self._order)}

    def plan(self) -> tuple[ArenaPlan, int]:
        """Of the tensors in order, each layer's scratch, each waist's scratch, the output."""
        head, steps = self._head, len(self._head.layers)
        first = {port.tensor: 0 for port in head.inputs}
        last = dict(first)
        for k, layer in enumerate(head.layers):
            first[layer.output] = last[layer.output] = k + 1
            last.update(dict.fromkeys(layer.inputs, k + 1))
        end = steps + len(self._waist)
        last.update(dict.fromkeys((port.tensor for port in head.outputs), end))
        needs = [Need(head.tensors[k].size_bytes, first[k], last[k]) for k in self._order]
        tensors = len(needs)
        for k, layer in enumerate(head.layers):
            needs.append(Need(sizes_of(head, layer).scratch, k + 1, k + 1, 8))
        for k, codec in enumerate(self._codecs):
            needs.append(Need(codec.scratch, steps + 1 + k, steps + 1 + k))
        needs.append(Need(self._output_bytes, steps + 1, end))
        plan = plan_arena(needs)
        return plan, plan_arena(needs[:tensors]).largest_live_bytes

    @property
    def _output_bytes(self) -> int:
        return sum(LENGTH_BYTES + codec.packed for codec in self._codecs)

    def output_range(self, plan: ArenaPlan) -> tuple[int, int]:
        return plan.offsets[-1], self._output_bytes

    def tensor_records(self, plan: ArenaPlan) -> tuple[TensorRecord, ...]:
        tensors = [self._head.tensors[k] for k in self._order]
        return tuple(
            TensorRecord(plan.offsets[k], *tensor.shape, tensor.zero_point)
            for k, tensor in enumerate(tensors)
        )

    def layer_records(self, plan: ArenaPlan, behind: _Behind) -> tuple[LayerRecord, ...]:
        made = []
        for k, layer in enumerate(self._head.layers):
            weights, params = packed(self._head, layer)
            sizes = sizes_of(self._head, layer)
            at = plan.offsets[len(self._order) + k] if sizes.scratch else 0
            made.append(
                LayerRecord(
                    inputs=tuple(self._place[number] for number in layer.inputs),
                    output=self._place[layer.output],
                    weights=behind.put(weights),
                    params=behind.put(params),
                    scratch=(at, sizes.scratch),
                    **fields_of(layer),
                )
            )
        return tuple(made)

    def waist_records(self, plan: ArenaPlan, behind: _Behind) -> tuple[WaistRecord, ...]:
        first = len(self._order) + len(self._head.layers)
        made = []
        for k, (codec, port) in enumerate(zip(self._codecs, self._head.outputs, strict=True)):
            table = behind.put(codec.table)[0]
            at = plan.offsets[first + k] if codec.scratch else 0
            tensor = self._place[port.tensor]
            fields = tensor, codec.bits, codec.coder, table, *codec.shape
            made.append(WaistRecord(*fields, scratch=(at, codec.scratch)))
        return tuple(made)


def _check_counts(head: Int8Head, waist: Sequence[WaistTensor]) -> None:
    limit = records.MAX_COUNT
    if max(len(head.tensors), len(head.layers), len(waist)) > limit:
        raise ModelError(
            "the head is too long for a microcontroller",
            cause=f"{len(head.layers)} layers, {len(head.tensors)} tensors; a blob holds {limit}",
            fix="choose an earlier cut (waistline split MODEL --backend mcu --list)",
        )
    wanted = [(port.spec.name, port.spec.shape, "int8") for port in head.outputs]
    given = [(item.tensor.name, item.tensor.shape, item.tensor.dtype) for item in waist]
    if wanted != given:
        raise ConfigError(
            "the waist is not what the head makes",
            cause=f"it is {given}, the head makes {wanted}",
            fix="split the model again",
        )


@dataclass(frozen=True)
class _Coded:
    """What a waist record says, but for its tensor."""

    bits: int
    coder: int
    table: bytes
    shape: tuple[int, int, int, bool]
    packed: int
    scratch: int


def _coded(waist: WaistTensor) -> _Coded:
    spec = parse_spec(waist.codec)
    codec = open_tensor_codec(waist, native.kernels())
    if problem := problem_of(replace(spec, quantizer="i8") if spec.quantizer == "raw" else spec):
        raise refused_codec(spec, waist.tensor.name, problem)
    tables = codec.tables if isinstance(codec, Table) else None
    table = b"" if tables is None else tables[0].tobytes()
    planes = planes_of(code_shape(codec))
    coder = records.CODERS.index(spec.coder)
    return _Coded(
        bits=codec.bits,
        coder=coder,
        table=table,
        shape=(planes.planes, planes.rows, planes.columns, planes.interleaved),
        packed=packed_bytes(waist.tensor.elements, codec.bits),
        scratch=waist_scratch(codec.bits, coder, planes.columns),
    )

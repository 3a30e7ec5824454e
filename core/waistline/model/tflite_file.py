"""Reading and writing .tflite files with the schema's object API; hostile until verified.

The generated classes come with LiteRT and are imported here, so that a machine without it is told
which extra brings it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waistline.errors import ModelError
from waistline.model.tflite_verify import IDENTIFIER, Malformed, verify
from waistline.plugins import missing_extra

try:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
except ModuleNotFoundError as error:
    if error.name not in {"flatbuffers", "ai_edge_litert"}:
        raise
    raise missing_extra("ai_edge_litert", needed_by="litert") from error

__all__ = ["TYPE_NAMES", "VERSION", "TfliteFile", "pack", "parse", "read_file", "schema", "text"]

VERSION = 3
"""Of the schema, as every .tflite file since 2017 has it."""
LIMIT_BYTES = (1 << 31) - (1 << 24)
"""A FlatBuffer ends at 2 GiB; the margin is for tensors and names."""
_MAX_FILE_BYTES = 1 << 33
_ALIGN_BYTES = 16
"""Of weights, as the schema demands (``force_align: 16``)."""
_MAX_NAME_BYTES = 4096
_KEPT_METADATA = frozenset({"min_runtime_version", "reduced_precision_support"})
"""What stays true of a slice. Other entries number tensors, or name what the slice may not have."""

_UNREADABLE = (struct.error, IndexError, KeyError, ValueError, OverflowError, TypeError)
"""What the generated readers raise where the bytes make no sense."""

_BUILTIN = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
TYPE_NAMES = {
    code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)
}
"""``float32`` by number, as in the schema."""


@dataclass(frozen=True)
class TfliteFile:
    """The parts of a file that a slice is made of.

    Attributes:
        codes: operator codes (``OperatorCodeT``).
        operators: name of each code: the schema's, or that of a custom operator.
        graph: the one subgraph (``SubGraphT``) with named tensors.
        weights: bytes by buffer number, uint8 (n); empty ones have none.
        metadata: (name, bytes) of what a slice keeps.
        description: of the converter.
    """

    codes: tuple[Any, ...]
    operators: tuple[str, ...]
    graph: Any
    weights: tuple[np.ndarray, ...]
    metadata: tuple[tuple[bytes, np.ndarray], ...]
    description: bytes | None


def read_file(path: Path) -> tuple[TfliteFile, bytes]:
    """Parse a file; also returns its bytes.

    Raises:
        ModelError: missing, damaged, too new, or of a kind that cannot be cut.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ModelError(
                f"{path.name} is too large",
                cause=f"{path.stat().st_size} bytes",
                fix="give a model below 8 GiB",
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read the model {path}",
            cause=error.strerror or str(error),
            fix="check the path",
        ) from error
    return parse(data, path.name), data


def parse(data: bytes, name: str) -> TfliteFile:
    """As `read_file`, from memory."""
    try:
        verify(data)
        return _unpacked(data, name)
    except Malformed as error:
        raise _damaged(name, str(error)) from error
    except _UNREADABLE as error:
        raise _damaged(name, f"it does not unpack ({type(error).__name__}: {error})") from error


def _damaged(name: str, cause: str) -> ModelError:
    return ModelError(
        f"{name} is not a TFLite model that can be cut, or is damaged",
        cause=cause,
        fix="convert the model again, or copy it again",
    )


def _unpacked(data: bytes, name: str) -> TfliteFile:
    model = schema.Model.GetRootAs(data, 0)
    if model.Version() != VERSION:
        raise Malformed(f"its schema version is {model.Version()}, not {VERSION}")
    codes = tuple(
        schema.OperatorCodeT.InitFromObj(model.OperatorCodes(k))
        for k in range(model.OperatorCodesLength())
    )
    operators = tuple(_operator_name(code, name) for code in codes)
    _one_subgraph(model, operators, name)
    weights = tuple(
        _content(model.Buffers(k), data, f"buffer {k}") for k in range(model.BuffersLength())
    )
    _limit(sum(item.nbytes for item in weights), data)
    return TfliteFile(
        codes=codes,
        operators=operators,
        graph=_graph(model.Subgraphs(0), operators, data),
        weights=weights,
        metadata=_metadata(model, weights),
        description=model.Description(),
    )


def _operator_name(code: Any, file_name: str) -> str:
    number = max(code.deprecatedBuiltinCode, code.builtinCode)
    if number not in _BUILTIN:
        raise ModelError(
            f"{file_name} is too new",
            cause=f"the installed ai-edge-litert does not know operator number {number}",
            fix="pip install --upgrade ai-edge-litert",
        )
    if _BUILTIN[number] == "CUSTOM":
        return text(code.customCode, "the code of a custom operator") or "CUSTOM"
    return str(_BUILTIN[number])


def _one_subgraph(model: Any, operators: tuple[str, ...], name: str) -> None:
    count = model.SubgraphsLength()
    if count == 1:
        return
    control = {"IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_COMPOSITE"} & set(operators)
    why = f", for {', '.join(sorted(control))}" if control else ""
    raise ModelError(
        f"{name} cannot be cut: it has {count} subgraphs{why}",
        cause="control flow and several signatures are subgraphs, and a cut runs through one",
        fix="convert the model with one signature and without control flow",
    )


def _content(buffer: Any, data: bytes, what: str) -> np.ndarray:
    """A buffer's bytes: inside the FlatBuffer, or behind it where that is over 2 GB."""
    if buffer.Offset() > 1:
        return _behind(data, buffer.Offset(), buffer.Size(), what)
    return np.frombuffer(b"" if buffer.DataIsNone() else buffer.DataAsNumpy(), np.uint8)


def _behind(data: bytes, offset: int, size: int, what: str) -> np.ndarray:
    if offset + size > len(data):
        raise Malformed(f"{what} lies outside the file")
    return np.frombuffer(data, np.uint8, size, offset)


def _limit(size_bytes: int, data: bytes) -> None:
    if size_bytes > 2 * len(data):
        raise Malformed("its lists lie over each other")


def _graph(found: Any, operators: tuple[str, ...], data: bytes) -> Any:
    """The subgraph, unpacked; lists as plain Python integers."""
    graph = schema.SubGraphT()
    graph.name = found.Name()
    graph.tensors = [_tensor(found.Tensors(k)) for k in range(found.TensorsLength())]
    graph.inputs = [found.Inputs(k) for k in range(found.InputsLength())]
    graph.outputs = [found.Outputs(k) for k in range(found.OutputsLength())]
    graph.operators = []
    options_bytes = 0
    for k in range(found.OperatorsLength()):
        operator, size = _operator(found.Operators(k), operators, data, k)
        options_bytes += size
        _limit(options_bytes, data)
        graph.operators.append(operator)
    return graph


def _tensor(found: Any) -> Any:
    tensor = schema.TensorT.InitFromObj(found)
    tensor.shape = [] if tensor.shape is None else np.asarray(tensor.shape).tolist()
    signature = tensor.shapeSignature
    tensor.shapeSignature = None if signature is None else np.asarray(signature).tolist()
    tensor.name = text(tensor.name, "the name of a tensor")
    return tensor


def _operator(found: Any, operators: tuple[str, ...], data: bytes, k: int) -> tuple[Any, int]:
    """An operator, and the bytes of its options."""
    operator = schema.OperatorT.InitFromObj(found)
    if not 0 <= operator.opcodeIndex < len(operators):
        raise Malformed(f"operator {k} has code {operator.opcodeIndex} of {len(operators)}")
    for kind, options in (
        (operator.builtinOptionsType, operator.builtinOptions),
        (operator.builtinOptions2Type, operator.builtinOptions2),
    ):
        if kind and options is None:
            name = operators[operator.opcodeIndex]
            raise Malformed(f"the options of operator {k} ({name}) are unknown (type {kind})")
    for field in ("inputs", "outputs", "intermediates"):
        numbers = getattr(operator, field)
        setattr(operator, field, [] if numbers is None else np.asarray(numbers).tolist())
    if operator.largeCustomOptionsOffset > 1:
        place = operator.largeCustomOptionsOffset, operator.largeCustomOptionsSize
        operator.customOptions = _behind(data, *place, f"what operator {k} is told")
        operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0
    held = [operator.customOptions]
    for options in (operator.builtinOptions, operator.builtinOptions2):
        held += vars(options).values() if options is not None else ()
    sizes = [
        item.nbytes if isinstance(item, np.ndarray) else len(item)
        for item in held
        if isinstance(item, np.ndarray | bytes)
    ]
    return operator, sum(sizes)


def _metadata(model: Any, weights: tuple[np.ndarray, ...]) -> tuple[tuple[bytes, np.ndarray], ...]:
    kept = []
    for k in range(model.MetadataLength()):
        entry = model.Metadata(k)
        name = entry.Name() or b""
        if name.decode("utf-8", "replace") in _KEPT_METADATA:
            if entry.Buffer() >= len(weights):
                raise Malformed(f"metadata {k} is in buffer {entry.Buffer()} of {len(weights)}")
            kept.append((name, weights[entry.Buffer()]))
    return tuple(kept)


def text(raw: bytes | None, what: str) -> str:
    """A name as text, "" where there is none."""
    if raw is None:
        return ""
    if len(raw) > _MAX_NAME_BYTES:
        raise Malformed(f"{what} has {len(raw)} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"{what} is not text: {raw[:40]!r}") from error


class _Weights(schema.BufferT):  # type: ignore[misc]
    """A buffer that is aligned as the schema demands, which the generated writer forgets."""

    def Pack(self, builder: Any) -> int:
        data = None
        if self.data is not None:
            builder.StartVector(1, len(self.data), _ALIGN_BYTES)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def pack(file: TfliteFile) -> bytes:
    """The bytes of a file; equal parts give equal bytes.

    Raises:
        ModelError: it would be over 2 GB.
    """
    size = sum(item.nbytes for item in file.weights)
    if size > LIMIT_BYTES:
        raise ModelError(
            "a slice is too large for a bundle",
            cause=f"its weights are {size} bytes, and a TFLite file ends at 2 GiB",
            fix="choose a cut with fewer weights on that side",
        )
    model = schema.ModelT(version=VERSION, description=file.description)
    model.operatorCodes = list(file.codes)
    model.subgraphs = [file.graph]
    model.buffers = [_Weights(data=item.data if item.size else None) for item in file.weights]
    model.metadata = []
    for name, content in file.metadata:
        model.metadata.append(schema.MetadataT(name=name, buffer=len(model.buffers)))
        model.buffers.append(_Weights(data=content.data))
    builder = flatbuffers.Builder(size + (1 << 16))
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())

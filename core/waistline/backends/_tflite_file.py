"""Is a .tflite file one that an engine may be given?

The engines are C++ that trusts numbers in the file: tflite-runtime checks none of them (three in
four truncated files ended the process), LiteRT checks that it is a FlatBuffer, not that its tensors
fit their weights. So a file is checked here first, without any third-party package, and the engine
gets the bytes that were checked. What is checked: every table, list and string lies in the file;
every number of a tensor, buffer or operator code exists; weights are as large as their shape says;
each tensor is written once, before it is read; no operator lacks an input that it needs; no input
is a weight; nothing is kept between runs. What is not: the options of operators, whose meaning
differs by operator and is left to the engine's own checks. So a damaged file is refused, and one
made to harm the engine may still do so: a model from elsewhere deserves the trust of a program from
elsewhere.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from waistline.errors import BackendError
from waistline.files import read_limited
from waistline.model.tflite_numbers import kind_problem, number_problem
from waistline.model.tflite_verify import Malformed, verify

MAX_FILE_BYTES = (1 << 31) - 1
"""Where a FlatBuffer ends."""
_MAX_INNER_BYTES = 1 << 31
"""Of one tensor inside the model; what crosses a cut is limited by `waistline.tensors`."""
_VERSION = 3
_CUSTOM = 32
_BITS = {
    0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64,
    15: 32, 16: 16, 17: 4, 18: 16, 19: 2, 20: 4,
}  # fmt: skip
"""By element type; others (strings, resources, variants) have no fixed size."""
_CODES = {3: (0, 255), 7: (-(1 << 15), (1 << 15) - 1), 9: (-128, 127)}
_ANY_CODES = (-(1 << 31), (1 << 31) - 1)
"""Zero points an element type may have; LiteRT indexes tables by them."""
_LISTS = {
    3: ((1, 4), (2, 4)), 8: ((5, 1),), 17: ((0, 4),), 30: ((0, 4),), 111: ((0, 1), (1, 1)),
    115: ((0, 4),),
}  # fmt: skip
"""(field, width) of the lists in an operator's options, by kind of options."""


@dataclass(frozen=True)
class Facts:
    """What a checked file says about itself.

    Attributes:
        data: the file.
        names: of the tensors of the first subgraph, unique, as the cutter names them.
        inputs, outputs: names of the first subgraph's, in the file's order.
        custom_operators: those not in the format's own list, such as ``edgetpu-custom-op``.
    """

    data: bytes
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    custom_operators: tuple[str, ...]


def read_checked(path: Path) -> Facts:
    """Read a file and check it.

    Raises:
        BackendError: not readable, not a TFLite model, damaged, or with a state of its own.
    """
    if not path.is_file():
        raise BackendError(
            f"{path} cannot be opened",
            cause="it is a folder" if path.exists() else "there is no such file",
            fix="check the path, or write the bundle again with 'waistline split'",
        )
    try:
        data = read_limited(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"{path} cannot be read", cause=str(error), fix="check the path and the file"
        ) from error
    return check_bytes(data, path)


def check_bytes(data: bytes, path: Path) -> Facts:
    """As `read_checked`, from memory; ``path`` is named in errors."""
    try:
        verify(data)
        return _Reader(data).facts()
    except (Malformed, struct.error, UnicodeDecodeError) as error:
        raise BackendError(
            f"{path} is not a TFLite model that can be run",
            cause=str(error),
            fix="copy it again, or write the bundle again with 'waistline split'",
        ) from error


def unique_names(names: Sequence[str]) -> list[str]:
    """As the cutter does it: a tensor without a name, or with one taken, gets its number."""
    taken, seen, found = set(names), set[str](), []
    for number, name in enumerate(names):
        if not name or name in seen:
            name = f"{name or 'tensor'}_{number}"
            while name in taken:
                name += "_"
            taken.add(name)
        seen.add(name)
        found.append(name)
    return found


class _Reader:
    """Reads verified bytes; a table is its offset."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def facts(self) -> Facts:
        model = self._u32(0)
        if (version := self._scalar(model, 0, "<I")) != _VERSION:
            raise Malformed(f"its schema version is {version}, not {_VERSION}")
        codes = self._tables(model, 1)
        self._weights = [self._weight_bytes(buffer) for buffer in self._tables(model, 4)]
        operators = [max(self._scalar(c, 0, "<b"), self._scalar(c, 3, "<i")) for c in codes]
        graphs = self._tables(model, 2)
        if not graphs:
            raise Malformed("it holds no graph")
        for graph in graphs:
            self._graph(graph, operators)
        self._signatures(model, graphs)
        names = unique_names([self._text(tensor, 3) for tensor in self._tables(graphs[0], 0)])
        inputs, outputs = (
            tuple(names[number] for number in self._numbers(graphs[0], field)) for field in (1, 2)
        )
        custom = (code for code, number in zip(codes, operators, strict=True) if number == _CUSTOM)
        own = tuple(self._text(code, 1) for code in custom)
        return Facts(self._data, tuple(names), inputs, outputs, own)

    def _graph(self, graph: int, operators: Sequence[int]) -> None:
        tensors = self._tables(graph, 0)
        weights = [self._tensor(tensor, k) for k, tensor in enumerate(tensors)]
        kinds = [(self._scalar(one, 1, "<b"), self._steps(one) > 1) for one in tensors]
        inputs, outputs = self._numbers(graph, 1), self._numbers(graph, 2)
        _exist("an input", inputs, len(tensors))
        _exist("an output", outputs, len(tensors))
        for number in inputs:
            if self._weights[self._scalar(tensors[number], 2, "<I")]:
                raise Malformed(f"input {self._text(tensors[number], 3)!r} is a weight")
        written = {*inputs, *(k for k, given in enumerate(weights) if given)}
        for k, operator in enumerate(self._tables(graph, 3)):
            if (code := self._scalar(operator, 0, "<I")) >= len(operators):
                raise Malformed(f"operator {k} has a code that is not in the file")
            reads, made, between = (self._numbers(operator, field) for field in (1, 2, 8))
            if problem := number_problem(operators[code], reads, made, between, len(tensors)):
                raise Malformed(f"operator {k} {problem}")
            if problem := kind_problem(operators[code], reads, made, kinds):
                raise Malformed(f"operator {k} {problem}")
            if not written.issuperset(number for number in reads if number >= 0):
                raise Malformed(f"operator {k} reads a tensor before it is written")
            if len({*made} - written) != len(made):
                raise Malformed(f"operator {k} writes a tensor that is written already")
            written.update(made)
            self._options(operator, k)
        if not written.issuperset(outputs):
            raise Malformed("an output is never written")

    def _tensor(self, tensor: int, number: int) -> bool:
        """Check a tensor; whether it is there from the start: a weight, or without elements."""
        shape, kind = self._numbers(tensor, 0), self._scalar(tensor, 1, "<b")
        buffer = self._scalar(tensor, 2, "<I")
        name = self._text(tensor, 3)
        if any(axis < 0 for axis in shape):
            raise Malformed(f"tensor {name!r} has the shape {list(shape)}")
        if buffer >= len(self._weights):
            raise Malformed(f"tensor {name!r} is in buffer {buffer} of {len(self._weights)}")
        if self._scalar(tensor, 5, "<b"):
            raise Malformed(f"tensor {name!r} is a state that is kept between runs")
        has = self._weights[buffer]
        if kind in _BITS:
            needs = (math.prod(shape) * _BITS[kind] + 7) // 8
            if needs > _MAX_INNER_BYTES:
                raise Malformed(f"tensor {name!r} would take {needs} bytes")
            if has and has != needs:
                raise Malformed(f"tensor {name!r} takes {needs} bytes, its weights have {has}")
        self._quantization(tensor, shape, kind)
        return has > 0 or 0 in shape

    def _steps(self, tensor: int) -> int:
        table = self._table(tensor, 4)
        return 0 if table is None else len(self._vector(table, 2, "f"))

    def _quantization(self, tensor: int, shape: Sequence[int], kind: int) -> None:
        table = self._table(tensor, 4)
        if table is None:
            return
        steps, zeros = self._vector(table, 2, "f"), self._vector(table, 3, "q")
        axis, count = self._scalar(table, 6, "<i"), len(steps)
        least, most = _CODES.get(kind, _ANY_CODES)
        problem = ""
        if len(zeros) not in (count, 1, 0) or (count and not zeros):
            problem = f"{count} scales and {len(zeros)} zero points"
        elif count > 1 and not (0 <= axis < len(shape) and shape[axis] == count):
            problem = f"{count} scales along axis {axis}"
        elif not all(0 <= step < math.inf for step in steps):
            problem = "a scale that is no number or negative"
        elif not all(least <= zero <= most for zero in zeros):
            problem = f"a zero point outside {least} to {most}"
        if problem:
            raise Malformed(f"tensor {self._text(tensor, 3)!r} has {problem}")

    def _options(self, operator: int, k: int) -> None:
        kind, options = self._scalar(operator, 3, "<B"), self._table(operator, 4)
        if kind and options is None:
            raise Malformed(f"operator {k} lacks its options")
        for field, width in _LISTS.get(kind, ()):
            place = self._field(options, field) if options is not None else None
            if place is not None:
                at = place + self._u32(place)
                if at + 4 + self._u32(at) * width > len(self._data):
                    raise Malformed(f"the options of operator {k} do not end in the file")
        self._inside(self._scalar(operator, 9, "<Q"), self._scalar(operator, 10, "<Q"))

    def _weight_bytes(self, buffer: int) -> int:
        offset, size = self._scalar(buffer, 1, "<Q"), self._scalar(buffer, 2, "<Q")
        self._inside(offset, size)
        return size if offset > 1 else len(self._vector(buffer, 0, "B"))

    def _inside(self, offset: int, size: int) -> None:
        """Of data behind the FlatBuffer, which files over 2 GB have; offsets 0 and 1 mean none."""
        if offset > 1 and offset + size > len(self._data):
            raise Malformed("weights lie outside the file")

    def _signatures(self, model: int, graphs: Sequence[int]) -> None:
        for signature in self._tables(model, 7):
            number = self._scalar(signature, 4, "<I")
            if number >= len(graphs):
                raise Malformed(f"a signature is of graph {number} of {len(graphs)}")
            tensors = len(self._tables(graphs[number], 0))
            for field in (0, 1):
                for entry in self._tables(signature, field):
                    self._text(entry, 0)
                    _exist("a signature", [self._scalar(entry, 1, "<I")], tensors)
            self._text(signature, 2)

    def _u32(self, at: int) -> int:
        return int(struct.unpack_from("<I", self._data, at)[0])

    def _field(self, table: int, slot: int) -> int | None:
        vtable = table - struct.unpack_from("<i", self._data, table)[0]
        if vtable < 0 or table < 0:
            raise Malformed("a table points outside the file")
        if 4 + 2 * slot >= struct.unpack_from("<H", self._data, vtable)[0]:
            return None
        offset: int = struct.unpack_from("<H", self._data, vtable + 4 + 2 * slot)[0]
        return table + offset if offset else None

    def _scalar(self, table: int, slot: int, kind: str) -> int:
        at = self._field(table, slot)
        return 0 if at is None else int(struct.unpack_from(kind, self._data, at)[0])

    def _table(self, table: int, slot: int) -> int | None:
        at = self._field(table, slot)
        return None if at is None else at + self._u32(at)

    def _vector(self, table: int, slot: int, kind: str) -> Sequence[int]:
        at = self._table(table, slot)
        if at is None:
            return ()
        length = self._u32(at)
        if at + 4 + length * struct.calcsize(kind) > len(self._data):
            raise Malformed(f"a list says it has {length} elements, more than the file holds")
        if kind == "B":
            return memoryview(self._data)[at + 4 : at + 4 + length]
        return struct.unpack_from(f"<{length}{kind}", self._data, at + 4)

    def _numbers(self, table: int, slot: int) -> Sequence[int]:
        return self._vector(table, slot, "i")

    def _tables(self, table: int, slot: int) -> list[int]:
        first = (self._table(table, slot) or 0) + 4
        return [first + 4 * k + at for k, at in enumerate(self._vector(table, slot, "I"))]

    def _text(self, table: int, slot: int) -> str:
        return bytes(self._vector(table, slot, "B")).decode()


def _exist(what: str, numbers: Sequence[int], count: int) -> None:
    for number in numbers:
        if not 0 <= number < count:
            raise Malformed(f"{what} names tensor {number} of {count}")

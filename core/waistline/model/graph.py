"""A model as layers in one pinned order, and the frontiers where it may be cut.

Nothing here knows a file format: `onnx_graph` and its siblings fill these in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from waistline.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Layer:
    """One computing node of the model, in the order of the file.

    Attributes:
        index: position in the file's node list (constant nodes keep theirs but are not layers).
        name: unique; made up from operator and index where the file has none.
        operator: operator type, with the domain in front unless it is the default one.
        inputs: live tensors it reads, those captured by If/Loop/Scan bodies included.
        outputs: tensors it writes.
        macs: multiply-accumulates of one run; 0 for operators that have none.
        parameters: weights it reads (elements), each counted at its first reader.
        parameter_bytes: their size.
    """

    index: int
    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int = 0
    parameters: int = 0
    parameter_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Frontier:
    """A set of live tensors that splits the model in two.

    Attributes:
        x: partition point. 0 is the sensor frame, 1 the model's input, N the answer.
        tensors: live tensors in a fixed order (graph inputs first, then as produced).
        after: name of the last layer before the frontier, "" at x <= 1.
        size_bytes: sum of the tensors' bytes, unquantized.
        macs_before: multiply-accumulates of the head.
        parameters_before: weights of the head (elements).
        breaks_fusion: why an engine would run head + tail slower than the whole, "" when it
            would not (``Conv+BatchNormalization``, ``Conv+Relu``, ...).
    """

    x: int
    tensors: tuple[TensorSpec, ...]
    after: str
    size_bytes: int
    macs_before: int
    parameters_before: int
    breaks_fusion: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class ModelGraph:
    """What the cutter and the planner need to know about a model.

    Attributes:
        name: file name without suffix.
        format: ``onnx``.
        sha256: of the file as stored.
        inputs, outputs: graph inputs that are not weights, and graph outputs.
        layers: in the pinned order.
        frontiers: x = 1 .. N; x = 0 is added by whoever knows the sensor frame.
        opsets: domain to version.
        unsized: live tensors without a fixed size, and why; no frontier holds one, because the
            codec and the wire need exact sizes.
    """

    name: str
    format: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...]
    frontiers: tuple[Frontier, ...]
    opsets: dict[str, int]
    unsized: dict[str, str] = field(default_factory=dict)

    @property
    def last_x(self) -> int:
        """N: everything runs on the node."""
        return self.frontiers[-1].x

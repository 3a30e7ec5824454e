"""The computing stages on both sides of a cut, each a plain function of its input.

Node, edge and verification run these same objects; what differs is who calls which stage on which
thread. Slices are opened by the caller and used by one thread at a time. At x = 0 the node only
encodes the frame and the edge preprocesses; at x = N the node makes the answer and the wire
carries it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from waistline.backends._ranks import Ranked
from waistline.backends.base import AUTO, Backend, Slice, home_of, load_backend
from waistline.blob import FORMAT as BLOB
from waistline.bundle.schema import Stage
from waistline.bundle.store import Bundle
from waistline.codec.waist import EncodedWaist
from waistline.errors import CodecError, ConfigError
from waistline.frame import SensorFrame
from waistline.task.kinds.base import Kind
from waistline.task.preprocess import apply, check_frame
from waistline.task.spec import Preprocess
from waistline.tensors import TensorSpec, dequantize, quantize

_IMAGE_RANK = 4


def open_slice(backend: Backend, bundle: Bundle, stage: Stage | None) -> Slice | None:
    """Open a stage's slice with tensors in the bundle's order; None for no stage.

    Raises:
        ConfigError: the backend does not open the slice's format.
        BackendError: the engine refused it.
    """
    if stage is None:
        return None
    if stage.format not in backend.formats:
        raise ConfigError(
            f"this backend cannot open the bundle's {stage.role}",
            cause=f"it is {stage.format}, the backend opens {', '.join(backend.formats)}",
            fix=f"use --backend {home_of(stage.format)}, or leave --backend out",
        )
    opened = backend.open(
        bundle.slice_path(stage),
        inputs=[tensor.name for tensor in stage.inputs],
        outputs=[tensor.name for tensor in stage.outputs],
    )
    return Ranked(opened, stage.inputs, stage.outputs) if stage.format == BLOB else opened


def engine_for(chosen: Backend | str, stage: Stage) -> Backend:
    """What opens a stage here: ``chosen``, but the interpreter for a head blob.

    A blob is made for a board; no other engine of this machine runs one.

    Args:
        chosen: a backend, or a name as `load_backend` takes it.
        stage: of a bundle.
    """
    if stage.format == BLOB or isinstance(chosen, str):
        name = AUTO if stage.format == BLOB else chosen
        return load_backend(str(name), stage.format)
    return chosen


@contextmanager
def open_ends(chosen: Backend | str, bundle: Bundle) -> Iterator[tuple[HeadStages, TailStages]]:
    """Both ends of a cut on this machine, closed in the end.

    Args:
        chosen: as `engine_for` takes it, for each stage.
        bundle: a checked bundle.

    Raises:
        ConfigError: the backend does not open a slice's format.
        BackendError: the engine refused a slice.
    """
    with ExitStack() as opened:
        parts = []
        for stage in (bundle.head, bundle.tail):
            part = open_slice(engine_for(chosen, stage), bundle, stage) if stage else None
            parts.append(part)
            if part is not None:
                opened.callback(part.close)
        yield HeadStages(bundle, parts[0]), TailStages(bundle, parts[1])


def model_input(preprocess: Preprocess, spec: TensorSpec, image: np.ndarray) -> np.ndarray:
    """The model's input from a checked frame, in the element type that the model takes."""
    return quantize(spec, apply(preprocess, image))


def make_answer(
    kind: Kind,
    specs: Sequence[TensorSpec],
    outputs: Sequence[np.ndarray],
    preprocess: Preprocess | None,
) -> bytes:
    """The packed answer from the model's outputs, which ``specs`` describe.

    Raises:
        NonFinite: NaN or infinity where an answer needs numbers.
    """
    if not kind.raw:
        outputs = [_real(spec, output) for spec, output in zip(specs, outputs, strict=True)]
    return kind.pack(kind.postprocess(outputs, preprocess))


def _real(spec: TensorSpec, output: np.ndarray) -> np.ndarray:
    values = dequantize(spec, output)
    if spec.layout == "NHWC" and values.ndim == _IMAGE_RANK:
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    return values


class HeadStages:
    """What the node does with a frame: preprocess, head, encode.

    Args:
        bundle: a checked bundle.
        slice_: the opened head; None exactly where the bundle has none (x = 0 and x = 1).
    """

    def __init__(self, bundle: Bundle, slice_: Slice | None) -> None:
        _same_ends("head", bundle.head, slice_)
        manifest = bundle.manifest
        self._preprocess = manifest.preprocess
        self._inputs = manifest.model_inputs
        self._stage = bundle.head
        self._slice = slice_
        self._sends_frame = bundle.cut.partition_point == 0
        self._codec = bundle.waist_codec()
        waist = [item.tensor.name for item in bundle.cut.tensors]
        self._outputs = manifest.model_outputs
        self._wanted = waist or [tensor.name for tensor in self._outputs]
        self._kind = bundle.answer_kind

    @property
    def codec_implementation(self) -> str:
        """``c`` or ``numpy``; ``none`` at x = N."""
        return self._codec.implementation if self._codec else "none"

    @property
    def engine(self) -> dict[str, str]:
        """What runs the head, as the slice says it; {} without one."""
        return self._slice.info() if self._slice else {}

    def preprocess(self, frame: SensorFrame) -> list[np.ndarray]:
        """The model's inputs in the model's order; at x = 0 the frame itself.

        Raises:
            CodecError: the frame does not have the size, mode or type the bundle was made for.
        """
        name = frame.name or str(frame.index)
        if self._preprocess is None:
            _check_arrays(self._inputs, frame.arrays, f"frame {name}")
            return list(frame.arrays)
        if len(frame.arrays) != 1:
            raise CodecError(f"frame {name} is not one image", cause=f"{len(frame.arrays)} arrays")
        image = check_frame(self._preprocess, frame.arrays[0], name)
        if self._sends_frame:
            return [image]
        return [model_input(self._preprocess, self._inputs[0], image)]

    def head(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The waist tensors in wire order; at x = N the model's outputs.

        Raises:
            BackendError: the engine failed.
        """
        if self._stage is None or self._slice is None:
            if self._sends_frame:
                return list(inputs)
            return _pick(self._wanted, _named(self._inputs, inputs))
        return _run(self._stage, self._slice, self._wanted, _named(self._inputs, inputs))

    def encode(self, tensors: Sequence[np.ndarray]) -> EncodedWaist:
        """The waist as DATA carries it; at x = N the packed answer.

        Raises:
            NonFinite: NaN or infinity where the codec quantizes, or in the outputs at x = N.
            CodecError: the tensors are not those of the bundle.
        """
        if self._codec is not None:
            return self._codec.encode(tensors)
        answer = make_answer(self._kind, self._outputs, tensors, self._preprocess)
        return EncodedWaist(payload=answer, raw_len=len(answer))


class TailStages:
    """What the edge does with a payload: decode, preprocess (x = 0 only), tail, postprocess.

    Args:
        bundle: a checked bundle.
        slice_: the opened tail; None exactly where the bundle has none (x = N).
    """

    def __init__(self, bundle: Bundle, slice_: Slice | None) -> None:
        _same_ends("tail", bundle.tail, slice_)
        manifest = bundle.manifest
        self._preprocess = manifest.preprocess
        self._stage = bundle.tail
        self._slice = slice_
        self._takes_frame = bundle.cut.partition_point == 0
        self._codec = bundle.waist_codec()
        waist = tuple(item.tensor for item in bundle.cut.tensors)
        self._given = manifest.model_inputs if self._takes_frame else waist
        self._inputs, self._outputs = manifest.model_inputs, manifest.model_outputs
        self._wanted = [tensor.name for tensor in self._outputs]
        self._kind = bundle.answer_kind

    @property
    def engine(self) -> dict[str, str]:
        """What runs the tail, as the slice says it; {} without one."""
        return self._slice.info() if self._slice else {}

    def decode(self, payload: bytes | memoryview, raw_len: int) -> list[np.ndarray]:
        """The waist tensors in wire order; at x = N [] once the payload is a sound answer.

        Raises:
            CodecError: the payload is not what this bundle's node sends.
        """
        if self._codec is not None:
            return self._codec.decode(payload, raw_len)
        if raw_len != len(payload):
            raise CodecError(
                "the payload is not a packed answer", cause=f"{len(payload)} bytes, not {raw_len}"
            )
        self._kind.unpack(payload)
        return []

    def preprocess(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """At x = 0 the model's input from the frame, else the tensors unchanged."""
        if self._takes_frame and self._preprocess is not None:
            return [model_input(self._preprocess, self._inputs[0], tensors[0])]
        return list(tensors)

    def tail(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The model's outputs in the model's order; [] at x = N.

        Raises:
            BackendError: the engine failed.
        """
        if self._stage is None or self._slice is None:
            return []
        return _run(self._stage, self._slice, self._wanted, _named(self._given, tensors))

    def postprocess(self, outputs: Sequence[np.ndarray]) -> bytes:
        """The packed answer; b"" at x = N, where the node has it.

        Raises:
            NonFinite: NaN or infinity where an answer needs numbers.
        """
        if self._stage is None:
            return b""
        return make_answer(self._kind, self._outputs, outputs, self._preprocess)


def _run(
    stage: Stage, slice_: Slice, wanted: Sequence[str], known: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Run a slice; a wanted tensor it does not make is one it was given, which passes by it."""
    results = slice_.run([known[tensor.name] for tensor in stage.inputs])
    return _pick(wanted, {**known, **_named(stage.outputs, results)})


def _named(specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {spec.name: array for spec, array in zip(specs, arrays, strict=True)}


def _pick(names: Sequence[str], known: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [known[name] for name in names]


def _same_ends(role: str, stage: Stage | None, slice_: Slice | None) -> None:
    if (stage is None) != (slice_ is None):
        has = "has no" if stage is None else "has a"
        raise ConfigError(
            f"the bundle {has} {role}, and {'none' if slice_ is None else 'one'} was opened",
            fix="open the slices with waistline.stages.open_slice",
        )


def _check_arrays(specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray], what: str) -> None:
    wanted = [(spec.numpy_dtype, spec.shape) for spec in specs]
    got = [(array.dtype, array.shape) for array in arrays]
    if wanted != got:
        raise CodecError(
            f"{what} does not fit the model's inputs",
            cause=f"it is {_shown(got)}, the model takes {_shown(wanted)}",
            fix="give arrays of exactly these types and shapes",
        )


def _shown(tensors: Sequence[tuple[np.dtype[np.generic], tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype} {shape}" for dtype, shape in tensors) or "nothing"

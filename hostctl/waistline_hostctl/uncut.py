"""Answers of the uncut model to a bundle's frames: from its file, or head and tail joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from waistline.backends.base import AUTO, Slice, load_backend
from waistline.blob import FORMAT as BLOB
from waistline.bundle.cuts import fitted
from waistline.bundle.store import Bundle
from waistline.errors import NonFinite
from waistline.frame import SensorFrame
from waistline.model.load import format_of
from waistline.stages import HeadStages, TailStages, make_answer, model_input, open_ends
from waistline.tensors import TensorSpec, dequantize, quantize
from waistline_node.heads.base import MCU

Answer = Callable[[SensorFrame], bytes]
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def reference_of(backend: str) -> str:
    """What computes here what a node's backend computes: itself, but a board's interpreter."""
    return AUTO if backend == MCU else backend


@contextmanager
def uncut_answers(bundle: Bundle, backend: str, model: Path | None) -> Iterator[Answer]:
    """A function from frame to packed answer, b"" where it is not finite.

    Args:
        bundle: whose frames and answers they are.
        backend: engine, as `waistline.backends.base.load_backend` takes it; a head blob is run by
            its interpreter.
        model: the uncut model; None: head and tail joined without a codec, which gives the same,
            but for a head that was quantized for a microcontroller.
    """
    if model is None:
        with open_ends(backend, bundle) as (head, tail):
            yield lambda frame: _joined(bundle, head, tail, frame)
        return
    manifest = bundle.manifest
    stage = manifest.stages[0]
    format_ = format_of(model) if stage.format == BLOB else stage.format
    whole = load_backend(backend, format_).open(
        model,
        inputs=[tensor.name for tensor in manifest.model_inputs],
        outputs=[tensor.name for tensor in manifest.model_outputs],
    )
    try:
        yield _Whole(bundle, whole)
    finally:
        whole.close()


class _Whole:
    """The uncut model, whose tensors may be float NCHW where those of the bundle are int8 NHWC."""

    def __init__(self, bundle: Bundle, whole: Slice) -> None:
        manifest = bundle.manifest
        self._kind, self._whole = bundle.answer_kind, whole
        self._frame_specs = manifest.model_inputs
        self._inputs = _own(manifest.model_inputs, whole.inputs)
        self._outputs = _own(manifest.model_outputs, whole.outputs)
        self._answers = manifest.model_outputs
        self._preprocess = manifest.preprocess
        if self._inputs != self._frame_specs:
            self._preprocess = fitted(manifest.model_name, self._inputs, manifest.preprocess)

    def __call__(self, frame: SensorFrame) -> bytes:
        return finite(lambda: self._answer(frame))

    def _answer(self, frame: SensorFrame) -> bytes:
        if self._preprocess is not None:
            given = [model_input(self._preprocess, self._inputs[0], frame.arrays[0])]
        else:
            ends = zip(self._frame_specs, self._inputs, frame.arrays, strict=True)
            given = [_carried(one, other, array) for one, other, array in ends]
        made, specs = self._whole.run(given), self._outputs
        if self._kind.raw:
            ends = zip(specs, self._answers, made, strict=True)
            made, specs = [_carried(one, other, array) for one, other, array in ends], self._answers
        return make_answer(self._kind, specs, made, self._preprocess)


def _own(bundles: Sequence[TensorSpec], models: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The bundle's specs, which say more, but the model's where it was cut as something else."""
    same = [(a.dtype, a.shape) for a in bundles] == [(a.dtype, a.shape) for a in models]
    return tuple(bundles if same else models)


def _carried(source: TensorSpec, target: TensorSpec, array: np.ndarray) -> np.ndarray:
    """The values of a tensor in the order and element type of another."""
    if source == target:
        return array
    values = dequantize(source, array)
    if values.shape != target.shape:
        order = _TO_NCHW if source.layout == "NHWC" else _TO_NHWC
        values = np.ascontiguousarray(values.transpose(order))
    return quantize(target, values)


def _joined(bundle: Bundle, head: HeadStages, tail: TailStages, frame: SensorFrame) -> bytes:
    waist = head.head(head.preprocess(frame))
    if bundle.tail is None:
        return finite(lambda: head.encode(waist).payload)
    return finite(lambda: tail.postprocess(tail.tail(tail.preprocess(waist))))


def finite(make: Callable[[], bytes]) -> bytes:
    """What ``make`` gives, b"" where that would not be finite."""
    try:
        return make()
    except NonFinite:
        return b""

"""Bytes, processor time and answers of many codecs on the same frames.

Each frame goes through the head once; it is quantized once for each quantizer, and the tail runs
once for each quantizer and once for each lossy coder behind it: lossless coders give the tail the
same codes, which is checked on every frame that is coded.

Times are CPU time of this thread, as a node would spend it: one call a frame, right after the
head or the tail has used the caches. A microcontroller's encoding is computed instead, from what
the codes are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from waistline.backends.base import Backend
from waistline.bundle.store import Bundle
from waistline.codec import native
from waistline.codec.calibrate import Calibration
from waistline.codec.coders.base import Coder, CodeShape
from waistline.codec.spec import CodecSpec, parse_spec
from waistline.codec.tensor_codec import TensorCodec, open_tensor_codec
from waistline.codec.waist import LENGTH_BYTES, code_shape, open_entropy_coder
from waistline.errors import CodecError
from waistline.frame import SensorFrame
from waistline.stages import HeadStages, TailStages, open_ends
from waistline.tensors import TensorSpec, WaistTensor
from waistline_bridge.coder_cost import CodingCost
from waistline_hostctl.study_board import StudyBoard
from waistline_hostctl.study_grid import Candidate, codec_of, spec_for, targets

UNCUT = ""
"""Stands for a codec where the waist went to the tail as it was."""
Arrays = list[np.ndarray]


@dataclass(frozen=True, slots=True)
class SizeRow:
    """One frame through one codec; times in seconds.

    Attributes:
        instructions, cycles: of a microcontroller that encodes it; ``encode_s`` is then its time.
        line_bytes: on its line to the bridge.
    """

    codec: str
    index: int
    payload_bytes: int
    encode_s: float
    decode_s: float
    instructions: float = 0.0
    cycles: float = 0.0
    line_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """The packed answer to one frame; ``codec`` is a spec, a quantizer alone, or `UNCUT`."""

    codec: str
    index: int
    answer: bytes


@dataclass(slots=True)
class Measured:
    """What was seen.

    Attributes:
        labels: ground truth of each frame, by index.
        sizes: of each codec on the coded frames, the same for all, so that means are paired.
        answers: one for each frame without a codec, with each quantizer, with each lossy codec.
        float_bytes: the waist as the model has it.
    """

    labels: dict[int, Any] = field(default_factory=dict)
    sizes: list[SizeRow] = field(default_factory=list)
    answers: list[AnswerRow] = field(default_factory=list)
    float_bytes: int = 0


def measure(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    calibration: Iterable[SensorFrame],
    frames: Iterable[SensorFrame],
    *,
    backend: Backend | str,
    coded: Container[int],
    board: StudyBoard | None = None,
    step: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Try every codec on every frame.

    Args:
        bundle: its cut; its own codec plays no part.
        candidates: what to try.
        calibration: frames for clip limits.
        frames: frames for everything else; others than those.
        backend: engine of head and tail, or its name; a head blob is interpreted.
        coded: places of the frames, from 0, that bytes and times are those of; lossless coders
            run on no others.
        board: a microcontroller that codes the int8 tensors of the waist.
        step: told how many frames are done.

    Raises:
        NonFinite: the head gave NaN or infinity.
        CodecError: a lossless coder did not give its codes back.
    """
    waist = [item.tensor for item in bundle.cut.tensors]
    found = Measured(float_bytes=sum(tensor.size_bytes for tensor in waist))
    with open_ends(backend, bundle) as (head, tail):
        limits = _Limits(waist, candidates)
        if limits.wanted:
            for frame in calibration:
                limits.add(_waist_of(head, frame))
        quantizers = [_Quantizer(item, waist, limits, board) for item in candidates]
        for done, frame in enumerate(frames, 1):
            tensors = _waist_of(head, frame)
            if done == 1:  # working memory and caches are made outside the clock
                for quantizer in quantizers:
                    quantizer.run(Measured(), frame.index, tensors, tail, coded=True)
            found.labels[frame.index] = frame.label
            found.answers.append(AnswerRow(UNCUT, frame.index, _answer(tail, tensors)))
            for quantizer in quantizers:
                quantizer.run(found, frame.index, tensors, tail, coded=done - 1 in coded)
            step(done)
    return found


def _waist_of(head: HeadStages, frame: SensorFrame) -> Arrays:
    return head.head(head.preprocess(frame))


def _answer(tail: TailStages, tensors: Sequence[np.ndarray]) -> bytes:
    return tail.postprocess(tail.tail(tail.preprocess(tensors)))


class _Limits:
    """Clip limits of all static codecs, from one pass over the calibration frames."""

    def __init__(self, waist: Sequence[TensorSpec], candidates: Sequence[Candidate]) -> None:
        self._found: dict[tuple[int, str], Calibration] = {}
        for candidate in candidates:
            chosen = targets(waist, candidate.spec.quantizer)
            for place, (tensor, target) in enumerate(zip(waist, chosen, strict=True)):
                spec = spec_for(tensor, candidate.quantizer, target)
                if spec.needs_calibration and (place, spec.per) not in self._found:
                    self._found[place, spec.per] = Calibration(tensor, spec)

    @property
    def wanted(self) -> bool:
        return bool(self._found)

    def add(self, tensors: Arrays) -> None:
        for (place, _), calibration in self._found.items():
            calibration.add(tensors[place])

    def waist_tensor(self, place: int, tensor: TensorSpec, spec: CodecSpec) -> WaistTensor:
        ranges = None
        if spec.needs_calibration:
            ranges = self._found[place, spec.per].ranges(spec)
        return WaistTensor(tensor, str(spec), ranges)


@dataclass(frozen=True, slots=True)
class _Part:
    """One tensor: its quantizer, and its coders by name; "" for the one it has in any case."""

    codec: TensorCodec
    coders: dict[str, tuple[Coder, CodeShape]]

    def coder(self, name: str) -> tuple[Coder, CodeShape]:
        return self.coders.get("") or self.coders[name]


class _Quantizer:
    """One quantizer with all its coders."""

    def __init__(
        self,
        candidate: Candidate,
        waist: Sequence[TensorSpec],
        limits: _Limits,
        board: StudyBoard | None,
    ) -> None:
        self._candidate = candidate
        self._board = board
        chosen = targets(waist, candidate.spec.quantizer)
        self._parts = [
            self._part(limits, place, tensor, target)
            for place, (tensor, target) in enumerate(zip(waist, chosen, strict=True))
        ]

    def _part(self, limits: _Limits, place: int, tensor: TensorSpec, target: bool) -> _Part:
        spec = spec_for(tensor, self._candidate.quantizer, target)
        waist = limits.waist_tensor(place, tensor, spec)
        plain = open_tensor_codec(waist, native.kernels())
        if not target:
            return _Part(plain, {"": (open_entropy_coder(plain), code_shape(plain))})
        coders = {}
        for coder in (*self._candidate.lossless, *self._candidate.lossy):
            named = parse_spec(f"raw|{coder}")
            full = replace(spec, coder=named.coder, coder_argument=named.coder_argument)
            codec = open_tensor_codec(replace_codec(waist, full), native.kernels())
            coders[coder] = (open_entropy_coder(codec), code_shape(codec))
        return _Part(plain, coders)

    def run(
        self, into: Measured, index: int, tensors: Arrays, tail: TailStages, *, coded: bool
    ) -> None:
        """Put one frame's rows into ``into``."""
        candidate = self._candidate
        start = time.thread_time_ns()
        quantized = [
            part.codec.encode(tensor) for part, tensor in zip(self._parts, tensors, strict=True)
        ]
        quantize_ns = time.thread_time_ns() - start
        packed = [codes for _, codes in quantized]
        if candidate.lossless:
            decoded, dequantize_ns = self._dequantized(quantized, packed)
            into.answers.append(AnswerRow(candidate.quantizer, index, _answer(tail, decoded)))
            for coder in candidate.lossless if coded else ():
                back, row = self._coded(coder, index, packed, quantize_ns)
                if any(one != other for one, other in zip(back, packed, strict=True)):
                    raise CodecError(f"{row.codec} did not give back what it took")
                into.sizes.append(replace(row, decode_s=row.decode_s + dequantize_ns * 1e-9))
        for coder in candidate.lossy:
            back, row = self._coded(coder, index, packed, quantize_ns)
            decoded, dequantize_ns = self._dequantized(quantized, back)
            into.answers.append(AnswerRow(row.codec, index, _answer(tail, decoded)))
            if coded:
                into.sizes.append(replace(row, decode_s=row.decode_s + dequantize_ns * 1e-9))

    def _dequantized(
        self, quantized: Sequence[tuple[Any, Any]], packed: Sequence[Any]
    ) -> tuple[Arrays, int]:
        start = time.thread_time_ns()
        decoded: Arrays = [
            part.codec.decode(ranges, codes)
            for part, (ranges, _), codes in zip(self._parts, quantized, packed, strict=True)
        ]
        return decoded, time.thread_time_ns() - start

    def _coded(
        self, coder: str, index: int, packed: Sequence[memoryview], quantize_ns: int
    ) -> tuple[list[Any], SizeRow]:
        """The codes that the other end gets, and the row without its dequantizing."""
        encode_ns, decode_ns, size_bytes = quantize_ns, 0, 0
        cost, output_bytes = CodingCost(), 0
        back: list[Any] = []
        for part, codes in zip(self._parts, packed, strict=True):
            entropy, shape = part.coder(coder)
            start = time.thread_time_ns()
            data = entropy.compress(codes, shape)
            encode_ns += time.thread_time_ns() - start
            stored = len(data) >= len(codes)  # as `WaistCodec` does, the codes then go as they are
            part_bytes = LENGTH_BYTES + part.codec.range_bytes + min(len(data), len(codes))
            size_bytes += part_bytes
            if self._board is not None and "" not in part.coders:  # others the node itself codes
                cost += self._board.cost(shape, coder, min(len(data), len(codes)))
                output_bytes += part_bytes
            sent = memoryview(codes if stored else bytes(data))
            start = time.thread_time_ns()
            back.append(sent if stored else entropy.decompress(sent, len(codes), shape))
            decode_ns += time.thread_time_ns() - start
        codec = codec_of(self._candidate.quantizer, coder)
        row = SizeRow(codec, index, size_bytes, encode_ns * 1e-9, decode_ns * 1e-9)
        if self._board is not None:
            row = replace(
                row,
                encode_s=cost.cycles / self._board.processor.clock_hz,
                instructions=cost.instructions,
                cycles=cost.cycles,
                line_bytes=self._board.line_bytes(output_bytes),
            )
        return back, row


def replace_codec(waist: WaistTensor, spec: CodecSpec) -> WaistTensor:
    """``waist`` with another codec."""
    return WaistTensor(waist.tensor, str(spec), waist.ranges)

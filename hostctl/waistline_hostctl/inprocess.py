"""What is computed beside the stream, in this process: the uncut answers and other code widths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from waistline.bundle.check import FRAME
from waistline.bundle.codecs import CALIBRATED, UNCALIBRATED, WaistCalibration
from waistline.bundle.cuts import FRAME_CODECS
from waistline.bundle.store import Bundle
from waistline.codec.spec import CodecSpec, parse_spec
from waistline.codec.waist import WaistCodec
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.stages import open_ends
from waistline.tensors import TensorSpec, WaistTensor
from waistline_hostctl.derived.base import label_text
from waistline_hostctl.raw import FLOAT_BITS, InputRow, PictureRow, StudyRow
from waistline_hostctl.uncut import finite, uncut_answers
from waistline_node.service import source_options
from waistline_node.sources.base import UnreadableFrame, open_source, path_of

Step = Callable[[int], None]
BITS = tuple(range(1, 9))
PICTURED = 300
"""Frames that are coded as pictures: the model runs once more for each lossy codec."""


def look_at(bundle: Bundle, source: str) -> tuple[str, ...]:
    """What a person should know about the frames of ``source``.

    Raises:
        ConfigError: it cannot be used for ``bundle``, or not be read twice.
    """
    opened = open_source(source, source_options(bundle, 1))
    opened.close()
    if opened.live or path_of(source) is None:
        raise ConfigError(
            f"a run cannot be made of {source}",
            cause="its frames are read twice, and a camera or pipe has others the second time",
            fix="use 'waistline node' and 'waistline edge', or record the frames to a file first",
        )
    return tuple(getattr(opened, "remarks", ()))


def frames_of(
    bundle: Bundle, source: str, count: int | None, *, loop: bool = False
) -> Iterator[SensorFrame]:
    """The frames that a node would read; those it could not are left out."""
    opened = open_source(source, source_options(bundle, count, loop))
    try:
        while True:
            try:
                frame = opened.read()
            except UnreadableFrame:
                continue
            if frame is None:
                return
            yield frame
    finally:
        opened.close()


@dataclass(frozen=True, slots=True)
class Described:
    """One frame of the source, and what it would be as a picture; none beyond the first frames."""

    frame: SensorFrame
    input: InputRow
    pictures: tuple[PictureRow, ...]


def describe_frames(
    bundle: Bundle,
    frames: Iterable[SensorFrame],
    *,
    backend: str,
    model: Path | None = None,
    pictured: int = PICTURED,
    step: Step = lambda done: None,
) -> Iterator[Described]:
    """Uncut answer of each frame, and bytes and answer of it as each codec of pictures sends it.

    Args:
        bundle: what was streamed.
        frames: of the source.
        backend: engine for the uncut answers.
        model: the uncut model; None: head and tail joined without a codec, which gives the same.
        pictured: so many frames, the first, are coded as pictures, if they are images.
        step: told how many are done.
    """
    floats = sum(item.tensor.size_bytes for item in bundle.cut.tensors)
    kind, preprocess = bundle.answer_kind, bundle.manifest.preprocess
    codecs = {} if preprocess is None else _picture_codecs(preprocess.frame_shape)
    with uncut_answers(bundle, backend, model) as answer:
        for done, frame in enumerate(frames, 1):
            whole = answer(frame)
            row = InputRow(frame.index, label_text(kind, frame.label), whole, floats)
            pictures: tuple[PictureRow, ...] = ()
            if done <= pictured:
                pictures = tuple(_pictured(frame, whole, codecs, answer))
            yield Described(frame, row, pictures)
            step(done)


def _pictured(
    frame: SensorFrame,
    whole: bytes,
    codecs: Mapping[str, WaistCodec],
    answer: Callable[[SensorFrame], bytes],
) -> Iterator[PictureRow]:
    for name, codec in codecs.items():
        sent = codec.encode([frame.arrays[0]])
        (arrived,) = codec.decode(sent.payload, sent.raw_len)
        same = np.array_equal(arrived, frame.arrays[0])
        found = whole if same else answer(replace(frame, arrays=(arrived,)))
        yield PictureRow(frame.index, name, len(sent.payload), found)


def study_bits(
    bundle: Bundle,
    calibration: Iterable[SensorFrame] | None,
    selection: Iterable[SensorFrame],
    *,
    backend: str,
    limit: int,
    step: Step = lambda done: None,
) -> Iterator[StudyRow]:
    """Answers at each code width for the first ``limit`` frames of ``selection``.

    Only float waists, and int8 ones that the bundle codes with ``i8``, are coded otherwise than it
    codes them; clip limits are found anew for each width on ``calibration``, as `waistline.split`
    would, in one pass over it; None: each frame gives its own.
    """
    with open_ends(backend, bundle) as (head, tail):

        def waist_of(frame: SensorFrame) -> list[np.ndarray]:
            return head.head(head.preprocess(frame))

        def answer(tensors: list[np.ndarray]) -> bytes:
            return finite(lambda: tail.postprocess(tail.tail(tail.preprocess(tensors))))

        widths = {bits: _at_width(bundle, bits, calibration is not None) for bits in BITS}
        for frame in calibration or ():
            sample = waist_of(frame)
            for width in widths.values():
                width.add(sample)
        codecs = {bits: WaistCodec(width.waist()) for bits, width in widths.items()}
        for done, frame in enumerate(islice(selection, limit), 1):
            tensors = waist_of(frame)
            label = label_text(bundle.answer_kind, frame.label)
            size = sum(tensor.nbytes for tensor in tensors)
            yield StudyRow(FLOAT_BITS, frame.index, label, size, answer(tensors))
            for bits, codec in codecs.items():
                sent = codec.encode(tensors)
                decoded = codec.decode(sent.payload, sent.raw_len)
                yield StudyRow(bits, frame.index, label, len(sent.payload), answer(decoded))
            step(done)


def _at_width(bundle: Bundle, bits: int, calibrated: bool) -> WaistCalibration:
    waist = bundle.cut.tensors
    specs = [_respec(item, bits, calibrated) for item in waist]
    return WaistCalibration([item.tensor for item in waist], specs)


def _respec(item: WaistTensor, bits: int, calibrated: bool) -> CodecSpec:
    spec = parse_spec(item.codec)
    if spec.quantizer == "i8":
        return replace(spec, bits=bits, clip=spec.clip if calibrated else None)
    if item.tensor.numpy_dtype.kind != "f":
        return spec
    if spec.bits is None or spec.quantizer in {"q2", "q2m"} or (spec.clip and not calibrated):
        spec = parse_spec(CALIBRATED if calibrated else UNCALIBRATED)
    if item.tensor.channel_axis is None:
        spec = replace(spec, per="tensor")
    return replace(spec, bits=bits)


def _picture_codecs(shape: tuple[int, ...]) -> dict[str, WaistCodec]:
    tensor = TensorSpec(FRAME, "uint8", shape, "any", 2)
    return {spec: WaistCodec([WaistTensor(tensor, spec)]) for spec in FRAME_CODECS}

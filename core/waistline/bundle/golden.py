"""The golden input of a bundle: a frame, its codes and its answer, from the slices as written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from waistline.backends.base import Backend
from waistline.bundle.schema import Golden, StoredFile
from waistline.bundle.store import Bundle
from waistline.bundle.write import write_stored
from waistline.frame import SensorFrame
from waistline.stages import open_ends
from waistline.task.spec import Preprocess
from waistline.tensors import TensorSpec

FRAME_FILE, CODES_FILE, ANSWER_FILE = "golden.frame", "golden.codes", "golden.answer"
_SEED = 20260101
_FRAME = "frame"
_NO_FILE = StoredFile("none", 0, "")
EMPTY = Golden(frame=_NO_FILE, frame_tensors=(), codes=_NO_FILE, answer=_NO_FILE)
"""Stands in the manifest until the golden files are made."""


def invented_frame(inputs: Sequence[TensorSpec], preprocess: Preprocess | None) -> SensorFrame:
    """A seeded random frame: noise pixels, normal floats, 0 and 1 for integers."""
    random = np.random.default_rng(_SEED)
    if preprocess is not None:
        pixels = random.integers(0, 256, preprocess.frame_shape, np.uint8)
        return SensorFrame(0, (pixels,), None, "invented frame")
    arrays = []
    for spec in inputs:
        if spec.numpy_dtype.kind == "f":
            array = random.standard_normal(spec.shape).astype(spec.numpy_dtype)
        else:
            array = random.integers(0, 2, spec.shape).astype(spec.numpy_dtype)
        arrays.append(np.asarray(array))
    return SensorFrame(0, tuple(arrays), None, "invented frame")


def frame_tensors(bundle: Bundle) -> tuple[TensorSpec, ...]:
    """What one frame of the bundle is made of."""
    preprocess = bundle.manifest.preprocess
    if preprocess is None:
        return bundle.manifest.model_inputs
    return (TensorSpec(_FRAME, "uint8", tuple(preprocess.frame_shape), channel_axis=2),)


def run_golden(bundle: Bundle, chosen: Backend | str, frame: SensorFrame) -> tuple[bytes, bytes]:
    """Codes (b"" at x = N) and answer of ``frame``, through both ends of the cut.

    Raises:
        BackendError: the engine refuses a slice or fails.
        NonFinite: the frame makes NaN or infinity where numbers are needed.
    """
    with open_ends(chosen, bundle) as (head, tail):
        waist = head.head(head.preprocess(frame))
        codec = bundle.waist_codec()
        if codec is None:
            return b"", head.encode(waist).payload
        codes = codec.codes(waist)
        tensors = tail.preprocess(codec.decode_codes(codes))
        return codes, tail.postprocess(tail.tail(tensors))


def write_golden(folder: Path, bundle: Bundle, chosen: Backend | str, frame: SensorFrame) -> Golden:
    """Run ``frame`` and write the golden files into ``folder``."""
    codes, answer = run_golden(bundle, chosen, frame)
    return Golden(
        frame=write_stored(folder, FRAME_FILE, frame_to_bytes(frame)),
        frame_tensors=frame_tensors(bundle),
        codes=write_stored(folder, CODES_FILE, codes),
        answer=write_stored(folder, ANSWER_FILE, answer),
    )


def read_frame(bundle: Bundle) -> SensorFrame:
    """The golden frame.

    Raises:
        BundleError: its file was changed.
    """
    return frame_from_bytes(bundle, bundle.read(bundle.manifest.golden.frame))


def frame_from_bytes(bundle: Bundle, data: bytes) -> SensorFrame:
    """A frame of the bundle's shape and type; ``data`` as `frame_to_bytes` gave it."""
    arrays, offset = [], 0
    for spec in bundle.manifest.golden.frame_tensors:
        dtype = spec.numpy_dtype.newbyteorder("<")
        flat = np.frombuffer(data, dtype, spec.elements, offset).astype(spec.numpy_dtype)
        arrays.append(flat.reshape(spec.shape))
        offset += spec.size_bytes
    return SensorFrame(0, tuple(arrays), None, "golden frame")


def frame_to_bytes(frame: SensorFrame) -> bytes:
    """The frame's arrays one after the other, little-endian."""
    return b"".join(
        array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in frame.arrays
    )

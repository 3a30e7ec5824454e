"""The inputs whose outputs are known, by which a board is judged.

A blob may hold some. Where it holds none, so that it fits more boards, the host sends the golden
frame of the bundle, whose codes and answer lie there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from waistline.blob.records import Blob
from waistline.bundle.golden import read_frame
from waistline.bundle.schema import Stage
from waistline.bundle.store import Bundle
from waistline.codec.waist import EncodedWaist
from waistline.errors import CodecError
from waistline.frame import SensorFrame
from waistline.stages import make_answer, model_input
from waistline.task.preprocess import check_frame
from waistline.task.spec import Preprocess
from waistline.tensors import TensorSpec
from waistline_bridge.client import Client, Inference
from waistline_bridge.sent import Sent, input_bytes


@dataclass(frozen=True, slots=True)
class Golden:
    """One such input.

    Attributes:
        data: bytes of all inputs, as LOAD takes them.
        stored: its number in the blob; None: it is sent.
        problem: what is wrong with the output of a run, "" if nothing is.
    """

    data: bytes
    stored: int | None
    problem: Callable[[Inference], str]

    def run(self, client: Client, limit_bytes: int) -> Inference:
        """One run of the active head on it."""
        if self.stored is None:
            client.load_input(self.data)
        return client.infer(golden=self.stored, limit_bytes=limit_bytes)


def goldens_of(blob: Blob, bundle: Bundle | None = None) -> list[Golden]:
    """Those that a blob holds, else that of its bundle; [] where there is neither.

    Args:
        blob: checked.
        bundle: whose head it is.

    Raises:
        BundleError: a golden file was changed.
        CodecError: the golden frame does not fit.
    """
    found = [
        Golden(bytes(blob.section((item.input, blob.input_bytes))), k, _by_crc(item.crc))
        for k, item in enumerate(blob.goldens)
    ]
    if not found and bundle is not None and bundle.head is not None:
        found = [_of_bundle(bundle, bundle.head)]
    return found


def model_inputs(
    frame: SensorFrame, preprocess: Preprocess | None, inputs: Sequence[TensorSpec]
) -> dict[str, np.ndarray]:
    """What a model takes of a frame, by name.

    Args:
        frame: of the sensor, or of the model's inputs where there is no preprocessing.
        preprocess: of a bundle.
        inputs: its model's.
    """
    arrays = frame.arrays
    if preprocess is not None:
        image = check_frame(preprocess, arrays[0], frame.name)
        arrays = (model_input(preprocess, inputs[0], image),)
    return {spec.name: array for spec, array in zip(inputs, arrays, strict=True)}


def _by_crc(wanted: int) -> Callable[[Inference], str]:
    def problem(made: Inference) -> str:
        found = zlib.crc32(made.output)
        if found == wanted:
            return ""
        return f"the CRC of {len(made.output)} bytes is {found:08x} instead of {wanted:08x}"

    return problem


def _of_bundle(bundle: Bundle, stage: Stage) -> Golden:
    manifest, golden = bundle.manifest, bundle.manifest.golden
    given = model_inputs(read_frame(bundle), manifest.preprocess, manifest.model_inputs)
    sent, codec = Sent(bundle, stage), bundle.waist_codec()
    what = "outputs" if codec is None else "codes"
    wanted = bundle.read(golden.answer if codec is None else golden.codes)

    def problem(made: Inference) -> str:
        encoded = EncodedWaist(made.output, made.raw_len)
        try:
            if codec is None:
                outputs = sent.outputs(encoded, given)
                found = make_answer(
                    bundle.answer_kind, manifest.model_outputs, outputs, manifest.preprocess
                )
            else:
                whole = sent.whole(encoded, given)
                found = codec.packed(whole.payload, whole.raw_len)
        except CodecError as error:
            return error.cause or error.what
        return "" if found == wanted else f"the {what} of the bundle's golden frame differ"

    return Golden(input_bytes(given[spec.name] for spec in stage.inputs), None, problem)

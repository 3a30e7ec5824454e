"""What a board sends of a bundle's waist, and what the node adds to it.

A board codes the tensors that its head makes. An input of the model that crosses the cut is the
node's already: it does not go to the board and back, the node codes it itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from waistline.blob.waist import ANSWER_CODEC
from waistline.bundle.schema import Stage
from waistline.bundle.store import Bundle
from waistline.codec.waist import LENGTH_BYTES, EncodedWaist, WaistCodec
from waistline.errors import CodecError
from waistline.tensors import WaistTensor

_STORED = 1 << 31


class Sent:
    """The waist of a bundle whose head is a blob; at x = N the outputs that make its answer.

    Args:
        bundle: a checked bundle.
        stage: its head.

    Attributes:
        made: the tensors that the board codes, in the blob's order.
        codec: of these.
    """

    def __init__(self, bundle: Bundle, stage: Stage) -> None:
        self._waist, manifest = bundle.cut.tensors, bundle.manifest
        self._answer = [spec.name for spec in manifest.model_outputs]
        given = {spec.name for spec in manifest.model_inputs}
        crossing = [item for item in self._waist if item.tensor.name in given]
        self.made = tuple(item for item in self._waist if item not in crossing) or tuple(
            WaistTensor(spec, ANSWER_CODEC) for spec in stage.outputs
        )
        self.codec = WaistCodec(self.made)
        self._added = {item.tensor.name: WaistCodec([item]) for item in crossing}

    def outputs(self, sent: EncodedWaist, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """At x = N the outputs of the model; ``given``: its inputs by name.

        Raises:
            CodecError: the board sent something else.
        """
        arrays = self.codec.decode(sent.payload, sent.raw_len)
        made = {item.tensor.name: array for item, array in zip(self.made, arrays, strict=True)}
        return [{**given, **made}[name] for name in self._answer]

    def whole(self, sent: EncodedWaist, given: Mapping[str, np.ndarray]) -> EncodedWaist:
        """The waist as DATA carries it; ``given``: the model's inputs by name.

        Raises:
            CodecError: the board sent something else.
            NonFinite: NaN or infinity in an input that is quantized.
        """
        if not self._added:
            return sent
        parts, raw_len = [], sent.raw_len
        own = _sections(sent.payload, len(self.made))
        for item in self._waist:
            codec = self._added.get(item.tensor.name)
            if codec is None:
                parts.append(next(own))
                continue
            coded = codec.encode([given[item.tensor.name]])
            parts.append(coded.payload)
            raw_len += coded.raw_len
        return EncodedWaist(b"".join(parts), raw_len)


def input_bytes(arrays: Iterable[np.ndarray]) -> bytes:
    """The inputs of a head as LOAD takes them."""
    return b"".join(np.ascontiguousarray(array, np.int8).tobytes() for array in arrays)


def _sections(payload: bytes, count: int) -> Iterator[bytes]:
    """What is sent of each tensor; the tables of a board are static, so no ranges are in it."""
    parts, at = [], 0
    for _ in range(count):
        if at + LENGTH_BYTES <= len(payload):
            (word,) = struct.unpack_from("<I", payload, at)
            parts.append(payload[at : at + LENGTH_BYTES + (word & ~_STORED)])
            at += LENGTH_BYTES + (word & ~_STORED)
    if len(parts) != count or at != len(payload):
        raise CodecError(
            "the board sent another waist than the bundle has",
            cause=f"{len(payload)} bytes are not {count} tensors",
            fix="write the bundle again: waistline split MODEL --backend mcu",
        )
    return iter(parts)

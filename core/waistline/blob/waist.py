"""How a board codes what its head makes."""

from __future__ import annotations

from waistline.bundle.schema import Manifest
from waistline.tensors import WaistTensor

ANSWER_CODEC = "i8:b=8|none"
"""At x = N: the model's int8 outputs as they are; whoever asked for them packs the answer."""


def board_waist(manifest: Manifest) -> tuple[WaistTensor, ...]:
    """The tensors that a board sends for one frame of a bundle, in order, each with its codec."""
    return manifest.cuts[0].tensors or tuple(
        WaistTensor(spec, ANSWER_CODEC) for spec in manifest.model_outputs
    )

"""What an explanation is, and when it explains."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

KINDS = {
    "rounding": "the same values up to float32 rounding",
    "f16": "computed with 11 significant bits (float16)",
    "bf16": "computed with 8 significant bits (bfloat16)",
    "int8": "computed with 8-bit integers",
    "inexact": "computed less exactly",
    "local": "wrong in a few places only",
    "nonfinite": "NaN or infinity",
    "constant": "the same value everywhere",
    "scaled": "another scale or offset",
    "signedness": "signed and unsigned 8-bit mixed up",
    "layout": "another order of the axes",
    "moved": "shifted or mirrored",
    "channels": "channels in another order",
    "shuffled": "the right values in other places",
    "input": "another input",
    "codec": "the codec is at fault, not the head",
    "tensors": "waist tensors in another order",
    "unrelated": "no relation: another model, or other weights",
    "different": "related, but not explained",
}
"""What `Diagnosis.kind` may be, in words."""
INEXACT = frozenset({"rounding", "f16", "bf16", "int8", "inexact"})
"""The head computes the right thing, less exactly; everything else is a fault."""

EXPLAINS = 0.9
"""Least share of the variance that an explanation must explain."""
_BETTER = 0.25
"""Most of the unexplained rest that it may leave, of what is left without it."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The explanation that fits best.

    Attributes:
        kind: a key of `KINDS`.
        seen: the fact that speaks for it, in words.
        evidence: the numbers behind it.
    """

    kind: str
    seen: str
    evidence: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return f"looks like: {KINDS[self.kind]} ({self.seen})"


def explained(values: Values, expected: Values) -> float:
    """Share of the variance of ``expected`` that ``values`` explain as they are, at best 1.

    Negative when the mean would explain more. NaN in neither.
    """
    spread = float(np.square(expected - expected.mean()).sum())
    rest = float(np.square(values - expected).sum())
    if spread <= 0.0:
        return 1.0 if rest == 0.0 else -np.inf
    return 1.0 - rest / spread


def better(quality: float, plain: float) -> bool:
    return quality >= EXPLAINS and 1.0 - quality <= _BETTER * (1.0 - plain)

"""Comparing many frames with what the bundle's own engine makes of them.

A waist of a hundred codes says little in one frame; the share of codes that differ over many frames
says it for waists of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from waistline.bundle.store import Bundle
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.task.kinds.base import Kind
from waistline.verification.codes import TensorCheck, allowed_codes, compare_codes
from waistline.verification.ends import Ends, LocalEnds
from waistline.verification.pairs import other_kernels, reduced

LEAST_AGREEMENT = 0.9
"""Of answers. An engine that computes the same model in 16 or 8 bits stays well above."""


class FramesCheck(msgspec.Struct, frozen=True):
    """Frames beside the golden one, against the reference engine on the host.

    Attributes:
        frames: compared.
        reference: engine and version.
        codes: compared, of all waist tensors.
        different: of them not equal.
        largest_step: largest difference of two codes.
        faulty: frames with a code off by more than one step, or an integer that differs.
        agrees: mean agreement of the answers, 0..1. Not an accuracy.
        reasons: why they do not pass.
    """

    frames: int
    reference: str
    codes: int
    different: int
    largest_step: int
    faulty: int
    agrees: float
    reasons: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of the codes that differ."""
        return self.different / self.codes if self.codes else 0.0


def compare_frames(
    bundle: Bundle,
    head: Ends,
    tail: Ends,
    frames: Iterable[SensorFrame],
    open_reference: Callable[[], LocalEnds | None],
) -> FramesCheck | None:
    """Run ``frames`` both ways; None when there are none.

    Raises:
        ConfigError: there are frames and no reference engine here.
    """
    reference: LocalEnds | None = None
    others = False
    seen, tensors = _Seen(), bundle.cut.tensors
    for frame in frames:
        if reference is None:
            reference = _opened(open_reference)
            others = other_kernels(bundle, head.place.head_engine, reference.place.head_engine)
        made, expected = head.run_head(frame), reference.run_head(frame)
        answers = made.answer, expected.answer
        if tensors:
            seen.add_codes(compare_codes(tensors, made.codes, expected.codes, other_kernels=others))
            answers = tail.run_tail(made.codes), reference.run_tail(expected.codes)
        seen.add_answers(bundle.answer_kind, *answers)
    if reference is None:
        return None
    engine = reference.place.head_engine or reference.place.tail_engine
    allowed = bool(reduced(head.place.head_engine))
    return FramesCheck(
        frames=seen.frames,
        reference=f"{engine.get('engine', '?')} {engine.get('version', '')}".strip(),
        codes=seen.codes,
        different=seen.different,
        largest_step=seen.largest_step,
        faulty=seen.faulty,
        agrees=seen.agrees,
        reasons=(*(() if allowed else _code_reasons(seen)), *_answer_reasons(seen.agrees)),
    )


def _opened(open_reference: Callable[[], LocalEnds | None]) -> LocalEnds:
    found = open_reference()
    if found is None:
        raise ConfigError(
            "frames need the bundle's own engine on this machine to be compared with",
            cause="it is not installed here, or refuses a slice",
            fix="install it: 'waistline doctor' says how",
        )
    return found


@dataclass(slots=True)
class _Seen:
    """Sums over frames, as `FramesCheck` names them; ``free`` differences need no limit."""

    frames: int = 0
    codes: int = 0
    different: int = 0
    free: int = 0
    largest_step: int = 0
    faulty: int = 0
    agreed: float = 0.0

    @property
    def agrees(self) -> float:
        return self.agreed / self.frames

    def add_codes(self, checks: Sequence[TensorCheck]) -> None:
        self.codes += sum(check.codes for check in checks)
        self.different += sum(check.different for check in checks)
        self.free += sum(check.different for check in checks if _judged_whole(check))
        self.largest_step = max(self.largest_step, *(check.largest_step for check in checks))
        self.faulty += any(check.verdict == "fault" for check in checks)

    def add_answers(self, kind: Kind, made: bytes, expected: bytes) -> None:
        same = made == expected
        self.agreed += 1.0 if same else kind.agrees(kind.unpack(made), kind.unpack(expected))
        self.frames += 1


def _judged_whole(check: TensorCheck) -> bool:
    """Whether its verdict allows any number of differences: other kernels, unquantized floats."""
    return check.verdict == "kernels" or (check.verdict == "rounding" and not check.largest_step)


def _answer_reasons(agrees: float) -> tuple[str, ...]:
    if agrees >= LEAST_AGREEMENT:
        return ()
    return (f"the answers agree on {agrees:.1%} of the frames only",)


def _code_reasons(seen: _Seen) -> tuple[str, ...]:
    if seen.faulty:
        return (f"{seen.faulty} of {seen.frames} frames differ by more than rounding",)
    limit, different = allowed_codes(seen.codes), seen.different - seen.free
    if different > limit:
        return (
            f"{different} of {seen.codes} codes of {seen.frames} frames differ by one step, "
            f"allowed are {limit}",
        )
    return ()

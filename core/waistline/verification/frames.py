"""Comparing many frames with what the bundle's own engine makes of them.

A waist of a hundred codes says little in one frame; the share of codes that differ over many frames
says it for waists of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from waistline.bundle.store import Bundle
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
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
    count = codes = different = largest = faulty = rounded = 0
    others = False
    agreed = 0.0
    kind = bundle.answer_kind
    for frame in frames:
        if reference is None and (reference := open_reference()) is not None:
            others = other_kernels(bundle, head.place.head_engine, reference.place.head_engine)
        if reference is None:
            raise ConfigError(
                "frames need the bundle's own engine on this machine to be compared with",
                fix="install it: 'waistline doctor' says how",
            )
        made, expected = head.run_head(frame), reference.run_head(frame)
        if bundle.cut.tensors:
            checks = compare_codes(
                bundle.cut.tensors, made.codes, expected.codes, other_kernels=others
            )
            rounded += sum(one.different for one in checks if _judged_whole(one))
            codes += sum(check.codes for check in checks)
            different += sum(check.different for check in checks)
            largest = max(largest, *(check.largest_step for check in checks))
            faulty += any(check.verdict == "fault" for check in checks)
            answers = tail.run_tail(made.codes), reference.run_tail(expected.codes)
        else:
            answers = made.answer, expected.answer
        one, other = (kind.unpack(answer) for answer in answers)
        agreed += 1.0 if answers[0] == answers[1] else kind.agrees(one, other)
        count += 1
    if not count or reference is None:
        return None
    engine = reference.place.head_engine or reference.place.tail_engine
    return FramesCheck(
        frames=count,
        reference=f"{engine.get('engine', '?')} {engine.get('version', '')}".strip(),
        codes=codes,
        different=different,
        largest_step=largest,
        faulty=faulty,
        agrees=agreed / count,
        reasons=(
            *(
                ()
                if reduced(head.place.head_engine)
                else _code_reasons(count, codes, different - rounded, faulty)
            ),
            *_answer_reasons(agreed / count),
        ),
    )


def _judged_whole(check: TensorCheck) -> bool:
    """Whether its verdict allows any number of differences: other kernels, unquantized floats."""
    return check.verdict == "kernels" or (check.verdict == "rounding" and not check.largest_step)


def _answer_reasons(agrees: float) -> tuple[str, ...]:
    if agrees >= LEAST_AGREEMENT:
        return ()
    return (f"the answers agree on {agrees:.1%} of the frames only",)


def _code_reasons(count: int, codes: int, different: int, faulty: int) -> tuple[str, ...]:
    if faulty:
        return (f"{faulty} of {count} frames differ by more than rounding",)
    if different > allowed_codes(codes):
        return (
            f"{different} of {codes} codes of {count} frames differ by one step, "
            f"allowed are {allowed_codes(codes)}",
        )
    return ()

"""Whether a backend, here or on a far machine, reproduces a bundle's golden codes and answer.

The head's codes are compared with the golden codes; the tail is then given the golden codes, so
that a fault of one end is not blamed on the other. Another processor or another fusion rounds
differently: a float head may move codes by one step, a fault moves them further or moves many.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from waistline.backends.base import AUTO, BackendOptions
from waistline.bundle.golden import read_frame
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import VerificationFailed
from waistline.frame import SensorFrame
from waistline.verification.codes import TensorCheck, compare_codes
from waistline.verification.ends import EndChoice, Ends, LocalEnds, Place
from waistline.verification.frames import FramesCheck, compare_frames
from waistline.verification.inquiry import judge, open_reference

__all__ = ["TensorCheck", "VerifyReport", "compare_codes", "verify", "verify_ends"]

AGREES = 1.0


class VerifyReport(msgspec.Struct, frozen=True):
    """The outcome of `verify`.

    Attributes:
        bundle_id: of the bundle.
        backend: name of the backend that ran the head, or the tail where there is no head.
        engine: what that slice reports of itself.
        codec: implementation of the codec, ``c`` or ``numpy``; ``none`` at x = N.
        tensors: one check a waist tensor; empty at x = N.
        answer_identical: byte for byte.
        answer_agrees: 0..1, as the answer's kind compares.
        reasons: why it failed; empty when it passed.
        head_at, tail_at: where the ends ran, and on what.
        frames: the comparison of further frames, None when none were given.
        notes: what is worth knowing and no failure.
    """

    bundle_id: str
    backend: str
    engine: dict[str, str]
    codec: str
    tensors: tuple[TensorCheck, ...]
    answer_identical: bool
    answer_agrees: float
    reasons: tuple[str, ...]
    head_at: Place
    tail_at: Place
    frames: FramesCheck | None = None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.reasons

    def raise_if_failed(self) -> None:
        """Raise what a caller that only wants a yes needs.

        Raises:
            VerificationFailed: the report is not ok.
        """
        if self.reasons:
            raise VerificationFailed(
                f"backend {self.backend} does not reproduce bundle {self.bundle_id[:12]}",
                cause="; ".join(self.reasons),
                fix="check the engine's precision options, or split again on this machine",
            )


def verify(
    bundle: Bundle | str | Path,
    *,
    backend: str = AUTO,
    options: BackendOptions | None = None,
    tail_backend: str | None = None,
    frames: Iterable[SensorFrame] = (),
) -> VerifyReport:
    """Run the golden frame through both ends of ``bundle`` on this machine.

    Args:
        bundle: a bundle, or the path of one.
        backend: a plug-in of `waistline.backends`, or ``auto``.
        options: for the backend; None for what the node and the edge use by default.
        tail_backend: of the tail where it is another one; the options go to the head then.
        frames: compared with what the bundle's own engine makes of them.

    Raises:
        BundleError: the bundle is damaged or was edited.
        BackendError: the engine refuses a slice or fails.
    """
    opened = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    chosen = options or BackendOptions()
    threads = chosen.threads if options else None
    head = EndChoice(backend, threads, dict(chosen.extra))
    same = tail_backend in (None, backend)
    tail = head if same else EndChoice(tail_backend or AUTO, threads)
    with LocalEnds(opened, head=head, tail=tail) as ends:
        return verify_ends(opened, ends, ends, frames=frames)


def verify_ends(
    bundle: Bundle,
    head: Ends,
    tail: Ends,
    *,
    frames: Iterable[SensorFrame] = (),
    notes: Iterable[str] = (),
) -> VerifyReport:
    """As `verify`, with ends that are open already, each wherever it is.

    Raises:
        BackendError, LinkError, WireError: an end failed, or the way to it.
        ConfigError: there are frames, and no engine here to compare them with.
    """
    golden = bundle.manifest.golden
    golden_codes = bundle.read(golden.codes) if bundle.cut.tensors else b""
    run = head.run_head(read_frame(bundle))
    checks: list[TensorCheck] = []
    with _Reference(bundle) as reference:
        if bundle.cut.tensors:
            engine = head.place.head_engine
            checks = judge(bundle, run, golden_codes, engine=engine, reference=reference)
        answer = tail.run_tail(golden_codes) if bundle.cut.tensors else run.answer
        compared = compare_frames(bundle, head, tail, frames, reference)
    golden_answer, kind = bundle.read(golden.answer), bundle.answer_kind
    same = answer == golden_answer
    agrees = 1.0 if same else kind.agrees(kind.unpack(answer), kind.unpack(golden_answer))
    reasons = [f"{check.name}: {check.cause}" for check in checks if check.failed]
    if agrees < AGREES:
        reasons.append(
            f"fault in the {'tail' if bundle.tail else 'head'}: from the golden "
            f"{'codes' if bundle.cut.tensors else 'frame'} it answers "
            f"{kind.describe(kind.unpack(answer))}, expected "
            f"{kind.describe(kind.unpack(golden_answer))}"
        )
    if compared is not None:
        reasons += compared.reasons
    at_head = bundle.head is not None
    place = head.place if at_head else tail.place
    return VerifyReport(
        bundle_id=bundle.id,
        backend=place.head_backend if at_head else place.tail_backend,
        engine=place.head_engine if at_head else place.tail_engine,
        codec=head.place.codec,
        tensors=tuple(checks),
        answer_identical=same,
        answer_agrees=agrees,
        reasons=tuple(reasons),
        head_at=head.place,
        tail_at=tail.place,
        frames=compared,
        notes=tuple(notes),
    )


class _Reference:
    """The bundle's own engine, opened when it is first asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._ends: LocalEnds | None = None

    def __call__(self) -> LocalEnds | None:
        self._ends = self._ends or open_reference(self._bundle)
        return self._ends

    def __enter__(self) -> _Reference:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ends is not None:
            self._ends.close()

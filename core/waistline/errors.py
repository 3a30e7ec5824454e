"""Every error Waistline raises on purpose, and the exit code each one maps to.

An error carries three things a user can act on: what happened, the likely cause with the fact that
was seen, and the command or step that fixes it. Foreign exceptions are translated at the plug-in
boundary with ``raise ... from``, so nothing else reaches a caller.
"""

from __future__ import annotations


class WaistlineError(Exception):
    """Root of the tree.

    Args:
        what: what happened, in one line.
        cause: the likely cause, with the fact that was seen.
        fix: the command or step that mends it.
    """

    exit_code = 1

    def __init__(self, what: str, *, cause: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return "; ".join(part for part in (self.what, self.cause) if part)

    def lines(self) -> list[str]:
        """The message as a user sees it: up to three lines."""
        rows = [f"error: {self.what}"]
        if self.cause:
            rows.append(f"cause: {self.cause}")
        if self.fix:
            rows.append(f"fix:   {self.fix}")
        return rows


class ConfigError(WaistlineError):
    """A flag, a file or a key that cannot be used as given."""

    exit_code = 2


class MissingExtra(WaistlineError, ImportError):
    """A third-party package that a plug-in needs is not installed."""

    exit_code = 3


class ModelError(WaistlineError):
    """The model file is missing, corrupt, or cannot be cut as asked."""

    exit_code = 2


class BundleError(WaistlineError):
    """The bundle is damaged, was edited after writing, or is of another version."""

    exit_code = 2


class BackendError(WaistlineError):
    """An inference engine refused the slice or failed while running it."""

    exit_code = 3


class CodecError(WaistlineError):
    """A tensor cannot be encoded, or bytes do not decode to the tensor that was announced."""

    exit_code = 5


class NonFinite(CodecError):
    """The tensor holds NaN or infinity and the codec quantizes; the frame ends as such."""


class LinkError(WaistlineError):
    """The byte stream to the other side failed."""

    exit_code = 4


class LinkTimeout(LinkError, TimeoutError):
    """Nothing happened before the deadline."""


class LinkClosed(LinkError):
    """The other side closed the stream."""


class WireError(WaistlineError):
    """The other side said something the protocol does not allow."""

    exit_code = 4


class BadFrame(WireError):
    """A header or payload that fails its checks."""


class VersionMismatch(WireError):
    """Both ends are sound but speak different major versions or hold different bundles."""


class BridgeError(WaistlineError):
    """The conversation with a microcontroller failed."""

    exit_code = 4


class DeviceFault(BridgeError):
    """The microcontroller answered with a fault code."""


class MeterError(WaistlineError):
    """A measuring instrument failed or cannot do what was asked."""

    exit_code = 5


class SamplesLost(MeterError):
    """Samples are missing and the loss cannot be accounted for."""


class RateTooLow(MeterError):
    """The instrument samples too slowly for what is to be measured."""


class TraceError(WaistlineError):
    """A trace file is damaged or does not hold what was asked of it."""

    exit_code = 5


class MarkerMissing(TraceError):
    """The markers needed to tell segments apart are not in the trace."""


class VerificationFailed(WaistlineError):
    """A device or a bundle does not reproduce its golden answer."""

    exit_code = 5


class PlanError(WaistlineError):
    """No plan could be made."""

    exit_code = 6


class NoFeasibleCut(PlanError):
    """Every cut violates at least one bound."""

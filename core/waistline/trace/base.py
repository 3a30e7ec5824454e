"""What a trace is: signals sampled on one clock, the holes in them, and notes on that clock.

The time base is the meter's own sample counter. Sample ``i`` stands for the interval
``[i, i + 1) / rate_hz`` seconds after the first one; positions given as floats are in samples and
may lie inside one. Floats are SI and float32; a lost sample is NaN there and 1 in the ``gap`` bit.
Nothing in this module imports more than NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from waistline.errors import TraceError
from waistline.evidence import Evidence

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bits = NDArray[np.uint8]

FLOAT_SIGNALS = {"current": "A", "voltage": "V", "power": "W"}
"""Float signals a block can hold, with their unit; the attribute is ``<name>_<unit>``."""
LOGIC_BITS = 8
_MAX_SUPPLY_V = 1e6
GAP = "gap"
"""Bit signal every trace has: 1 where the samples were lost."""

GapKind = Literal["counter", "ring", "host-time", "resync", "unplug", "import", "damage"]
AnnotationKind = Literal["marker", "segment", "note"]


@dataclass(frozen=True)
class Signal:
    """One channel: ``current``, ``voltage``, ``power``, or a logic bit ``d0`` .. ``d7``."""

    name: str
    unit: str
    dtype: Literal["f4", "u1bit"]


def float_signal(name: str) -> Signal:
    """``current``, ``voltage`` or ``power`` in SI units."""
    return Signal(name, FLOAT_SIGNALS[name], "f4")


def logic_signal(bit: int) -> Signal:
    """Logic bit D``bit`` of the meter, 0..7."""
    return Signal(f"d{bit}", "", "u1bit")


@dataclass(frozen=True)
class TraceSpec:
    """What is known of a trace before its first sample.

    Attributes:
        rate_hz: nominal sample rate of the meter's clock.
        signals: float signals and logic bits; ``gap`` is not listed, every trace has it.
        source: the meter's id as text, or the file it was imported from.
        evidence: follows the instrument's identity, never a flag.
        start_utc_ns: wall clock at sample 0, UTC nanoseconds since 1970; 0 where unknown.
        start_monotonic_ns: the host's monotonic clock at sample 0; 0 where unknown.
        supply_v: constant supply voltage that turns a current into a power where neither voltage
            nor power was sampled; None where there is none.
    """

    rate_hz: float
    signals: tuple[Signal, ...]
    source: str
    evidence: Evidence
    start_utc_ns: int = 0
    start_monotonic_ns: int = 0
    supply_v: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz <= 1e10:
            raise TraceError(
                f"a trace cannot have a rate of {self.rate_hz} Hz",
                cause="a rate is over 0 and at most 1e10",
                fix="give the meter's sample rate in hertz",
            )
        if self.supply_v is not None and not abs(self.supply_v) <= _MAX_SUPPLY_V:
            raise TraceError(
                f"a supply cannot have {self.supply_v} V",
                cause=f"it has {_MAX_SUPPLY_V:g} V at most",
                fix="give the supply voltage in volts",
            )
        names = [signal.name for signal in self.signals]
        unknown = [name for name in names if name not in SIGNALS]
        if unknown or len(set(names)) < len(names) or not self.floats:
            raise TraceError(
                f"a trace cannot have the signals {', '.join(names) or 'none'}",
                cause=f"known, once each: {', '.join(SIGNALS)}; one of the first three is needed",
                fix="map each column to one of them",
            )

    @property
    def floats(self) -> tuple[str, ...]:
        """Names of the float signals, in order."""
        return tuple(signal.name for signal in self.signals if signal.dtype == "f4")

    @property
    def bits(self) -> tuple[int, ...]:
        """Numbers of the logic bits, in order."""
        return tuple(int(signal.name[1:]) for signal in self.signals if signal.dtype == "u1bit")


SIGNALS = {
    **{name: float_signal(name) for name in FLOAT_SIGNALS},
    **{f"d{bit}": logic_signal(bit) for bit in range(LOGIC_BITS)},
}
"""Every signal a trace can have, by name, but ``gap``."""


@dataclass(frozen=True)
class Block:
    """Decoded samples ``first`` .. ``first + len(block)``; arrays of one length, None where absent.

    Attributes:
        first: id of the first sample.
        current_a: float32 (n,).
        voltage_v: float32 (n,).
        power_w: float32 (n,).
        logic: uint8 (n,), bit k is D k.
    """

    first: int
    current_a: Floats | None = None
    voltage_v: Floats | None = None
    power_w: Floats | None = None
    logic: Bits | None = None

    def __len__(self) -> int:
        for values in (self.current_a, self.voltage_v, self.power_w, self.logic):
            if values is not None:
                return len(values)
        return 0

    def values(self, name: str) -> Floats | None:
        """The float signal ``name``."""
        found: Floats | None = getattr(self, f"{name}_{FLOAT_SIGNALS[name].lower()}")
        return found


@dataclass(frozen=True)
class Gap:
    """Samples that were lost.

    Attributes:
        first: id of the first lost sample.
        count: ids the hole takes on the time base. Where the size is not known this is the best
            estimate, and the bounds differ: the clock goes on after it, the window is invalid.
        kind: what showed it.
        low: fewest samples it can have been; None means ``count``.
        high: most it can have been; None means ``count``.
    """

    first: int
    count: int
    kind: GapKind
    low: int | None = None
    high: int | None = None

    @property
    def end(self) -> int:
        """First id after the hole."""
        return self.first + self.count

    @property
    def resolved(self) -> bool:
        """Whether its size is certain."""
        return all(bound is None or bound == self.count for bound in (self.low, self.high))


@dataclass(frozen=True)
class Annotation:
    """A note on the time base: a marker or note at ``sample``, or a segment up to ``end_sample``.

    Positions are in samples and may be fractional (a marker mapped from another clock).
    """

    sample: float
    kind: AnnotationKind
    text: str
    end_sample: float | None = None

    def __post_init__(self) -> None:
        if (self.kind == "segment") != (self.end_sample is not None):
            raise ValueError("a segment, and nothing else, has an end")


@dataclass(frozen=True)
class UtcPoint:
    """Sample ``sample`` was taken at ``utc_ns`` (UTC nanoseconds since 1970)."""

    sample: int
    utc_ns: int


@dataclass(frozen=True)
class Overview:
    """Envelope for plots, never for sums.

    Attributes:
        starts: float64 (columns,), first sample of each column.
        low, high, mean: float32 (columns,); NaN where a column holds no sample.
    """

    starts: Doubles
    low: Floats
    high: Floats
    mean: Floats


@dataclass(frozen=True)
class WindowEnergy:
    """Energy of consecutive windows.

    Attributes:
        energy_j: float64 (n,), over the samples that are there; it misses what was lost.
        missing: float64 (n,), samples lost in each window, fractions at its edges included.
        uncertain: bool (n,), touched by a gap whose size is not known.
    """

    energy_j: Doubles
    missing: Doubles
    uncertain: NDArray[np.bool_]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Bool (n,): nothing is missing."""
        whole: NDArray[np.bool_] = (self.missing == 0) & ~self.uncertain
        return whole


@dataclass(frozen=True)
class Energy:
    """Energy of one window.

    Attributes:
        energy_j: over the samples that are there.
        duration_s: of the window, lost samples included.
        missing: samples lost in it.
        uncertain: touched by a gap whose size is not known.
    """

    energy_j: float
    duration_s: float
    missing: float
    uncertain: bool

    @property
    def whole(self) -> bool:
        """Nothing is missing."""
        return self.missing == 0 and not self.uncertain


class TraceWriter(Protocol):
    """Writes one trace, front to back; whoever owns it calls it from one thread."""

    def write(self, block: Block) -> None:
        """Append; ``block.first`` is where the last block or gap ended. The caller keeps it."""

    def gap(self, gap: Gap) -> None:
        """Record lost samples where the last block or gap ended."""

    def utc(self, sample: int, utc_ns: int) -> None:
        """Say when a sample was taken; at most a few a second."""

    def annotate(self, annotation: Annotation) -> None:
        """Add a marker, segment or note, in any order."""

    def user_data(self, data: bytes) -> None:
        """Store run.json as it is now; the last one stored holds."""

    def flush(self) -> None:
        """Raise what writing in the background ran into; whole chunks go out by themselves."""

    def close(self, ledger: bytes = b"") -> None:
        """Write everything out and end the file with the final ledger (JSON)."""


class Trace(Protocol):
    """One trace, read lazily; nothing is loaded but what is asked for."""

    @property
    def spec(self) -> TraceSpec: ...
    @property
    def length(self) -> int:
        """Samples, lost ones included."""

    @property
    def gaps(self) -> tuple[Gap, ...]: ...
    @property
    def annotations(self) -> tuple[Annotation, ...]: ...
    @property
    def utc(self) -> tuple[UtcPoint, ...]: ...
    @property
    def run(self) -> bytes:
        """run.json as last stored, b"" if none was."""

    @property
    def ledger(self) -> bytes:
        """The final ledger; b"" where the writer did not close the file."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """float32 (stop - start,) of a float signal, NaN where samples were lost."""

    def bits(self, name: str, start: int = 0, stop: int | None = None) -> Bits:
        """uint8 (stop - start,) of 0 and 1: a logic bit or ``gap``."""

    def overview(self, name: str, start: float, stop: float, columns: int) -> Overview:
        """Minimum, maximum and mean of ``columns`` equal parts, for plots."""

    def windows(self, edges: Doubles) -> WindowEnergy:
        """Energy between consecutive edges; float64 (n + 1,), ascending, in samples."""

    def energy(self, start: float = 0, stop: float | None = None) -> Energy:
        """Energy between two positions in samples."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Source:
    """What an importer yields: a spec, and the samples in order.

    Attributes:
        spec: of the trace to be.
        parts: blocks and gaps, each starting where the one before ended, beginning at sample 0.
        annotations: found in the file.
        remarks: one line each about what was assumed or left out.
    """

    spec: TraceSpec
    parts: Iterator[Block | Gap]
    annotations: tuple[Annotation, ...] = ()
    remarks: list[str] = field(default_factory=list)

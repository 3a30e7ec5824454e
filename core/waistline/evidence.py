"""Figures that carry where they come from.

Every energy, power, latency, byte and accuracy figure that leaves Waistline is a `Figure`: value,
unit, standard uncertainty, number of observations, evidence and source. A sum takes the grade of
its weakest term, so that a simulated joule can never be shown as a metered one.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence

import msgspec

BYTE = "byte"
"""Unit of a counted byte."""


class Evidence(enum.StrEnum):
    """How a figure was obtained, strongest first."""

    METERED = "metered"
    """Sampled by a calibrated instrument."""
    COUNTER = "counter"
    """Read from a device's own energy counter (RAPL, INA, modem)."""
    MEASURED = "measured"
    """A counted byte, or a latency clocked on real hardware."""
    REPLAYED = "replayed"
    """Computed again from a stored recording."""
    EMULATED = "emulated"
    """Real software on an emulated device or link: its times, ticks and instructions."""
    MODELLED = "modelled"
    """A fitted or published formula."""
    SIMULATED = "simulated"
    """A device model made it up."""
    PUBLISHED = "published"
    """Copied from a paper or data sheet."""


_RANK = {grade: rank for rank, grade in enumerate(Evidence)}


def weakest(grades: Iterable[Evidence]) -> Evidence:
    """The grade a combination of figures deserves."""
    return max(grades, key=_RANK.__getitem__)


def observed(unit: str, *, emulated: bool) -> Evidence:
    """The grade of what was counted or clocked while real software ran.

    The same software sends the same bytes over any line: an emulator changes when they cross, not
    how many they are. A counted byte is therefore `MEASURED` wherever it was counted.

    Args:
        unit: of the figure; bytes are ``byte``.
        emulated: the device or the link was.
    """
    return Evidence.EMULATED if emulated and unit != BYTE else Evidence.MEASURED


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One number somebody will quote.

    Attributes:
        value: in ``unit``.
        unit: SI or ``byte``, ``1`` (ratio), ``frame``.
        evidence: how it was obtained.
        source: file, data sheet, formula or command it comes from.
        standard_uncertainty: one standard deviation in ``unit``; None when it was not determined.
        n: number of independent observations.
    """

    value: float
    unit: str
    evidence: Evidence
    source: str
    standard_uncertainty: float | None = None
    n: int = 1

    def scaled(self, factor: float, unit: str) -> Figure:
        """This figure times an exact constant, in another unit."""
        spread = self.standard_uncertainty
        return Figure(
            value=self.value * factor,
            unit=unit,
            evidence=self.evidence,
            source=self.source,
            standard_uncertainty=None if spread is None else spread * abs(factor),
            n=self.n,
        )


def mean(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of independent observations and its standard uncertainty, s / sqrt(n).

    The uncertainty of a single one is not known: None.
    """
    count = len(values)
    middle = math.fsum(values) / count
    if count < 2:
        return middle, None
    variance = math.fsum((value - middle) ** 2 for value in values) / (count - 1)
    return middle, math.sqrt(variance / count)


def total(figures: Iterable[Figure]) -> Figure:
    """Sum of independent figures of one unit; uncertainties add in quadrature.

    Raises:
        ValueError: no figures, or units that differ.
    """
    rows = list(figures)
    units = {row.unit for row in rows}
    if len(units) != 1:
        raise ValueError(f"a sum needs figures of one unit, got {sorted(units) or 'none'}")
    spreads = [row.standard_uncertainty for row in rows]
    known = [spread for spread in spreads if spread is not None]
    return Figure(
        value=math.fsum(row.value for row in rows),
        unit=units.pop(),
        evidence=weakest(row.evidence for row in rows),
        source=" + ".join(dict.fromkeys(row.source for row in rows)),
        standard_uncertainty=math.hypot(*known) if len(known) == len(spreads) else None,
        n=min(row.n for row in rows),
    )

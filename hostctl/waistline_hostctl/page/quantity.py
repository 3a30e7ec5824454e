"""Numbers with a unit as people write them: no more digits than the uncertainty allows."""

from __future__ import annotations

import math

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_PLAIN = {"sample", "1", ""}
_DIGITS = 4
_MOST_DIGITS = 7
NOTHING = "–"


def value(number: float | None, unit: str, spread: float | None = None) -> str:
    """``3.482 J``: four digits, or down to the second digit of its standard uncertainty."""
    return _pair(number, unit, spread)[0]


def with_spread(number: float | None, unit: str, spread: float | None) -> str:
    """``3.4824 ± 0.0017 J``; the value alone where the uncertainty is not known."""
    text, by = _pair(number, unit, spread)
    bare, _, tail = text.partition(" ")
    return f"{bare} ± {by} {tail}".rstrip() if by else text


def spread_of(number: float | None, unit: str, spread: float | None) -> str:
    """``± 0.0017 J``, in the unit of the value; "" where it is not known."""
    text, by = _pair(number, unit, spread)
    return f"± {by} {text.partition(' ')[2]}".rstrip() if by else ""


def share(number: float, spread: float | None) -> str:
    """``0.05 %``: the uncertainty of a value, relative; "" where there is none, or past 100 %."""
    if not spread or not number or not math.isfinite(number) or spread > abs(number):
        return ""
    percent = 100 * spread / abs(number)
    return f"{percent:.0f} %" if percent >= 99.5 else f"{percent:#.2g} %".replace(". ", " ")


def whole(number: float | None) -> str:
    """A count, in groups of three digits; of fractions at the edges of a stretch the nearest."""
    if number is None or not math.isfinite(number):
        return NOTHING
    if abs(number) >= 1e15:
        return f"{number:.3g}"
    if 0 < abs(number) < 1:
        return "under 1" if number > 0 else "over -1"
    return f"{number:,.0f}"


def uncertainty(number: float, unit: str) -> str:
    """``1.7 mJ``: two digits, for no uncertainty is known better."""
    return _pair(number, unit, None, digits=2)[0]


def _pair(
    number: float | None, unit: str, spread: float | None, digits: int = _DIGITS
) -> tuple[str, str]:
    """Value with unit, and its uncertainty in the same unit with as many places."""
    if number is None or not math.isfinite(number):
        return NOTHING, ""
    # Whichever is larger gives the prefix, so that neither has digits that say nothing.
    known = spread if spread is not None and math.isfinite(spread) else 0.0
    factor, letter = _prefix(max(abs(number), known), unit)
    tail = f" {letter}{unit}" if unit not in {"", "1"} else ""
    scaled, by = number / factor, known / factor
    # What is less than any instrument can tell is rounding, not an uncertainty.
    if not by > abs(scaled) * 10.0**-_MOST_DIGITS:
        return f"{scaled:.{max(0, _places(scaled, digits))}f}{tail}", ""
    places = max(0, min(_places(by, 2), _places(max(abs(scaled), by), _MOST_DIGITS)))
    shown = f"{by:.{places}f}" if by >= 10.0**-places else f"{by:.1g}"
    return f"{scaled + 0.0:.{places}f}{tail}", shown


def _prefix(number: float, unit: str) -> tuple[float, str]:
    if unit in _PLAIN or not number:
        return 1.0, ""
    for factor, letter in _PREFIXES:
        if abs(number) >= factor * 0.99995:
            return factor, letter
    return _PREFIXES[-1]


def _places(number: float, digits: int) -> int:
    """Decimal places that show so many digits."""
    if not number:
        return 0
    return digits - 1 - math.floor(math.log10(abs(number) * (1 + 5 * 10.0 ** -(digits + 1))))

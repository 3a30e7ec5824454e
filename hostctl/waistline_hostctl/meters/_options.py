"""A meter's own options: what the user gave as text, as numbers and words, or refused."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from waistline.errors import ConfigError
from waistline_hostctl.meters.base import MeterChoice


def check_options(choice: MeterChoice, known: Sequence[str]) -> None:
    """Refuse options that the meter does not have.

    Raises:
        ConfigError: naming the first and those there are.
    """
    for name in choice.options:
        if name not in known:
            raise ConfigError(
                f"meter {choice.name} has no option {name!r}",
                cause=f"it has: {', '.join(known) or 'none'}",
                fix=f"use --meter-option {known[0]}=VALUE" if known else "leave it out",
            )


def number(
    choice: MeterChoice, name: str, default: float, low: float, high: float, *, whole: bool = False
) -> float:
    """A number from ``low`` to ``high``, both included.

    Raises:
        ConfigError: it is none.
    """
    text = choice.options.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if low <= value <= high and not (whole and value % 1):
        return value
    raise ConfigError(
        f"{name}={text} cannot be",
        cause=f"a {'whole ' if whole else ''}number from {low:g} to {high:g}",
        fix=f"use --meter-option {name}={default:g}",
    )


def word(choice: MeterChoice, name: str, default: str, known: Collection[str]) -> str:
    """One of the words that the meter knows.

    Raises:
        ConfigError: it is none of them.
    """
    text = choice.options.get(name, default)
    if text in known:
        return text
    raise ConfigError(
        f"{name}={text} cannot be",
        cause=f"one of {', '.join(known)}",
        fix=f"use --meter-option {name}={default}",
    )

"""A marker on a pin of this machine, by libgpiod: ``/dev/gpiochip0:17``.

Each change is timed by the host's monotonic clock right before and after; its middle goes into a
clock map (`waistline.trace.clocks`), half the time it took into `Change.uncertainty_s`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import gpiod

from waistline.errors import ConfigError, MeterError

_CONSUMER = "waistline-marker"
_SQRT12 = 12**0.5


@dataclass(frozen=True, slots=True)
class Change:
    """The pin was set.

    Attributes:
        high: to this.
        before_ns, after_ns: host's monotonic time.
    """

    high: bool
    before_ns: int
    after_ns: int

    @property
    def time_s(self) -> float:
        """Best estimate of when, seconds of the monotonic clock."""
        return (self.before_ns + self.after_ns) / 2e9

    @property
    def uncertainty_s(self) -> float:
        """Standard uncertainty of that: anywhere between is as likely."""
        return (self.after_ns - self.before_ns) * 1e-9 / _SQRT12


class Line:
    """One pin as an output, low until it is set. A context that leaves it low.

    Args:
        text: ``CHIP:LINE``, chip as a path or a name below ``/dev``, line as a number or name.

    Raises:
        ConfigError: the text names no line.
        MeterError: it cannot be had.
    """

    def __init__(self, text: str) -> None:
        chip, _, line = text.rpartition(":")
        if not chip or not line:
            raise ConfigError(
                f"{text!r} is no GPIO line",
                cause="it is CHIP:LINE",
                fix="such as /dev/gpiochip0:17; gpioinfo lists them",
            )
        self.name = text
        self._line: int | str = int(line) if line.isdigit() else line
        path = chip if chip.startswith("/") else f"/dev/{chip}"
        low = gpiod.LineSettings(
            direction=gpiod.line.Direction.OUTPUT, output_value=gpiod.line.Value.INACTIVE
        )
        try:
            self._request = gpiod.request_lines(path, consumer=_CONSUMER, config={self._line: low})
        except (OSError, ValueError) as error:
            raise _failed(text, path, error) from error
        self.changes: list[Change] = []

    def set(self, high: bool) -> Change:
        """Set the pin; the change is also kept in `changes`."""
        value = gpiod.line.Value.ACTIVE if high else gpiod.line.Value.INACTIVE
        before = time.monotonic_ns()
        try:
            self._request.set_value(self._line, value)
        except OSError as error:
            raise _failed(self.name, self.name, error) from error
        change = Change(high, before, time.monotonic_ns())
        self.changes.append(change)
        return change

    def pulse(self, duration_s: float) -> tuple[Change, Change]:
        """High for at least so long, then low."""
        up = self.set(True)
        time.sleep(duration_s)
        return up, self.set(False)

    def close(self) -> None:
        """Set it low and let it go."""
        try:
            self._request.set_value(self._line, gpiod.line.Value.INACTIVE)
        except OSError:
            pass  # it is gone, and so is its level
        finally:
            self._request.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _failed(name: str, path: str, error: Exception) -> MeterError:
    fix = "gpioinfo lists the lines there are"
    if isinstance(error, PermissionError):
        fix = "sudo usermod -aG gpio $USER, then log in again"
    elif isinstance(error, FileNotFoundError):
        chips = sorted(str(one) for one in Path("/dev").glob("gpiochip*"))
        fix = f"use one of {', '.join(chips)}" if chips else "this machine has no GPIO chip"
    elif getattr(error, "errno", None) == 16:
        fix = "close the program that has it, or use another line: gpioinfo names it"
    return MeterError(f"the marker line {name} cannot be used", cause=str(error), fix=fix)

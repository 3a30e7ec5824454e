"""The marker line, with a stand-in for gpiod (for tests alone)."""

import enum
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from waistline.errors import ConfigError, MeterError

NAME = "waistline_hostctl.markers.gpio"


class Direction(enum.Enum):
    OUTPUT = 3


class Value(enum.Enum):
    INACTIVE = 0
    ACTIVE = 1


class Chip:
    """What was asked of it."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked: tuple[Any, ...] = ()
        self.levels: list[tuple[int | str, Value]] = []
        self.released = 0

    def request_lines(self, path: str, consumer: str, config: dict[Any, Any]) -> "Chip":
        if self.failure:
            raise self.failure
        self.asked = path, consumer, config
        return self

    def set_value(self, line: int | str, value: Value) -> None:
        if self.failure:
            raise self.failure
        self.levels.append((line, value))

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chip]:
    made, chip = ModuleType("gpiod"), Chip()
    made.request_lines = chip.request_lines  # type: ignore[attr-defined]
    made.LineSettings = SimpleNamespace  # type: ignore[attr-defined]
    made.line = SimpleNamespace(Direction=Direction, Value=Value)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gpiod", made)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield chip
    sys.modules.pop(NAME, None)


def gpio() -> ModuleType:
    return importlib.import_module(NAME)


def test_a_line_is_low_until_it_is_set_and_after(chip: Chip) -> None:
    with gpio().Line("gpiochip4:17") as line:
        path, consumer, config = chip.asked
        assert (path, consumer) == ("/dev/gpiochip4", "waistline-marker")
        assert config[17].direction is Direction.OUTPUT
        assert config[17].output_value is Value.INACTIVE
        up, down = line.pulse(0.001)
    assert [value for _, value in chip.levels] == [Value.ACTIVE, Value.INACTIVE, Value.INACTIVE]
    assert chip.released == 1
    assert (up.high, down.high) == (True, False)
    assert up.before_ns <= up.after_ns <= down.before_ns
    assert down.time_s - up.time_s >= 0.001
    assert up.uncertainty_s == pytest.approx((up.after_ns - up.before_ns) * 1e-9 / 12**0.5)
    assert line.changes == [up, down]


def test_a_line_may_have_a_name(chip: Chip) -> None:
    gpio().Line("/dev/gpiochip0:GPIO17").set(True)
    assert chip.levels == [("GPIO17", Value.ACTIVE)]


@pytest.mark.parametrize("text", ["", "17", "gpiochip0:", ":17"])
def test_what_names_no_line_is_refused(chip: Chip, text: str) -> None:
    with pytest.raises(ConfigError, match="GPIO line"):
        gpio().Line(text)


@pytest.mark.parametrize(
    ("failure", "fix"),
    [
        (PermissionError(13, "Permission denied"), "usermod"),
        (FileNotFoundError(2, "No such file"), "GPIO chip"),
        (OSError(16, "Device or resource busy"), "close the program"),
        (ValueError("unknown line name"), "gpioinfo"),
    ],
)
def test_a_line_that_cannot_be_had_says_why(chip: Chip, failure: Exception, fix: str) -> None:
    chip.failure = failure
    with pytest.raises(MeterError) as caught:
        gpio().Line("nochip-here:1")
    assert fix in caught.value.fix or "use one of" in caught.value.fix


def test_a_line_that_goes_away_is_let_go(chip: Chip) -> None:
    line = gpio().Line("gpiochip0:1")
    chip.failure = OSError(19, "No such device")
    with pytest.raises(MeterError, match="cannot be used"):
        line.set(True)
    line.close()
    assert chip.released == 1

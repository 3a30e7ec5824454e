"""Command lines of the services: `argparse`, with errors as everywhere else."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from waistline import __version__
from waistline.errors import ConfigError

PROGRAM = "WAISTLINE_PROGRAM"
"""Environment variable: what the user typed to start this process, for its messages."""


class ArgumentParser(argparse.ArgumentParser):
    """Options as an `argparse.ArgumentParser` takes them; ``--help`` and ``--version`` exit.

    Args:
        module: started as ``python -m MODULE`` unless `PROGRAM` says otherwise.
        description: one or two sentences for ``--help``.
    """

    def __init__(self, module: str, description: str) -> None:
        super().__init__(
            prog=os.environ.get(PROGRAM) or f"python -m {module}",
            description=description,
            allow_abbrev=False,
            exit_on_error=False,
        )
        self.add_argument("--version", action="version", version=f"waistline {__version__}")
        self.add_argument("--json", action="store_true", help="JSON lines on a terminal as well")

    def read(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The parsed ``arguments``; None: those of this process.

        Raises:
            ConfigError: an option is unknown, missing, or has a value that it does not take.
        """
        try:
            found, unknown = self.parse_known_args(arguments)
        except argparse.ArgumentError as error:
            raise self._refused(error.message, error.argument_name) from error
        if unknown:
            raise self._unknown(unknown[0])
        return found

    def error(self, message: str) -> NoReturn:
        """Called by argparse for what belongs to no single argument: some are missing."""
        raise self._refused(message, None)

    def _refused(self, message: str, name: str | None) -> ConfigError:
        if name is None:
            missing = message.rpartition(": ")[2]
            takes = " ".join(_synopsis(action) for action in self._actions if action.required)
            return ConfigError(
                f"{self.prog} was not given {missing}",
                cause=f"it needs at least {takes}",
                fix=f"add what is missing; {self.prog} --help tells what it is",
            )
        action = next((action for action in self._actions if _name(action) == name), None)
        meaning = action.help % vars(action) if action and action.help else "see its help"
        return ConfigError(
            f"{name}: {message}",
            cause=f"{name} means: {meaning}",
            fix=f"see {self.prog} --help",
        )

    def _unknown(self, word: str) -> ConfigError:
        option = word.partition("=")[0]
        if not option.startswith("-"):
            return ConfigError(
                f"{self.prog} takes no argument {word!r}",
                cause="it stands where no further one is expected",
                fix=f"leave it out, or see {self.prog} --help",
            )
        known = [text for action in self._actions for text in action.option_strings]
        near = difflib.get_close_matches(option, known, n=1, cutoff=0.75)
        listed = ", ".join(near or [text for text in known if text[:2] == "--"])
        return ConfigError(
            f"{self.prog} has no option {option!r}",
            cause=f"the nearest is {listed}" if near else f"its options are {listed}",
            fix=f"use {near[0]}" if near else f"see {self.prog} --help",
        )


def wants_json(chosen: bool) -> bool:
    """Whether standard output gets JSON lines: ``--json`` was given, or no person reads it."""
    return chosen or not sys.stdout.isatty()


def whole(text: str) -> int:
    """An argument type: a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def count(text: str) -> int:
    """An argument type: a whole number from 1 on."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def positive(text: str) -> float:
    """An argument type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def pair(text: str) -> tuple[str, str]:
    """An argument type: ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, such as delay_ms=5")
    return key, value


def _name(action: argparse.Action) -> str:
    """As argparse calls it in an error."""
    return "/".join(action.option_strings) or str(action.metavar or action.dest)


def _synopsis(action: argparse.Action) -> str:
    return " ".join([*action.option_strings[-1:], str(action.metavar or action.dest)])

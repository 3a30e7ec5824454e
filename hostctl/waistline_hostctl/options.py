"""Options that every command has, and what they become."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from waistline import interrupts
from waistline.bench import FILE_NAME, ResolvedBench, resolve
from waistline_hostctl.console import Console


class Number(click.FloatRange):
    """A number in a range; NaN, which no range of click's refuses, is in none."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value} is no number that can be used", param, ctx)
        return found


@dataclass(frozen=True, slots=True)
class App:
    """What a command is given beside its own options."""

    console: Console
    bench_file: str | None

    def bench(self, **flags: Any) -> ResolvedBench:
        """The settings in force; flags as ``link_profile="..."``, None where not given."""
        named = {key.replace("_", ".", 1): value for key, value in flags.items()}
        return resolve(self.bench_file, environment=os.environ, flags=named)


def bench_file(given: str | None) -> str | None:
    """``--bench``, else ``./bench.toml`` where there is one."""
    return given or (FILE_NAME if Path(FILE_NAME).is_file() else None)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``, ``--bench`` and ``-v``; the function's first argument becomes an `App`."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
    @click.option(
        "--bench",
        "bench_path",
        metavar="FILE",
        envvar="WAISTLINE_BENCH",
        help=f"What is on the desk (default: ./{FILE_NAME} if there is one).",
    )
    @click.option("-v", "--verbose", is_flag=True, help="Tracebacks of errors.")
    @functools.wraps(function)
    def with_app(
        *args: Any, as_json: bool, bench_path: str | None, verbose: bool, **rest: Any
    ) -> Any:
        del verbose  # whoever shows errors looks for it, also when no command was reached
        interrupts.be_raised()
        return function(App(Console(json=as_json), bench_file(bench_path)), *args, **rest)

    return with_app

"""``waistline node`` and ``waistline edge``: the bare services, with the bench file's settings.

Their options are their own and pass through untouched; only what the command line leaves out and
the environment or the bench file says is added.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import click

from waistline.bench import DEFAULT, ResolvedBench, resolve
from waistline_hostctl import services
from waistline_hostctl.options import bench_file

SETTINGS: Mapping[str, Mapping[str, str]] = {
    services.NODE: {
        "--edge": "edge.endpoint",
        "--backend": "node.backend",
        "--threads": "node.threads",
        "--board": "node.board",
        "--port": "node.port",
        "--baud": "node.baud",
    },
    services.EDGE: {
        "--listen": "edge.endpoint",
        "--backend": "edge.backend",
        "--threads": "edge.threads",
        "--workers": "edge.workers",
    },
}
"""Option of the service to the setting that stands in for it."""
_PUT_ASIDE = {"--board": "--port", "--port": "--board"}
"""Options that name the same thing otherwise: one that is given puts aside the other's setting."""
_ALWAYS = {"--edge", "--listen"}
"""Added even when nobody chose it, so that both ends meet at the same address."""


def pass_on(module: str, help_text: str) -> click.Command:
    """The command that becomes ``python -m module``."""

    @click.command(
        help=help_text,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    @click.option("--bench", "bench_path", envvar="WAISTLINE_BENCH")
    @click.option("--json", "as_json", is_flag=True)
    def command(arguments: tuple[str, ...], bench_path: str | None, as_json: bool) -> None:
        bench = resolve(bench_file(bench_path), environment=os.environ)
        given = ["--json", *arguments] if as_json else arguments
        services.become(module, with_settings(module, given, bench))

    return command


def with_settings(module: str, arguments: Sequence[str], resolved: ResolvedBench) -> list[str]:
    """``arguments`` and, behind them, the settings that they leave out."""
    given = {word.partition("=")[0] for word in arguments}
    if given & {"-h", "--help", "--version"}:
        return list(arguments)
    added = []
    for option, name in SETTINGS[module].items():
        if option in given or _PUT_ASIDE.get(option) in given:
            continue
        if resolved.origins[name] == DEFAULT and option not in _ALWAYS:
            continue
        section, key = name.split(".")
        value = str(getattr(getattr(resolved.bench, section), key))
        if option == "--edge":
            value = services.paced(value, resolved.bench.link.profile)
        added += [option, value]
    return [*arguments, *added]

"""The verbs of ``waistline``. Each is one file in `waistline_hostctl.commands`.

Verbs are found by file name and imported when used, so that ``waistline --help`` reads nothing but
their first lines. Errors are up to three lines on stderr; exit codes come from the error classes.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from waistline import __version__, interrupts, plugins
from waistline.errors import ConfigError, WaistlineError
from waistline.terminal import shown

try:
    import click
except ModuleNotFoundError as missing:
    problem = plugins.missing_extra(str(missing.name), needed_by="the command line")
    print("\n".join(problem.lines()), file=sys.stderr)
    raise SystemExit(problem.exit_code) from None

COMMANDS = "waistline_hostctl.commands"
_PASSED_ON = {"node", "edge"}
"""Services: their options, -v included, are their own."""


class Group(click.Group):
    """Verbs by file name; every failure ends as lines and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return plugins.names(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command: click.Command = plugins.load(COMMANDS, cmd_name).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _first_line(name)) for name in self.list_commands(ctx)]
        if not rows:
            return
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run and exit the process; never returns and never shows a traceback unless ``-v``."""
        arguments = list(sys.argv[1:] if args is None else args)
        failure = _Failure(arguments)
        extra.pop("standalone_mode", None)
        extra["prog_name"] = "waistline"
        try:
            code = super().main(arguments, standalone_mode=False, **extra)
        except click.exceptions.Exit as error:
            code = error.exit_code
        except (KeyboardInterrupt, click.Abort):
            code = interrupts.INTERRUPTED
        except click.ClickException as error:
            code = failure.show(_usage(error), error)
        except WaistlineError as error:
            code = failure.show(error, error)
        except BrokenPipeError:
            # Whoever read our output has had enough.
            code = 1
        except Exception as error:
            code = failure.show(_unforeseen(error), error)
        sys.exit(code if isinstance(code, int) else 0)


class _Failure:
    """Shows an error as the command line asked for."""

    def __init__(self, arguments: Sequence[str]) -> None:
        verb = next((word for word in arguments if not word.startswith("-")), "")
        mine = [] if verb in _PASSED_ON else arguments
        self._json = "--json" in mine
        self._verbose = "-v" in mine or "--verbose" in mine

    def show(self, error: WaistlineError, origin: BaseException) -> int:
        if interrupts.behind(origin):
            return interrupts.INTERRUPTED
        if self._verbose:
            print(shown("".join(traceback.format_exception(origin))), file=sys.stderr, end="")
        print(shown("\n".join(error.lines())), file=sys.stderr)
        if self._json:
            from waistline_hostctl.results import ErrorResult, encode

            found = ErrorResult(
                what=error.what, cause=error.cause, fix=error.fix, exit_code=error.exit_code
            )
            _write(encode(found))
        return error.exit_code


def _write(text: str) -> None:
    """On standard output; where that fails, the exit code is still that of the first error."""
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        return
    except WaistlineError as error:
        print("\n".join(error.lines()), file=sys.stderr)


@click.group(
    cls=Group,
    context_settings={
        "auto_envvar_prefix": "WAISTLINE",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="waistline", message="%(prog)s %(version)s")
def group() -> None:
    """Cut a neural network at its waist: head on a small device, tail on an edge machine.

    Start with 'waistline demo' (no hardware) or 'waistline doctor'.
    """


def main() -> NoReturn:
    """Run the verb of this process's command line, and exit."""
    group.main()


def _first_line(name: str) -> str:
    """Help of a verb: the first line of its file, read without importing it."""
    spec = importlib.util.find_spec(f"{COMMANDS}.{name}")
    if spec is None or not spec.origin:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.split("\n", 1)[0].rstrip(".")


def _usage(error: click.ClickException) -> ConfigError:
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx else "waistline"
    message = error.format_message().rstrip(".")
    cause = ""
    if ctx and isinstance(ctx.command, click.Group):
        cause = f"known: {', '.join(ctx.command.list_commands(ctx))}"
    return ConfigError(message[:1].lower() + message[1:], cause=cause, fix=f"{path} --help")


def _unforeseen(error: Exception) -> WaistlineError:
    return WaistlineError(
        f"unforeseen {type(error).__name__}",
        cause=str(error) or "no message",
        fix="run again with -v and report what it shows with 'waistline doctor --json'",
    )

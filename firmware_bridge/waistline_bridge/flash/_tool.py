"""Programs that flash: find one, run it, hear its progress, and say in our words what it said.

A program gets its arguments as a list, never a shell. It gets a session of its own and ends with
us, together with all that it started; if we are killed, it alone is told to.
"""

from __future__ import annotations

import codecs
import importlib.util
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from waistline import plugins
from waistline.errors import MissingExtra, WaistlineError
from waistline.groups import end_group
from waistline_bridge.boards._programs import guarded
from waistline_bridge.flash.base import FlashError, Progress

_QUIET_S = 300.0
"""A chip erase of 16 MB of serial flash takes up to 200 s, in which esptool says nothing."""
_KEPT_CHARS, _LINE_CHARS, _WHOLE_CHARS = 80_000, 400, 1 << 20
_PERCENT = re.compile(r"(?<![\d.])(\d{1,3})(?:\.\d+)? ?%")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended and its last lines, errors included."""

    command: tuple[str, ...]
    code: int
    text: str

    @property
    def last(self) -> str:
        """The line that says most about a failure."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"error|fail|fatal", line, re.IGNORECASE)]
        return (telling or lines or ["it said nothing"])[-1]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a line of a program's output means: the error that it is."""

    pattern: str
    error: Callable[[re.Match[str]], WaistlineError]


def program(
    name: str, given: str, *, module: str = "", extra: str = "", apt: str = ""
) -> list[str]:
    """The start of a command.

    Args:
        name: of the program, looked for on PATH.
        given: by the user, instead.
        module: of this Python that is the same program, where it is not on PATH.
        extra: of ours that brings it, or its package.
        apt: Debian's package that brings it.

    Raises:
        MissingExtra: it is nowhere.
    """
    found = shutil.which(given or name)
    if found is not None:
        return [found]
    if not given and module and importlib.util.find_spec(module) is not None:
        return [sys.executable, "-m", module]
    ways = [plugins.pip_install(extra)] if extra else []
    ways += [f"sudo apt install {apt}"] if apt else []
    raise MissingExtra(
        f"{given or name} is not installed",
        cause=f"there is no {given or name} on PATH"
        + (f", and no module {module} in {sys.prefix}" if module and not given else ""),
        fix=" or: ".join(ways) or f"install {name}",
    )


def run(
    command: Sequence[str],
    *,
    progress: Progress | None = None,
    total: int = 0,
    quiet_s: float = _QUIET_S,
    whole: bool = False,
) -> Said:
    """Run a program to its end, or until it has said nothing for ``quiet_s``.

    Args:
        command: program and arguments.
        progress: told of each percentage that it writes, as bytes of ``total``.
        total: bytes.
        quiet_s: longest silence.
        whole: its output is data, not words: lines are kept whole.

    Raises:
        FlashError: it cannot be started, or fell silent.
    """
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
    try:
        process = subprocess.Popen(
            guarded(command, group=True), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip
    except OSError as error:
        raise FlashError(
            f"cannot start {command[0]}", cause=error.strerror or str(error), fix="install it anew"
        ) from error
    lines = _Lines(progress, total, whole)
    try:
        _listen(process, Path(command[0]).name, lines, quiet_s)
        code = process.wait()
    except BaseException:
        end_group(process)
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
    return Said(tuple(command), code, lines.text())


def _listen(process: subprocess.Popen[bytes], name: str, lines: _Lines, quiet_s: float) -> None:
    assert process.stdout is not None
    stream = process.stdout.fileno()
    heard = time.monotonic()
    while True:
        readable, _, _ = select.select([stream], [], [], 0.2)
        if readable:
            part = os.read(stream, 4096)
            if not part:
                return
            lines.feed(part)
            heard = time.monotonic()
        elif process.poll() is not None:
            return  # what it left behind may still hold its output open
        elif time.monotonic() - heard > quiet_s:
            raise FlashError(
                f"{name} hangs",
                cause=f"it has said nothing for {quiet_s:g} s; before that: {lines.latest()}",
                fix="unplug the device, plug it in again and run the same command",
            )


class _Lines:
    """The last lines of an output; a line may be rewritten with a carriage return."""

    def __init__(self, progress: Progress | None, total: int, whole: bool) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._progress, self._total = progress, total
        self._kept: deque[str] = deque()
        self._kept_chars = 0
        self._limit = _WHOLE_CHARS if whole else _KEPT_CHARS
        self._line_limit = _WHOLE_CHARS if whole else _LINE_CHARS
        self._open = ""

    def feed(self, data: bytes) -> None:
        *whole, self._open = re.split(r"[\r\n]", self._open + self._decoder.decode(data))
        for line in whole:
            self._take(line)
        if len(self._open) > self._line_limit:
            self._take(self._open)
            self._open = ""

    def latest(self) -> str:
        return next((line for line in reversed(self._kept) if line.strip()), "nothing at all")

    def text(self) -> str:
        return "\n".join([*self._kept, _ESCAPES.sub("", self._open)])

    def _take(self, line: str) -> None:
        line = _ESCAPES.sub("", line)[: self._line_limit]
        percent = _PERCENT.search(line)
        if percent is not None and int(percent[1]) <= 100:
            if self._progress is not None:
                self._progress(self._total * int(percent[1]) // 100, self._total)
            if int(percent[1]) < 100:
                return  # or they would push out what explains a failure
        self._kept.append(line)
        self._kept_chars += len(line) + 1
        while self._kept_chars > self._limit:
            self._kept_chars -= len(self._kept.popleft()) + 1


def explain(said: Said, rules: Sequence[Rule], what: str) -> WaistlineError:
    """The error that a program's output is, by the first rule that fits, else in its own words."""
    for rule in rules:
        found = re.search(rule.pattern, said.text, re.IGNORECASE | re.MULTILINE)
        if found is not None:
            return rule.error(found)
    return FlashError(
        what,
        cause=f"{Path(said.command[0]).name} ended with code {said.code}: {said.last}",
        fix="run it by hand to see all it says: waistline flash ... --dry-run shows the command",
    )


def pip(extra: str) -> str:
    """The command that installs an extra where this Python finds it."""
    return plugins.pip_install(extra)

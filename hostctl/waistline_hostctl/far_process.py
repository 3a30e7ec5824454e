"""A program that leads to a far machine, spoken to over its standard input and output.

Everything that can go wrong there ends as an error that says what was seen: text instead of the
conversation, a terminal in between, silence, an exit code, a signal, the last lines it complained.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from typing import IO

from waistline.errors import ConfigError, LinkClosed, LinkError, LinkTimeout
from waistline.verification.pipe import MAGIC

MAX_NOISE_BYTES = 1 << 16
"""What may stand before the conversation: a banner, a message of the day."""
MIN_RATE_BYTES_S = 1000.0
"""A message that comes or goes more slowly than this, on average, is given up."""
_KEPT_LINES = 12
_SHOWN_LINES = 4
_END_S = 5.0
_SIGNALED = 128
"""A shell's exit code of a program that a signal ended is this plus the signal's number."""


class FarProcess:
    """The program behind ``--via``.

    Args:
        command: split as a shell would, then run without one.
        timeout_s: longest wait for anything to come or go; with `MIN_RATE_BYTES_S` also what a
            whole message may take, see `expect`.

    Attributes:
        noise: what came before the conversation; b"" when nothing did.

    Raises:
        ConfigError: the command cannot be split, or there is no such program.
    """

    def __init__(self, command: str, timeout_s: float) -> None:
        self.command = command
        self.noise = b""
        self._timeout_s = timeout_s
        self._begun = self._until = 0.0
        self.expect(MAX_NOISE_BYTES)
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ConfigError(f"--via {command!r} cannot be used", cause=str(error)) from error
        if not words:
            raise ConfigError("--via names no command", fix="--via 'ssh pi python3 -m ..'")
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise ConfigError(
                f"{words[0]} cannot be started",
                cause=error.strerror or str(error),
                fix="check the command after --via; it is run without a shell",
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._kept = bytearray()
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._listener = threading.Thread(
            target=self._listen, args=(self._process.stderr,), daemon=True
        )
        self._listener.start()

    def _listen(self, stream: IO[bytes]) -> None:
        """Keep the last lines of its standard error; a line without end is cut."""
        while line := stream.readline(MAX_NOISE_BYTES):
            text = line.decode(errors="replace").rstrip()
            if text:
                self._said.append(text[:400])

    def expect(self, size_bytes: int, timeout_s: float | None = None) -> None:
        """A message of at most so many bytes begins, either way; a drip of bytes does not end it.

        Args:
            size_bytes: all of it, however many frames it has.
            timeout_s: for its beginning; None: as given at the start.
        """
        self._begun = time.monotonic()
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        self._until = self._begun + wait_s + size_bytes / MIN_RATE_BYTES_S

    def skip_noise(self) -> None:
        """Read up to where the conversation begins; what stands before it becomes `noise`.

        Raises:
            LinkError: it never begins.
        """
        while (at := self._kept.find(MAGIC)) < 0:
            mangled = self._kept.find(MAGIC[:4])
            if mangled >= 0 and len(self._kept) >= mangled + 2 * len(MAGIC):
                raise self._terminal(bytes(self._kept[mangled : mangled + 2 * len(MAGIC)]))
            if len(self._kept) > MAX_NOISE_BYTES:
                raise self._never("it does not stop")
            try:
                self._more()
            except LinkTimeout as error:
                raise self._silent(error) from error
            except LinkClosed as error:
                raise self._never(error.cause) from error
        self.noise = bytes(self._kept[:at])
        del self._kept[:at]

    def read(self, size_bytes: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            LinkTimeout: nothing came for the time allowed, or the message takes too long.
            LinkClosed: the far side ended; says how.
        """
        while len(self._kept) < size_bytes:
            self._more()
        data = bytes(self._kept[:size_bytes])
        del self._kept[:size_bytes]
        return data

    def write(self, data: bytes) -> bool:
        """Send all of it; False when the far side has stopped listening, and may have said why.

        Raises:
            LinkTimeout: it took nothing for the time allowed, or the message takes too long.
        """
        view = memoryview(data)
        while view:
            _, ready, _ = select.select([], [self._to], [], self._wait_s())
            if not ready:
                raise self._timeout("took nothing")
            try:
                view = view[os.write(self._to, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def _more(self) -> None:
        ready, _, _ = select.select([self._from], [], [], self._wait_s())
        if not ready:
            raise self._timeout("said nothing")
        data = os.read(self._from, 1 << 16)
        if not data:
            raise self.ended()
        self._kept += data

    def ended(self) -> LinkClosed:
        """The error for its end, with how it ended and what it complained about."""
        try:
            code = self._process.wait(_END_S)
            how = exit_text(code)
        except subprocess.TimeoutExpired:
            how = "it closed its output and runs on"
        return LinkClosed(
            "the far side ended in the middle of the conversation",
            cause=self._with_complaint(how),
            fix=self._remedy() or f"run it by hand to see more: {self.command} --help",
        )

    def _wait_s(self) -> float:
        """Longest silence from now on.

        Raises:
            LinkTimeout: the message should have ended.
        """
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise self._slow()
        return min(self._timeout_s, left_s)

    def _slow(self) -> LinkTimeout:
        return LinkTimeout(
            f"the far side is too slow: a message took over {self._until - self._begun:.3g} s",
            cause=self._with_complaint(
                f"below {MIN_RATE_BYTES_S:g} bytes/s after {self._timeout_s:g} s to begin"
            ),
            fix="give --timeout-s a longer time, or use a faster way there",
        )

    def _timeout(self, what: str) -> LinkTimeout:
        if time.monotonic() >= self._until:
            return self._slow()
        return LinkTimeout(
            f"the far side {what} for {self._timeout_s:g} s",
            cause=self._with_complaint(f"the command is {self.command!r}, and it is running"),
            fix="give --timeout-s a longer time, or run the command by hand",
        )

    def _silent(self, error: LinkTimeout) -> LinkError:
        if not self._kept:
            return error
        slow = time.monotonic() >= self._until
        return self._never("it goes on" if slow else f"then silence for {self._timeout_s:g} s")

    def _never(self, how: str) -> LinkError:
        said = _last_lines(bytes(self._kept).decode(errors="replace").splitlines())
        cause = f"it said {said!r}; {how}" if said else how
        return LinkError(
            "the command does not lead to a far side",
            cause=cause,
            fix=self._remedy()
            or "it must run 'python3 -m waistline_node.probe' and pass its input and output",
        )

    def _terminal(self, seen: bytes) -> LinkError:
        return LinkError(
            "something on the way changes bytes, as a terminal does",
            cause=f"the conversation should begin with {MAGIC!r} and began with {seen!r}",
            fix="no terminal: ssh -T, docker exec -i (without -t), adb exec-out, kubectl exec -i",
        )

    def _with_complaint(self, how: str) -> str:
        self._listener.join(0.5)
        said = _last_lines(list(self._said))
        return f"{how}; its last words: {said}" if said and said not in how else how

    def _remedy(self) -> str:
        """What helps against the mishaps that are seen most."""
        text = "\n".join(self._said) + bytes(self._kept).decode(errors="replace")
        for sign, remedy in _REMEDIES:
            if sign in text:
                return remedy
        return ""

    def close(self) -> None:
        """Hang up, and end the program if it does not end by itself."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        for end in (self._process.terminate, self._process.kill, lambda: None):
            try:
                self._process.wait(_END_S)
                break
            except subprocess.TimeoutExpired:
                end()
        self._listener.join(_END_S)
        if self._process.stderr and not self._listener.is_alive():
            self._process.stderr.close()


_REMEDIES = (
    ("No module named 'waistline", "install there: pip install waistline"),
    ("No module named waistline", "install there: pip install waistline"),
    ("not found", "check the program's name and its path on the far machine"),
    ("Permission denied", "give this machine access there: ssh-copy-id HOST"),
    ("the input device is not a TTY", "leave the -t out: docker exec -i"),
    ("Segmentation fault", "its engine crashed in native code; run 'waistline doctor' there"),
)


def exit_text(code: int) -> str:
    """An exit code in words; of a signal its name."""
    number = -code if code < 0 else code - _SIGNALED if code > _SIGNALED else 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = ""
    if code < 0:
        return f"it was ended by {name or f'signal {number}'}"
    return f"exit code {code}" + (f", as after {name}" if name else "")


def _last_lines(lines: list[str]) -> str:
    kept = [line.strip() for line in lines if line.strip()][-_SHOWN_LINES:]
    return " | ".join(kept)[-600:]

"""A worker process and the pipes to it: one request, one answer, a deadline.

The worker is another interpreter with an old native library in it: it may lie, hang, print or die.
What it says is limited before it is stored, an answer that does not come ends the worker, and what
it printed last goes into the error.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from waistline.backends._ncs2_worker import HEADER, MAGIC, MAX_JSON_BYTES
from waistline.errors import BackendError
from waistline.tensors import TensorSpec

KEPT_STDERR_BYTES = 1 << 14
_CHUNK_BYTES = 1 << 16
_GRACE_S = 1.0
"""What a worker may take to end by itself."""


class Worker:
    """A running worker.

    Args:
        command: what starts it.
        timeout_s: how long one answer may take.
    """

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._asked = 0
        self._printed = bytearray()
        self._ended = ""
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as error:
            raise BackendError(
                f"the NCS2 worker's interpreter {command[0]} cannot be started",
                cause=str(error),
                fix="waistline tools install ncs2",
            ) from error
        for pipe in self._pipes():
            os.set_blocking(pipe.fileno(), False)
        # A slice that nobody closes must not leave a process behind.
        self._dropped = weakref.finalize(self, _end, self._process)

    def _pipes(self) -> list[IO[bytes]]:
        process = self._process
        return [pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def printed(self) -> str:
        """The end of what the worker wrote to its standard error."""
        return self._printed.decode(errors="replace")

    def ask(
        self,
        body: Mapping[str, Any],
        tensors: Sequence[np.ndarray] = (),
        results: Sequence[TensorSpec] = (),
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Send one request and wait for its answer.

        Args:
            body: the request; ``tensors`` is added to it.
            tensors: its arrays.
            results: exactly what arrays the answer has to bring.

        Returns:
            The answer's JSON object, and its arrays, which the caller owns. An answer that says
            ``error`` brings none.

        Raises:
            BackendError: the worker died, took too long, or said what no worker may say.
        """
        if self._ended:
            raise _gone(self._ended, "the worker has ended before")
        self._asked += 1
        request = _frame({**body, "id": self._asked}, tensors)
        exchange = _Exchange(request, sum(spec.size_bytes for spec in results))
        deadline = time.monotonic() + self._timeout_s
        try:
            self._transfer(exchange, deadline)
            return exchange.answer(self._asked, results)
        except TimeoutError as error:
            raise self._end_with(f"gave no answer within {self._timeout_s:g} s") from error
        except (BrokenPipeError, EOFError) as error:
            raise self._end_with("") from error
        except (ValueError, msgspec.MsgspecError) as error:
            raise self._end_with(f"gave an answer that is none: {error}") from error

    def _transfer(self, exchange: _Exchange, deadline: float) -> None:
        stdin, stdout, stderr = self._pipes()
        with selectors.DefaultSelector() as selector:
            selector.register(stdin, selectors.EVENT_WRITE, "in")
            selector.register(stdout, selectors.EVENT_READ, "out")
            selector.register(stderr, selectors.EVENT_READ, "err")
            while not exchange.complete:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                for key, _ in selector.select(left_s):
                    if key.data == "err" and not self._drain():
                        selector.unregister(stderr)
                    elif key.data == "in" and exchange.write_to(stdin.fileno()):
                        selector.unregister(stdin)
                    elif key.data == "out":
                        exchange.read_from(stdout.fileno())
        self._drain()

    def _drain(self) -> bool:
        """Take what the worker printed, keep its end; False once it can print no more."""
        stderr = self._process.stderr
        while stderr is not None:
            try:
                part = os.read(stderr.fileno(), _CHUNK_BYTES)
            except BlockingIOError:
                return True
            if not part:
                return False
            self._printed += part
            del self._printed[:-KEPT_STDERR_BYTES]
        return False

    def _end_with(self, told: str) -> BackendError:
        """End the worker; the error for what it did."""
        code = self._stop()
        self._ended = told or _how(code)
        rows = [row.strip() for row in self.printed.splitlines() if row.strip()]
        return _gone(self._ended, rows[-1][:300] if rows else "it printed nothing")

    def close(self) -> None:
        """End the worker; its memory and the device are free afterwards."""
        self._ended = self._ended or "was closed"
        self._stop()

    def _stop(self) -> int | None:
        """Ask by closing its input, then end it; its exit status, None if it did not go."""
        process = self._process
        if process.stdin:
            process.stdin.close()
        code: int | None = None
        try:
            code = process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        if process.stderr and not process.stderr.closed:
            self._drain()
        self._dropped()
        return code


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of a worker."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()


class _Exchange:
    """One request on its way out and its answer on its way in."""

    def __init__(self, request: list[memoryview], raw_bytes: int) -> None:
        self._left = request
        self._raw_bytes = raw_bytes
        self._head = bytearray(HEADER.size)
        self._body: bytearray | None = None
        self._json_len = 0
        self._into = memoryview(self._head)

    @property
    def complete(self) -> bool:
        return self._body is not None and not self._into

    def write_to(self, fd: int) -> bool:
        """Write what fits; True once all is written."""
        with contextlib.suppress(BlockingIOError):
            while self._left:
                written = os.write(fd, self._left[0])
                self._left[0] = self._left[0][written:]
                if not self._left[0]:
                    del self._left[0]
        return not self._left

    def read_from(self, fd: int) -> None:
        """Read what is there.

        Raises:
            EOFError: the worker closed the pipe.
            ValueError: what comes is no frame, or larger than its limits.
        """
        with contextlib.suppress(BlockingIOError):
            while self._into:
                count = os.readv(fd, [self._into])
                if not count:
                    raise EOFError
                self._into = self._into[count:]
                if not self._into and self._body is None:
                    self._begin()

    def _begin(self) -> None:
        magic, json_len, raw_len = HEADER.unpack(self._head)
        if magic != MAGIC:
            raise ValueError(f"it begins with {bytes(self._head[:4])!r}")
        if json_len > MAX_JSON_BYTES or raw_len not in (0, self._raw_bytes):
            raise ValueError(
                f"{json_len} bytes of text, {raw_len} of tensors instead of {self._raw_bytes}"
            )
        self._json_len = json_len
        self._body = bytearray(json_len + raw_len)
        self._into = memoryview(self._body)

    def answer(
        self, number: int, results: Sequence[TensorSpec]
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """The complete answer to request ``number``.

        Raises:
            ValueError: it is one to another request, or does not bring the tensors it should.
        """
        body = memoryview(self._body or b"")
        told = msgspec.json.decode(body[: self._json_len], type=dict[str, Any])
        if told.get("id") != number:
            raise ValueError(f"it answers request {str(told.get('id'))[:20]}, not {number}")
        if "error" in told:
            return told, []
        wanted = [{"dtype": spec.dtype, "shape": list(spec.shape)} for spec in results]
        if told.get("tensors") != wanted:
            raise ValueError(f"tensors {str(told.get('tensors'))[:100]} instead of {wanted}")
        arrays, start = [], self._json_len
        for spec in results:
            part = body[start : start + spec.size_bytes]
            arrays.append(np.frombuffer(part, spec.numpy_dtype).reshape(spec.shape).copy())
            start += spec.size_bytes
        return told, arrays


def _frame(body: Mapping[str, Any], tensors: Sequence[np.ndarray]) -> list[memoryview]:
    described = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in tensors]
    text = msgspec.json.encode({**body, "tensors": described})
    head = HEADER.pack(MAGIC, len(text), sum(array.nbytes for array in tensors))
    raw = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in tensors]
    return [memoryview(head + text), *raw]


def _how(code: int | None) -> str:
    if code is None:
        return "closed its output"
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _gone(told: str, cause: str) -> BackendError:
    return BackendError(
        f"the NCS2 worker {told}",
        cause=cause,
        fix="open the slice again; 'waistline devices' says whether the stick is found",
    )


def worker_file() -> Path:
    """The program that another interpreter runs."""
    return Path(__file__).with_name("_ncs2_worker.py")

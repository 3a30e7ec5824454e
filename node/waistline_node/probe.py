"""``python -m waistline_node.probe``: the far side of ``waistline verify --via``.

It runs the ends of one bundle on this machine for a host at the other end of standard input and
output. What libraries print goes to standard error, so that nothing disturbs the conversation
(`waistline.verification.pipe`). A bundle that comes over the pipe lies in a temporary folder until
the conversation ends, however it ends; a kill leaves it to whoever clears the temporary files.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

import numpy as np

from waistline import __version__, plugins
from waistline.arguments import ArgumentParser, positive
from waistline.backends import base as backends
from waistline.bundle.golden import frame_from_bytes
from waistline.bundle.schema import MANIFEST, MAX_MANIFEST_BYTES, StoredFile
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import BundleError, ConfigError, LinkClosed, WaistlineError
from waistline.provenance import machine
from waistline.terminal import shown
from waistline.verification import pipe
from waistline.verification.ends import Ends, HeadRun
from waistline.verification.pipe import Kind
from waistline_node.ends import open_ends
from waistline_node.heads.base import MCU

MAX_BYTES = 512 << 20
_MAX_TEXT = 2000
"""Characters of each part of an error, so that it fits into its frame."""
_MARGIN_BYTES = 16 << 20
"""Of the temporary files' disk, left free."""


class Pipe:
    """This process's standard input and output, taken away from everything else in it."""

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def read(self, size_bytes: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            LinkClosed: the host is gone.
        """
        parts: list[bytes] = []
        while size_bytes:
            part = os.read(self._in, min(size_bytes, 1 << 20))
            if not part:
                raise LinkClosed("the host closed the pipe", cause=f"{size_bytes} bytes were due")
            parts.append(part)
            size_bytes -= len(part)
        return b"".join(parts)

    def write(self, *frames: bytes) -> None:
        for data in frames:
            view = memoryview(data)
            while view:
                view = view[os.write(self._out, view) :]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one conversation; returns the exit code."""
    try:
        chosen = _parser().read(arguments)
    except ConfigError as error:
        print(shown("\n".join(error.lines())), file=sys.stderr)
        return error.exit_code
    faulthandler.enable()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    try:
        conversation = Pipe()
    except OSError as error:
        print(f"error: there is no pipe to speak over: {error.strerror}", file=sys.stderr)
        return LinkClosed.exit_code
    try:
        with ExitStack() as stack:
            _converse(conversation, int(chosen.max_mb * 1e6), stack)
    except (LinkClosed, BrokenPipeError):
        return LinkClosed.exit_code
    except (WaistlineError, OSError, MemoryError) as error:
        failure = _failure(error)
        said = shown(f"{failure.kind}: {failure.what}; {failure.cause}")
        print(said, file=sys.stderr, flush=True)
        with suppress(OSError):
            conversation.write(pipe.message(Kind.ERROR, failure))
        return error.exit_code if isinstance(error, WaistlineError) else 1
    return 0


def _end(number: int, _: object) -> NoReturn:
    """Leave by way of every context, so that the temporary folder goes."""
    raise SystemExit(128 + number)


def _parser() -> ArgumentParser:
    made = ArgumentParser(
        "waistline_node.probe",
        "Run the ends of a bundle for 'waistline verify --via'; speaks over stdin and stdout.",
    )
    made.add_argument("--max-mb", type=positive, default=MAX_BYTES / 1e6, metavar="MB",
                      help="largest bundle to take (default %(default).0f)")  # fmt: skip
    return made


def _converse(with_host: Pipe, max_bytes: int, stack: ExitStack) -> None:
    hello = pipe.Hello(
        software=f"waistline {__version__}",
        machine=machine(),
        numpy=np.__version__,
        backends=(*plugins.names(backends.PACKAGE), MCU),
        max_bytes=max_bytes,
    )
    with_host.write(pipe.message(Kind.HELLO, hello))
    _, payload = pipe.read_frame(with_host.read, (Kind.OPEN,))
    asked = pipe.decode(payload, pipe.Open)
    bundle = _here(asked) if asked.path else _received(with_host, asked, max_bytes, stack)
    ends = open_ends(bundle, head=asked.head, tail=asked.tail, say=_say)
    stack.callback(ends.close)
    with_host.write(pipe.message(Kind.OPENED, pipe.Opened(ends.place)))
    while True:
        kind, payload = pipe.read_frame(with_host.read, (Kind.RUN, Kind.BYE))
        if kind is Kind.BYE:
            return
        _run(with_host, bundle, ends, pipe.decode(payload, pipe.Run))


def _say(text: str) -> None:
    print(shown(f"probe: {text}"), file=sys.stderr, flush=True)


def _here(asked: pipe.Open) -> Bundle:
    bundle = load_bundle(asked.path)
    if bundle.id != asked.bundle_id:
        raise BundleError(
            f"{asked.path} at the far side is another bundle",
            cause=f"its id is {bundle.id[:12]}, the host has {asked.bundle_id[:12]}",
            fix="copy the bundle there again, or leave --via-bundle out to send it",
        )
    return bundle


def _received(with_host: Pipe, asked: pipe.Open, max_bytes: int, stack: ExitStack) -> Bundle:
    """The bundle that follows as chunks, in a folder that ``stack`` removes."""
    _check_files(asked, max_bytes)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="waistline-probe-")))
    total = sum(file.size_bytes for file in asked.files)
    free = shutil.disk_usage(folder).free
    if total + _MARGIN_BYTES > free:
        raise ConfigError(
            "the bundle does not fit on the far side's disk",
            cause=f"it has {total} bytes, {free} are free in {folder.parent}",
            fix="free space there, or set TMPDIR to a folder with more: env TMPDIR=DIR python3 ..",
        )
    for file in asked.files:
        _store(with_host, folder / file.name, file)
    bundle = load_bundle(folder)
    if bundle.id != asked.bundle_id:
        raise BundleError(
            "the bundle that came is not the one that was announced",
            cause=f"its id is {bundle.id[:12]}, announced was {asked.bundle_id[:12]}",
        )
    return bundle


def _check_files(asked: pipe.Open, max_bytes: int) -> None:
    """Refuse names and sizes before anything is written."""
    problem = ""
    names = [file.name for file in asked.files]
    if not 0 < len(names) <= pipe.MAX_FILES or len(set(names)) != len(names):
        problem = f"{len(names)} files, or two of one name"
    elif names[0] != MANIFEST or asked.files[0].size_bytes > MAX_MANIFEST_BYTES:
        problem = f"the first file is not {MANIFEST}, or too large"
    elif any(not _plain(name) for name in names):
        problem = "a file name that is a path, hidden or too long"
    elif any(file.size_bytes < 0 for file in asked.files):
        problem = "a negative size"
    if problem:
        raise BundleError("the announced bundle cannot be taken", cause=problem)
    total = sum(file.size_bytes for file in asked.files)
    if total > max_bytes:
        raise ConfigError(
            "the bundle is larger than the far side takes",
            cause=f"it has {total} bytes, {max_bytes} are allowed",
            fix="add --max-mb to the far side's command, or copy it and give --via-bundle PATH",
        )


def _plain(name: str) -> bool:
    return (
        0 < len(name.encode(errors="replace")) <= 255
        and not name.startswith(".")
        and name.isprintable()
        and Path(name).name == name
    )


def _store(with_host: Pipe, path: Path, file: StoredFile) -> None:
    digest = hashlib.sha256()
    with path.open("xb") as stream:
        for part in pipe.read_chunks(with_host.read, file.size_bytes):
            digest.update(part)
            stream.write(part)
    if digest.hexdigest() != file.sha256:
        raise BundleError(
            f"{file.name} changed on the way",
            cause=f"its SHA-256 is {digest.hexdigest()[:12]}.., announced was {file.sha256[:12]}..",
            fix="run the same command again",
        )


def _run(with_host: Pipe, bundle: Bundle, ends: Ends, asked: pipe.Run) -> None:
    golden = bundle.manifest.golden
    sizes = {"head": golden.frame.size_bytes, "tail": golden.codes.size_bytes}
    if sizes.get(asked.role) != asked.size_bytes:
        raise ConfigError(
            f"the host asked for {asked.role[:20]!r} of {asked.size_bytes} bytes",
            cause=f"this bundle's sizes are {sizes}",
        )
    data = b"".join(pipe.read_chunks(with_host.read, asked.size_bytes))
    began = time.perf_counter()
    if asked.role == "head":
        made = ends.run_head(frame_from_bytes(bundle, data))
    else:
        made = HeadRun(b"", (), ends.run_tail(data))
    duration_s = time.perf_counter() - began
    values = b"".join(
        array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in made.values
    )
    result = pipe.Result(len(made.codes), len(values), len(made.answer), duration_s)
    with_host.write(pipe.message(Kind.RESULT, result))
    with_host.write(*pipe.chunks((made.codes, values, made.answer)))


def _failure(error: BaseException) -> pipe.Failure:
    name, what, cause, fix = "WaistlineError", f"{type(error).__name__} at the far side", "", ""
    if isinstance(error, WaistlineError):
        name, what, cause, fix = type(error).__name__, error.what, error.cause, error.fix
    texts = (text[:_MAX_TEXT] for text in (what, cause or str(error), fix))
    return pipe.Failure(name, *texts)


if __name__ == "__main__":
    sys.exit(main())

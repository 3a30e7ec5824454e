"""``python -m waistline_node``: the node as a program, for people and for a service manager.

Standard output carries two JSON lines: one when the node is ready, one when it is done (and before
the first, while a head is loaded onto a board, how far that is); on a terminal they are a few lines
for people. All else for people goes to standard error. SIGTERM and
SIGINT end the run with an outcome for every frame.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import secrets
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from waistline import __version__, endpoints
from waistline.arguments import ArgumentParser, count, pair, positive, wants_json, whole
from waistline.backends.base import AUTO
from waistline.bundle.golden import read_frame
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import ConfigError, WaistlineError
from waistline.session.node import NodeSession
from waistline.terminal import shown
from waistline_bridge import boards
from waistline_node.console import Console
from waistline_node.heads.base import MCU, Head, HeadChoice, board_options, head_name, open_head
from waistline_node.records import FrameRecord, RecordWriter
from waistline_node.runtime import NodeRuntime, Pace
from waistline_node.sources.base import Source, SourceOptions, open_source
from waistline_node.summary import Summary
from waistline_node.text import ready_text, summary_text
from waistline_node.uplink import CONNECT_S

INTERRUPTED = 130
PROGRESS_S = 0.5


def parser() -> ArgumentParser:
    made = ArgumentParser(
        "waistline_node",
        "Run the head of a bundle on frames of a source; send the waist to an edge.",
    )
    add = made.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder written by 'waistline split'")
    add("--source", required=True, metavar="SOURCE",
        help="where frames come from: a folder of images or sounds, a .npz, .wav, .csv or video "
        "file, csv:- for rows on standard input, camera:DEVICE, or picamera2:NUMBER")  # fmt: skip
    add("--edge", required=True, metavar="ENDPOINT", help="for example tcp://127.0.0.1:7571")
    add("--backend", default=AUTO, metavar="NAME", help="what runs the head (default %(default)s)")
    add("--backend-option", type=pair, action="append", default=[], metavar="KEY=VALUE",
        help="the backend's own option; repeatable")  # fmt: skip
    add("--threads", type=count, metavar="N", help="inside one run of the head")
    add(
        "--board",
        default="",
        metavar="NAME",
        help=f"emulated microcontroller that runs the head (default {boards.DEFAULT})",
    )
    add(
        "--port",
        default="",
        metavar="DEVICE",
        help="serial port of a microcontroller that runs the head, a path or an id",
    )
    add("--baud", type=count, metavar="N", help="of that port")
    add("--board-option", type=pair, action="append", default=[], metavar="KEY=VALUE",
        help="the board's own option, such as icount=on; repeatable")  # fmt: skip
    add("--records", type=Path, metavar="FILE.csv", help="write one line a frame to a new file")
    add("--count", type=count, metavar="N", help="end after N frames")
    add("--loop", action="store_true", help="begin the source again at its end")
    add("--rate", type=positive, metavar="HZ", help="frames a second; what is late is dropped")
    add("--queue", type=count, default=1, metavar="N", help="frames that may wait (default 1)")
    add("--max-in-flight", type=count, default=4, metavar="N", help="unanswered frames (4)")
    add("--budget-s", type=positive, default=5.0, metavar="S", help="age limit of a frame (5)")
    add("--sequential", action="store_true", help="one frame at a time, no overlap")
    add("--node-id", metavar="NAME", help="how the edge knows this node (default: random)")
    add("--pin", type=whole, metavar="CPU", help="run on this processor only")
    add("--insecure", action="store_true", help="allow plain bytes over a network")
    add("-v", "--verbose", action="store_true", help="show where an error was raised")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    verbose = False
    stopper = Stopper()
    try:
        chosen = parser().read(arguments)
        verbose = chosen.verbose
        code, clean = _run(chosen, stopper)
    except WaistlineError as error:
        _show(error, verbose=verbose)
        return error.exit_code
    except BrokenPipeError:
        # Whoever started this node has stopped reading; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if not clean:
        # The head hangs in its engine; unloading the engine under it would crash.
        sys.stderr.flush()
        os._exit(code)
    return code


class Stopper:
    """SIGTERM and SIGINT from the first moment on; what is to be stopped may come later."""

    def __init__(self) -> None:
        self.caught: list[int] = []
        self._stop: Callable[[], None] = lambda: None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _: object) -> None:
        self.caught.append(number)
        self._stop()

    def stops(self, stop: Callable[[], None]) -> None:
        """Call ``stop`` for every signal, those that have come included."""
        self._stop = stop
        for _ in self.caught:
            stop()


def _run(chosen: argparse.Namespace, stopper: Stopper) -> tuple[int, bool]:
    """Exit code, and whether every thread came to its end."""
    if chosen.pin is not None:
        _pin(chosen.pin)
    endpoints.check(chosen.edge, insecure=chosen.insecure)
    chosen.node_id = chosen.node_id or f"node-{secrets.token_hex(6)}"
    bundle = load_bundle(chosen.bundle)
    session = make_session(bundle, chosen)
    source = open_source(chosen.source, source_options(bundle, chosen.count, chosen.loop))
    console = Console(sys.stderr, getattr(source, "total", None))
    as_json = wants_json(chosen.json)
    progress = Progress(console, as_json=as_json)
    head = open_head(bundle, _choice(chosen, bundle, console, progress))
    # The first run is slow, and an engine that fails should fail before anything is streamed.
    head.run(read_frame(bundle))
    writer = RecordWriter(chosen.records) if chosen.records else None
    for remark in getattr(source, "remarks", ()):
        console.say(remark)
    runtime = NodeRuntime(
        bundle,
        head,
        source,
        session,
        lambda: endpoints.connect(chosen.edge, CONNECT_S, insecure=chosen.insecure),
        pace=Pace(chosen.rate, chosen.queue, chosen.sequential),
        on_record=lambda record: _keep(record, console, writer),
        on_idle=writer.flush if writer else lambda: None,
        say=console.say,
    )
    ready = _ready(chosen, bundle, session, head, source)
    _print(json.dumps(ready) + "\n" if as_json else ready_text(ready, chosen.bundle))
    # From here on the next line is the summary.
    progress.as_json = False
    notify("READY=1")
    stopper.stops(runtime.stop)
    # What is loaded by now stays for good: the collector need not walk it again.
    gc.freeze()
    summary = runtime.run()
    notify("STOPPING=1")
    console.close()
    source.close()
    if summary.clean:
        head.close()
    if writer:
        writer.close()
        summary.unrecorded = summary.frames - writer.written
    code = _end(summary, stopper.caught, as_json=as_json, verbose=chosen.verbose)
    return code, summary.clean


def _keep(record: FrameRecord, console: Console, writer: RecordWriter | None) -> None:
    console.count(record)
    if writer:
        writer.add(record)


def _choice(
    chosen: argparse.Namespace, bundle: Bundle, console: Console, progress: Progress
) -> HeadChoice:
    """What runs the head; options of a board go to a board only, and are remarked on else."""
    options = dict(chosen.backend_option)
    board = board_options(chosen.board, chosen.port, chosen.baud, chosen.board_option)
    if head_name(bundle, chosen.backend) == MCU:
        options = {**board, **options}
    elif board:
        console.say(f"no board is used: the head is run by --backend {chosen.backend}")
    return HeadChoice(
        chosen.backend, chosen.threads, options, chosen.budget_s, console.say, progress
    )


class Progress:
    """How far a head is loaded onto its board: twice a second, after the first half second.

    A program gets JSON lines on standard output, a person a line on the terminal.
    """

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._console = console
        self.as_json = as_json
        self._next_s = 0.0
        self._loading = False

    def __call__(self, done: int, of: int) -> None:
        now_s = time.monotonic()
        if not self._loading:
            self._loading, self._next_s = True, now_s + PROGRESS_S
        if done >= of:
            self._loading = False
            self._console.show("")
        elif now_s >= self._next_s:
            self._next_s = now_s + PROGRESS_S
            self._console.show(f"loading the head onto the board: {done} of {of} bytes")
            if self.as_json:
                _print(json.dumps({"progress": "loading", "done": done, "of": of}) + "\n")


def _end(summary: Summary, caught: Sequence[int], *, as_json: bool, verbose: bool) -> int:
    stopped = [signal.Signals(number).name for number in caught]
    found = {"summary": "waistline-node", **summary.as_json(), "signals": stopped}
    _print(json.dumps(found) + "\n" if as_json else summary_text(found))
    error = summary.error if caught else summary.verdict()
    if error is not None:
        _show(error, verbose=verbose)
        return error.exit_code
    return INTERRUPTED if signal.SIGINT in caught else 0


def make_session(bundle: Bundle, chosen: argparse.Namespace) -> NodeSession:
    """The session of a node that runs ``bundle``."""
    codec, answer_bytes = bundle.waist_codec(), bundle.answer_kind.max_bytes
    return NodeSession(
        node_id=chosen.node_id,
        session_id=random.SystemRandom().getrandbits(32),
        bundle_id=bundle.id,
        max_payload_bytes=codec.max_payload_bytes if codec else answer_bytes,
        max_answer_bytes=answer_bytes,
        queue_limit=chosen.queue,
        max_in_flight=chosen.max_in_flight,
        budget_s=chosen.budget_s,
        software=f"waistline {__version__}",
    )


def source_options(bundle: Bundle, count: int | None = None, loop: bool = False) -> SourceOptions:
    """What a source must yield for ``bundle``."""
    manifest = bundle.manifest
    image = manifest.preprocess is not None
    classes = None
    if manifest.answer.kind == "classify":
        classes = tuple(manifest.answer.options.get("classes", ()))
    return SourceOptions(manifest.golden.frame_tensors, image, count, loop, classes)


def notify(state: str) -> None:
    """Tell systemd (Type=notify); without it there is no NOTIFY_SOCKET and nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)


def _ready(
    chosen: argparse.Namespace, bundle: Bundle, session: NodeSession, head: Head, source: Source
) -> dict[str, Any]:
    return {
        "ready": "waistline-node",
        "bundle": bundle.id,
        "partition_point": bundle.cut.partition_point,
        "edge": chosen.edge,
        "source": chosen.source,
        "frames": getattr(source, "total", None),
        "node_id": chosen.node_id,
        "session": session.session_id,
        "head": head.info(),
        "pid": os.getpid(),
    }


def _pin(cpu: int) -> None:
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"this node cannot run on processor {cpu}",
            cause=f"it may use {sorted(os.sched_getaffinity(0))}",
            fix="give one of those to --pin",
        ) from error


def _print(text: str) -> None:
    sys.stdout.write(shown(text))
    sys.stdout.flush()


def _show(error: WaistlineError, *, verbose: bool) -> None:
    if verbose:
        print(shown("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    print(shown("\n".join(error.lines())), file=sys.stderr)

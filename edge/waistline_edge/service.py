"""The edge as a process: command line, ready line, signals, summary, exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from waistline.arguments import wants_json
from waistline.bundle.store import load_bundle
from waistline.errors import WaistlineError
from waistline.plugins import missing_extra
from waistline.terminal import shown
from waistline_edge.options import Arguments, EdgeOptions, parse
from waistline_edge.server import EdgeServer
from waistline_edge.text import ready_text, summary_text

if TYPE_CHECKING:
    from waistline_edge.metrics import MetricsServer

log = logging.getLogger("waistline_edge")

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an edge until SIGTERM (exit code 0) or SIGINT (130); errors are three lines on stderr."""
    verbose = False
    try:
        chosen = parse(sys.argv[1:] if arguments is None else arguments)
        verbose = chosen.verbose
        _log_to_stderr(verbose)
        code, clean = asyncio.run(_serve(chosen))
    except WaistlineError as error:
        if verbose:
            log.exception("stopped")
        print(shown("\n".join(error.lines())), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    if not clean:
        # A tail hangs in its engine; unloading the engine under it would crash.
        log.error("a tail was still running; leaving without it")
        logging.shutdown()
        os._exit(code)
    return code


async def _serve(chosen: Arguments) -> tuple[int, bool]:
    """Exit code, and whether every worker came to its end."""
    metrics: MetricsServer | None = None
    bundles = [load_bundle(path) for path in chosen.bundles]
    server = EdgeServer(bundles, chosen.options)
    stop = _stop_on_signals()
    if chosen.options.metrics is not None:
        metrics = await _start_metrics(server, chosen.options)
    try:
        await server.start()
        # Slices and modules stay for good: the collector need not walk them again.
        gc.freeze()
        as_json = wants_json(chosen.json)
        ready = _ready(server, [bundle.id for bundle in bundles], metrics)
        _print(json.dumps(ready) + "\n" if as_json else ready_text(ready, chosen.bundles))
        signal_number = await stop
        log.info("stopping: %s", signal.Signals(signal_number).name)
        clean = await server.drain()
    finally:
        if metrics is not None:
            await metrics.close()
    summary = {"summary": "waistline-edge", **server.stats.summary()}
    _print(json.dumps(summary) + "\n" if as_json else summary_text(summary))
    return (INTERRUPTED if signal_number == signal.SIGINT else 0), clean


def _stop_on_signals() -> asyncio.Future[int]:
    """Resolves with the first SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def asked(number: int) -> None:
        if stop.done():
            os._exit(INTERRUPTED if number == signal.SIGINT else 128 + number)
        stop.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    return stop


async def _start_metrics(server: EdgeServer, options: EdgeOptions) -> MetricsServer:
    """Imported here: an edge without ``--metrics`` does not need the package."""
    try:
        from waistline_edge.metrics import MetricsServer
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("prometheus_client"):
            raise
        raise missing_extra(error.name, needed_by="--metrics") from error
    assert options.metrics is not None
    metrics = MetricsServer(server.stats, server.load)
    await metrics.start(*options.metrics)
    return metrics


def _ready(
    server: EdgeServer, bundle_ids: Sequence[str], metrics: MetricsServer | None
) -> dict[str, Any]:
    return {
        "ready": "waistline-edge",
        "endpoint": server.endpoint,
        "bundles": list(bundle_ids),
        "backend": server.options.backend,
        "workers": server.options.workers,
        "metrics": metrics.address if metrics else None,
        "pid": os.getpid(),
    }


def _print(text: str) -> None:
    """On stdout; whoever started us may have stopped reading."""
    with contextlib.suppress(BrokenPipeError):
        print(shown(text), end="", flush=True)


class _Formatter(logging.Formatter):
    """Names and errors in the log may come from files and from nodes."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def _log_to_stderr(verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if verbose else logging.INFO)

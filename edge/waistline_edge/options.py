"""What may be chosen when an edge is started, and the command line for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from waistline.arguments import ArgumentParser, pair, whole
from waistline.backends.base import AUTO
from waistline.errors import ConfigError

DEFAULT_LISTEN = "tcp://127.0.0.1:7571"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """Settings of one edge.

    Attributes:
        listen: endpoint; port 0 takes a free one.
        backend: plug-in that runs the tails.
        backend_options: the backend's own options.
        workers: tails that run at once; each bundle's tail is opened so many times. One thread
            more decodes ahead.
        threads: of the engine, inside one tail.
        queue_limit: requests that may wait before nodes are told BUSY.
        max_in_flight: frames of one node that may be under way.
        max_connections: open at once.
        metrics: (host, port) of the Prometheus listener; None: no metrics.
        insecure: plaintext off loopback is meant.
        handshake_s: how long a fresh connection may take to say HELLO.
        idle_s: how long a node may say nothing before it counts as dead; nodes ping when idle.
        write_s: how long a peer may leave what it was sent unread.
        drain_s: how long queued work may take after SIGTERM; the goodbyes come on top, and both
            together are to take no more than 2 s.
    """

    listen: str = DEFAULT_LISTEN
    backend: str = AUTO
    backend_options: dict[str, str] = field(default_factory=dict)
    workers: int = 1
    threads: int = 1
    queue_limit: int = 64
    max_in_flight: int = 16
    max_connections: int = 256
    metrics: tuple[str, int] | None = None
    insecure: bool = False
    handshake_s: float = 2.0
    idle_s: float = 60.0
    write_s: float = 10.0
    drain_s: float = 1.4

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                flag = name.removesuffix("_limit").replace("_", "-")
                raise ConfigError(
                    f"--{flag} {getattr(self, name)} is too small",
                    cause=f"it must be at least {least}",
                    fix=f"leave --{flag} out to get its default",
                )
        if self.metrics and self.metrics[0] not in LOOPBACK and not self.insecure:
            raise ConfigError(
                f"metrics on {self.metrics[0]} would be readable by other machines",
                cause="they are plaintext HTTP without a password",
                fix=f"use --metrics 127.0.0.1:{self.metrics[1]}, or add --insecure",
            )


_LEAST = {"workers": 1, "threads": 0, "queue_limit": 1, "max_in_flight": 1, "max_connections": 1}


def default_workers() -> int:
    """One per core this process may use, at most four: each holds a copy of every tail."""
    return min(4, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True)
class Arguments:
    """A parsed command line."""

    bundles: tuple[Path, ...]
    options: EdgeOptions
    verbose: bool
    json: bool = False


def parse(arguments: Sequence[str]) -> Arguments:
    """The command line as typed settings; ``--help`` ends the process.

    Raises:
        ConfigError: a value that cannot be used.
    """
    found = _parser().read(arguments)
    options = EdgeOptions(
        listen=found.listen,
        backend=found.backend,
        backend_options=dict(found.backend_option),
        workers=default_workers() if found.workers is None else found.workers,
        threads=found.threads,
        queue_limit=found.queue,
        max_in_flight=found.max_in_flight,
        max_connections=found.max_connections,
        metrics=None if found.metrics is None else parse_address(found.metrics),
        insecure=found.insecure,
    )
    return Arguments(tuple(found.bundles), options, found.verbose, found.json)


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[V6]:PORT``, ``:PORT`` or ``PORT``; without a host it is this machine's.

    Raises:
        ConfigError: none of these.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK[0]
    if not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF:
        raise ConfigError(
            f"{text!r} is not HOST:PORT", cause=f"port {port!r}", fix="for example 127.0.0.1:9571"
        )
    return host, int(port)


def _parser() -> ArgumentParser:
    default = EdgeOptions()
    parser = ArgumentParser(
        "waistline_edge",
        "Run the tails of split models for the nodes that connect. Prints one JSON "
        "line when it listens and one when it has ended, for people on a terminal; the log goes to "
        "stderr.",
    )
    add = parser.add_argument
    add("bundles", metavar="BUNDLE", nargs="+", type=Path, help="folders made by waistline split")
    add("--listen", metavar="ENDPOINT", default=default.listen, help="default %(default)s")
    add("--backend", metavar="NAME", default=default.backend, help="default %(default)s")
    add("--backend-option", metavar="KEY=VALUE", type=pair, action="append", default=[],
        help="repeatable")  # fmt: skip
    add("--workers", metavar="N", type=whole, help="tails at once (default: cores, at most 4)")
    add(
        "--threads", metavar="N", type=whole, default=default.threads,
        help="engine threads in one tail, 0: engine's choice (default %(default)s)",
    )  # fmt: skip
    add(
        "--queue", metavar="N", type=whole, default=default.queue_limit,
        help="requests that may wait before nodes are told BUSY (default %(default)s)",
    )  # fmt: skip
    add(
        "--max-in-flight", metavar="N", type=whole, default=default.max_in_flight,
        help="frames of one node under way (default %(default)s)",
    )  # fmt: skip
    add("--max-connections", metavar="N", type=whole, default=default.max_connections,
        help="default %(default)s")  # fmt: skip
    add("--metrics", metavar="HOST:PORT", help="serve Prometheus metrics (extra: edge)")
    add("--insecure", action="store_true", help="allow plaintext off loopback")
    add("-v", "--verbose", action="store_true", help="log every connection; show tracebacks")
    return parser

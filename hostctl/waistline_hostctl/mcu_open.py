"""A microcontroller for one command: chosen by the common options, opened, greeted, closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypedDict

from waistline.bench import FLAG, ResolvedBench, with_board
from waistline.blob import FORMAT
from waistline.bundle.schema import Stage
from waistline.bundle.store import Bundle
from waistline.errors import BundleError, ConfigError, LinkClosed, LinkTimeout
from waistline.evidence import Evidence, observed
from waistline_bridge.boards._programs import behind
from waistline_bridge.boards.base import SOCKET, Board, Line
from waistline_bridge.client import DEADLINE_S, Client
from waistline_bridge.messages import Feature

GREET_S = 5.0
"""For the first answer on a port: a board that runs our firmware has long given it."""


class BoardArguments(TypedDict):
    """Which board, as every function of the Python API takes it."""

    board: str | None
    port: str | None
    baud: int | None
    board_options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BoardChoice:
    """What the options say.

    Attributes:
        board: to start; "" where none was named.
        port: of a board that runs already; "" where none was named.
        baud: of the port; None: as the bench file says.
        options: of the board's module.
    """

    board: str = ""
    port: str = ""
    baud: int | None = None
    options: dict[str, str] = field(default_factory=dict)

    def named(self) -> BoardArguments:
        """As the Python API takes it."""
        return BoardArguments(
            board=self.board or None,
            port=self.port or None,
            baud=self.baud,
            board_options=self.options,
        )

    @property
    def is_open(self) -> bool:
        """Whether nothing was chosen."""
        return not self.board and not self.port


@dataclass(slots=True)
class Device:
    """A board that answers, and what passes on its line.

    Attributes:
        client: the conversation with it.
        line: counts bytes.
        started: it is a program that this command started, and ends.
    """

    board: Board
    client: Client
    line: CountedLine
    started: bool

    @property
    def name(self) -> str:
        """As the firmware says it."""
        return self.client.info.board

    @property
    def emulated(self) -> bool:
        """By its own word: what is on a port may be an emulator."""
        return self.board.emulated or Feature.EMULATED in self.client.info.features

    def grade(self, unit: str) -> Evidence:
        """Of a figure that was counted or clocked on it, or on its line."""
        return observed(unit, emulated=self.emulated)


def mcu_head(bundle: Bundle) -> Stage:
    """The head of a bundle that was split for a microcontroller.

    Raises:
        BundleError: no board can run it.
    """
    stage = bundle.head
    if stage is not None and stage.format == FORMAT:
        return stage
    raise BundleError(
        f"{bundle.path} has no head for a microcontroller",
        cause=f"its head is {stage.format}" if stage else "it has no head: all runs on the edge",
        fix="waistline split MODEL --backend mcu --cut X -o NAME.bundle",
    )


def place(board: str, line: str, *, emulated: bool) -> str:
    """For people: which device, and where."""
    where = line.removeprefix(f"{board} at ")
    return f"{board}{' (emulated)' if emulated else ''} at {where}"


class CountedLine:
    """A `Line` that knows how many bytes passed each way, frames and all."""

    def __init__(self, line: Line) -> None:
        self.name = line.name
        self.sent_bytes = 0
        self.received_bytes = 0
        self._line = line

    def send(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        self._line.send(data)

    def receive(self, timeout_s: float) -> bytes:
        data = self._line.receive(timeout_s)
        self.received_bytes += len(data)
        return data

    def close(self) -> None:
        self._line.close()


def parse_options(
    pairs: tuple[str, ...], flag: str = "--board-option", example: str = "icount=on"
) -> dict[str, str]:
    """``("icount=on",)`` as a dict.

    Raises:
        ConfigError: a word without "=", or a key twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in found:
            raise ConfigError(
                f"{flag} {pair} cannot be used",
                cause=f"{key!r} stands twice" if key in found else "it is not KEY=VALUE",
                fix=f"give it as in {flag} {example}",
            )
        found[key] = value
    return found


def merged(bench: ResolvedBench, wanted: BoardChoice) -> BoardChoice:
    """What was asked for, else the environment and the bench file; may name neither board nor port.

    Raises:
        ConfigError: a board and a port, or a rate without a port.
    """
    node = with_board(
        bench, FLAG, board=wanted.board or None, port=wanted.port or None, baud=wanted.baud
    ).bench.node
    if node.board and node.port:
        raise ConfigError(
            "two boards are chosen",
            cause=f"the bench file or the environment says board {node.board} and port {node.port}",
            fix="give --board or --port",
        )
    if wanted.baud is not None and not node.port:
        raise ConfigError(
            "--baud goes with --port",
            cause="an emulated board has no rate",
            fix="leave it out, or add --port",
        )
    return BoardChoice(node.board, node.port, node.baud, wanted.options)


@contextmanager
def opened(
    bench: ResolvedBench, wanted: BoardChoice, say: Callable[[str], None]
) -> Iterator[Device]:
    """Start or attach to the board that was chosen, and greet it; ``say`` is told what is odd.

    Raises:
        ConfigError: what was chosen is not there, or two could be meant.
        MissingExtra: a program or package it needs is not installed.
        LinkError: nobody answers, or not with this protocol.
    """
    from waistline_node.heads.mcu import board_opener

    choice = merged(bench, wanted)
    named = {"board": choice.board, "port": choice.port, **choice.options}
    if choice.port:
        named["baud"] = str(choice.baud)
    with board_opener(named, say)() as board:
        line = CountedLine(board.line)
        try:
            client = _greeted(line, choice)
        except LinkClosed as error:
            raise behind(board.process, error) from error
        yield Device(board, client, line, started=not choice.port)


def _greeted(line: CountedLine, choice: BoardChoice) -> Client:
    try:
        client = Client(line, deadline_s=GREET_S if choice.port else DEADLINE_S)
    except LinkTimeout as error:
        if not choice.port or choice.port.startswith(SOCKET):
            raise
        raise LinkTimeout(
            error.what,
            cause=f"{error.cause}, at {choice.baud} baud",
            fix="check power, cable and --baud, and that its firmware is Waistline's "
            "(waistline mcu build)",
        ) from error
    client.deadline_s = DEADLINE_S
    return client

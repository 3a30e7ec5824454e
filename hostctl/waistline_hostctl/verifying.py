"""What ``waistline verify`` runs and what it says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waistline.backends.base import AUTO
from waistline.bench import DEFAULT, FLAG, ResolvedBench, resolve, with_backends, with_board
from waistline.blob import FORMAT
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.verification.ends import EndChoice, Ends
from waistline.verify import VerifyReport, verify_ends
from waistline_hostctl.console import Console, Progress, nobody
from waistline_hostctl.far import FarEnds
from waistline_hostctl.mcu_open import BoardChoice, mcu_head
from waistline_hostctl.results import VerifyResult
from waistline_node.ends import open_ends
from waistline_node.heads.base import MCU, board_options
from waistline_node.service import source_options
from waistline_node.sources.base import open_source

TIMEOUT_S = 60.0
MAX_TIMEOUT_S = 86400.0
DEFAULT_FRAMES = 100
_HEAD, _TAIL, _BOTH = "head", "tail", "both"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the flags and the bench file ask for.

    Attributes:
        head, tail: what runs each end.
        via: command that leads to the device; "" for this machine.
        path: of the bundle on the device; "" sends it.
        on_device: ``head``, ``tail`` or ``both``.
        timeout_s: longest silence of the device.
        source, frames: further frames; "" for none.
        board: options of the head `MCU` that name a board; {} where none was chosen.
        on_board: a board was named, so that a head made for one is to run there.
    """

    head: EndChoice
    tail: EndChoice
    via: str
    path: str
    on_device: str
    timeout_s: float
    source: str
    frames: int
    board: dict[str, str] = field(default_factory=dict)
    on_board: bool = False

    @classmethod
    def from_flags(cls, bench: ResolvedBench, board: BoardChoice, **flags: Any) -> Wanted:
        """The settings in force.

        Raises:
            ConfigError: flags that need another one.
        """
        for name, needs in (("via_bundle", "via"), ("ends", "via"), ("frames", "source")):
            if flags[name] is not None and flags[needs] is None:
                raise ConfigError(
                    f"--{name.replace('_', '-')} says nothing without --{needs}",
                    fix=f"add --{needs}, or leave it out",
                )
        if flags["via"] is not None and not flags["via"].strip():
            raise ConfigError("--via names no command", fix="--via 'ssh -T pi python3 -m ..'")
        if not flags["timeout_s"] <= MAX_TIMEOUT_S:
            raise ConfigError(
                f"--timeout-s is {flags['timeout_s']:g}",
                fix=f"give seconds, {MAX_TIMEOUT_S:.0f} at most",
            )
        head, tail = _choices(bench, flags)
        node = with_board(
            bench,
            FLAG,
            board=board.board or None,
            port=board.port or None,
            baud=board.baud,
        ).bench.node
        return cls(
            head=head,
            tail=tail,
            via=flags["via"] or "",
            path=flags["via_bundle"] or "",
            on_device=flags["ends"] or _HEAD,
            timeout_s=flags["timeout_s"],
            source=flags["source"] or "",
            frames=flags["frames"] or DEFAULT_FRAMES,
            board=board_options(node.board, node.port, node.baud, board.options.items()),
            on_board=bool(node.board or node.port),
        )

    def end_of_head(self, bundle: Bundle) -> EndChoice:
        """What runs the head: a board where one was chosen and the head is made for one."""
        for_board = bundle.head is not None and bundle.head.format == FORMAT
        if self.head.backend == MCU or (self.head.backend == AUTO and for_board and self.on_board):
            return EndChoice(MCU, self.head.threads, {**self.board, **self.head.options})
        return self.head


def _choices(given: ResolvedBench, flags: dict[str, Any]) -> tuple[EndChoice, EndChoice]:
    """``--backend`` and the options mean the device's ends; an end that stays here is its own."""
    resolved = with_backends(
        given, FLAG, node=flags["head_backend"] or flags["backend"], edge=flags["tail_backend"]
    )
    bench, origins = resolved.bench, resolved.origins
    both = flags["via"] is None or flags["ends"] == _BOTH
    head_name, tail_name = bench.node.backend, bench.edge.backend
    if flags["backend"] and not flags["tail_backend"] and (both or flags["ends"] == _TAIL):
        tail_name = flags["backend"]
    if tail_name == MCU:  # a board runs heads only
        tail_name = AUTO
    if flags["ends"] == _TAIL and not flags["head_backend"]:
        head_name = AUTO
    options = dict(flags["backend_options"] or {})
    threads = [
        flags["threads"] if flags["threads"] is not None
        else None if origins[key] == DEFAULT else value
        for key, value in (("node.threads", bench.node.threads),
                           ("edge.threads", bench.edge.threads))
    ]  # fmt: skip
    of_tail = flags["ends"] == _TAIL or (both and tail_name == head_name)
    return (
        EndChoice(head_name, threads[0], {} if flags["ends"] == _TAIL else options),
        EndChoice(tail_name, threads[1], options if of_tail else {}),
    )


def verify_device(
    bundle: str | Path,
    *,
    backend: str | None = None,
    head_backend: str | None = None,
    tail_backend: str | None = None,
    backend_options: Mapping[str, str] | None = None,
    threads: int | None = None,
    via: str | None = None,
    via_bundle: str | None = None,
    ends: str | None = None,
    timeout_s: float = TIMEOUT_S,
    source: str | None = None,
    frames: int | None = None,
    board: str | None = None,
    port: str | None = None,
    baud: int | None = None,
    board_options: Mapping[str, str] | None = None,
    bench: ResolvedBench | None = None,
    console: Console | None = None,
) -> VerifyResult:
    """Check that a device reproduces a bundle's golden codes and answer.

    Args:
        bundle: its folder.
        backend: engine of both ends, or of those on the device; None: as the bench says.
        head_backend: engine of the head, where they differ; ``mcu`` for a microcontroller.
        tail_backend: engine of the tail, where they differ.
        backend_options: of the engine; of the head's where they differ.
        threads: inside one run; 0: the engine decides; None: as the bench says.
        via: command whose input and output lead to the device; None: it is this machine.
        via_bundle: where the bundle lies on the device already; None: it is sent.
        ends: what runs on the device: ``head``, ``tail`` or ``both``; None: the head.
        timeout_s: longest silence of the device.
        source: of more frames, compared with the own engine's.
        frames: of the source, at most; None: 100.
        board: emulated microcontroller that runs the head.
        port: serial port of a microcontroller that does, a path or an id.
        baud: of the port.
        board_options: of the board.
        bench: settings; None: the defaults and the environment.
        console: is told progress; None: nobody is.

    Returns:
        ``ok``, and the report that says why not.

    Raises:
        ConfigError: arguments that need another one.
        BundleError: a board was named, and the head is not made for one.
        WaistlineError: the bundle, an engine, the device, or the way to it.
    """
    if board or port:
        # One that was asked for by name and takes no part would be taken for verified.
        mcu_head(load_bundle(bundle))
    wanted = Wanted.from_flags(
        bench or resolve(environment=os.environ),
        BoardChoice(board or "", port or "", baud, dict(board_options or {})),
        backend=backend,
        head_backend=head_backend,
        tail_backend=tail_backend,
        backend_options=backend_options,
        threads=threads,
        via=via,
        via_bundle=via_bundle,
        ends=ends,
        timeout_s=timeout_s,
        source=source,
        frames=frames,
    )
    with ExitStack() as stack:
        report = _run(Path(bundle), wanted, console or nobody(), stack)
    return VerifyResult(bundle=str(bundle), ok=report.ok, report=report)


def _run(path: Path, wanted: Wanted, console: Console, stack: ExitStack) -> VerifyReport:
    """Verify the bundle at ``path``; what is opened closes with ``stack``.

    Raises:
        WaistlineError: the bundle, an engine, the device, or the way to it.
    """
    bundle = load_bundle(path)
    notes: list[str] = []
    head: Ends
    tail: Ends
    chosen = wanted.end_of_head(bundle)
    if not wanted.via:
        head = tail = _open_here(bundle, chosen, wanted.tail, console, stack)
    else:
        at_head, at_tail = wanted.on_device in (_HEAD, _BOTH), wanted.on_device in (_TAIL, _BOTH)
        far = stack.enter_context(
            FarEnds(
                bundle,
                wanted.via,
                head=chosen if at_head else None,
                tail=wanted.tail if at_tail else None,
                path=wanted.path,
                timeout_s=wanted.timeout_s,
            )
        )
        if far.noise:
            notes.append(f"before it began, the way there said: {far.noise[:200]!r}")
        head = tail = far
        if wanted.on_device != _BOTH:
            here_head, here_tail = (None, wanted.tail) if at_head else (chosen, None)
            here = _open_here(bundle, here_head, here_tail, console, stack)
            head, tail = (far, here) if at_head else (here, far)
    frames: Iterator[SensorFrame] = iter(())
    if wanted.source:
        progress = stack.enter_context(console.progress("frames", wanted.frames))
        frames = _frames(bundle, wanted, progress, stack)
    return verify_ends(bundle, head, tail, frames=frames, notes=notes)


def _open_here(
    bundle: Bundle,
    head: EndChoice | None,
    tail: EndChoice | None,
    console: Console,
    stack: ExitStack,
) -> Ends:
    with console.progress("loading the head onto the board: bytes") as progress:
        ends = open_ends(
            bundle,
            head=head,
            tail=tail,
            say=console.note,
            progress=lambda done, of: progress.update(done),
        )
    stack.callback(ends.close)
    return ends


def _frames(
    bundle: Bundle, wanted: Wanted, progress: Progress, stack: ExitStack
) -> Iterator[SensorFrame]:
    source = open_source(wanted.source, source_options(bundle, wanted.frames))
    stack.callback(source.close)
    done = 0
    while (frame := source.read()) is not None:
        yield frame
        done += 1
        progress.update(done)

"""What ``waistline verify`` runs and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waistline.backends.base import AUTO
from waistline.bench import DEFAULT, FLAG, with_board
from waistline.blob import FORMAT
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.verification.ends import EndChoice, Ends, Place
from waistline.verify import VerifyReport, verify_ends
from waistline_hostctl.console import Console, Progress, grid, indented
from waistline_hostctl.far import FarEnds
from waistline_hostctl.mcu_open import BoardChoice
from waistline_hostctl.options import App
from waistline_node.ends import open_ends
from waistline_node.heads.base import MCU, board_options
from waistline_node.service import source_options
from waistline_node.sources.base import open_source

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
    def from_flags(cls, app: App, board: BoardChoice, **flags: Any) -> Wanted:
        """The settings in force.

        Raises:
            ConfigError: flags that need another one, or an option that is not KEY=VALUE.
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
        head, tail = _choices(app, flags)
        node = with_board(
            app.bench(),
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


def _choices(app: App, flags: dict[str, Any]) -> tuple[EndChoice, EndChoice]:
    """``--backend`` and the options mean the device's ends; an end that stays here is its own."""
    resolved = app.bench(
        node_backend=flags["head_backend"] or flags["backend"],
        edge_backend=flags["tail_backend"],
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
    options = dict(_pair(text) for text in flags["options"])
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


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(
            f"--backend-option {text!r} is not KEY=VALUE", fix="--backend-option precision=f32"
        )
    return key, value


def run(path: Path, wanted: Wanted, console: Console, stack: ExitStack) -> VerifyReport:
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


def text(path: Path, report: VerifyReport, *, via: bool) -> str:
    """The report for people: where, a table, the verdict, its reasons."""
    rows = [
        (check.name, check.verdict, str(check.different), str(check.codes), str(check.largest_step))
        for check in report.tensors
    ]
    answer = "identical" if report.answer_identical else f"agrees {report.answer_agrees:.3f}"
    rows.append(("answer", answer, "", "", ""))
    lines = []
    if report.head_at.head_backend or not report.tail_at.tail_backend:
        lines.append(_where("head", report.head_at, report.head_at.head_engine, via))
    if report.tail_at.tail_backend:
        lines.append(_where("tail", report.tail_at, report.tail_at.tail_engine, via))
    lines += ["", grid(("", "verdict", "different", "codes", "largest step"), rows, indent=0)]
    if report.frames:
        found = report.frames
        lines += ["", indented(
            f"{found.frames}, against {found.reference} here: {found.different} of {found.codes} "
            f"codes differ ({found.share:.3%}), by at most {found.largest_step}; "
            f"answers agree {found.agrees:.3f}", "frames")]  # fmt: skip
    lines += ["", f"{'ok' if report.ok else 'FAILED'}  {path}  id {report.bundle_id[:12]}"]
    lines += [indented(reason, "", 4) for reason in report.reasons]
    lines += [
        indented(f"{check.name}: {check.cause}", "", 4)
        for check in report.tensors
        if check.cause and not check.failed
    ]
    lines += [indented(f"note: {note}", "", 4) for note in report.notes]
    return "\n".join(lines)


def _where(role: str, place: Place, engine: dict[str, str], via: bool) -> str:
    named = " ".join(engine.get(key, "") for key in ("engine", "version")).strip() or "no slice"
    details = ", ".join(
        f"{key} {engine[key]}" for key in ("device", "precision", "threads") if key in engine
    )
    parts = [part for part in (named, details) if part]
    if engine.get("emulated") == "yes":
        parts.append("emulated")
    if role == "head":
        parts.append(f"codec {place.codec}")
    if via:
        machine = place.machine
        parts.append(
            f"on {machine.processor}, {machine.architecture}, {machine.python}, "
            f"numpy {place.numpy}, waistline {place.waistline}"
            if place.name != "here" else "here"
        )  # fmt: skip
    return indented("; ".join(parts), role, 6)

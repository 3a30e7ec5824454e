"""What ``waistline mcu info``, ``load`` and ``bench`` do: a board is opened, asked, and closed.

Of the Python API (`waistline_hostctl.api`); each function gives what its command prints with
``--json``. A board is chosen by ``board`` (emulated, started for the call and ended with it) or
``port`` (a path or an id of one that runs already), else as the bench says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from waistline.bench import ResolvedBench, resolve
from waistline.errors import ConfigError
from waistline_bridge.boards import DEFAULT
from waistline_hostctl import mcu_bench, mcu_info, mcu_survey
from waistline_hostctl import mcu_load as loading
from waistline_hostctl.console import Console, nobody
from waistline_hostctl.mcu_mark import marking, set_mark
from waistline_hostctl.mcu_open import BoardChoice, Device, merged, opened
from waistline_hostctl.mcu_results import McuBenchResult, McuInfoResult, McuLoadResult


def ask_mcu(
    *,
    board: str | None = None,
    port: str | None = None,
    baud: int | None = None,
    board_options: Mapping[str, str] | None = None,
    bench: ResolvedBench | None = None,
    console: Console | None = None,
) -> McuInfoResult:
    """What a microcontroller is and holds; without one, those there are to choose from.

    Args:
        board: emulated microcontroller to start.
        port: serial port of one that runs, a path or an id.
        baud: of the port.
        board_options: of the board, such as ``{"flash": "slots.bin"}``.
        bench: settings; None: the defaults and the environment.
        console: is told what is odd about the firmware; None: nobody is.

    Raises:
        ConfigError: board and port, one that is not there, or several that could be meant.
        MissingExtra: a program or package it needs is not installed.
        LinkError, WireError: nobody answers, or not with this protocol.
    """
    bench, console = bench or resolve(environment=os.environ), console or nobody()
    wanted = _wanted(board, port, baud, board_options)
    if merged(bench, wanted).is_open:
        return McuInfoResult(choices=(*mcu_survey.emulated(), *mcu_survey.ports()))
    with opened(bench, wanted, console.note) as device:
        return McuInfoResult(device=mcu_info.ask(device))


def load_mcu(
    head: str | Path,
    *,
    force: bool = False,
    board: str | None = None,
    port: str | None = None,
    baud: int | None = None,
    board_options: Mapping[str, str] | None = None,
    bench: ResolvedBench | None = None,
    console: Console | None = None,
) -> McuLoadResult:
    """Put a head on a microcontroller, if it is not there, and check its golden inputs there.

    Args:
        head: a bundle split for a microcontroller, or a blob's file.
        force: send it even if it is there.
        board: emulated microcontroller to start.
        port: serial port of one that runs, a path or an id.
        baud: of the port.
        board_options: of the board, such as ``{"flash": "slots.bin"}``.
        bench: settings; None: the defaults and the environment.
        console: is told progress; None: nobody is.

    Raises:
        ConfigError, BundleError: the head cannot be read, or the board cannot be chosen.
        ModelError, VersionMismatch: it does not fit, or was made for another firmware.
        VerificationFailed: a golden input gives another output there.
        MissingExtra, LinkError, WireError, BridgeError: the board; the old head stays in force.
    """
    bench, console = bench or resolve(environment=os.environ), console or nobody()
    found = loading.read_head(Path(head))
    with opened(bench, _wanted(board, port, baud, board_options), console.note) as device:
        return _loaded(device, found, console, force=force)


def bench_mcu(
    head: str | Path,
    *,
    icount: bool = False,
    repeat: int = 3,
    frames: int = 3,
    mark: str | None = None,
    settle_s: float | None = None,
    board: str | None = None,
    port: str | None = None,
    baud: int | None = None,
    board_options: Mapping[str, str] | None = None,
    bench: ResolvedBench | None = None,
    console: Console | None = None,
) -> McuBenchResult:
    """Load a head, and measure its layers and whole frames.

    Args:
        head: a bundle split for a microcontroller, or a blob's file.
        icount: count instructions; an emulated board of QEMU does.
        repeat: runs for the ticks of layers, at least 1.
        frames: frames with upload, for times on the line, at least 1.
        mark: what the marker pin does from now on: ``off``, ``head``, ``layers`` or ``pulses``;
            None: as it was.
        settle_s: it waits at each edge, whole microseconds; ticks leave that out.
        board: emulated microcontroller to start.
        port: serial port of one that runs, a path or an id.
        baud: of the port.
        board_options: of the board, such as ``{"flash": "slots.bin"}``.
        bench: settings; None: the defaults and the environment.
        console: is told progress; None: nobody is.

    Returns:
        Layers with ticks and, where those are worth something, instructions or seconds; figures
        of one frame in bytes and seconds.

    Raises:
        MeterError: counts of instructions that must repeat do not.
        WaistlineError: as `load_mcu`.
    """
    for name, count in (("repeat", repeat), ("frames", frames)):
        if count < 1:
            raise ConfigError(f"{name} is {count}", fix=f"give {name} as 1 or more")
    marks = marking(mark, settle_s)
    bench, console = bench or resolve(environment=os.environ), console or nobody()
    found = loading.read_head(Path(head))
    wanted = _wanted(board, port, baud, board_options)
    choice = merged(bench, wanted)
    mcu_bench.check_icount(icount, choice.port, choice.board or DEFAULT)
    if icount:
        wanted = replace(wanted, options={**wanted.options, "icount": "on"})
    with opened(bench, wanted, console.note) as device:
        _loaded(device, found, console, force=False)
        if marks:
            set_mark(device, marks, console.note)
        with console.progress("running", repeat + frames) as progress:
            made = mcu_bench.measure(
                device,
                found,
                icount=wanted.options.get("icount") == "on",
                repeat=repeat,
                frames=frames,
                progress=progress.update,
            )
    if marks is None:
        return made
    return msgspec.structs.replace(made, mark=marks.name, settle_us=marks.settle_us)


def _wanted(
    board: str | None, port: str | None, baud: int | None, options: Mapping[str, str] | None
) -> BoardChoice:
    return BoardChoice(board or "", port or "", baud, dict(options or {}))


def _loaded(
    device: Device, head: loading.HeadFile, console: Console, *, force: bool
) -> McuLoadResult:
    with console.progress("loading, bytes", len(head.blob.data)) as progress:
        return loading.load(device, head, lambda done, _: progress.update(done), force=force)

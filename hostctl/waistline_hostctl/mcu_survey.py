"""Which boards can be emulated here and which are plugged in; starts and opens nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waistline import plugins
from waistline.errors import WaistlineError
from waistline.plugins import pip_install
from waistline_bridge import boards, places
from waistline_bridge.boards.base import permission_fix
from waistline_hostctl import mcu_build
from waistline_hostctl.results import Device, Finding

BOARDS = "boards"
QEMU = "qemu-system-arm"
APT_QEMU = "sudo apt install qemu-system-arm"
UNTRIED = "untried on hardware"
DEV = Path("/dev")
_PYSERIAL = pip_install("'waistline[mcu]'")


@dataclass(frozen=True, slots=True)
class Built:
    """Firmware of a board: the file, whether it is there, and whether sources are newer."""

    file: Path
    there: bool
    stale: bool


def emulated_boards() -> list[str]:
    """Boards that are programs of this machine."""
    return [name for name in boards.names() if name != boards.SERIAL]


def built(board: str) -> Built:
    """What there is of a board's firmware, where boards look for it."""
    file = places.build_folder() / places.built_name(board)
    try:
        made = file.stat().st_mtime
    except OSError:
        return Built(file, there=False, stale=False)
    return Built(file, there=True, stale=_newest(board) > made)


def _newest(board: str) -> float:
    """When the last source of a board was written; 0 where there are none."""
    try:
        sources = places.sources()
    except WaistlineError:
        return 0.0
    folders = (
        sources / "src", sources / "cortexm", sources / "boards" / board,
        sources.parents[1] / "core" / "c",
    )  # fmt: skip
    files = [path for folder in folders for path in folder.glob("*.[chl]*")]
    return max((path.stat().st_mtime for path in files), default=0.0)


def emulated() -> Iterator[Device]:
    """Boards to start with ``--board``; what is in the way of one stands in its state."""
    qemu = shutil.which(QEMU) is not None
    for board in emulated_boards():
        firmware = built(board)
        build = f"waistline mcu build --board {board}"
        state, detail, fix = "usable", str(firmware.file), ""
        if board != mcu_build.HOST and not qemu:
            state, detail, fix = "missing program", f"no {QEMU}: {APT_QEMU}", APT_QEMU
        elif not firmware.there:
            state, detail, fix = "not built", build, build
        elif firmware.stale:
            detail, fix = f"older than its sources: {build}", build
        yield Device(
            id=f"--board {board}", name=board, kind="board", state=state, tried="yes",
            detail=detail, fix=fix,
        )  # fmt: skip


def ports(dev: Path = DEV) -> tuple[Device, ...]:
    """USB serial ports to attach to with ``--port``, by names that last where they have any.

    Args:
        dev: the folder of devices. Names in its serial/by-id survive replugging.
    """
    lasting = _by_id(dev / "serial" / "by-id")
    found = [_port(str(path), target, path.name) for path, target in lasting]
    known = {target for _, target in lasting}
    listed = [port for port in _usb_ports() if Path(port.path) not in known]
    ids = [port.id for port in listed]
    for port in listed:
        # Two of one id are told apart by where they are plugged in.
        name = port.id if ids.count(port.id) == 1 else port.path
        found.append(_port(name, Path(port.path), port.text))
    return tuple(found)


def _by_id(folder: Path) -> list[tuple[Path, Path]]:
    try:
        return [(path, path.resolve()) for path in sorted(folder.iterdir())]
    except OSError:
        return []


def _usb_ports() -> list[Any]:
    """As pyserial lists them; [] where it is not installed."""
    try:
        return list(plugins.load(boards.__name__, boards.SERIAL).ports())
    except ImportError:
        return []


def no_port() -> str:
    """Why `ports` finds none."""
    try:
        plugins.load(boards.__name__, boards.SERIAL)
    except ImportError:
        return f"no serial port can be seen without pyserial: {_PYSERIAL}"
    return "no serial port: no USB adapter or board is plugged in"


def _port(name: str, path: Path, text: str) -> Device:
    problem = no_permission(path)
    return Device(
        id=f"--port {name}",
        name=text or name,
        kind="serial",
        state="no permission" if problem else "present",
        tried=UNTRIED,
        detail=f"now {path}",
        fix=problem,
    )


def no_permission(path: Path) -> str:
    """What lets this user open a port; "" where it may already."""
    if os.access(path, os.R_OK | os.W_OK) or not path.exists():
        return ""
    return permission_fix(path)


def findings() -> Iterator[Finding]:
    """For ``waistline doctor``: emulator, toolchain, firmware, serial ports."""
    yield _qemu()
    yield _toolchain()
    yield _firmware()
    yield from _serial()


def _qemu() -> Finding:
    program = shutil.which(QEMU)
    if program is None:
        return Finding(
            "qemu", "info", f"there is no {QEMU} on PATH: no board can be emulated, but 'host'",
            APT_QEMU, BOARDS, "missing program",
        )  # fmt: skip
    return Finding("qemu", "ok", program, "", BOARDS, "ok")


def _toolchain() -> Finding:
    problem, fix = mcu_build.toolchain_problem()
    if problem:
        found = f"{problem}: the firmware cannot be built"
        return Finding("arm compiler", "info", found, fix, BOARDS, "missing program")
    return Finding("arm compiler", "ok", mcu_build.compiler(), "", BOARDS, "ok")


def _firmware() -> Finding:
    try:
        places.sources()
    except WaistlineError as error:
        return Finding("firmware", "info", error.what, error.fix, BOARDS, "not built")
    names = emulated_boards()
    found = {name: built(name) for name in names}
    folder = places.build_folder()
    missing = [name for name in names if not found[name].there]
    stale = [name for name in names if found[name].stale]
    if len(missing) == len(names):
        text = f"not built: nothing in {folder}"
        return Finding("firmware", "info", text, "waistline mcu build", BOARDS, "not built")
    text = f"{len(names) - len(missing)} of {len(names)} emulated boards in {folder}"
    if stale:
        which = "all" if len(stale) == len(names) else ", ".join(stale)
        text += f"; older than their sources: {which}"
    elif missing:
        text += f"; not built: {', '.join(missing)}"
    state = "stale" if stale else ("not built" if missing else "ok")
    fix = "waistline mcu build" if state != "ok" else ""
    level = {"stale": "warn", "not built": "info", "ok": "ok"}[state]
    return Finding("firmware", level, text, fix, BOARDS, state)


def _serial() -> Iterator[Finding]:
    try:
        plugins.load(boards.__name__, boards.SERIAL)
    except ImportError:
        yield Finding(
            "serial ports", "info", "pyserial is not installed: boards cannot be attached",
            _PYSERIAL, BOARDS, "missing extra",
        )  # fmt: skip
        return
    found = ports()
    closed = [port for port in found if port.fix]
    if closed:
        names = ", ".join(port.detail.removeprefix("now ") for port in closed)
        text = f"{names}: this user may not open them"
        yield Finding("serial ports", "warn", text, closed[0].fix, BOARDS, "no permission")
    elif found:
        text = ", ".join(port.detail.removeprefix("now ") for port in found)
        yield Finding("serial ports", "ok", text, "", BOARDS, "ok")
    else:
        yield Finding(
            "serial ports",
            "info",
            "no USB adapter or board is plugged in",
            "",
            BOARDS,
            "missing device",
        )

"""Building the firmware: what that needs, and how much of each board it takes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from waistline.errors import ConfigError, MissingExtra
from waistline_bridge import fit, places
from waistline_bridge.boards._programs import guarded
from waistline_hostctl.console import grid
from waistline_hostctl.mcu_results import BuiltBoard, McuBuildResult

HOST = "host"
GCC, SIZE, NANO = "arm-none-eabi-gcc", "arm-none-eabi-size", "nano.specs"
_ODD = re.compile(r"[^\w./+@,-]")
_TELLING = re.compile(r"error(?!: ld returned)|No space left", re.IGNORECASE)
APT_ARM = "sudo apt install make gcc-arm-none-eabi libnewlib-arm-none-eabi"
APT_HOST = "sudo apt install make gcc libc6-dev"


def board_names(sources: Path) -> list[str]:
    """Boards that there is firmware for, sorted."""
    return sorted(path.parent.name for path in sources.glob("boards/*/board.c"))


def toolchain_problem(*, arm: bool = True, host: bool = False) -> tuple[str, str]:
    """What is missing to build, and the command that brings it; ("", "") if nothing is."""
    fix = APT_ARM if arm else APT_HOST
    programs = ["make"] + ([GCC, SIZE] if arm else []) + ([_host_compiler()] if host else [])
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        return f"there is no {', no '.join(missing)} on PATH", fix
    if arm and _said(GCC, f"-print-file-name={NANO}") in {"", NANO}:
        return f"{GCC} has no C library ({NANO})", fix
    return "", ""


def _host_compiler() -> str:
    return (os.environ.get("HOSTCC", "").split() or ["cc"])[0]


def compiler() -> str:
    """The Arm compiler, for people; "" where there is none."""
    lines = _said(GCC, "--version").splitlines() if shutil.which(GCC) else []
    return lines[0] if lines else ""


def build(
    names: Sequence[str],
    *,
    baud: int | None = None,
    out: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> McuBuildResult:
    """Compile the firmware of some boards, or of all.

    Args:
        names: of boards; none: all of them.
        baud: of boards with a real UART; None: as their code says.
        out: folder; None: where boards look for it.
        progress: called with the number of boards that are done.

    Raises:
        ConfigError: no such board, no sources, a folder that cannot be written, or it does not
            compile.
        MissingExtra: a compiler or make is not installed.
    """
    sources = places.sources()
    chosen = _chosen(names, board_names(sources))
    _require_tools(chosen)
    folder = _writable((out or places.build_folder()).absolute())
    _check_paths(sources, folder)
    made = []
    with _alone(folder):
        for number, board in enumerate(chosen):
            progress(number)
            _make(sources, folder, board, baud)
            made.append(_measured(folder, board))
    progress(len(chosen))
    return McuBuildResult(
        sources=str(sources),
        folder=str(folder),
        compiler=compiler(),
        baud=baud,
        boards=tuple(made),
    )


def _chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"there is no firmware for a board {unknown[0]!r}",
            cause=f"known: {', '.join(known)}",
            fix="use one of these",
        )
    return list(dict.fromkeys(names)) or list(known)


def _require_tools(chosen: Sequence[str]) -> None:
    arm = any(board != HOST for board in chosen)
    problem, fix = toolchain_problem(arm=arm, host=HOST in chosen)
    if problem:
        raise MissingExtra("the firmware cannot be built here", cause=problem, fix=fix)


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fits = os.access(folder, os.W_OK)
        cause = "it is read-only"
    except OSError as error:
        fits, cause = False, error.strerror or str(error)
    if not fits:
        raise ConfigError(
            f"cannot build into {folder}",
            cause=cause,
            fix="choose a folder of your own: --out DIR",
        )
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two builds in one folder would delete each other's objects: the second one waits."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_paths(*folders: Path) -> None:
    """Make takes a space for the end of a name, and a shell reads what it is told to run."""
    for folder in folders:
        odd = _ODD.search(str(folder))
        if odd is not None:
            raise ConfigError(
                f"the firmware cannot be built in a folder with {odd[0]!r} in its name",
                cause=str(folder),
                fix="choose another with --out, or install Waistline elsewhere",
            )


def _make(sources: Path, folder: Path, board: str, baud: int | None) -> None:
    command = ["make", "-s", "-C", str(sources), f"OUT={folder}", board]
    if baud is not None:
        command.append(f"BAUD={baud}")
    # Flags of a make that runs this program are meant for another one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        guarded(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**environment, "LC_ALL": "C"},
    )  # fmt: skip
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        first = next((line for line in said if _TELLING.search(line)), said[0] if said else "")
        raise ConfigError(
            f"the firmware of {board} did not compile",
            cause=first or f"make ended with {done.returncode}",
            fix=f"see all of it: {' '.join(command).replace('-s ', '')}",
        )


def _measured(folder: Path, board: str) -> BuiltBoard:
    file = folder / places.built_name(board)
    text, data, zeroed = _sections(SIZE if board != HOST else "size", file)
    if board == HOST:
        return BuiltBoard(
            board=board, file=str(file), code_bytes=text, data_bytes=data, zeroed_bytes=zeroed
        )
    limits = fit.limits_of(board)
    exceeded = [
        f"{what}: {used} of {limit} bytes"
        for what, used, limit in (
            ("code and data", text + data, limits.firmware_bytes),
            ("RAM", data + zeroed, limits.ram_bytes),
        )
        if used > limit
    ]
    return BuiltBoard(
        board=board,
        file=str(file),
        code_bytes=text,
        data_bytes=data,
        zeroed_bytes=zeroed,
        firmware_limit_bytes=limits.firmware_bytes,
        flash_bytes=limits.flash_bytes,
        ram_bytes=limits.ram_bytes,
        problem="; ".join(exceeded),
    )


def _sections(program: str, file: Path) -> tuple[int, int, int]:
    """Text, data and bss of a file; zeros where there is no such program."""
    fields = _said(program, str(file)).splitlines()[-1:]
    numbers = fields[0].split()[:3] if fields else []
    if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
        return 0, 0, 0
    text, data, zeroed = map(int, numbers)
    return text, data, zeroed


def _said(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def text(result: McuBuildResult) -> str:
    """A line a board, then where it lies."""
    rows = [_row(board) for board in result.boards]
    headings = ("board", "code", "data", "zeroed", "firmware", "RAM", "")
    lines = [grid(headings, rows, indent=0), ""]
    lines += [
        "bytes; firmware: code and data in flash, of what the fit table sets aside for them;",
        "RAM: data and zeroed (arena, stack, buffers, slots where they lie in RAM), of the part's",
        f"built with {result.compiler or 'the compiler of this machine'}",
    ]
    if result.baud is not None:
        lines.append(f"UARTs at {result.baud} baud: give --baud {result.baud} to what attaches")
    lines.append(f"folder    {result.folder}")
    if Path(result.folder) != places.build_folder().absolute():
        lines.append(f"next      export {places.FIRMWARE_VARIABLE}={result.folder}")
    return "\n".join(lines)


def _row(board: BuiltBoard) -> tuple[str, ...]:
    sizes = (str(board.code_bytes), str(board.data_bytes), str(board.zeroed_bytes))
    if board.ram_bytes is None:
        return (board.board, *sizes, "-", "-", "a program of this machine")
    firmware = f"{board.image_bytes}/{board.firmware_limit_bytes}"
    memory = f"{board.memory_bytes}/{board.ram_bytes}"
    return (board.board, *sizes, firmware, memory, "over" if board.problem else "fits")

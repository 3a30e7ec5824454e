"""Private environments for programs that cannot live beside Waistline.

A converter pins other versions of half the stack, and the NCS2's last driver ends at Python 3.9.
Each such tool gets a virtual environment of its own, named in `TOOLS`, under ``$WAISTLINE_TOOLS``
or the user's data folder, and is only ever run as a subprocess. Installing one is the only time
that the network is used. A virtual environment cannot be moved, so it is built where it stays,
a marker written last says that it is whole, and one beside it, written first, that what stands
there is ours to delete, whatever it lacks. A lock that the installers inherit outlasts us, so that
nobody builds or deletes beside one whose parent was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from waistline.errors import ConfigError, MissingExtra
from waistline.files import unwritable, write_atomically
from waistline.groups import run_group

State = Literal["ready", "absent", "incomplete", "outdated"]

MARKER = "waistline-tool.json"
_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2], sys.executable)"
_PROBE_S = 20.0
_LOG_LINES = 3
_BEGUN = ".begun"
"""Suffix of the file beside an environment that is being made or deleted: which folder it is."""
_CLEAR_TRIES, _CLEAR_PAUSE_S = 5, 0.2


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool environment.

    Attributes:
        name: of its folder, and for ``waistline tools install``.
        purpose: in a few words.
        pythons: versions it runs on, the preferred one first.
        requirements: exact; what they require in turn, they pin themselves or it does not matter.
        size_bytes: on disk, measured, so that nobody is surprised.
        machines: processors its packages exist for; () for any.
    """

    name: str
    purpose: str
    pythons: tuple[str, ...]
    requirements: tuple[str, ...]
    size_bytes: int
    machines: tuple[str, ...] = ()


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "tflite",
            "waistline convert --to tflite",
            ("3.11", "3.12", "3.10"),
            # onnx2tf pins TensorFlow 2.19.0, NumPy, ONNX and its other libraries itself.
            ("onnx2tf==1.29.24", "keras==3.15.1", "tqdm==4.70.1"),
            2_600_000_000,
            ("x86_64", "aarch64"),
        ),
        Tool(
            "ncs2",
            "the backend ncs2 (Neural Compute Stick 2)",
            ("3.9", "3.8", "3.7"),
            # The last wheel with the MYRIAD plug-in and its firmware; x86-64 only.
            ("openvino==2021.4.2", "numpy==1.19.5"),
            330_000_000,
            ("x86_64",),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class ToolState:
    """What is there of a tool.

    Attributes:
        python: its interpreter; used only where the state is ``ready``.
        detail: the Python version, or why it is not ready.
    """

    name: str
    state: State
    python: Path
    detail: str


def tools_folder() -> Path:
    """Where the environments live."""
    given = os.environ.get("WAISTLINE_TOOLS")
    if given:
        return Path(given).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "waistline" / "tools"


def tool_state(name: str) -> ToolState:
    """Looks at files only; starts nothing.

    Raises:
        ConfigError: there is no such tool.
    """
    tool = _known(name)
    folder = tools_folder() / name
    python = folder / "bin" / "python"
    if not folder.is_dir():
        return ToolState(name, "absent", python, f"not in {tools_folder()}")
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        found, version = marker["requirements"], str(marker["python"])
    except (OSError, ValueError, KeyError, TypeError):
        return ToolState(name, "incomplete", python, "its installation did not end")
    if not python.is_file():
        return ToolState(name, "incomplete", python, "its Python is gone")
    if found != list(tool.requirements):
        return ToolState(name, "outdated", python, f"made for {', '.join(map(str, found))}")
    return ToolState(name, "ready", python, f"Python {version}")


def tool_python(name: str) -> Path:
    """The interpreter of an installed tool.

    Raises:
        MissingExtra: it is not installed, or not as this version needs it.
        ConfigError: there is no such tool.
    """
    found = tool_state(name)
    if found.state != "ready":
        raise MissingExtra(
            f"{_known(name).purpose} needs the tool environment {name!r}, which is {found.state}",
            cause=found.detail,
            fix=f"waistline tools install {name}",
        )
    return found.python


def install(
    name: str, *, force: bool = False, say: Callable[[str], None] = lambda text: None
) -> ToolState:
    """Make a tool environment; does nothing where it is ready.

    Args:
        name: a key of `TOOLS`.
        force: make it anew.
        say: told what happens, in lines.

    Raises:
        MissingExtra: there is no Python that it runs on.
        ConfigError: no such tool, not for this machine, or the installation failed.
    """
    tool = _known(name)
    folder = tools_folder() / name
    with _alone(folder, say) as lock:
        found = tool_state(name)
        if found.state == "ready" and not force:
            return found
        _check_machine(tool)
        python, version = find_python(tool)
        _clear(folder)
        say(f"installing {', '.join(tool.requirements)} into {folder}")
        say(f"with {python}; about {tool.size_bytes / 1e9:.1f} GB when done")
        try:
            folder.mkdir()
            _begin(folder)
            _build(tool, folder, python, lock)
            marker = {"requirements": list(tool.requirements), "python": version}
            write_atomically(folder / MARKER, json.dumps(marker).encode() + b"\n")
            folder.with_suffix(_BEGUN).unlink()
        except OSError as error:
            _clear(folder)
            raise unwritable(folder, error, elsewhere="set WAISTLINE_TOOLS") from error
        except BaseException:
            _clear(folder)
            raise
    return tool_state(name)


def remove(name: str, *, say: Callable[[str], None] = lambda text: None) -> bool:
    """Delete a tool environment; False where there was none."""
    _known(name)
    folder = tools_folder() / name
    if not folder.is_dir():
        return False
    with _alone(folder, say):
        _clear(folder)
    return True


def find_python(tool: Tool) -> tuple[Path, str]:
    """An interpreter that the tool runs on, and its version; each candidate is asked.

    Raises:
        MissingExtra: there is none; names the versions.
    """
    for version in tool.pythons:
        for candidate in _candidates(version):
            answer = _ask(candidate)
            if answer is not None and answer[0] == version:
                return answer[1], version
    raise MissingExtra(
        f"{tool.purpose} needs Python {' or '.join(tool.pythons)}",
        cause="no such interpreter with the modules venv and ensurepip is on the PATH",
        fix=f"install python{tool.pythons[0]} (with its venv package), for example by pyenv",
    )


def _candidates(version: str) -> Iterator[Path]:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield Path(sys.executable)
    for folder in os.get_exec_path():
        if (path := Path(folder) / f"python{version}").is_file():
            yield path
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(versions.glob(f"{version}.*/bin/python"), reverse=True)


def _ask(candidate: Path) -> tuple[str, Path] | None:
    """(version, real path); None where it cannot make environments, as a pyenv shim may not."""
    try:
        told = subprocess.run(
            [candidate, "-I", "-c", _PROBE], capture_output=True, timeout=_PROBE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version, _, path = told.stdout.decode("utf-8", "replace").strip().partition(" ")
    return (version, Path(path)) if path else None


def _build(tool: Tool, folder: Path, python: Path, lock: int) -> None:
    log = folder.with_suffix(".log")
    inside = folder / "bin" / "python"
    pip: list[str | Path] = [
        inside,
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
    ]
    steps: list[Sequence[str | Path]] = [
        [python, "-m", "venv", "--clear", folder],
        [*pip, *tool.requirements],
    ]
    with log.open("wb") as output:
        for step in steps:
            if run_group(step, output, keep=(lock,)) != 0:
                raise ConfigError(
                    f"the tool environment {tool.name!r} could not be installed",
                    cause=_last_lines(log),
                    fix=f"see {log}, then: waistline tools install {tool.name}",
                )


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return " ".join(errors[-_LOG_LINES:]) or "it said nothing"


def _known(name: str) -> Tool:
    if name not in TOOLS:
        raise ConfigError(
            f"there is no tool environment {name!r}",
            cause=f"known: {', '.join(TOOLS)}",
            fix="waistline tools list",
        )
    return TOOLS[name]


def _check_machine(tool: Tool) -> None:
    machine = platform.machine()
    if tool.machines and machine not in tool.machines:
        raise ConfigError(
            f"the tool environment {tool.name!r} cannot be installed here",
            cause=f"its packages are for {', '.join(tool.machines)}, this machine is {machine}",
            fix="do this on another machine",
        )


@contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the tool's lock, given as a file number; others wait."""
    lock = folder.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    except OSError as error:
        raise unwritable(lock, error, elsewhere="set WAISTLINE_TOOLS") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: another process is at work on {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _begin(folder: Path) -> None:
    """Say beside the folder that it is ours; named by its inode, so that no other is meant."""
    write_atomically(folder.with_suffix(_BEGUN), _identity(folder))


def _identity(folder: Path) -> bytes:
    found = folder.stat()
    return f"{found.st_dev} {found.st_ino}\n".encode()


def _is_ours(folder: Path) -> bool:
    if any((folder / name).exists() for name in (MARKER, "pyvenv.cfg")):
        return True
    try:
        return folder.with_suffix(_BEGUN).read_bytes() == _identity(folder)
    except OSError:
        return False


def _clear(folder: Path) -> None:
    """Delete an environment, and nothing that is none.

    Raises:
        ConfigError: there is something else, or it cannot be deleted.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise _foreign(folder, "it is no folder, and is not deleted")
    try:
        if folder.is_dir():
            if any(folder.iterdir()) and not _is_ours(folder):
                raise _foreign(folder, "it has no pyvenv.cfg, so nothing in it is deleted")
            _begin(folder)
            _delete(folder)
        folder.with_suffix(_BEGUN).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error, elsewhere="set WAISTLINE_TOOLS") from error


def _delete(folder: Path) -> None:
    """Again where something was still being written: a killed program takes a moment to end."""
    for _ in range(_CLEAR_TRIES - 1):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                return
        except OSError:
            time.sleep(_CLEAR_PAUSE_S)
        else:
            return
    shutil.rmtree(folder)


def _foreign(folder: Path, cause: str) -> ConfigError:
    return ConfigError(
        f"{folder} is not a tool environment",
        cause=cause,
        fix="move it away, or set WAISTLINE_TOOLS",
    )

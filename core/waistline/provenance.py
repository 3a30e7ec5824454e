"""What computed a result: versions, hashes, commit, kernel, processor, governor."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import msgspec

import waistline

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_BOARD = Path("/proc/device-tree/model")
_CPUINFO = Path("/proc/cpuinfo")
_GIT_TIMEOUT_S = 5.0


class Library(msgspec.Struct, frozen=True):
    """A package that took part.

    Attributes:
        name, version: as installed.
        sha256: of its installation record, which lists every file with its hash; "" without one.
    """

    name: str
    version: str
    sha256: str


class Machine(msgspec.Struct, frozen=True):
    """Where it ran.

    Attributes:
        system: name of the operating system.
        kernel: its version.
        architecture: such as ``x86_64``.
        processor: as the kernel names it, with the board where it has a name.
        cores: this process may use.
        governor: of frequency scaling, "" where the kernel does not say.
        python: implementation and version.
    """

    system: str
    kernel: str
    architecture: str
    processor: str
    cores: int
    governor: str
    python: str


def machine() -> Machine:
    """This machine."""
    return Machine(
        system=_system(),
        kernel=platform.release(),
        architecture=platform.machine(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        governor=_first_line(_GOVERNOR),
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def libraries(names: Iterable[str]) -> tuple[Library, ...]:
    """Those of ``names`` that are installed."""
    found = []
    for name in names:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        record = distribution.read_text("RECORD")
        digest = hashlib.sha256(record.encode()).hexdigest() if record else ""
        found.append(Library(name, distribution.version, digest))
    return tuple(found)


def commit() -> str:
    """Commit of the checkout this package is imported from; "" when it is not one.

    ``-dirty`` is appended when tracked files were edited.
    """
    source = Path(waistline.__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--abbrev=40", "--dirty",
             "--exclude=*"],
            capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _processor() -> str:
    names = [_first_line(_BOARD).rstrip("\0")]
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for key in ("model name", "Model", "Hardware"):
        names += [line.partition(":")[2].strip() for line in lines if line.startswith(key)][:1]
    return next((name for name in names if name), platform.processor() or "unknown")


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
    except OSError:
        return ""

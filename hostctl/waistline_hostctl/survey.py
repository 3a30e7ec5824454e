"""Which plug-ins work on this machine, found out without risk: each is tried in another process.

An engine's library may crash, hang or print; then that is the finding. A process tries its plug-ins
one after the other and says which one it is at, so that the one that ended it is known and the rest
is tried by a new process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from waistline import plugins
from waistline.backends.base import Probe
from waistline_hostctl.far_process import exit_text

BACKENDS, SOURCES, LINKS = "waistline.backends", "waistline_node.sources", "waistline.links"
TIMEOUT_S = 30.0
"""A probe takes less than 10 s by contract and an import about one, on a machine with nothing else
to do."""
_AT_ONCE = 4
_QUIET = {"PYTHONDONTWRITEBYTECODE": "1", "ORT_DISABLE_TELEMETRY": "1"}
FAKE = "fake"
"""The backend that stands in for engines."""
MISSING_EXTRA = "missing extra"
FAILED = "failed"


class Told(msgspec.Struct, frozen=True):
    """What a process says of one plug-in: that it begins, then what it found.

    Attributes:
        plugin: ``PACKAGE:NAME``.
        devices: what the plug-in's probe found; one ``ok`` where it has none.
        begins: it is about to be imported.
    """

    plugin: str
    devices: tuple[Probe, ...] = ()
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One device of one plug-in.

    Attributes:
        package, name: of the plug-in.
        device: of an engine; "" for what has none.
        state: of `Probe`, or ``missing extra``.
        detail: the fact seen.
        fix: the command that helps.
    """

    package: str
    name: str
    device: str
    state: str
    detail: str
    fix: str = ""


def survey(
    packages: Iterable[str] = (BACKENDS, SOURCES, LINKS), timeout_s: float = TIMEOUT_S
) -> list[Surveyed]:
    """Every plug-in of ``packages``, in their order."""
    groups: list[list[str]] = []
    together: list[str] = []
    for package in packages:
        found = [f"{package}:{name}" for name in plugins.names(package)]
        # Engines are slow and may crash: each is alone. The rest shares one process.
        if package == BACKENDS:
            groups += [[plugin] for plugin in found]
        else:
            together += found
    return _survey([*groups, together], timeout_s)


def survey_engines(names: Iterable[str], timeout_s: float = TIMEOUT_S) -> list[Surveyed]:
    """Some engines only."""
    return _survey([[f"{BACKENDS}:{name}"] for name in names], timeout_s)


def _survey(groups: Sequence[Sequence[str]], timeout_s: float) -> list[Surveyed]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = pool.map(lambda group: list(_try_all(group, timeout_s)), groups)
        return [row for part in parts for row in part]


def _try_all(plugins_: Sequence[str], timeout_s: float) -> Iterator[Surveyed]:
    left = list(plugins_)
    while left:
        told, how = _try(left, timeout_s)
        for one in told:
            if not one.begins:
                yield from _rows(one)
        done = {one.plugin for one in told if not one.begins}
        begun = [one.plugin for one in told if one.begins and one.plugin not in done]
        rest = [plugin for plugin in left if plugin not in done]
        if rest:
            # What ended the process, or the first one where it did not even begin.
            culprit = begun[0] if begun else rest[0]
            package, _, name = culprit.partition(":")
            yield Surveyed(package, name, "", FAILED, how, _see(package, name))
            rest.remove(culprit)
        left = rest


def _try(plugins_: Sequence[str], timeout_s: float) -> tuple[list[Told], str]:
    """What one process said, and how it ended."""
    command = [sys.executable, "-m", "waistline_hostctl.survey_child", *plugins_]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False,
            env={**os.environ, **_QUIET},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return _told(error.stdout or b""), f"no answer within {timeout_s:g} s"
    except OSError as error:
        return [], error.strerror or str(error)
    words = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
    last = next((line for line in reversed(words) if line), "")
    how = exit_text(done.returncode)
    return _told(done.stdout), f"{how}: {last}" if last else how


def _told(output: bytes) -> list[Told]:
    found = []
    for line in output.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Told))
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
    return found


def _rows(told: Told) -> Iterator[Surveyed]:
    package, _, name = told.plugin.partition(":")
    for probe in told.devices:
        # A missing package is no state of a device; the child has no other word for it.
        extra = probe.state == "missing library" and not probe.device
        state = MISSING_EXTRA if extra else probe.state
        yield Surveyed(package, name, probe.device, state, probe.detail, probe.fix)


def _see(package: str, name: str) -> str:
    return f"{sys.executable} -c 'import {package}.{name}' shows more"

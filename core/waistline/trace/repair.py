"""Recovering a trace whose writer was killed, or a file that was damaged.

pyjls 0.17 cannot be trusted with such files: opening one ends the process or changes the file in
place. Here the chunks are read with every checksum checked, up to where all signals reach, and
written into a new file by a child process, which reads it back and compares every bit. The
original is not touched until the new file is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from waistline.errors import TraceError
from waistline.files import place_new, unwritable
from waistline.trace.lock import is_held

TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class RepairReport:
    """What a repair found and did.

    Attributes:
        path: of the mended file.
        repaired: False where the file was whole and nothing was done.
        length: samples in the mended file.
        duration_s: of the mended file.
        dropped: samples some signals held beyond the common end of all.
        torn_bytes: at the end of the file, that make no whole chunk.
        damaged_bytes: inside the file, with checksums that do not match.
        damaged_samples: lost to that, now a gap.
        left_out: signals of other programs that a Waistline trace does not hold.
    """

    path: str
    repaired: bool
    length: int
    duration_s: float
    dropped: int = 0
    torn_bytes: int = 0
    damaged_bytes: int = 0
    damaged_samples: int = 0
    left_out: tuple[str, ...] = ()


def repair(path: str | Path, output: str | Path | None = None) -> RepairReport:
    """Mend a trace.

    Args:
        path: of the trace.
        output: where the mended one goes; None puts it in the original's place.

    Raises:
        TraceError: nothing can be recovered; the original is as it was.
        MissingExtra: pyjls is not installed.
    """
    source = Path(path)
    # Of a link, the file it points to is mended.
    target = Path(os.path.realpath(source)) if output is None else Path(output)
    if is_held(source):
        raise TraceError(
            f"{source} is still being written", cause="its capture runs", fix="wait, or stop it"
        )
    if output is not None and target.exists():
        raise TraceError(f"{target} exists, and is not overwritten", fix="choose another name")
    try:
        folder = tempfile.mkdtemp(prefix=f".{source.name}.", dir=target.parent)
    except OSError as error:
        raise unwritable(target, error, left="the original is as it was") from error
    new = Path(folder) / "mended.jls"
    try:
        report = _in_child(source, new)
        if report.repaired:
            with new.open("rb") as stream:
                os.fsync(stream.fileno())
            _move(new, target, over=output is None)
        return replace(report, path=str(source if output is None else target))
    finally:
        # Of a child that was killed more may be left than the new file.
        shutil.rmtree(folder, ignore_errors=True)


def _move(new: Path, target: Path, *, over: bool) -> None:
    try:
        new.replace(target) if over else place_new(new, target)
    except OSError as error:
        raise unwritable(target, error, left="the original is as it was") from error


def _in_child(source: Path, new: Path) -> RepairReport:
    command = [sys.executable, "-P", "-m", "waistline.trace.mend", str(source), str(new)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise _failed(source, f"it took over {TIMEOUT_S:.0f} s") from error
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise _failed(source, last[0]) from None
    if "error" in answer:
        raise TraceError(answer["error"], cause=answer["cause"], fix=answer["fix"])
    return RepairReport(**(answer | {"left_out": tuple(answer["left_out"])}))


def report_json(report: RepairReport) -> str:
    """One line for the parent."""
    return json.dumps(asdict(report))


def _failed(source: Path, cause: str) -> TraceError:
    return TraceError(
        f"{source} could not be mended, and is as it was",
        cause=cause,
        fix=f"keep the file, and report: waistline trace info {source}",
    )

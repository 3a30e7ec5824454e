"""What each command prints with ``--json``: one object, typed and versioned."""

from __future__ import annotations

from typing import Any

import msgspec

from waistline.bundle.cuts import CutRow
from waistline.evidence import Evidence, Figure
from waistline.provenance import Library, Machine
from waistline.verify import VerifyReport
from waistline_bridge.cuts import McuCut

SCHEMA_VERSION = 2
"""Raised when a field changes its meaning or goes; new fields do not raise it."""


class Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="command"):
    """Root of all; ``command`` says which it is."""

    schema_version: int = SCHEMA_VERSION


class ErrorResult(Result, frozen=True, kw_only=True, tag="error"):
    """The command failed; the same lines stand on stderr."""

    what: str
    cause: str
    fix: str
    exit_code: int


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        level: ``ok``, ``info`` (not there, not needed), ``warn`` (works, with less) or ``fail``.
        group: it is shown with, such as ``engines``.
        state: ``ok``, ``missing extra``, ``missing library``, ``missing device``, ``no
            permission``, ``wrong version`` or ``failed``; "" for what has no states.
    """

    name: str
    level: str
    found: str
    fix: str = ""
    group: str = ""
    state: str = ""


class Wheel(msgspec.Struct, frozen=True):
    """Whether a package's index lists a file for one board.

    Attributes:
        package, version: looked up.
        architecture: ``x86-64``, ``aarch64`` or ``armv7``.
        python: version of the interpreter.
        file: its name; "" where there is none.
        checked: day of the look-up.
        evidence: a listing is published; that it installs and runs is another matter.
    """

    package: str
    version: str
    architecture: str
    python: str
    file: str
    checked: str
    evidence: Evidence = Evidence.PUBLISHED

    @property
    def tag(self) -> str:
        """What it asks of the system, such as ``glibc 2.28``."""
        if not self.file:
            return "none"
        platform = self.file.removesuffix(".whl").rsplit("-", 1)[-1]
        if platform.startswith("manylinux2014"):
            return "glibc 2.17"
        major, minor = platform.removeprefix("manylinux_").split("_")[:2]
        return f"glibc {major}.{minor}"


class DoctorResult(Result, frozen=True, kw_only=True, tag="doctor"):
    """What this machine can do."""

    version: str
    commit: str
    machine: Machine
    libraries: tuple[Library, ...]
    findings: tuple[Finding, ...]
    wheels: tuple[Wheel, ...] = ()


class Device(msgspec.Struct, frozen=True):
    """Something that can run a slice or be talked to.

    Attributes:
        id: pasteable: the name that ``--backend`` takes, or flags with their values.
        name: for people.
        kind: ``engine``, ``board`` (a program of this machine), ``camera``, ``meter``,
            ``serial``.
        state: of an engine's device or a board ``usable`` or what is in the way, as `Finding`
            words it; ``present`` for a camera, an instrument or a port.
        tried: whether this project has run it on hardware: ``yes`` or ``untried on hardware``.
    """

    id: str
    kind: str
    state: str
    tried: str
    detail: str = ""
    fix: str = ""
    name: str = ""


class DevicesResult(Result, frozen=True, kw_only=True, tag="devices"):
    devices: tuple[Device, ...]


class CutsResult(Result, frozen=True, kw_only=True, tag="split --list"):
    """The cuts of a model; ``default_x`` is what the demo would choose.

    Attributes:
        mcu: with ``--backend mcu`` what each cut takes of a board, from x = 2 on.
    """

    model: str
    model_sha256: str
    task: str
    last_x: int
    default_x: int | None
    cuts: tuple[CutRow, ...]
    mcu: tuple[McuCut, ...] = ()


class BoardFit(msgspec.Struct, frozen=True):
    """A head on one board; ``problem`` says why it does not fit, "" if it does.

    Attributes:
        blob_left_bytes, arena_left_bytes: free in a slot and in the arena; negative: missing.
        flash_bytes, flash_used_bytes: of the part; firmware, and slots that lie in flash.
        ram_bytes, ram_used_bytes: of the part; arena, stack, buffers, slots that lie in RAM.
        stack_bytes: set aside.
    """

    board: str
    blob_left_bytes: int
    arena_left_bytes: int
    flash_bytes: int
    flash_used_bytes: int
    ram_bytes: int
    ram_used_bytes: int
    stack_bytes: int
    problem: str


class HeadSizes(msgspec.Struct, frozen=True):
    """A head blob and what it takes.

    Attributes:
        blob_bytes, arena_bytes: of the blob, and of the buffer it runs in.
        live_bytes: the most that any step needs at once; no arena is smaller.
        layers: in the blob.
        boards: those that are known.
    """

    blob_bytes: int
    arena_bytes: int
    live_bytes: int
    layers: int
    boards: tuple[BoardFit, ...]


class SplitResult(Result, frozen=True, kw_only=True, tag="split"):
    """A bundle was written.

    Attributes:
        last_x: N of the model.
        float_bytes: the waist as the model has it; int8 behind a microcontroller's head.
        head: of a microcontroller's; None for others.
    """

    bundle: str
    bundle_id: str
    partition_point: int
    after: str
    waist: tuple[str, ...]
    codecs: dict[str, str]
    float_bytes: int
    packed_bytes: int
    last_x: int = 0
    head: HeadSizes | None = None


class VerifyResult(Result, frozen=True, kw_only=True, tag="verify"):
    bundle: str
    ok: bool
    report: VerifyReport


class RunResult(Result, frozen=True, kw_only=True, tag="run"):
    """A run folder was written; ``figures`` as in its run.json, ``remarks`` as in its report."""

    folder: str
    report: str
    outcomes: dict[str, int]
    figures: dict[str, Figure]
    remarks: tuple[str, ...]


class DemoAct(msgspec.Struct, frozen=True, kw_only=True):
    """One example of the demo: as of `RunResult`, with the cut that was chosen."""

    example: str
    folder: str
    report: str
    partition_point: int
    outcomes: dict[str, int]
    figures: dict[str, Figure]
    remarks: tuple[str, ...]


class DemoResult(Result, frozen=True, kw_only=True, tag="demo"):
    """Every act that was run."""

    acts: tuple[DemoAct, ...]
    duration_s: float


class ReportResult(Result, frozen=True, kw_only=True, tag="report"):
    """The report was written; ``changed`` names computed tables that differ from before."""

    folder: str
    report: str
    recomputed: tuple[str, ...]
    changed: tuple[str, ...]


def encode(result: Result) -> str:
    """The object as it stands on stdout."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1).decode() + "\n"


def decode(data: str | bytes, kind: type[Any]) -> Any:
    """Read an object of ``kind`` back, strictly."""
    return msgspec.json.decode(data, type=kind, strict=True)

"""What each command prints with ``--json``: one object, typed and versioned."""

from __future__ import annotations

from typing import Any

import msgspec

from waistline.bundle.cuts import CutRow
from waistline.evidence import Figure
from waistline.provenance import Library, Machine
from waistline.verify import VerifyReport

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
    """

    name: str
    level: str
    found: str
    fix: str = ""


class DoctorResult(Result, frozen=True, kw_only=True, tag="doctor"):
    """What this machine can do."""

    version: str
    commit: str
    machine: Machine
    libraries: tuple[Library, ...]
    findings: tuple[Finding, ...]


class Device(msgspec.Struct, frozen=True):
    """Something that can run a slice or be talked to.

    Attributes:
        id: pasteable.
        kind: ``engine`` or ``serial``.
        state: ``usable``, ``not installed`` or ``broken`` for an engine, ``present`` for a port.
        tried: whether this project has run it on hardware: ``yes`` or ``untried on hardware``.
    """

    id: str
    kind: str
    state: str
    tried: str
    detail: str = ""


class DevicesResult(Result, frozen=True, kw_only=True, tag="devices"):
    devices: tuple[Device, ...]


class CutsResult(Result, frozen=True, kw_only=True, tag="split --list"):
    """The cuts of a model; ``default_x`` is what the demo would choose."""

    model: str
    model_sha256: str
    task: str
    last_x: int
    default_x: int | None
    cuts: tuple[CutRow, ...]


class SplitResult(Result, frozen=True, kw_only=True, tag="split"):
    """A bundle was written."""

    bundle: str
    bundle_id: str
    partition_point: int
    after: str
    waist: tuple[str, ...]
    codecs: dict[str, str]
    float_bytes: int
    packed_bytes: int


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

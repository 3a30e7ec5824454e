"""Bundles on disk, read with every size and hash checked; `waistline.bundle.write` makes them.

What lies on disk is hostile until `load_bundle` has returned. Nothing in it is executed here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from waistline.bundle.check import check_manifest
from waistline.bundle.schema import (
    EVIDENCE,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SCHEMA_VERSION,
    Cut,
    Manifest,
    Stage,
    StoredFile,
)
from waistline.errors import BundleError
from waistline.files import unwritable, write_atomically
from waistline.task.kinds.base import Kind, load_kind

if TYPE_CHECKING:
    from waistline.codec.waist import WaistCodec

_MAX_EVIDENCE_BYTES = 64 << 20
_NOT_REGULAR = "it is not a regular file"
_SPLIT_AGAIN = "write it again with 'waistline split ... --force'"


class Bundle:
    """A checked bundle.

    Attributes:
        path: its folder.
        manifest: the content of ``bundle.json``.
        id: SHA-256 of ``bundle.json`` as stored, 64 hexadecimal digits.
    """

    def __init__(self, path: Path, manifest: Manifest, bundle_id: str) -> None:
        self.path = path
        self.manifest = manifest
        self.id = bundle_id

    @property
    def short_id(self) -> int:
        """First 4 bytes of the id as little-endian u32: what each frame on the wire carries."""
        return int.from_bytes(bytes.fromhex(self.id[:8]), "little")

    @property
    def cut(self) -> Cut:
        return self.manifest.cuts[0]

    @property
    def head(self) -> Stage | None:
        """The node's slice; None at x = 0 and x = 1."""
        return self._stage("head")

    @property
    def tail(self) -> Stage | None:
        """The edge's slice; None at x = N."""
        return self._stage("tail")

    def _stage(self, role: str) -> Stage | None:
        return next((stage for stage in self.manifest.stages if stage.role == role), None)

    def slice_path(self, stage: Stage) -> Path:
        return self.path / stage.file.name

    @cached_property
    def answer_kind(self) -> Kind:
        return load_kind(self.manifest.answer)

    def waist_codec(self) -> WaistCodec | None:
        """A codec of its own for the caller; None at x = N, where the wire carries the answer."""
        from waistline.codec.waist import WaistCodec

        return WaistCodec(self.cut.tensors) if self.cut.tensors else None

    def read(self, file: StoredFile) -> bytes:
        """The content of a file of the bundle, hash checked again.

        Raises:
            BundleError: it changed since the bundle was written.
        """
        return read_stored(self.path, file)

    def read_evidence(self) -> dict[str, Any]:
        """Measurements about the bundle, {} when there are none. Not covered by the id.

        Raises:
            BundleError: they are there and cannot be read.
        """
        path = self.path / EVIDENCE
        try:
            return msgspec.json.decode(_read_limited(path, _MAX_EVIDENCE_BYTES), type=dict)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, RecursionError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise BundleError(
                f"{path} is not readable", cause=cause, fix=f"delete {path} and measure again"
            ) from error

    def write_evidence(self, evidence: dict[str, Any]) -> None:
        """Replace the measurements about the bundle; the id stays.

        Raises:
            ConfigError: the disk is full, or the bundle may not be written to.
        """
        data = msgspec.json.format(msgspec.json.encode(evidence), indent=1) + b"\n"
        try:
            write_atomically(self.path / EVIDENCE, data)
        except OSError as error:
            raise unwritable(self.path / EVIDENCE, error) from error


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check all of it: schema, sizes, hashes, and that its parts fit together.

    Raises:
        BundleError: missing, damaged, edited after writing, of another schema version, or with a
            file beside it that its id does not cover.
    """
    folder = Path(path)
    manifest_path = folder / MANIFEST
    try:
        stored = _read_limited(manifest_path, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise BundleError(
            f"{folder} is not a bundle",
            cause=f"{manifest_path}: {error.strerror or error}",
            fix="give the folder that 'waistline split ... -o NAME.bundle' wrote",
        ) from error
    manifest = _decode(stored, manifest_path)
    bundle = Bundle(folder, manifest, hashlib.sha256(stored).hexdigest())
    files = check_manifest(manifest)
    for file in files:
        _check_file(folder, file)
    _check_nothing_else(folder, {MANIFEST, EVIDENCE, *(file.name for file in files)})
    return bundle


def read_stored(folder: Path, file: StoredFile) -> bytes:
    """The content of ``file``, size and hash checked.

    Raises:
        BundleError: it is missing or was changed.
    """
    try:
        data = _read_limited(folder / file.name, file.size_bytes)
    except OSError as error:
        raise _damaged(folder, file, f"{error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise _edited(folder, file, digest)
    return data


def _decode(stored: bytes, path: Path) -> Manifest:
    """The manifest in ``stored``; the version is looked at before anything else."""
    try:
        probe = msgspec.json.decode(stored, type=_Version)
        if probe.schema_version != SCHEMA_VERSION:
            raise BundleError(
                f"{path.parent} is a bundle of another version",
                cause=f"its schema version is {probe.schema_version}, this program reads "
                f"{SCHEMA_VERSION}",
                fix="write it again with 'waistline split', or install the version that wrote it",
            )
        return msgspec.json.decode(stored, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise BundleError(
            f"{path} is damaged", cause=str(error) or type(error).__name__, fix=_SPLIT_AGAIN
        ) from error


class _Version(msgspec.Struct):
    schema_version: int


def _check_file(folder: Path, file: StoredFile) -> None:
    """Size before hash, so that a swapped huge file is not read."""
    path = folder / file.name
    try:
        with _open_regular(path) as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            if size_bytes != file.size_bytes:
                raise BundleError(
                    f"{path} was edited after the bundle was written",
                    cause=f"it has {size_bytes} bytes, the bundle says {file.size_bytes}",
                    fix=_SPLIT_AGAIN,
                )
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(folder, file, f"{error.strerror or error}") from error
    if digest != file.sha256:
        raise _edited(folder, file, digest)


def _check_nothing_else(folder: Path, listed: set[str]) -> None:
    """A slice may name a file with its weights, and an engine would load it unchecked.

    What a killed writer of evidence left behind is let be: the bundle itself is whole.
    """
    leftover = f".{EVIDENCE}."
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(leftover)]
    stranger = next((name for name in names if name not in listed), None)
    if stranger is not None:
        raise BundleError(
            f"{folder / stranger} does not belong to the bundle",
            cause=f"{MANIFEST} does not list it, so the bundle's id does not cover it",
            fix=f"move it elsewhere, or {_SPLIT_AGAIN}",
        )


def _edited(folder: Path, file: StoredFile, digest: str) -> BundleError:
    return BundleError(
        f"{folder / file.name} was edited after the bundle was written",
        cause=f"its SHA-256 is {digest[:12]}.., the bundle says {file.sha256[:12]}..",
        fix=_SPLIT_AGAIN,
    )


def _damaged(folder: Path, file: StoredFile, cause: str) -> BundleError:
    return BundleError(
        f"the bundle lacks its file {file.name}",
        cause=f"{folder / file.name}: {cause}",
        fix=_SPLIT_AGAIN,
    )


def _open_regular(path: Path) -> BufferedReader:
    """The file itself: no link, no device, no pipe that would never end.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.EINVAL, _NOT_REGULAR) from error
        raise
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, _NOT_REGULAR)
    return os.fdopen(handle, "rb")


def _read_limited(path: Path, limit_bytes: int) -> bytes:
    """The whole file, never more than ``limit_bytes`` of it in memory."""
    with _open_regular(path) as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise BundleError(
            f"{path} is too large", cause=f"over {limit_bytes} bytes", fix=_SPLIT_AGAIN
        )
    return data

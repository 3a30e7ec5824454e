"""Writing a bundle: as a whole, or not at all, and read back before it is called one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from waistline.bundle.check import check_manifest
from waistline.bundle.schema import MANIFEST, Manifest, StoredFile
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import ConfigError, WaistlineError
from waistline.files import DISK_FULL, sha256_file, unwritable
from waistline.workfolder import work_folder


def write_bundle(
    path: str | Path, build: Callable[[Path], Manifest], *, force: bool = False
) -> Bundle:
    """Write a bundle as a whole, or not at all, and read it back.

    Args:
        path: the folder to make, ``NAME.bundle``.
        build: writes every file into the folder it is given and returns the manifest.
        force: replace a bundle that is already there; anything else is never replaced.

    Raises:
        ConfigError: ``path`` exists, or cannot be written (disk full, no permission).
        BundleError: what ``build`` made does not pass `load_bundle`.
    """
    target = Path(path)
    check_target(target, force=force)
    with making(target) as temporary:
        manifest = build(temporary)
        _write_synced(temporary / MANIFEST, encode_manifest(manifest))
        for file in check_manifest(manifest):
            _sync(temporary / file.name)
        checked = load_bundle(temporary)
        temporary.chmod(0o755)
        _sync(temporary)
        check_target(target, force=force)  # again: making it takes a while
        _swap(temporary, target, force=force)
    return Bundle(target, checked.manifest, checked.id)


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` for what it is made of; see `work_folder`.

    Raises:
        ConfigError: it, or what is written into it, cannot be written (disk full, no permission).
    """
    try:
        with work_folder(target) as folder:
            yield folder
    except OSError as error:
        raise _unwritable(target, error) from error
    except WaistlineError as error:
        # A writer of slices translated it already; what to do about it is the same.
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_FULL:
            raise _unwritable(target, error.__cause__) from error
        raise


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of ``bundle.json``: sorted keys, one space of indent, final newline."""
    compact = msgspec.json.encode(manifest, order="sorted")
    return msgspec.json.format(compact, indent=1) + b"\n"


def stored_file(folder: Path, name: str) -> StoredFile:
    """Size and hash of file ``name`` in ``folder``, for a manifest."""
    path = folder / name
    return StoredFile(name, path.stat().st_size, sha256_file(path))


def write_stored(folder: Path, name: str, data: bytes) -> StoredFile:
    """Write file ``name`` into ``folder`` and return its manifest entry."""
    (folder / name).write_bytes(data)
    return StoredFile(name, len(data), hashlib.sha256(data).hexdigest())


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_target(path: str | Path, *, force: bool) -> None:
    """Whether a bundle may be written to ``path``.

    Raises:
        ConfigError: something is there that is not to be replaced, or ``path`` is no usable name.
    """
    target = Path(path)
    try:
        if not (target.exists() or target.is_symlink()):
            return
    except OSError as error:
        raise _unwritable(target, error) from error
    if not force:
        raise ConfigError(f"{target} exists", fix="choose another name, or add --force")
    if target.is_symlink() or not (target / MANIFEST).is_file():
        raise ConfigError(
            f"{target} exists and is not a bundle",
            cause=f"it holds no {MANIFEST}",
            fix="choose another name; --force replaces bundles only",
        )


def _swap(new: Path, target: Path, *, force: bool) -> None:
    """Put ``new`` at ``target``; an old bundle there stays whole until the new one is in place."""
    if not (force and target.exists()):
        new.rename(target)
        _sync(target.parent)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    try:
        target.rename(aside / target.name)
        try:
            new.rename(target)
        except OSError:
            (aside / target.name).rename(target)
            raise
    except OSError:
        # Not rmtree: should even the way back fail, the old bundle is still in there.
        with contextlib.suppress(OSError):
            aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)
    _sync(target.parent)


def _unwritable(target: Path, error: OSError) -> ConfigError:
    return unwritable(target, error, left="nothing of it was left behind")

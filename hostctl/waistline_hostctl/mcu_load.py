"""``waistline mcu load``: a head onto a device, checked there."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from waistline.blob.check import check_blob
from waistline.blob.records import Blob, read_blob
from waistline.bundle.store import Bundle, load_bundle
from waistline.errors import ConfigError, VerificationFailed
from waistline.evidence import BYTE, Figure
from waistline.files import read_limited
from waistline_bridge.attached import check_device
from waistline_bridge.client import Progress
from waistline_bridge.golden import goldens_of
from waistline_bridge.places import release_fix
from waistline_hostctl.console import si
from waistline_hostctl.mcu_open import Device, mcu_head, place
from waistline_hostctl.mcu_results import McuLoadResult

_MAX_BLOB_BYTES = 64 << 20
_SOURCE = "waistline mcu load"
ID_DIGITS = 12
"""Of a bundle's id, as split and verify show it."""


@dataclass(frozen=True, slots=True)
class HeadFile:
    """A blob that a board would take.

    Attributes:
        path: as it was given: a bundle's folder, or a file.
        blob: its records, checked.
        bundle: it came from; None for a file.
    """

    path: Path
    blob: Blob
    bundle: Bundle | None

    @property
    def crc(self) -> int:
        return zlib.crc32(self.blob.data)

    @property
    def bundle_id(self) -> str:
        """Of its bundle; "" for a blob's file."""
        return "" if self.bundle is None else self.bundle.id


def read_head(path: Path) -> HeadFile:
    """The head of a bundle that was split for a microcontroller, or a blob's file.

    Raises:
        ConfigError: there is no such file.
        BundleError: not a bundle, or not a blob that holds together.
    """
    bundle = None
    if path.is_dir():
        bundle = load_bundle(path)
        data = bundle.read(mcu_head(bundle).file)
    else:
        try:
            data = read_limited(path, _MAX_BLOB_BYTES)
        except OSError as error:
            raise ConfigError(
                f"cannot read {path}",
                cause=error.strerror or str(error),
                fix="give a bundle's folder or a .blob file",
            ) from error
    return HeadFile(path, check_blob(read_blob(data)), bundle)


def load(device: Device, head: HeadFile, progress: Progress, *, force: bool) -> McuLoadResult:
    """Put a head on a device, if it is not there, and run its golden inputs.

    Raises:
        ModelError, VersionMismatch: it does not fit, or was made for another firmware.
        Refusal: the device does not take it; the old head stays in force.
        VerificationFailed: a golden input gives another output than it must.
    """
    client, info = device.client, device.client.info
    check_device(info, head.blob)
    already = (info.active_crc, info.active_bytes) == (head.crc, len(head.blob.data))
    figures: dict[str, Figure] = {}
    if force or not already:
        before = device.line.sent_bytes + device.line.received_bytes
        begin = time.monotonic()
        client.load_blob(head.blob.data, progress)
        taken_s = time.monotonic() - begin
        moved = device.line.sent_bytes + device.line.received_bytes - before
        figures = {
            "upload_duration": Figure(taken_s, "s", device.grade("s"), _SOURCE),
            "upload_bytes": Figure(moved, BYTE, device.grade(BYTE), _SOURCE),
        }
    goldens = check_goldens(device, head)
    info = client.refresh()
    return McuLoadResult(
        board=info.board,
        line=device.line.name,
        emulated=device.emulated,
        blob=str(head.path),
        id=head.blob.id.hex(),
        bundle_id=head.bundle_id,
        crc=f"{head.crc:08x}",
        sequence=info.sequence,
        already=already,
        blob_bytes=len(head.blob.data),
        blob_left_bytes=info.slot_bytes - len(head.blob.data),
        arena_bytes=head.blob.arena_bytes,
        arena_left_bytes=info.arena_bytes - head.blob.arena_bytes,
        goldens=goldens,
        resent=client.resent,
        ends=device.started,
        figures=figures,
    )


def check_goldens(device: Device, head: HeadFile) -> int:
    """Run every golden input of the active head, stored or sent; how many there are.

    Raises:
        VerificationFailed: an output differs from the host's.
    """
    goldens = goldens_of(head.blob, head.bundle)
    for number, golden in enumerate(goldens):
        found = golden.run(device.client, head.blob.output[1])
        if problem := golden.problem(found):
            raise VerificationFailed(
                f"{device.name} does not reproduce the head's golden output",
                cause=f"golden input {number}: {problem}",
                fix=release_fix(),
            )
    return len(goldens)


def text(result: McuLoadResult) -> str:
    """What was done, what is left, what was checked."""
    lines = [place(result.board, result.line, emulated=result.emulated)]
    sent = "nothing, it was there already; --force sends it again"
    if result.figures:
        duration, moved = result.figures["upload_duration"], result.figures["upload_bytes"]
        rate = si(moved.value / duration.value, "B/s") if duration.value else "-"
        sent = f"{moved.value:.0f} B with framing in {si(duration.value, 's')}"
        sent += f" ({duration.evidence}), {rate}"
        if result.resent:
            sent += f", resent {result.resent}"
    checked = "a blob without a golden input: its answers were not checked"
    if result.goldens:
        plural = "golden input gives its" if result.goldens == 1 else "golden inputs give their"
        checked = f"{result.goldens} {plural} output bit by bit on the device"
    if result.bundle_id:
        lines.append(f"  bundle  {result.bundle_id[:ID_DIGITS]} ({result.blob})")
    lines += [
        f"  head    {result.id}, CRC {result.crc}, commit {result.sequence}",
        f"  sent    {sent}",
        f"  blob    {result.blob_bytes} B, {result.blob_left_bytes} B of the slot left",
        f"  arena   {result.arena_bytes} B, {result.arena_left_bytes} B left",
        f"  check   {checked}",
    ]
    return "\n".join(lines)

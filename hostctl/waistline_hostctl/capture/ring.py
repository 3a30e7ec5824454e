"""The ring between reader and writer: shared memory without a name.

It is an anonymous file (``memfd``) that child processes inherit, so nothing is left when the last
of them is gone, however it went. First comes one page of header: how far the consumer is, and
notices of both ends for whoever looks. Then ``capacity`` bytes of records (`records`).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from pathlib import Path

import msgspec

from waistline.errors import ConfigError

PAGE = 4096
_NOTICES = {"reader": (128, 896), "writer": (1024, 3072)}
MAX_BYTES = 1 << 32
_SHARE = 0.7


class Ring:
    """The shared memory. Made by the control process, opened by its children.

    Args:
        descriptor: of the memory; stays open, `close` closes it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, 0)
        self.memory = memoryview(self._map)
        self.capacity = len(self.memory) - PAGE

    @classmethod
    def make(cls, capacity: int) -> Ring:
        """A new ring for ``capacity`` bytes of records, rounded up to whole pages.

        Raises:
            ConfigError: it is larger than memory can be asked for.
        """
        if not 0 < capacity <= MAX_BYTES:
            raise ConfigError(
                f"a ring of {capacity} bytes is not possible",
                cause=f"the limit is {MAX_BYTES} bytes",
                fix="choose a lower rate, or fewer seconds of buffer",
            )
        size = PAGE + -(-capacity // PAGE) * PAGE
        free = _available()
        if size > _SHARE * free:
            # Asking for it would not fail: the kernel would end processes to find it.
            raise ConfigError(
                f"there is no memory for a ring of {size >> 20} MiB",
                cause=f"{free >> 20} MiB are available, of which {_SHARE:.0%} may be taken",
                fix="choose a lower rate, or fewer seconds of buffer",
            )
        descriptor = os.memfd_create("waistline-ring", os.MFD_CLOEXEC)
        try:
            # Allocated now: a full machine refuses here, and no page is missing while samples come.
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            os.close(descriptor)
            raise ConfigError(
                f"there is no memory for a ring of {size >> 20} MiB",
                cause=error.strerror or str(error),
                fix="choose fewer seconds of buffer",
            ) from error
        return cls(descriptor)

    def notice(self, who: str) -> dict[str, object]:
        """What ``reader`` or ``writer`` last said of itself; {} before that, or while it writes."""
        at, size = _NOTICES[who]
        length, crc = struct.unpack_from("<II", self.memory, at)
        if not 0 < length <= size - 8:
            return {}
        data = bytes(self.memory[at + 8 : at + 8 + length])
        if zlib.crc32(data) != crc:
            return {}
        found: dict[str, object] = msgspec.json.decode(data)
        return found

    def say(self, who: str, notice: dict[str, object]) -> None:
        """Leave a notice for whoever looks; one process writes each."""
        at, size = _NOTICES[who]
        data = msgspec.json.encode(notice)
        if len(data) > size - 8:
            raise ValueError(f"a notice of {len(data)} bytes")
        struct.pack_into("<II", self.memory, at, 0, 0)
        self.memory[at + 8 : at + 8 + len(data)] = data
        struct.pack_into("<II", self.memory, at, len(data), zlib.crc32(data))

    def close(self) -> None:
        """Give the memory back, or, where someone has a view into it, once that is gone.

        Safe to call twice.
        """
        if self.descriptor >= 0:
            with contextlib.suppress(BufferError):
                self.memory.release()
                self._map.close()
            os.close(self.descriptor)
            self.descriptor = -1


def _available() -> int:
    """Bytes of memory that can be had without swapping; `MAX_BYTES` where nothing says."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return MAX_BYTES * 2

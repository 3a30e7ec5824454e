"""WAV files without trusting them: the header checked, samples read piece by piece.

RIFF/WAVE with PCM of 8, 16, 24 and 32 bits or float32, also as WAVE_FORMAT_EXTENSIBLE (Microsoft,
"Multiple channel audio data and WAVE files", 2007). A data chunk of 2^32 - 1 bytes, as programs
write into a pipe, ends where the file ends.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from waistline.errors import ConfigError

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUBTYPE_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""KSDATAFORMAT_SUBTYPE GUIDs are the format tag followed by this."""
_FORMATS = {
    (_PCM, 8): "u8", (_PCM, 16): "s16", (_PCM, 24): "s24", (_PCM, 32): "s32", (_FLOAT, 32): "f32",
}  # fmt: skip
_UNKNOWN_SIZE = 0xFFFFFFFF
_MAX_CHUNKS = 1000
MAX_CHANNELS = 64
MAX_RATE_HZ = 100_000_000
MAX_READ_BYTES = 1 << 28
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


@dataclass(frozen=True, slots=True)
class Wav:
    """The header of a sound file.

    Attributes:
        path: of the file.
        rate_hz: sampling instants a second.
        channels: values at each.
        samples: sampling instants in the file.
        sample_format: u8, s16, s24, s32 or f32.
        offset_bytes: where the first sample stands.
    """

    path: Path
    rate_hz: int
    channels: int
    samples: int
    sample_format: str
    offset_bytes: int

    @property
    def row_bytes(self) -> int:
        return self.channels * int(self.sample_format[1:]) // 8

    def read(self, start: int, count: int) -> np.ndarray:
        """Samples ``start`` to ``start + count``, float32 (count, channels).

        Integers are divided by their full scale, so they lie in [-1, 1); floats are as stored.

        Raises:
            ConfigError: the file has changed, or holds no such samples.
        """
        size = count * self.row_bytes
        if not 0 <= start <= start + count <= self.samples or size > MAX_READ_BYTES:
            raise _bad(self.path, f"samples {start}..{start + count} of {self.samples} are wanted")
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset_bytes + start * self.row_bytes)
                data = stream.read(size)
        except OSError as error:
            raise _bad(self.path, error.strerror or str(error)) from error
        if len(data) != size:
            raise _bad(self.path, "it has become shorter since it was opened")
        return _floats(data, self.sample_format).reshape(count, self.channels)


def open_wav(path: Path) -> Wav:
    """Read and check the header.

    Raises:
        ConfigError: not a WAV file, damaged, or of a sample format that is not read.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            return _header(path, stream, size_bytes)
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error


def _header(path: Path, stream: BinaryIO, size_bytes: int) -> Wav:
    first = stream.read(12)
    if len(first) != 12 or first[:4] != b"RIFF" or first[8:] != b"WAVE":
        raise _bad(path, f"its first bytes are {first[:12].hex(' ')}, not RIFF .. WAVE")
    layout: tuple[int, int, str] | None = None
    for _ in range(_MAX_CHUNKS):
        head = stream.read(8)
        if len(head) != 8:
            raise _bad(path, "it ends before its samples begin")
        name, claimed = struct.unpack("<4sI", head)
        begin = stream.tell()
        left = size_bytes - begin
        if name == b"data":
            if layout is None:
                raise _bad(path, "its samples come before their format")
            return _wav(path, layout, begin, left if claimed == _UNKNOWN_SIZE else claimed, left)
        if claimed > left:
            raise _bad(path, f"chunk {name!r} claims {claimed} bytes, {left} are left")
        if name == b"fmt ":
            layout = _layout(path, stream.read(min(claimed, 40)))
        stream.seek(begin + claimed + claimed % 2)
    raise _bad(path, f"there are no samples in its first {_MAX_CHUNKS} chunks")


def _layout(path: Path, data: bytes) -> tuple[int, int, str]:
    """Channels, rate in Hz and sample format."""
    if len(data) < 16:
        raise _bad(path, f"its format chunk has {len(data)} bytes, 16 at least are needed")
    tag, channels, rate_hz, _, row_bytes, bits = struct.unpack("<HHIIHH", data[:16])
    if tag == _EXTENSIBLE and len(data) == 40 and data[26:] == _SUBTYPE_TAIL:
        (tag,) = struct.unpack("<H", data[24:26])
    sample_format = _FORMATS.get((tag, bits))
    if sample_format is None:
        raise _bad(path, f"its samples are of format {tag:#06x} with {bits} bits")
    if not 1 <= channels <= MAX_CHANNELS or not 1 <= rate_hz <= MAX_RATE_HZ:
        raise _bad(path, f"it claims {channels} channels at {rate_hz} Hz")
    if row_bytes != channels * bits // 8:
        raise _bad(path, f"it claims {row_bytes} bytes for {channels} samples of {bits} bits")
    return channels, rate_hz, sample_format


def _wav(
    path: Path, layout: tuple[int, int, str], begin: int, claimed: int, left: int
) -> Wav:  # fmt: skip
    if claimed > left:
        raise _bad(path, f"it claims {claimed} bytes of samples and holds {left}")
    channels, rate_hz, sample_format = layout
    row_bytes = channels * int(sample_format[1:]) // 8
    return Wav(path, rate_hz, channels, claimed // row_bytes, sample_format, begin)


def _floats(data: bytes, sample_format: str) -> np.ndarray:
    if sample_format == "f32":
        return np.frombuffer(data, "<f4").astype(np.float32)
    if sample_format == "u8":
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if sample_format == "s16":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(1 << 15)
    if sample_format == "s24":
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole = wide.view("<i4").reshape(-1)
    else:
        whole = np.frombuffer(data, "<i4")
    # The largest 32-bit numbers round up to full scale in float32.
    scaled: np.ndarray = whole.astype(np.float32) / np.float32(1 << 31)
    scaled[scaled > _BELOW_ONE] = _BELOW_ONE
    return scaled


def _bad(path: Path, cause: str) -> ConfigError:
    return ConfigError(
        f"{path} cannot be read as sound",
        cause=cause,
        fix="give a WAV file of PCM (8, 16, 24, 32 bits) or float32 samples",
    )

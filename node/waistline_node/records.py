"""What became of each frame: one line of a CSV file a frame, in the order in which they ended."""

from __future__ import annotations

import base64
import csv
import errno
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from waistline.errors import ConfigError
from waistline.files import DISK_FULL
from waistline.words import STAGES


def _stages(first: str, last: str) -> dict[str, tuple[str, str]]:
    keys = [stage.key for stage in STAGES]
    return {
        stage.column: ("s", stage.meaning)
        for stage in STAGES[keys.index(first) : keys.index(last) + 1]
    }


COLUMNS = {
    "index": ("frame", "position in the source"),
    "name": ("", "file name, or file and position"),
    "label": ("", "ground truth of the source, empty where there is none"),
    "seq": ("frame", "sequence number in the session; 0: ended before it was submitted"),
    "outcome": ("", "remote, local, dropped or error"),
    "reason": ("", "one word for dropped and error"),
    "started_s": ("s", "begin of reading, or capture by a camera, on the node's monotonic clock"),
    "latency_s": ("s", "from then to the outcome: the sum of the stages below"),
    **_stages("source", "head"),
    "device_s": ("s", "of head_s, what a board computed, by its own tick counter; 0: no board"),
    **_stages("encode", "postprocess"),
    "waist_bytes": ("byte", "payload of the frame on the wire, without the 40-byte header"),
    "raw_len": ("byte", "packed codes before entropy coding"),
    "answer": ("", "packed answer, base64"),
    "detail": ("", "for people"),
}
"""Column to unit and meaning; ``""`` where there is no unit."""


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame and its outcome; see `COLUMNS`. ``label`` is text, ``answer`` the packed bytes."""

    index: int
    name: str
    label: str
    seq: int
    outcome: str
    reason: str
    started_s: float
    latency_s: float
    source_s: float = 0.0
    preprocess_s: float = 0.0
    head_s: float = 0.0
    device_s: float = 0.0
    encode_s: float = 0.0
    node_queue_s: float = 0.0
    transit_s: float = 0.0
    edge_queue_s: float = 0.0
    decode_s: float = 0.0
    edge_preprocess_s: float = 0.0
    tail_s: float = 0.0
    postprocess_s: float = 0.0
    waist_bytes: int = 0
    raw_len: int = 0
    answer: bytes = b""
    detail: str = ""


FLUSH_BYTES = 1 << 16
_NAMES = [field.name for field in fields(FrameRecord)]
_TYPES = {field.name: str(field.type) for field in fields(FrameRecord)}


class RecordWriter:
    """Appends records to a new file; a write that fails leaves only whole lines behind.

    Raises:
        ConfigError: the file exists, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self._buffer = io.StringIO()
        self._csv = csv.writer(self._buffer, lineterminator="\n")
        self._waiting = 0
        self._good_bytes = 0
        self._failed = False
        try:
            self._file = path.open("xb", buffering=0)
        except FileExistsError:
            raise ConfigError(
                f"{path} exists",
                cause="records of one run are never mixed with those of another",
                fix="choose another file for --records, or remove it",
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error
        self._csv.writerow(_NAMES)
        self.flush()

    def add(self, record: FrameRecord) -> None:
        """Note a record; `flush` writes it. Raises what `flush` raises."""
        self._csv.writerow([_text(getattr(record, name)) for name in _NAMES])
        self._waiting += 1
        if self._buffer.tell() > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added.

        Raises:
            ConfigError: the disk is full or gone; says how many records are in the file.
        """
        data = memoryview(self._buffer.getvalue().encode())
        try:
            while data:
                data = data[self._file.write(data) or 0 :]
        except OSError as error:
            self._failed = True
            self._cut_back()
            raise self._unwritable(error) from error
        self.written += self._waiting
        self._waiting = 0
        self._good_bytes = self._file.tell()
        self._buffer.seek(0)
        self._buffer.truncate()

    def close(self) -> None:
        """Write what is left, unless writing has failed before. Raises what `flush` raises."""
        try:
            if not self._failed:
                self.flush()
        finally:
            self._file.close()

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._file.fileno(), self._good_bytes)
        except OSError:
            # The file system is gone altogether; the error that is raised says how much is safe.
            return

    def _unwritable(self, error: OSError) -> ConfigError:
        lost = f"; {self.written} records are in it, {self._waiting} are lost"
        remedy = "choose another file for --records"
        if error.errno == errno.ENOENT:
            remedy = f"mkdir -p {self.path.parent}, or {remedy}"
        elif error.errno in DISK_FULL:
            remedy = f"free space, or {remedy}"
        return ConfigError(
            f"records cannot be written to {self.path}",
            cause=f"{error.strerror or error}{lost if self._waiting else ''}",
            fix=f"{remedy}, then run again",
        )


def read_records(path: Path) -> Iterator[FrameRecord]:
    """Records of a file that `RecordWriter` wrote.

    Raises:
        ConfigError: it is not such a file.
    """
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            if next(rows, None) != _NAMES:
                raise ValueError("its first line does not name the columns of this version")
            for row in rows:
                yield FrameRecord(
                    **{name: _value(name, text) for name, text in zip(_NAMES, row, strict=True)}
                )
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path} is not a file of frame records",
            cause=str(error),
            fix="give a file written with --records",
        ) from error


def _text(value: str | float | bytes) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return f"{value:.9f}"
    # A frame is a line, whatever a file is called or an edge says.
    return "".join(c if c.isprintable() else " " for c in str(value))


def _value(name: str, text: str) -> Any:
    kind = _TYPES[name]
    if kind == "bytes":
        return base64.b64decode(text, validate=True)
    return {"int": int, "float": float, "str": str}[kind](text)

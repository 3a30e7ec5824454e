"""The two doors to traces on disk: `open_trace` and `create`."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from waistline.plugins import missing_extra
from waistline.trace.base import Block, Source, Trace, TraceSpec
from waistline.trace.jls_read import JlsTrace

if TYPE_CHECKING:
    from waistline.trace.jls_write import JlsWriter


def open_trace(path: str | Path) -> JlsTrace:
    """Open a trace for reading.

    Raises:
        TraceError: it is no trace, is damaged, or was not closed (then `repair` mends it).
    """
    return JlsTrace(Path(path))


def create(path: str | Path, spec: TraceSpec) -> JlsWriter:
    """Begin a new trace.

    Raises:
        MissingExtra: pyjls is not installed.
        TraceError: the file exists or cannot be written.
    """
    try:
        from waistline.trace.jls_write import JlsWriter
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "pyjls":
            raise
        raise missing_extra("pyjls", needed_by="capture") from error
    return JlsWriter(Path(path), spec)


def write_source(source: Source, path: str | Path) -> int:
    """Write what an importer yields as a trace; its length in samples.

    A file that could not be finished is removed.
    """
    target = Path(path)
    writer = create(target, source.spec)
    try:
        with writer:
            for part in source.parts:
                if isinstance(part, Block):
                    writer.write(part)
                else:
                    writer.gap(part)
            for annotation in source.annotations:
                writer.annotate(annotation)
            if source.spec.start_utc_ns:
                writer.utc(0, source.spec.start_utc_ns)
            return writer.next_sample
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        if isinstance(source.parts, Generator):
            source.parts.close()


__all__ = ["Trace", "create", "open_trace", "write_source"]

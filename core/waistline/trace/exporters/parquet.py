"""Parquet (extra ``parquet``): the columns of the CSV, their units and the trace's start in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as files

from waistline.trace.base import FLOAT_SIGNALS, Trace
from waistline.trace.exporters.base import Part, headings, new_file, tables
from waistline.trace.snapshot import encode_start


def export(trace: Trace, path: Path, part: Part) -> int:
    """Write a Parquet file; how many rows it has."""
    units = {f"{name}_{unit.lower()}": unit for name, unit in FLOAT_SIGNALS.items()}
    names = headings(trace)
    fields = [arrow.field("time_s", arrow.float64(), metadata={"unit": "s"})]
    for name in names:
        kind = arrow.float32() if name in units else arrow.uint8()
        fields.append(arrow.field(name, kind, metadata={"unit": units.get(name, "")}))
    schema = arrow.schema(fields, metadata={"waistline_trace": encode_start(trace.spec)})
    with new_file(path) as raw, files.ParquetWriter(raw, schema, compression="zstd") as out:
        for times, columns in tables(trace, part):
            kept = [
                # An empty cell is what other programs take for a lost sample.
                arrow.array(column, mask=np.isnan(column) if column.dtype.kind == "f" else None)
                for column in columns
            ]
            out.write_table(arrow.table([arrow.array(times), *kept], schema=schema))
    return part.rows(trace)

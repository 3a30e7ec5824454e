"""CSV: ``time_s``, one column a signal with its unit in the name, ``gap``; lost samples empty.

A spreadsheet opens 1,048,576 rows and drops the rest without much ado, so more are refused unless
they are wanted.
"""

from __future__ import annotations

import math
from io import TextIOWrapper
from pathlib import Path

import numpy as np

from waistline.errors import ConfigError
from waistline.trace.base import Trace
from waistline.trace.exporters.base import Part, headings, new_file, tables

SPREADSHEET_ROWS = 1_048_576


def export(trace: Trace, path: Path, part: Part) -> int:
    """Write a CSV file; how many rows it has below its heading.

    Raises:
        ConfigError: more rows than a spreadsheet opens, and not forced.
    """
    rows = part.rows(trace)
    if rows >= SPREADSHEET_ROWS and not part.force:
        every = -(-rows * part.every // (SPREADSHEET_ROWS - 1))
        raise ConfigError(
            f"{path.name} would have {rows:,} rows",
            cause=f"a spreadsheet opens {SPREADSHEET_ROWS:,} and drops the rest",
            fix=f"average with --every {every}, choose --from and --to, or say --force",
        )
    # A nanosecond, or a thousandth of a sample where that is less.
    digits = max(9, math.ceil(math.log10(trace.spec.rate_hz)) + 3)
    with new_file(path) as raw, TextIOWrapper(raw, "ascii", newline="\n") as stream:
        stream.write(",".join(["time_s", *headings(trace)]) + "\n")
        for times, columns in tables(trace, part):
            # Nine digits give a float32 back exactly.
            row = ",".join(
                [f"%.{digits}f", *("%d" if c.dtype == np.uint8 else "%.9g" for c in columns)]
            )
            rows_of = zip(times.tolist(), *(column.tolist() for column in columns), strict=True)
            text = "\n".join(map(row.__mod__, rows_of))
            stream.write(text.replace("nan", "") + "\n")
    return rows

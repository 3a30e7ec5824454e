"""The argument of commands that read a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class TraceFile(click.Path):
    """A trace, or a capture's run folder, whose trace it then is."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        from waistline_hostctl.tracing import trace_file

        return trace_file(Path(str(super().convert(value, param, ctx))))

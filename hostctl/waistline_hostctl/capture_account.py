"""What became of every sample of a capture, and whether that adds up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from waistline.run import Cell, Column, Table, table
from waistline.trace.jls_read import JlsTrace

ACCOUNT = "account"
KEPT, LOST, INVALID, TRACE, NAN, OPEN = (
    "kept", "lost", "of uncertain place", "in the trace", "without a value", "not accounted for",
)  # fmt: skip
HOLES, UNKNOWN, BACK, BALANCE, CLOSES = (
    "holes", "holes of unknown size", "losses taken back", "balance", "closes",
)  # fmt: skip
WHERE = {
    "counter": "by the meter's own sample counter",
    "ring": "on the host: the ring in memory was full",
    "host-time": "by the host's clock against the meter's",
    "resync": "where the boundary between samples was lost",
    "unplug": "while the meter was unplugged",
    "import": "in the file that was imported",
    "damage": "to damage of the file",
}
_MOST_KINDS = 50


class Ledger(msgspec.Struct, frozen=True):
    """The account of the decoder; see ``meters._ledger.Ledger``."""

    grade: str = ""
    kept: int = 0
    lost: dict[str, int] = {}
    invalid: int = 0
    repeated: int = 0
    start_dropped: int = 0
    unknown: int = 0
    contradictions: int = 0
    resyncs: int = 0
    resync_bytes: int = 0
    balance: float | None = None
    elapsed: float = 0.0
    holes: int = 0
    closes: bool = False


def ledger_of(trace: JlsTrace, recorded: Mapping[str, Any]) -> Ledger | None:
    """The ledger the trace was closed with, else the one of run.json; None where neither is one."""
    for stored in (trace.ledger, msgspec.json.encode(recorded)):
        try:
            found = msgspec.json.decode(stored, type=Ledger) if len(stored) > 2 else None
        except (msgspec.MsgspecError, RecursionError):
            continue
        if found is not None:
            return found
    return None


def account_table(trace: JlsTrace, recorded: Mapping[str, Any], missing: float) -> Table:
    """Rows in the order in which they add up.

    Args:
        trace: an open one.
        recorded: ledger of run.json.
        missing: samples of the trace without a value, as counted in it.
    """
    columns = [
        Column("entry", "text"),
        Column("count", "number", "row"),
        Column("unit", "text"),
        Column("where", "text", "", "where it was counted"),
    ]
    ledger = ledger_of(trace, recorded)
    rows: list[tuple[Cell, ...]] = []
    if ledger is not None:
        rows += _counted(ledger, trace.length)
    rows += [
        (TRACE, trace.length, "sample", "ids of the file, lost ones included"),
        (NAN, missing, "sample", "in the file, by looking at every one"),
    ]
    if ledger is not None:
        rows += _checks(ledger)
    return table(ACCOUNT, columns, rows)


def _counted(ledger: Ledger, length: int) -> list[tuple[Cell, ...]]:
    kinds = dict(list(ledger.lost.items())[:_MOST_KINDS])
    total = ledger.kept + sum(ledger.lost.values()) + ledger.invalid
    return [
        (KEPT, ledger.kept, "sample", "decoded and written"),
        *(
            (LOST, count, "sample", WHERE.get(kind, f"by {kind}"[:100]))
            for kind, count in kinds.items()
        ),
        (INVALID, ledger.invalid, "sample", "came, but not certain between which losses"),
        (OPEN, length - total, "sample", "ids of the file less the sum of these"),
    ]


def _checks(ledger: Ledger) -> list[tuple[Cell, ...]]:
    by = "by the meter's counter" if ledger.grade == "counter" else "by the host's clock alone"
    return [
        ("dropped at the start", ledger.start_dropped, "sample", "before the first quiet stretch"),
        ("repeated", ledger.repeated, "sample", "copies that came twice, dropped"),
        ("resynchronized", ledger.resyncs, "1", f"{ledger.resync_bytes} bytes thrown away"),
        (HOLES, ledger.holes, "1", "each with what was lost in it"),
        (UNKNOWN, ledger.unknown, "1", "any makes the capture fail"),
        (BACK, ledger.contradictions, "1", "by the host's clock; any makes the capture fail"),
        (BALANCE, ledger.balance, "sample", "ids less elapsed time by the host's clock"),
        (CLOSES, int(ledger.closes), "1", by),
    ]

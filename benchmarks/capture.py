"""What captures cost, lose and survive, through the real processes.

    python benchmarks/capture.py [--minutes 10] [--seconds 60] [--kills 30] [--json FILE]
    python benchmarks/capture.py --minutes 0.1 --seconds 4 --kills 2      # does each part end?
    python benchmarks/capture.py --only ppk2,sim,rates,kills,busy

*ppk2*: an emulated PPK2 at 100 kHz with a FIFO of 4096 samples. *sim*: the simulated device at 2
MSPS (current, voltage, power, one logic bit). *rates*: the highest rate of it that loses nothing.
*kills*: the writer killed at random moments; what its trace holds after mending. *busy*: both cores
busy, a parent that holds the interpreter's lock, and both with a reader that is held up: what the
account says against what the emulator knows.

All of it ends within 25 minutes: each part has its time, prints each row as it is known, and says
what it had no time for; with ``--json`` what is known is kept after each part.

Processor time is that of reader, writer and control, from their start to their end and while they
run; the emulator's is not in it. It has real-time priority where the system permits that, as an
instrument has a clock of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capture_faults import busy_report, kills_report
from capture_processes import Budget, Emulated, measure
from capture_rates import rates, sim

PPK2_LIMIT, SIM_LIMIT = 10.0, 12.0
"""Per cent of one core."""
BUSY_S = 20.0
_MORE_S = 30.0
"""For starting and ending, beside what a part captures."""
_RATES_S, _KILLS_S, _BUSY_S = 340.0, 240.0, 120.0
"""With 10 minutes of the PPK2 and one of the simulated device: 23.5 minutes."""

TABLE = """| meter | s | samples | lost | of a core, while it runs | goal |
| --- | --- | --- | --- | --- | --- |"""
Part = Callable[[argparse.Namespace, Path], Any]


def ppk2(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """An emulated PPK2 on a pseudo-terminal."""
    seconds = options.minutes * 60
    with Emulated(folder, "--waveform", "constant:0.01") as emulated:
        found = measure(
            folder / "ppk2.jls", seconds, Budget(seconds + _MORE_S),
            "--meter", "ppk2", "--port", emulated.port,
            "--meter-option", "voltage=3.3", "--meter-option", "mode=source",
        )  # fmt: skip
    row = found.row()
    row["emulator_lost"] = emulated.lost()
    (folder / "ppk2.jls").unlink(missing_ok=True)
    print(TABLE)
    print(line("emulated PPK2, 100 kHz, FIFO 4096", row, PPK2_LIMIT))
    print(
        f"\nThe emulator's FIFO itself lost {row['emulator_lost']:,} samples; by the account "
        f"{row['lost']:,} were lost and {row['invalid']:,} beside them are of uncertain place.\n",
        flush=True,
    )
    return row


def two_million(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The simulated device at 2 MSPS."""
    row = sim(2e6, options.seconds, folder, Budget(options.seconds + _MORE_S))
    print(TABLE)
    print(line("simulated, 2 MSPS", row, SIM_LIMIT) + "\n", flush=True)
    return row


def highest(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The highest rate that is held."""

    def show(row: dict[str, Any]) -> None:
        print(line(f"simulated, {row['rate_hz'] / 1e6:g} MSPS", row), flush=True)

    print(TABLE, flush=True)
    tried, held = rates(options.seconds, folder, Budget(_RATES_S), show)
    said = f"{held / 1e6:g} MSPS" if held else "none of these"
    print(f"\nThe highest rate that held for {options.seconds:g} s: {said}.\n", flush=True)
    return tried


def killed(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Writers that are killed."""
    return kills_report(options.kills, folder, Budget(_KILLS_S))


def busy(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Captures on a busy machine."""
    return busy_report(min(BUSY_S, options.seconds), folder, Budget(_BUSY_S))


PARTS: dict[str, Part] = {
    "ppk2": ppk2, "sim": two_million, "rates": highest, "kills": killed, "busy": busy,
}  # fmt: skip


def line(name: str, row: dict[str, Any], limit: float | None = None) -> str:
    """One row of the table."""
    share = row["total_percent"]
    goal = "" if limit is None else f"{limit:g} %: {'reached' if share <= limit else 'missed'}"
    if row["code"]:
        goal = f"{goal} exit {row['code']}, ended: {row['ended']}".strip()
    parts = ", ".join(f"{key} {value:.1f}" for key, value in row["running_percent"].items())
    return (
        f"| {name} | {row['seconds']:.0f} | {row['samples']:,} | {row['missing']:,} | "
        f"{share:.1f} % ({parts}) | {goal} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of the PPK2")
    parser.add_argument("--seconds", type=float, default=60, help="of each simulated one")
    parser.add_argument("--kills", type=int, default=30, help="of the writer")
    parser.add_argument("--only", default=",".join(PARTS), help="names with commas between")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the traces go (default: /tmp)")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no part named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    found: dict[str, Any] = {"load": os.getloadavg(), "cores": os.cpu_count()}
    print("## Captures\n")
    print(
        "Reader, writer and control as `waistline capture` starts them; the emulator's own time "
        f"is not counted. {found['cores']} cores, load average {found['load'][0]:.1f} before.\n",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="capture-", dir=options.folder) as name:
        for part in (one for one in PARTS if one in wanted):
            try:
                found[part] = PARTS[part](options, Path(name))
            except RuntimeError as error:
                # The other parts have their say all the same.
                found[part] = {"failed": str(error)}
                print(f"**{part} failed: {error}**\n", flush=True)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

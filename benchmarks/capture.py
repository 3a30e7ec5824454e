"""What captures cost, lose and survive, through the real processes.

    python benchmarks/capture.py [--minutes 10] [--seconds 60] [--kills 30] [--json FILE]
    python benchmarks/capture.py --only ppk2,sim,rates,kills,busy --seconds 5

*ppk2*: an emulated PPK2 at 100 kHz with a FIFO of 4096 samples. *sim*: the simulated device at 2
MSPS (current, voltage, power, one logic bit). *rates*: the highest rate of it that loses nothing.
*kills*: the writer killed at random moments; what its trace holds after mending. *busy*: both cores
busy, and a parent that holds the interpreter's lock: what the account says against what the
emulator knows.

Processor time is that of reader, writer and control, from their start to their end and while they
run; the emulator's is not in it. It has real-time priority where the system permits that, as an
instrument has a clock of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from capture_faults import busy_report, kills_report
from capture_processes import Emulated, measure

PPK2_LIMIT, SIM_LIMIT = 10.0, 12.0
"""Per cent of one core."""
RATES_HZ = (4e6, 8e6, 12e6, 16e6)
PROBE_S, BUSY_S = 12.0, 20.0
SECTIONS = ("ppk2", "sim", "rates", "kills", "busy")


def ppk2(seconds: float, folder: Path) -> dict[str, Any]:
    """An emulated PPK2 on a pseudo-terminal."""
    with Emulated(folder, "--waveform", "constant:0.01") as emulated:
        found = measure(
            folder / "ppk2.jls", seconds,
            "--meter", "ppk2", "--port", emulated.port,
            "--meter-option", "voltage=3.3", "--meter-option", "mode=source",
        )  # fmt: skip
    row = found.row()
    row["emulator_lost"] = emulated.lost()
    (folder / "ppk2.jls").unlink()
    return row


def sim(rate_hz: float, seconds: float, folder: Path) -> dict[str, Any]:
    """The simulated device at one rate."""
    path = folder / "sim.jls"
    found = measure(path, seconds, "--meter", "sim", "--meter-option", f"rate={rate_hz:.0f}")
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return found.row() | {"rate_hz": rate_hz, "size_bytes": size}


def rates(seconds: float, folder: Path) -> tuple[list[dict[str, Any]], float]:
    """Rates upward, briefly, until one loses; then the highest for the whole time, or the next."""
    tried = []
    for rate_hz in RATES_HZ:
        # Longer than the ring can hide.
        tried.append(sim(rate_hz, min(PROBE_S, seconds), folder))
        if tried[-1]["missing"] or tried[-1]["code"]:
            break
    held = 0.0
    for row in reversed([row for row in tried if not row["missing"] and not row["code"]]):
        whole = sim(row["rate_hz"], seconds, folder)
        tried.append(whole)
        if not whole["missing"] and not whole["code"]:
            held = whole["rate_hz"]
            break
    return tried, held


def line(name: str, row: dict[str, Any], limit: float | None = None) -> str:
    """One row of the table."""
    share = row["total_percent"]
    goal = "" if limit is None else f"{limit:g} %: {'reached' if share <= limit else 'missed'}"
    parts = ", ".join(f"{key} {value:.1f}" for key, value in row["running_percent"].items())
    return (
        f"| {name} | {row['seconds']:.0f} | {row['samples']:,} | {row['missing']:,} | "
        f"{share:.1f} % ({parts}) | {goal} |"
    )


TABLE = """| meter | s | samples | lost | of a core, while it runs | goal |
| --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of the PPK2")
    parser.add_argument("--seconds", type=float, default=60, help="of each simulated one")
    parser.add_argument("--kills", type=int, default=30, help="of the writer")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the traces go (default: /tmp)")
    options = parser.parse_args()
    wanted = options.only.split(",")
    found: dict[str, Any] = {"load": os.getloadavg(), "cores": os.cpu_count()}
    print("## Captures\n")
    print(
        "Reader, writer and control as `waistline capture` starts them; the emulator's own time "
        f"is not counted. {found['cores']} cores, load average {found['load'][0]:.1f} before.\n\n"
        f"{TABLE}"
    )
    with tempfile.TemporaryDirectory(prefix="capture-", dir=options.folder) as name:
        folder = Path(name)
        if "ppk2" in wanted:
            found["ppk2"] = ppk2(options.minutes * 60, folder)
            print(line("emulated PPK2, 100 kHz, FIFO 4096", found["ppk2"], PPK2_LIMIT), flush=True)
        if "sim" in wanted:
            found["sim"] = sim(2e6, options.seconds, folder)
            print(line("simulated, 2 MSPS", found["sim"], SIM_LIMIT), flush=True)
        if "rates" in wanted:
            found["rates"], held = rates(options.seconds, folder)
            for row in found["rates"]:
                print(line(f"simulated, {row['rate_hz'] / 1e6:g} MSPS", row), flush=True)
            print(f"\nThe highest rate that held for {options.seconds:g} s: {held / 1e6:g} MSPS.")
        if "ppk2" in wanted:
            print(f"\nThe emulator's FIFO itself lost {found['ppk2']['emulator_lost']:,} samples.")
        print()
        if "kills" in wanted:
            found["kills"] = kills_report(options.kills, folder)
        if "busy" in wanted:
            found["busy"] = busy_report(min(BUSY_S, options.seconds), folder)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

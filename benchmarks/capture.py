"""What captures cost, lose and survive, through the real processes.

    python benchmarks/capture.py [--minutes 10] [--seconds 60] [--kills 200] [--json FILE]
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
RATES_HZ = (4e6, 6e6, 8e6, 12e6, 16e6, 24e6, 32e6)
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


def rates(seconds: float, folder: Path) -> list[dict[str, Any]]:
    """Rates upward until one does not hold."""
    found = []
    for rate_hz in RATES_HZ:
        found.append(sim(rate_hz, seconds, folder))
        print(line(f"sim at {rate_hz / 1e6:g} MSPS", found[-1]), flush=True)
        if found[-1]["missing"] or found[-1]["code"]:
            break
    return found


def line(name: str, row: dict[str, Any], limit: float | None = None) -> str:
    """One measurement for people."""
    bound = "" if limit is None else f" (goal {limit:g} %)"
    parts = ", ".join(f"{key} {value:.1f}" for key, value in row["running_percent"].items())
    return (
        f"{name}: {row['samples']:,} samples in {row['seconds']:.1f} s, {row['missing']:,} lost; "
        f"processor {row['total_percent']:.1f} % of a core{bound} while it runs: {parts}; "
        f"{row['whole_s']:.2f} s with start and end; ended {row['ended']}, exit code {row['code']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=0.5, help="of the PPK2 (goal: 10)")
    parser.add_argument("--seconds", type=float, default=20, help="of each simulated one (60)")
    parser.add_argument("--kills", type=int, default=10, help="of the writer (200)")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the traces go (default: /tmp)")
    options = parser.parse_args()
    wanted = options.only.split(",")
    found: dict[str, Any] = {"load": os.getloadavg(), "cores": os.cpu_count()}
    print(f"load average {found['load'][0]:.1f} on {found['cores']} cores", flush=True)
    with tempfile.TemporaryDirectory(prefix="capture-", dir=options.folder) as name:
        folder = Path(name)
        if "ppk2" in wanted:
            found["ppk2"] = ppk2(options.minutes * 60, folder)
            print(line("ppk2 at 100 kHz", found["ppk2"], PPK2_LIMIT))
            print(f"  the emulator's own FIFO lost {found['ppk2']['emulator_lost']:,}", flush=True)
        if "sim" in wanted:
            found["sim"] = sim(2e6, options.seconds, folder)
            print(line("sim at 2 MSPS", found["sim"], SIM_LIMIT), flush=True)
        if "rates" in wanted:
            found["rates"] = rates(options.seconds, folder)
            held = [row["rate_hz"] for row in found["rates"] if not row["missing"]]
            print(f"  highest that held for {options.seconds:g} s: {max(held, default=0):g} Hz")
        if "kills" in wanted:
            found["kills"] = kills_report(options.kills, folder)
        if "busy" in wanted:
            found["busy"] = busy_report(options.seconds, folder)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

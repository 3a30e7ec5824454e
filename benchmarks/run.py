"""Run every benchmark and write docs/BENCHMARKS.md anew: ``make bench``.

Each benchmark is a program of its own that prints Markdown and takes ``--json FILE``. This runs
them one after the other, in the order below, and puts what they print into one page with the
command and the machine above it. A figure that is missed is printed as missed; nothing here judges.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "BENCHMARKS.md"
ORDER = ("cuts", "codec", "accuracy", "live", "edge", "imports")
LIBRARIES = ("numpy", "onnx", "onnxruntime", "zstandard", "pillow", "msgspec")


def machine() -> str:
    """One paragraph: processor, cores, kernel, interpreter, libraries."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else platform.machine()
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {libraries}."
    )


def section(name: str, out: Path) -> str:
    """Run one benchmark; its Markdown, or the end of its output if it failed."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py")]
    print(f"{name} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--json", str(out / f"{name}.json")], capture_output=True, text=True, cwd=ROOT
    )
    took = f"{time.monotonic() - started:.0f} s"
    print(f"{name}: exit {done.returncode} after {took}", file=sys.stderr, flush=True)
    body = done.stdout.strip()
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        body = f"{body}\n\n**Exit {done.returncode}.**\n\n```\n{tail}\n```"
    return f"\n<!-- {name} -->\n`python benchmarks/{name}.py` ({took})\n\n{body}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*ORDER, []], help="only these, page untouched")
    arguments = parser.parse_args()
    out = ROOT / "runs" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    if arguments.names:
        print("\n".join(section(name, out) for name in arguments.names))
        return
    head = (
        "# Benchmarks\n\n"
        "Written by `make bench`; do not edit. Speeds are ratios within one run, because machines "
        "are shared and their clocks drift.\n\n"
        f"{datetime.now(UTC):%Y-%m-%d}. {machine()}\n"
    )
    PAGE.write_text(head + "".join(section(name, out) for name in ORDER))
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()

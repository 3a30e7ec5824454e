"""Run every benchmark and write docs/BENCHMARKS.md: ``make bench``.

Each benchmark is a program of its own that prints Markdown and takes ``--json FILE``. This runs
them one after the other and puts what they print into one page, each under the command, the date
and the machine that made it. With names, only those sections are written anew. A figure that is
missed is printed as missed; nothing here judges.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "BENCHMARKS.md"
ORDER = (
    "cuts",
    "cuts_tflite",
    "codec",
    "accuracy",
    "biscuits",
    "engines",
    "overhead",
    "live",
    "edge",
    "imports",
    "mcu_kernels",
    "mcu_coder",
    "mcu_exact",
    "mcu_agreement",
    "mcu_fit",
    "mcu_line",
    "trace",
    "meters",
    "capture",
)
SKIPPED = 77
"""Exit status of a benchmark whose tools are missing; what an earlier run found stands."""
LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "openvino",
    "zstandard",
    "pillow",
    "msgspec",
)
HEAD = """# Benchmarks

Written by `make bench`; do not edit. Speeds are ratios within one run, because machines are shared
and their clocks drift: the same command on another day gives another ratio in the last digit. A
figure that is missed says so.
"""


def machine() -> str:
    """Processor, cores, kernel, interpreter, libraries."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {libraries}"
    )


def section(name: str, out: Path, before: str) -> str:
    """Run one benchmark; its Markdown, or the end of its output if it failed.

    A benchmark whose tools are missing leaves ``before``, or else says what it misses.
    """
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py")]
    print(f"{name} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--json", str(out / f"{name}.json")], capture_output=True, text=True, cwd=ROOT
    )
    took = f"{time.monotonic() - started:.0f} s"
    print(f"{name}: exit {done.returncode} after {took}", file=sys.stderr, flush=True)
    body = done.stdout.strip()
    if done.returncode == SKIPPED:
        print(f"{name}: {body}", file=sys.stderr, flush=True)
        if before:
            return before
    elif done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        body = f"{body}\n\n**Exit {done.returncode}.**\n\n```\n{tail}\n```"
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"\n`python benchmarks/{name}.py`, {when}, {took}, on {machine()}:\n\n{body}\n"


def stored_sections() -> dict[str, str]:
    """The page as it is, by benchmark."""
    if not PAGE.exists():
        return {}
    parts = re.split(r"^<!-- (\w+) -->$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(ORDER)}")
    names = parser.parse_args().names
    if unknown := set(names) - set(ORDER):
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}; known: {', '.join(ORDER)}")
    out = ROOT / "runs" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    for name in names or ORDER:
        made = section(name, out, stored_sections().get(name, ""))
        page = stored_sections() | {name: made}
        ordered = (
            f"\n<!-- {known} -->\n{page[known].strip()}\n" for known in ORDER if known in page
        )
        PAGE.write_text(HEAD + "".join(ordered))


if __name__ == "__main__":
    main()

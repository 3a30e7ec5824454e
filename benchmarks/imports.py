"""What starting a node costs before an engine is loaded: imports against NumPy's, and packages.

Each round starts one fresh interpreter per row, so that a slow moment of the machine hits all rows
alike; the figure is the ratio of medians of processor time, less that of a bare interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
from importlib import metadata
from pathlib import Path

LIMIT_RATIO = 2.5
LIMIT_PACKAGES = 8
BASE = "numpy"
ROWS = {
    "bare interpreter": "pass",
    BASE: "import numpy",
    "waistline_node": "import waistline_node",
    "waistline_node, as a service": "import waistline_node.__main__",
    "the same, about to stream": (
        "import waistline_node.__main__, waistline_node.heads.tensor,"
        "waistline_node.sources.npz, waistline.links.tcp, waistline.task.kinds.classify"
    ),
}


def cpu_s(code: str) -> float:
    """Processor seconds of ``python -c code``, to the microsecond."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{code!r} failed")
    return usage.ru_utime + usage.ru_stime


def measure(rounds: int) -> dict[str, list[float]]:
    for code in ROWS.values():
        cpu_s(code)
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(rounds):
        for name, code in ROWS.items():
            found[name].append(cpu_s(code))
    return found


def node_packages() -> list[str]:
    """Distributions that ``pip install waistline`` brings, from the metadata of those installed."""
    wanted, seen = ["waistline"], set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        for line in metadata.requires(name) or []:
            requirement, _, marker = line.partition(";")
            if "extra" not in marker:
                wanted.append(re.match(r"[\w.-]+", requirement)[0])
    return sorted(seen)


def goal(value: float, limit: float) -> str:
    return f"goal <= {limit}{'' if value <= limit else ', missed'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    times = measure(chosen.rounds)
    medians = {name: statistics.median(row) for name, row in times.items()}
    bare = medians["bare interpreter"]
    ratios = {name: (median - bare) / (medians[BASE] - bare) for name, median in medians.items()}
    packages = node_packages()
    print("## Start of a node\n")
    print(f"Median processor time of {chosen.rounds} interleaved interpreter starts.\n")
    print("| import | ms | ms above bare | x numpy |\n| --- | ---: | ---: | ---: |")
    for name, median in medians.items():
        above = (median - bare) * 1e3
        print(f"| {name} | {median * 1e3:.0f} | {above:.0f} | {ratios[name]:.2f} |")
    service = ratios["waistline_node, as a service"]
    count, listed = len(packages), ", ".join(packages)
    print(f"\n- service module / numpy: **{service:.2f}**, {goal(service, LIMIT_RATIO)}")
    print(f"- packages of a node without a runtime: **{count}**, {goal(count, LIMIT_PACKAGES)}")
    print(f"  ({listed})")
    if chosen.json:
        result = {"cpu_s": medians, "ratio_to_numpy": ratios, "packages": packages}
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Coverage-guided fuzzing of every parser, with atheris (extra ``fuzz``).

    python fuzz/guided.py [TARGET..] [--seconds 60]

Targets: see targets.py. Each runs in a process of its own, with a corpus made at its start, and
ends after ``--seconds`` (FUZZ_SECONDS). An input that breaks one is kept in runs/fuzz/; give it
back with ``--input FILE``. Exit status 5 when something broke, 3 without atheris.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

NAMES = ("wire", "session", "codec", "bundle", "npz")
SECONDS = 60
KEPT = Path(__file__).resolve().parents[1] / "runs" / "fuzz"
MEMORY_MB = 1024
"""Resident, with the instrumented library; an input that takes more is a finding."""
INPUT_S = 10
"""An input that takes longer is a finding, also on a busy machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    seconds = int(float(os.environ.get("FUZZ_SECONDS") or SECONDS))
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=seconds, help="for each (%(default)s)")
    parser.add_argument("--input", type=Path, help="run this input alone")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.targets) - set(NAMES):
        parser.error(f"no target named {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    if chosen.child:
        return child(chosen.targets[0], chosen.seconds)
    if chosen.input:
        return again(chosen.targets, chosen.input)
    if not has_atheris():
        return 3
    failed = [name for name in chosen.targets or NAMES if not fuzz(name, chosen.seconds)]
    print("passed" if not failed else f"FAILED: {', '.join(failed)}; see {KEPT}")
    return 5 if failed else 0


def has_atheris() -> bool:
    try:
        import atheris  # noqa: F401
    except ImportError as error:
        print("error: guided fuzzing needs the Python package 'atheris'", file=sys.stderr)
        print(f"cause: {error}", file=sys.stderr)
        print("fix:   pip install 'waistline[fuzz]'", file=sys.stderr)
        return False
    return True


def again(targets: Sequence[str], path: Path) -> int:
    """One input, uninstrumented, with the traceback if it breaks something."""
    from targets import TARGETS

    for name in targets or (path.name.partition("-")[0],):
        TARGETS[name]().run(path.read_bytes())
    print("nothing broke")
    return 0


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; prints a line, and whether it held."""
    KEPT.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, name, "--child", "--seconds", str(seconds)]
    # The fuzzer ends without clearing anything, so its temporary files lie in a folder of ours.
    with tempfile.TemporaryDirectory(prefix="waistline-fuzz-") as folder:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace",
            env={**os.environ, "TMPDIR": folder},
        )  # fmt: skip
    log = done.stderr
    runs = re.findall(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+)", log, flags=re.MULTILINE)
    count, branches, features = runs[-1] if runs else ("0", "0", "0")
    held = done.returncode == 0 and bool(runs)
    print(
        f"{name:<8} {int(count):>9,} inputs, {int(branches):>5,} branches, "
        f"{int(features):>6,} features: {'held' if held else 'BROKE'}",
        flush=True,
    )
    if not held:
        report = KEPT / f"{name}.log"
        report.write_text(log)
        print("\n".join(log.splitlines()[-25:]))
    return held


def child(name: str, seconds: int) -> int:
    """This process becomes the fuzzer of one target; never returns when it runs."""
    import atheris

    sys.path.insert(0, str(Path(__file__).parent))
    with atheris.instrument_imports(include=["waistline", "drive"]):
        from targets import TARGETS
    target = TARGETS[name]()
    with tempfile.TemporaryDirectory(prefix="waistline-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(target.seeds()):
            (corpus / f"{number:03}").write_bytes(seed)
        dictionary = Path(folder) / "words"
        words = target.words() or [b"WL"]
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={target.max_bytes}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-timeout={INPUT_S}",
            f"-artifact_prefix={KEPT}/{name}-",
            f"-dict={dictionary}",
            "-seed=1",
        ]
        atheris.Setup([sys.argv[0], *options, str(corpus)], target.run)
        atheris.Fuzz()
    return 0


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from waistline.arguments import PROGRAM
from waistline.errors import ConfigError
from waistline_edge.options import parse
from waistline_node.service import parser

NODE = ["B.bundle", "--source", "frames", "--edge", "tcp://127.0.0.1:1"]


def refused(read, arguments: list[str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(arguments)
    lines = caught.value.lines()
    assert [line.partition(":")[0] for line in lines] == ["error", "cause", "fix"]
    return lines


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ([], ["not given BUNDLE, --source, --edge", "BUNDLE --source SOURCE --edge E"]),
        ([*NODE, "--quue", "3"], ["no option '--quue'", "fix:   use --queue"]),
        ([*NODE, "--frobnicate=3"], ["no option '--frobnicate'", "--max-in-flight"]),
        ([*NODE, "more"], ["takes no argument 'more'"]),
        ([*NODE, "--count", "x"], ["--count: 'x' is not a whole number", "end after N frames"]),
        ([*NODE, "--count", "0"], ["--count: 0 is not 1 or more"]),
        ([*NODE, "--rate", "nan"], ["--rate: nan is not above 0"]),
        ([*NODE, "--rate", "fast"], ["--rate: 'fast' is not a number"]),
        ([*NODE, "--pin"], ["--pin: expected one argument"]),
        ([*NODE, "--backend-option", "=1"], ["'=1' is not KEY=VALUE"]),
        ([*NODE, "--rat", "3"], ["no option '--rat'"]),
    ],
)
def test_usage_errors_of_the_node_are_three_lines(arguments, facts):
    text = "\n".join(refused(parser().read, arguments))
    assert all(fact in text for fact in facts), text


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ([], "not given BUNDLE"),
        (["B.bundle", "--listn", "x"], "use --listen"),
        (["B.bundle", "--workers", "two"], "--workers: 'two' is not a whole number"),
        (["B.bundle", "--backend-option", "x"], "'x' is not KEY=VALUE"),
        (["B.bundle", "--listen"], "--listen: expected one argument"),
    ],
)
def test_usage_errors_of_the_edge_are_three_lines(arguments, fact):
    assert fact in "\n".join(refused(parse, arguments))


@pytest.mark.parametrize("module", ["waistline_node", "waistline_edge"])
@pytest.mark.parametrize("program", ["", "waistline something"])
def test_a_process_exits_with_2_under_the_name_it_was_called_by(module, program):
    done = subprocess.run(
        [sys.executable, "-m", module, "--frobnicate"],
        env={**os.environ, PROGRAM: program},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"error: {program or f'python -m {module}'} was not given BUNDLE")


def test_version_and_help_are_no_errors(capsys):
    for read in (parser().read, parse):
        for option in ("--version", "--help"):
            with pytest.raises(SystemExit) as caught:
                read([option])
            assert caught.value.code == 0
    assert capsys.readouterr().out.count("waistline 0") == 2

"""Tool environments, with a Python that stands in for pip and venv."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from waistline import toolenv
from waistline.errors import ConfigError, MissingExtra
from waistline_hostctl.cli import main

SMALL = toolenv.Tool(
    "small", "a test", (f"{sys.version_info.major}.{sys.version_info.minor}",), ("one==1.0",), 1000
)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    monkeypatch.setenv("WAISTLINE_TOOLS", str(tmp_path / "tools"))
    monkeypatch.setattr(toolenv, "TOOLS", {**toolenv.TOOLS, "small": SMALL})
    return tmp_path / "tools"


@pytest.fixture
def steps(monkeypatch):
    """What would be run; venv makes an empty environment, pip does nothing."""
    done = []

    def pretend(command, output, keep=()):
        words = [str(word) for word in command]
        done.append(words)
        if "venv" in words:
            folder = Path(words[-1])
            (folder / "bin").mkdir(parents=True)
            (folder / "pyvenv.cfg").write_text("home = /usr\n")
            (folder / "bin" / "python").write_text("")
        return 0

    monkeypatch.setattr(toolenv, "run_group", pretend)
    return done


def test_what_is_not_installed_is_named_with_the_command(tools):
    assert toolenv.tool_state("small").state == "absent"
    with pytest.raises(MissingExtra, match="a test needs the tool environment 'small'") as caught:
        toolenv.tool_python("small")
    assert caught.value.fix == "waistline tools install small"
    with pytest.raises(ConfigError, match="no tool environment 'none'"):
        toolenv.tool_python("none")


def test_an_installation_ends_with_its_marker(tools, steps):
    said = []
    found = toolenv.install("small", say=said.append)
    assert found.state == "ready"
    assert toolenv.tool_python("small") == tools / "small" / "bin" / "python"
    assert [words[1:3] for words in steps] == [["-m", "venv"], ["-m", "pip"]]
    assert steps[1][-1] == "one==1.0"
    assert "one==1.0" in said[0]
    marker = json.loads((tools / "small" / toolenv.MARKER).read_text())
    assert marker["requirements"] == ["one==1.0"]
    toolenv.install("small")
    assert len(steps) == 2  # nothing to do
    toolenv.install("small", force=True)
    assert len(steps) == 4


def test_other_requirements_make_it_outdated(tools, steps, monkeypatch):
    toolenv.install("small")
    newer = toolenv.Tool("small", "a test", SMALL.pythons, ("one==2.0",), 1000)
    monkeypatch.setitem(toolenv.TOOLS, "small", newer)
    assert toolenv.tool_state("small").state == "outdated"
    assert toolenv.install("small").state == "ready"
    assert steps[-1][-1] == "one==2.0"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"requirements": 3}', "\x00"])
def test_an_installation_that_did_not_end(tools, steps, content):
    toolenv.install("small")
    (tools / "small" / toolenv.MARKER).write_text(content)
    assert toolenv.tool_state("small").state == "incomplete"
    with pytest.raises(MissingExtra, match="incomplete"):
        toolenv.tool_python("small")
    assert toolenv.install("small").state == "ready"


def test_a_failed_installation_leaves_no_environment(tools, steps, monkeypatch):
    pretend = toolenv.run_group

    def fail(command, output, keep=()):
        if "pip" in map(str, command):
            output.write(b"Collecting one\nERROR: No matching distribution for one\n")
            output.flush()
            return 1
        return pretend(command, output, keep)

    monkeypatch.setattr(toolenv, "run_group", fail)
    with pytest.raises(ConfigError, match="could not be installed") as caught:
        toolenv.install("small")
    assert caught.value.cause == "ERROR: No matching distribution for one"
    assert not (tools / "small").exists()


def test_two_installations_wait_for_each_other(tools, steps):
    said: list[str] = []
    threads = [
        threading.Thread(target=toolenv.install, args=("small",), kwargs={"say": said.append})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(steps) == 2


def test_nothing_else_is_deleted(tools, steps):
    (tools / "small").mkdir(parents=True)
    (tools / "small" / "letters.txt").write_text("dear")
    for act in (toolenv.install, toolenv.remove):
        with pytest.raises(ConfigError, match="is not a tool environment"):
            act("small")
    assert (tools / "small" / "letters.txt").exists()


def test_a_file_in_its_place_is_named(tools, steps):
    tools.mkdir()
    (tools / "small").write_text("dear")
    with pytest.raises(ConfigError, match="is not a tool environment") as caught:
        toolenv.install("small")
    assert "no folder" in caught.value.cause
    assert caught.value.fix
    assert not toolenv.remove("small")
    assert (tools / "small").read_text() == "dear"


def test_what_was_begun_is_cleared_whatever_it_lacks(tools, steps, monkeypatch):
    """As a killed process leaves it, while it builds and while it deletes."""
    monkeypatch.setattr(toolenv, "_clear", lambda folder: None)
    monkeypatch.setattr(toolenv, "write_atomically", _until(toolenv.MARKER))
    with pytest.raises(KeyboardInterrupt):
        toolenv.install("small")
    monkeypatch.undo()
    monkeypatch.setenv("WAISTLINE_TOOLS", str(tools))
    monkeypatch.setattr(toolenv, "TOOLS", {"small": SMALL})
    (tools / "small" / "pyvenv.cfg").unlink()
    assert toolenv.tool_state("small").state == "incomplete"
    assert toolenv.remove("small")
    assert not list(tools.glob("small.begun"))


def _until(last):
    """`write_atomically`, up to the file ``last``."""

    def write(target, data):
        if target.name == last:
            raise KeyboardInterrupt
        target.write_bytes(data)

    return write


def test_a_mark_of_another_folder_is_no_leave_to_delete(tools, steps):
    toolenv.install("small")
    toolenv._begin(tools / "small")
    (tools / "small").rename(tools / "kept")
    (tools / "small").mkdir()
    (tools / "small" / "letters.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not a tool environment"):
        toolenv.remove("small")


_STUBBORN = """#!{python}
import os, subprocess, sys, time
from pathlib import Path
if "-c" in sys.argv:
    print("{version}", sys.executable and __file__)
elif "venv" in sys.argv:
    folder = Path(sys.argv[-1])
    (folder / "bin").mkdir(exist_ok=True)
    if Path({fast!r}).exists():
        (folder / "pyvenv.cfg").write_text("home = /usr")
        (folder / "bin" / "python").symlink_to(__file__)
    else:  # what a venv does: another process writes, and this one waits for it
        code = ("import pathlib, sys, time; folder = pathlib.Path(sys.argv[1])\\n"
                "for k in range(400):\\n"
                "    (folder / f'd{{k}}').mkdir(parents=True); (folder / f'd{{k}}/f').touch()\\n"
                "    time.sleep(0.01)")
        subprocess.run([sys.executable, "-c", code, str(folder / "lib")])
"""
_INSTALL = """
import sys
from pathlib import Path
from waistline import toolenv
from waistline_hostctl.services import ending_on_sigterm

tool = toolenv.Tool("small", "a test", ("{version}",), ("one==1.0",), 1000)
toolenv.TOOLS = {{"small": tool}}
toolenv.find_python = lambda tool: (Path({python!r}), "{version}")
with ending_on_sigterm():
    toolenv.install("small")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_installation_can_be_repeated(tools, tmp_path, number):
    version = SMALL.pythons[0]
    python, fast = tmp_path / "stubborn", tmp_path / "fast"
    python.write_text(_STUBBORN.format(python=sys.executable, version=version, fast=str(fast)))
    python.chmod(0o755)
    code = _INSTALL.format(version=version, python=str(python))
    first = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while not (tools / "small" / "lib" / "d3").exists():
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.02)
    first.send_signal(number)
    _, said = first.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert (tools / "small").exists()
    else:
        assert "KeyboardInterrupt" in said
        assert "OSError" not in said
        assert sorted(path.name for path in tools.iterdir()) == ["small.lock", "small.log"]
    fast.touch()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert toolenv.tool_state("small").state == "ready"
    assert not (tools / "small" / "lib").exists()
    assert not (tools / "small.begun").exists()


def test_remove(tools, steps):
    toolenv.install("small")
    assert toolenv.remove("small")
    assert not toolenv.remove("small")
    assert toolenv.tool_state("small").state == "absent"


def test_a_python_that_is_not_there(tools, monkeypatch):
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("PYENV_ROOT", str(tools))
    with pytest.raises(MissingExtra, match="needs Python 3") as caught:
        toolenv.find_python(toolenv.TOOLS["ncs2"])
    assert "python3.9" in caught.value.fix


def test_a_shim_that_answers_nothing_is_passed_over(tools, monkeypatch):
    tools.mkdir()
    shim = tools / "python3.9"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.9: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    real = tools / "versions" / "3.9.1" / "bin" / "python"
    real.parent.mkdir(parents=True)
    real.write_text(f"#!/bin/sh\necho 3.9 {real}\n")
    real.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tools))
    assert toolenv.find_python(toolenv.TOOLS["ncs2"]) == (real, "3.9")


def test_another_machine(tools, monkeypatch):
    monkeypatch.setattr(toolenv.platform, "machine", lambda: "armv7l")
    with pytest.raises(ConfigError, match="cannot be installed here") as caught:
        toolenv.install("ncs2")
    assert "armv7l" in caught.value.cause


@pytest.fixture
def command(tools, steps, capsys, monkeypatch):
    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["waistline", "tools", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def test_the_command_shows_states(command):
    shown = json.loads(command("install", "small", "--json"))
    assert shown["command"] == "tools"
    assert [(row["name"], row["state"]) for row in shown["tools"]] == [("small", "ready")]
    rows = command("list").splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [
        ["tflite", "absent"],
        ["ncs2", "absent"],
        ["small", "ready"],
    ]
    assert "absent" in command("remove", "small")

"""Tool environments, with a Python that stands in for pip and venv."""

import json
import os
import subprocess
import sys
import threading
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
    run, done = subprocess.run, []

    def pretend(command, **options):
        words = [str(word) for word in command]
        if "-c" in words:
            return run(command, **options)
        done.append(words)
        if "venv" in words:
            folder = Path(words[-1])
            (folder / "bin").mkdir(parents=True)
            (folder / "pyvenv.cfg").write_text("home = /usr\n")
            (folder / "bin" / "python").write_text("")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(toolenv.subprocess, "run", pretend)
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
    pretend = toolenv.subprocess.run

    def fail(command, **options):
        if "pip" in map(str, command):
            options["stdout"].write(b"Collecting one\nERROR: No matching distribution for one\n")
            options["stdout"].flush()
            return subprocess.CompletedProcess(command, 1)
        return pretend(command, **options)

    monkeypatch.setattr(toolenv.subprocess, "run", fail)
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

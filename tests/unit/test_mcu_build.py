"""``waistline mcu build``: compilers that are missing, sizes, and where firmware is looked for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from bridge_help import ROOT, needs_compiler
from mcu_cli_help import call, needs_arm

from waistline_bridge import places
from waistline_hostctl import mcu_build
from waistline_hostctl.mcu_results import McuBuildResult
from waistline_hostctl.results import decode


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAISTLINE_FIRMWARE", str(tmp_path / "looked-at"))
    return tmp_path


def built(*arguments):
    done = call("build", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return decode(done.stdout, McuBuildResult)


def only(tmp_path, monkeypatch, **programs):
    """Nothing is on PATH but these shell scripts."""
    here = tmp_path / "bin"
    here.mkdir()
    for name, script in programs.items():
        (here / name).write_text(f"#!/bin/sh\n{script}\n")
        (here / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(here))


@needs_compiler
def test_the_host_board_needs_no_cross_compiler(tmp_path):
    (board,) = built("--board", "host").boards
    assert Path(board.file) == tmp_path / "looked-at" / "waistline-host"
    assert os.access(board.file, os.X_OK)
    assert board.code_bytes > 0
    assert board.firmware_limit_bytes is None


@needs_arm
def test_sizes_are_held_against_the_board(tmp_path):
    (board,) = built("--board", "nucleo-f446re", "--out", tmp_path / "out").boards
    assert Path(board.file).is_file()
    assert (board.flash_bytes, board.ram_bytes) == (524288, 131072)
    assert 0 < board.image_bytes == board.code_bytes + board.data_bytes
    assert board.memory_bytes <= board.ram_bytes
    assert board.problem == ""


@needs_arm
def test_another_rate_is_another_firmware(tmp_path):
    binary = tmp_path / "looked-at" / "nucleo-f446re.bin"
    contents = []
    for rate in ((), ("--baud", "115200"), ()):
        built("--board", "nucleo-f446re", *rate)
        contents.append(binary.read_bytes())
    assert contents[0] != contents[1]
    assert contents[0] == contents[2]


@needs_compiler
def test_a_folder_that_nobody_looks_at_is_exported(tmp_path):
    done = call("build", "--board", "host", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert f"export WAISTLINE_FIRMWARE={tmp_path / 'out'}" in done.stdout


def test_a_firmware_above_its_limit_is_marked():
    board = mcu_build.BuiltBoard(
        board="b", file="f", code_bytes=9, data_bytes=9, zeroed_bytes=1,
        firmware_limit_bytes=16, flash_bytes=64, ram_bytes=64, problem="code and data: 18 of 16",
    )  # fmt: skip
    result = McuBuildResult(sources="s", folder="f", compiler="c", baud=None, boards=(board,))
    assert "18/16  10/64  over" in mcu_build.text(result)


def test_missing_programs_are_named_with_the_packages_that_bring_them(tmp_path, monkeypatch):
    only(tmp_path, monkeypatch)
    done = call("build")
    assert done.exit_code == 3
    assert "arm-none-eabi-gcc" in done.stderr
    assert mcu_build.APT_ARM in done.stderr
    done = call("build", "--board", "host")
    assert done.exit_code == 3
    assert mcu_build.APT_HOST in done.stderr


def test_a_compiler_without_a_c_library_is_noticed(tmp_path, monkeypatch):
    programs = {mcu_build.GCC: f"echo {mcu_build.NANO}", mcu_build.SIZE: "", "make": ""}
    only(tmp_path, monkeypatch, **programs)
    done = call("build", "--board", "qemu-mps2-an386")
    assert done.exit_code == 3
    assert "has no C library" in done.stderr


def test_what_does_not_compile_says_the_first_error(tmp_path, monkeypatch):
    only(tmp_path, monkeypatch, cc="", make="echo in file >&2; echo x.c:1: error: boo >&2; exit 2")
    done = call("build", "--board", "host")
    assert done.exit_code == 2
    assert "cause: x.c:1: error: boo" in done.stderr
    assert "fix:   see all of it: make -C" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--board", "nothing"), "no firmware for a board 'nothing'"),
        (("--board", "host", "--out", "a folder"), "with ' ' in its name"),
        (("--board", "host", "--out", "a$(touch b)"), "with '$' in its name"),
        (("--board", "host", "--out", "a;b"), "with ';' in its name"),
        (("--board", "host", "--out", "/proc/nothing"), "cannot build into"),
    ],
)
@needs_compiler
def test_what_cannot_be_built_ends_with_2(arguments, what):
    done = call("build", *arguments)
    assert done.exit_code == 2
    assert what in done.stderr


@needs_compiler
def test_a_compiler_variable_of_blanks_is_none(monkeypatch):
    monkeypatch.setenv("HOSTCC", " ")
    assert mcu_build.toolchain_problem(arm=False, host=True) == ("", "")


@pytest.fixture
def making(tmp_path, monkeypatch):
    """For each time that make would run: whether another build was kept out meanwhile."""
    only(tmp_path, monkeypatch, cc="", size="", make="")
    seen = []

    def make(sources, folder, board, baud):
        with held(folder) as alone:
            seen.append(not alone)

    monkeypatch.setattr(mcu_build, "_make", make)
    return seen


@contextlib.contextmanager
def held(folder):
    """The lock of a folder, as another build has it; True where it was to be had."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def test_a_build_keeps_others_out_of_its_folder(tmp_path, making):
    mcu_build.build(["host"], out=tmp_path / "out")
    assert making == [True]
    with held(tmp_path / "out") as free:
        assert free, "and lets them in afterwards"


def test_a_build_waits_for_another_in_its_folder(tmp_path, monkeypatch, making):
    asked, lock = threading.Event(), fcntl.flock

    def flock(descriptor, operation):
        asked.set()
        lock(descriptor, operation)

    (tmp_path / "out").mkdir()
    ends = []
    build = threading.Thread(
        target=lambda: ends.append(mcu_build.build(["host"], out=tmp_path / "out"))
    )
    with held(tmp_path / "out") as free:
        assert free
        monkeypatch.setattr(mcu_build.fcntl, "flock", flock)
        build.start()
        assert asked.wait(60)
        assert not making
    build.join()
    assert [type(end) for end in ends] == [McuBuildResult]
    assert making == [True]


def test_firmware_is_looked_for_where_the_environment_says_then_in_the_checkout(monkeypatch):
    assert places.build_folder().name == "looked-at"
    monkeypatch.delenv("WAISTLINE_FIRMWARE")
    assert places.build_folder() == ROOT / "firmware_bridge" / "firmware" / "build"


def test_an_installed_package_builds_into_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("WAISTLINE_FIRMWARE")
    monkeypatch.setattr(places, "_CHECKOUT", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert places.build_folder().parent == tmp_path / "cache" / "waistline" / "firmware"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.build_folder().parent == tmp_path / ".cache" / "waistline" / "firmware"


def test_an_installation_without_sources_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(places, "_PACKAGED", tmp_path)
    done = call("build", "--board", "host")
    assert done.exit_code == 2
    assert "no firmware sources" in done.stderr


@needs_compiler
def test_a_wheel_builds_firmware_without_the_checkout(tmp_path, monkeypatch):
    pytest.importorskip("hatchling", reason="needs hatchling (extra dev) to build a wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.onnx", "*.npz", "build")
    for room in ("core", "node", "edge", "firmware_bridge", "planner", "calibration", "hostctl"):
        shutil.copytree(ROOT / room, tmp_path / "checkout" / room, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path / "checkout", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    shutil.rmtree(tmp_path / "checkout")
    monkeypatch.delenv("WAISTLINE_FIRMWARE")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for arguments in (["build", "--board", "host"], ["info", "--board", "host"]):
        done = subprocess.run(
            [sys.executable, "-m", "waistline_hostctl", "mcu", *arguments],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "board     host (emulated)" in done.stdout
    assert [path.name for path in tmp_path.glob("cache/waistline/firmware/*/waistline-host")]

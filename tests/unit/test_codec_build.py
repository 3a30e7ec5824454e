"""What an install gets: a library where there is a compiler, a pure wheel where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = "waistline/codec/_waist.so"

pytest.importorskip("hatchling", reason="needs hatchling (extra dev) to build a wheel")


@pytest.fixture
def checkout(tmp_path):
    """A copy, so that building leaves the library of the running tests alone."""
    target = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.onnx", "*.npz")
    for room in ("core", "node", "edge", "firmware_bridge", "planner", "calibration", "hostctl"):
        shutil.copytree(ROOT / room, target / room, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target / name)
    return target


def _build(checkout, **environment):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"]
    done = subprocess.run(
        command, cwd=checkout, env=os.environ | environment, capture_output=True, text=True
    )
    return done, next(iter(checkout.glob("out/*.whl")), None)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler (cc)")
def test_a_compiler_gives_one_wheel_for_the_platform(checkout, tmp_path):
    done, wheel = _build(checkout, WAISTLINE_REQUIRE_NATIVE="1")
    assert done.returncode == 0, done.stderr
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert LIBRARY in archive.namelist()
        archive.extractall(tmp_path / "site")
    code = "from waistline.codec import native; print(native.LIBRARY, native.reason() or 'loaded')"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    environment.pop("WAISTLINE_CODEC", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "site" / LIBRARY), "loaded"]


def test_without_a_compiler_the_wheel_is_pure_and_says_so(checkout):
    done, wheel = _build(checkout, CC="no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "no C compiler (no-such-compiler)" in done.stderr
    with zipfile.ZipFile(wheel) as archive:
        assert LIBRARY not in archive.namelist()
        assert "waistline/codec/native.py" in archive.namelist()


def test_a_required_library_that_cannot_be_built_fails(checkout):
    done, wheel = _build(checkout, CC="no-such-compiler", WAISTLINE_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert wheel is None
    assert "WAISTLINE_REQUIRE_NATIVE=1" in done.stderr

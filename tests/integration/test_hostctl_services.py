"""Services as children: what they say, and that none outlives whoever started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_rig import TIMEOUT_S, cli, start, tiny_model, working_in

from waistline.errors import BundleError, ConfigError, WaistlineError
from waistline_hostctl.services import CHILD, EDGE, NODE, Service


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tiny_model(tmp_path / "tiny.onnx")
    done = cli("split", "tiny.onnx", "--cut", "relu1", "-o", "tiny.bundle", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def streaming(home: Path) -> bool:
    """Whether a run in ``home`` has frames on the way."""
    tables = home.glob("runs/*/.records.*/records.csv")
    return any(table.read_bytes().count(b"\n") > 3 for table in tables)


def running(home: Path, module: str) -> int:
    """The process in ``home`` that runs ``module``."""
    (found,) = (
        pid for pid in working_in(home)
        if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )  # fmt: skip
    return found


def test_a_killed_run_takes_its_services_along(home: Path) -> None:
    with start("run", "tiny.bundle", "--count", "100000", "--rate", "50", cwd=home) as process:
        try:
            wait(lambda: streaming(home) or process.poll() is not None)
            assert len(list(working_in(home))) == 3
        finally:
            process.kill()
    wait(lambda: not list(working_in(home)))


def test_a_service_whose_parent_died_first_does_not_start() -> None:
    """The parent it was told of is another process than the one it has."""
    done = subprocess.run(
        [sys.executable, "-m", CHILD, "1", NODE, "--version"],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == ""


def test_a_run_whose_edge_is_killed_ends_and_says_so(home: Path) -> None:
    with start("run", "tiny.bundle", "--count", "100000", "--rate", "50", cwd=home) as process:
        try:
            wait(lambda: streaming(home) or process.poll() is not None)
            os.kill(running(home, EDGE), signal.SIGKILL)
            _, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "error: the edge ended early" in err
    assert "was killed" in err
    assert not list(home.glob("runs/*/run.json"))
    assert not list(working_in(home))


def test_what_a_service_reports_is_raised_with_its_log(tmp_path: Path) -> None:
    with (
        Service(
            EDGE, ["nowhere.bundle", "--listen", "tcp://127.0.0.1:0"], tmp_path / "log"
        ) as edge,
        pytest.raises(ConfigError, match=r"^edge: .*nowhere\.bundle") as caught,
    ):
        edge.ready()
    assert caught.value.fix
    assert not isinstance(caught.value, BundleError)


def test_a_service_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    with (
        Service("http.server", ["--bind", "127.0.0.1", "0"], tmp_path / "log") as silent,
        pytest.raises(WaistlineError, match="did not start") as caught,
    ):
        silent.ready(timeout_s=0.1)
    assert str(tmp_path / "log") in caught.value.fix
    assert silent.stop() == -signal.SIGTERM


def test_lines_that_are_not_its_own_are_passed_over(tmp_path: Path) -> None:
    """An engine's libraries may print to standard output."""
    module = tmp_path / "noisy.py"
    module.write_text(
        'print("Loading engine...")\nprint("[1]")\nprint("12")\nprint("\\xff{")\n'
        'print(\'{"ready": "noisy"}\')\nprint("bye")\nprint(\'{"summary": "noisy"}\', flush=True)\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        with Service("noisy", [], tmp_path / "log") as service:
            assert service.ready() == {"ready": "noisy"}
            assert service.result() == {"summary": "noisy"}
            assert service.stop() == 0

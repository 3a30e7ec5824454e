"""The command line in this process: exit codes, error lines, what --json says of a failure."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from waistline import plugins
from waistline.errors import LinkError
from waistline_hostctl import doctor, survey
from waistline_hostctl.results import (
    SCHEMA_VERSION,
    DevicesResult,
    DoctorResult,
    ErrorResult,
    Finding,
    VerifyResult,
    decode,
)
from waistline_hostctl.verbs import COMMANDS, group

VERBS = {"demo", "doctor", "devices", "split", "verify", "run", "node", "edge", "report"}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(group, list(arguments))

    return run


def test_every_verb_is_a_file_with_a_line_of_help(call) -> None:
    assert set(plugins.names(COMMANDS)) >= VERBS
    done = call("--help")
    assert done.exit_code == 0
    for verb in VERBS:
        assert f"  {verb}  " in done.output


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys\nfrom waistline_hostctl.verbs import group\n"
        "try:\n    group.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(name for name in sys.modules if name in "
        "{'numpy', 'onnx', 'onnxruntime', 'PIL'} or '.commands.' in name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", sorted(VERBS - {"node", "edge"}))
def test_every_own_verb_has_the_common_options(call, verb: str) -> None:
    done = call(verb, "--help")
    assert done.exit_code == 0
    for option in ("--json", "--bench", "--verbose"):
        assert option in done.output


@pytest.mark.parametrize(
    "arguments",
    [["splt"], ["split"], ["split", "m.onnx", "--frobnicate"], ["run"], ["demo", "--frames", "x"],
     ["split", "m.onnx"], ["split", "m.onnx", "--cut", "1"], ["report", "nowhere"]],
)  # fmt: skip
def test_usage_errors_are_lines_and_exit_2(call, arguments: list[str]) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 3
    assert any(line.startswith("fix:   ") for line in lines)


def test_an_unknown_verb_offers_a_near_one(call) -> None:
    assert "use 'split'" in call("splt").stderr


def test_a_failure_with_json_is_an_object_of_its_own(call) -> None:
    done = call("verify", "nowhere", "--json")
    found = decode(done.stdout, ErrorResult)
    assert found.exit_code == done.exit_code == 2
    assert found.what in done.stderr
    assert json.loads(done.stdout)["schema_version"] == SCHEMA_VERSION


def test_a_traceback_only_with_v(call) -> None:
    assert "Traceback" not in call("verify", "nowhere").stderr
    assert "Traceback" in call("verify", "nowhere", "-v").stderr


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (LinkError("the link broke", fix="mend it"), 4, "error: the link broke"),
        (ZeroDivisionError("one over none"), 1, "error: unforeseen ZeroDivisionError"),
    ],
)
def test_exceptions_end_in_their_exit_code(
    call, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, line: str
) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr(doctor, "examine", fail)
    done = call("doctor")
    assert done.exit_code == code
    assert done.stderr.lstrip().startswith(line)
    assert "Traceback" not in done.stderr


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a survey finds, without one; tests/unit/test_doctor.py makes real ones."""
    row = survey.Surveyed(survey.BACKENDS, "onnxruntime", "CPU", "ok", "onnxruntime 1.2.3")
    monkeypatch.setattr(survey, "survey", lambda packages=(): [row])


@pytest.mark.usefixtures("engines")
def test_doctor_says_what_there_is(call) -> None:
    found = decode(call("doctor", "--json").stdout, DoctorResult)
    names = {finding.name: finding.level for finding in found.findings}
    assert names["engine onnxruntime"] == "ok"
    assert names["python"] == "ok"
    assert {"codec", "onnx", "disk", "processor"} <= set(names)
    assert found.machine.kernel
    assert "numpy" in {row.name for row in found.libraries}


@pytest.mark.usefixtures("engines")
def test_doctor_ends_with_3_when_something_needed_is_missing(
    call, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Finding("onnx", "fail", "not installed", "pip install 'waistline[host]'")
    monkeypatch.setattr(doctor, "_onnx", lambda: missing)
    done = call("doctor")
    assert done.exit_code == 3
    assert "fix onnx: pip install 'waistline[host]'" in done.output


@pytest.mark.usefixtures("engines")
def test_doctor_says_why_the_codec_is_not_compiled(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAISTLINE_CODEC", "numpy")
    found = decode(call("doctor", "--json").stdout, DoctorResult)
    codec = next(finding for finding in found.findings if finding.name == "codec")
    assert codec.level == "warn"
    assert "WAISTLINE_CODEC=numpy is set" in codec.found


@pytest.mark.usefixtures("engines")
def test_devices_as_json(call) -> None:
    found = decode(call("devices", "--json").stdout, DevicesResult)
    assert "onnxruntime" in {row.id for row in found.devices}


def test_an_unknown_bench_key_stops_a_command(call, tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text("[nod]\nthreads = 1\n")
    done = call("demo")
    assert done.exit_code == 2
    assert "unknown key 'nod'" in done.stderr
    assert "write 'node'" in done.stderr
    assert call("demo", "--bench", "other.toml").exit_code == 2


def test_split_names_a_task_that_is_not_there(call) -> None:
    done = call("split", "m.onnx", "--list", "--task", "none.toml")
    assert done.exit_code == 2
    assert "none.toml" in done.stderr


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"\x08\x07\xff\xff\xff\xff"])
def test_models_that_are_none_are_refused(call, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    done = call("split", "m.onnx", "--list")
    assert done.exit_code == 2
    assert "m.onnx" in done.stderr


def test_results_read_back_strictly() -> None:
    with pytest.raises(ValueError, match="missing required field"):
        decode(b'{"command": "verify"}', VerifyResult)


def test_a_pipe_that_closed_early_is_no_traceback() -> None:
    head = subprocess.run(
        f"{sys.executable} -m waistline_hostctl --help | true", shell=True,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in head.stderr
    assert errno.errorcode[errno.EPIPE] not in head.stderr

"""Doctor and devices on machines that lack things: real imports, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from waistline.backends.base import Probe
from waistline_hostctl import devices, doctor, mcu_survey, meter_survey, survey, wheels
from waistline_hostctl import doctor_packages as packages
from waistline_hostctl.commands.devices import text as devices_text
from waistline_hostctl.commands.doctor import text
from waistline_hostctl.console import WIDTH
from waistline_hostctl.mcu_info import choices_text
from waistline_hostctl.meter_list import Instrument, MeterRow
from waistline_hostctl.results import DevicesResult, DoctorResult, Finding, decode
from waistline_hostctl.survey import BACKENDS, LINKS, SOURCES, Surveyed

WAIT_S = 300.0


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Adds packages to, and hides them from, the processes that a test starts."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(stubs))

    class Machine:
        def has(self, package: str, code: str) -> None:
            (stubs / package).mkdir()
            (stubs / package / "__init__.py").write_text(code)

        def lacks(self, *names: str) -> None:
            (stubs / "sitecustomize.py").write_text(
                "import sys\n"
                "class Hidden:\n"
                "    def find_spec(self, name, path=None, target=None):\n"
                f"        if name.partition('.')[0] in {names!r}:\n"
                "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
                "sys.meta_path.insert(0, Hidden())\n"
            )

    return Machine()


def only(rows: list[Surveyed]) -> Surveyed:
    (row,) = rows
    return row


def test_a_missing_package_is_an_extra_with_its_command(machine):
    machine.lacks("onnxruntime")
    row = only(survey.survey_engines(["onnxruntime"]))
    assert row.state == "missing extra"
    assert row.fix.endswith("-m pip install 'waistline[onnxruntime]'")


def test_a_package_that_crashes_is_a_finding_and_the_rest_is_tried(machine):
    machine.has("av", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    rows = {row.name: row for row in survey.survey((SOURCES, LINKS))}
    for name in ("camera", "video"):
        assert rows[name].state == "failed"
        assert "SIGSEGV" in rows[name].detail
        assert rows[name].fix
    assert {rows[name].state for name in ("csv", "folder", "npz", "wav", "tcp", "memory")} == {"ok"}


def test_an_engine_that_hangs_is_a_finding(machine):
    machine.has("onnxruntime", "import time; time.sleep(1000)")
    row = only(survey.survey_engines(["onnxruntime"], timeout_s=3.0))
    assert (row.state, row.detail) == ("failed", "no answer within 3 s")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise ImportError('libstdc++.so.6: version GLIBCXX_3.4.32 not found')", "GLIBCXX"),
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "libgomp"),
        ("raise RuntimeError('built for another processor')", "another processor"),
        ("import os; os._exit(3)", "exit code 3"),
    ],
)
def test_a_package_that_is_there_and_broken_is_no_missing_extra(machine, code, says):
    machine.has("onnxruntime", f"import os; os.write(1, b'noise on stdout')\n{code}")
    row = only(survey.survey_engines(["onnxruntime"]))
    assert row.state == "failed"
    assert says in row.detail


def record(folder: Path, name: str, version: str, *lines: str, files: str = "") -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    body = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines])
    (info / "METADATA").write_text(body + "\n")
    (info / "RECORD").write_text(files)


def test_the_package_of_coral_reefs_is_known(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    record(tmp_path, "pycoral", "0.2.0", "Summary: Simple CLI for Allen Coral Atlas")
    (found,) = [one for one in packages.traps() if one.name == "pycoral"]
    assert found.level == "warn"
    assert "coral reefs" in found.found
    assert "Allen Coral Atlas" in found.found
    assert found.fix == "pip uninstall pycoral"


def test_googles_package_is_let_be(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    record(tmp_path, "pycoral", "2.0.0", files="pycoral/utils/edgetpu.py,,\n")
    assert "pycoral" not in {one.name for one in packages.traps()}


@pytest.mark.parametrize(("numpy", "warned"), [("2.4.6", True), ("1.26.4", False)])
def test_tflite_runtime_beside_numpy_2_is_a_trap(tmp_path, monkeypatch, numpy, warned):
    monkeypatch.syspath_prepend(str(tmp_path))
    record(tmp_path, "tflite-runtime", "2.14.0")
    record(tmp_path, "numpy", numpy)
    found = [one for one in packages.traps() if one.name == "tflite-runtime"]
    assert bool(found) == warned
    assert all(one.state == "wrong version" and "numpy<2" in one.fix for one in found)


REQUIRED = (
    "Requires-Dist: numpy>=1.26",
    "Requires-Dist: msgspec>=99",
    "Requires-Dist: not-there-at-all>=1; extra == 'one'",
    "Requires-Dist: numpy>=1.0; extra == 'two'",
    "Requires-Dist: waistline[two,one]; extra == 'three'",
    "Requires-Dist: numpy<1.5,>=1; extra == 'four'",
    "Requires-Dist: old-engine==2.14.0; (python_version < '3.9') and extra == 'five'",
    "Requires-Dist: numpy>=1; (python_version >= '3.0') and extra == 'six'",
    "Requires-Dist: old-engine==2.14.0; (python_version < '3.9') and extra == 'six'",
)


def test_base_and_extras_come_from_waistlines_own_record(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    record(tmp_path, "waistline", "0.1.0", *REQUIRED)
    base = {one.name: one for one in packages.base()}
    assert (base["numpy"].level, base["msgspec"].level) == ("ok", "fail")
    assert base["msgspec"].fix.endswith("-m pip install 'msgspec>=99'")
    extras = {one.name: one for one in packages.extras()}
    assert {name: one.state for name, one in extras.items()} == {
        "one": "missing extra", "two": "ok", "three": "missing extra", "four": "wrong version",
        "five": "wrong version", "six": "wrong version",
    }  # fmt: skip
    assert "not-there-at-all" in extras["three"].found
    assert extras["one"].fix.endswith("-m pip install 'waistline[one]'")
    assert "Python <3.9 only" in extras["five"].found
    assert "old-engine exists for Python <3.9 only" in extras["six"].found


def waistline(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line with everything that it could write to in ``home``."""
    places = {key: str(home) for key in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    return subprocess.run(
        [sys.executable, "-B", "-m", "waistline_hostctl", *arguments],
        cwd=home, capture_output=True, text=True, timeout=WAIT_S, check=False,
        env={**os.environ, **places},
    )  # fmt: skip


def test_every_extra_says_what_it_is_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert set(project["project"]["optional-dependencies"]) == set(packages._PURPOSES)


def test_doctor_looks_and_writes_nothing(tmp_path, machine):
    home = tmp_path / "home"
    home.mkdir()
    done = waistline(home, "doctor", "--json")
    found = decode(done.stdout, DoctorResult)
    findings = {one.name: one for one in found.findings}
    assert done.returncode == 0, done.stdout
    assert list(home.rglob("*")) == []
    assert {one.group for one in found.findings} >= {"base", "engines", "tools", "sources", "links"}
    assert findings["engine onnxruntime"].state == "ok"
    assert findings["tool ncs2"].fix == "waistline tools install ncs2"
    assert findings["engine coral Edge TPU"].state in {"missing library", "missing device"}
    assert len(found.wheels) == 24
    shown = text(found)
    above = shown.partition("\nto add")[0].partition("\nto mend")[0]
    assert max(map(len, above.splitlines())) <= WIDTH
    assert "\x1b" not in shown
    assert "\x1b[32mok" in text(found, colours=True)


def test_doctor_without_an_engine_ends_with_3(tmp_path, machine):
    machine.lacks("onnxruntime", "ai_edge_litert", "tflite_runtime", "openvino")
    home = tmp_path / "home"
    home.mkdir()
    done = waistline(home, "doctor")
    assert done.returncode == 3
    assert "-m pip install 'waistline[onnxruntime]'" in " ".join(done.stdout.split())
    assert "missing extra: " in done.stdout


def rows(*found: tuple[str, str, str]) -> list[Surveyed]:
    return [Surveyed(BACKENDS, *one, "seen", "a command") for one in found]


def test_states_become_levels(monkeypatch):
    seen = rows(
        ("one", "CPU", "ok"), ("one", "GPU", "missing device"), ("two", "stick 1", "no permission"),
        ("three", "CPU", "wrong version"), ("four", "", "missing extra"), ("five", "", "failed"),
    )  # fmt: skip
    monkeypatch.setattr(survey, "survey", lambda: seen)
    found = {one.name: one for one in doctor.examine().findings if one.group == "engines"}
    assert {name: one.level for name, one in found.items()} == {
        "engine one": "ok", "engine one GPU": "info", "engine two stick 1": "warn",
        "engine three": "warn", "engine four": "info", "engine five": "warn",
    }  # fmt: skip
    assert found["engine two stick 1"].found == "no permission: seen"


def test_a_caller_may_ask_for_some_engines_only(monkeypatch):
    asked = []
    monkeypatch.setattr(survey, "survey_engines", lambda names: asked.append(names) or [])
    found = doctor.examine(only=("onnxruntime",))
    assert {one.group for one in found.findings} == {"base", "engines", "machine"}
    assert asked == [("onnxruntime",)]
    assert found.wheels == ()


def test_devices_say_what_to_paste_and_what_nobody_tried(tmp_path, monkeypatch):
    port = tmp_path / "serial" / "by-id" / "usb-Maker_Board_0123-if00"
    port.parent.mkdir(parents=True)
    port.symlink_to("/dev/null")
    seen = rows(
        ("onnxruntime", "CPU", "ok"), ("openvino", "CPU", "ok"), ("openvino", "GPU.0", "ok"),
        ("coral", "Edge TPU", "missing library"), ("ncs2", "NCS2", "ok"),
    )  # fmt: skip
    monkeypatch.setattr(survey, "survey", lambda packages: seen)
    monkeypatch.setattr(devices._v4l2, "list_devices", lambda dev: [
        devices._v4l2.Device("/dev/video0", "/dev/v4l/by-id/usb-Cam", "A Camera")])  # fmt: skip
    meter = Instrument("serial:1", "/dev/ttyACM0", "a PPK2", untried=True)
    monkeypatch.setattr(meter_survey, "rows", lambda: (
        MeterRow("ppk2", "ok", (meter,)), MeterRow("sim", "ok", detail="simulated"),
        MeterRow("mccdaq", "missing extra", detail="no uldaq", fix="a command")))  # fmt: skip
    found = devices.devices(tmp_path)
    by_id = {row.id: row for row in found}
    assert {row.id: row.tried for row in found} == {
        "onnxruntime": "yes",
        "openvino": "yes",
        "--backend openvino --backend-option device=GPU.0": devices.UNTRIED,
        "coral": devices.UNTRIED,
        "ncs2": devices.UNTRIED,
        "--source camera:/dev/v4l/by-id/usb-Cam": devices.UNTRIED,
        f"--port {port}": devices.UNTRIED,
        "--meter ppk2 --port serial:1": devices.UNTRIED,
        "--meter mccdaq": devices.UNTRIED,
        "--meter sim": "yes",
        **{f"--board {name}": "yes" for name in mcu_survey.emulated_boards()},
    }
    assert by_id["coral"].state == "missing library"
    shown = devices_text(DevicesResult(devices=found))
    assert "\n      --source camera:/dev/v4l/by-id/usb-Cam\n" in shown
    assert "\n      --meter ppk2 --port serial:1\n" in shown
    assert "untried on hardware; no uldaq" in shown
    assert "--meter sim" not in shown
    assert "no serial" not in shown
    assert f"\n      --port {port}\n" in f"{shown}\n"
    assert "no serial port: no USB adapter" in devices_text(DevicesResult(devices=()))


def test_meters_that_crash_the_search_are_one_finding(monkeypatch):
    program = meter_survey.sys.executable
    monkeypatch.setattr(meter_survey.sys, "executable", "/bin/false")
    (row,) = meter_survey.rows()
    assert (row.state, row.detail) == ("failed", "exit code 1")
    (problem, plugged) = meter_survey.findings((row,))
    assert (problem.level, plugged.found) == ("warn", "none is plugged in")
    monkeypatch.setattr(meter_survey.sys, "executable", program)
    found = {row.name: row.state for row in meter_survey.rows()}
    assert found["sim"] == found["replay"] == "ok"
    assert "sim" in next(meter_survey.findings(meter_survey.rows())).found


def test_ports_that_cannot_be_seen_are_not_called_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    monkeypatch.delitem(sys.modules, "waistline_bridge.boards.serial", raising=False)
    monkeypatch.delattr("waistline_bridge.boards.serial", raising=False)
    for shown in (devices_text(DevicesResult(devices=())), choices_text(())):
        assert "no serial port can be seen without pyserial" in shown
        assert "pip install 'waistline[mcu]'" in shown


def test_wheels_are_a_listing_of_names():
    found = wheels.wheels()
    assert {one.architecture for one in found} == {"x86-64", "aarch64", "armv7"}
    assert {one.evidence.value for one in found} == {"published"}
    armv7 = {one.package for one in found if one.architecture == "armv7" and one.file}
    assert armv7 == {"tflite-runtime"}
    assert {one.tag for one in found if one.package == "openvino" and "aarch64" in one.file} == {
        "glibc 2.35"
    }
    shown = wheels.text()
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "published" in shown


def test_what_a_child_says_is_read_up_to_what_it_could_not_finish():
    told = survey._told(b'{"plugin": "a:b", "devices": []}\n{"plugin": "a:c", "dev')
    assert [one.plugin for one in told] == ["a:b"]
    probe = Probe("", "missing library", "needs it", "pip install it")
    (row,) = survey._rows(survey.Told("a:b", (probe,)))
    assert (row.package, row.name, row.state) == ("a", "b", "missing extra")


def test_rows_of_doctor_wrap_and_remedies_come_last():
    long = Finding("engine one", "warn", "words " * 40, "do this", "engines", "failed")
    result = DoctorResult(
        version="1", commit="", machine=doctor.provenance.machine(), libraries=(), findings=(long,)
    )
    shown = text(result).splitlines()
    assert max(map(len, shown)) <= WIDTH
    assert shown[-2:] == ["to mend", "  fix engine one: do this"]

"""``waistline verify --via``: the far side as a process, well-behaved, broken and hostile."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_rig import cli, result, tiny_frames, tiny_model

from waistline.bundle.store import load_bundle
from waistline.errors import (
    BadFrame,
    BundleError,
    ConfigError,
    LinkClosed,
    LinkError,
    LinkTimeout,
    VersionMismatch,
)
from waistline.split import split
from waistline.verification import pipe
from waistline.verification.ends import EndChoice, LocalEnds
from waistline.verify import verify_ends
from waistline_hostctl import far_process
from waistline_hostctl.far import FarEnds
from waistline_hostctl.results import VerifyResult

pytest.importorskip("onnxruntime", reason="the ends run on onnxruntime")
PROBE = f"{shlex.quote(sys.executable)} -m waistline_node.probe"
WAIT_S = 120.0
_PREAMBLE = "import os, sys, signal\nfrom waistline.verification import ends\n"


@pytest.fixture(autouse=True)
def _rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A far side that is killed cannot clear what it received; let that lie with the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("via")
    tiny_frames(folder / "frames.npz", 4)
    model = tiny_model(folder / "tiny.onnx")
    for name, cut in (("cut", "relu1"), ("whole", 6), ("input", 1)):
        split(model, cut, folder / f"{name}.bundle")
    return folder


def far(
    home: Path, command: str, *, name: str = "cut", timeout_s: float = WAIT_S, **more
) -> FarEnds:
    chosen = {"head": EndChoice(), "tail": EndChoice(), **more}
    return FarEnds(load_bundle(home / f"{name}.bundle"), command, timeout_s=timeout_s, **chosen)


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def instead_of_a_run(code: str) -> str:
    """A far side that does this where it should run the head."""
    return python(
        f"{_PREAMBLE}def run_head(self, frame):\n    {code}\n    return own(self, frame)\n"
        "own, ends.LocalEnds.run_head = ends.LocalEnds.run_head, run_head\n"
        "from waistline_node.probe import main\nsys.exit(main())"
    )


@pytest.mark.parametrize("name", ["cut", "whole", "input"])
@pytest.mark.parametrize("at", ["head", "tail", "both"])
def test_a_far_machine_reproduces_what_was_made_here(home, tmp_path, name, at):
    bundle = load_bundle(home / f"{name}.bundle")
    ends = {role: EndChoice() if at in (role, "both") else None for role in ("head", "tail")}
    here = {role: EndChoice() if ends[role] is None else None for role in ends}
    command = f"env TMPDIR={tmp_path} {PROBE}"
    with far(home, command, name=name, **ends) as there, LocalEnds(bundle, **here) as local:
        assert len(list(tmp_path.iterdir())) == 1
        head, tail = (there if ends[role] else local for role in ("head", "tail"))
        report = verify_ends(bundle, head, tail)
    assert report.ok
    assert report.answer_identical
    assert [check.verdict for check in report.tensors] == ["identical"] * len(bundle.cut.tensors)
    assert {report.head_at.name, report.tail_at.name} == {
        command,
        "here" if at != "both" else command,
    }
    assert there.place.machine.python.startswith("CPython")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_lies_there_is_not_sent(home, tmp_path):
    command = f"env TMPDIR={tmp_path} {PROBE}"
    with far(home, command, path=str(home / "cut.bundle")) as there:
        assert list(tmp_path.iterdir()) == []
        assert verify_ends(load_bundle(home / "cut.bundle"), there, there).ok
    with pytest.raises(BundleError, match="another bundle") as caught:
        far(home, PROBE, path=str(home / "input.bundle"))
    assert load_bundle(home / "input.bundle").id[:12] in caught.value.cause


def test_what_the_way_and_the_libraries_print_disturbs_nothing(home):
    talking = instead_of_a_run("os.write(1, b'hello from C'); print('hello from Python')")
    banner = shlex.join(["sh", "-c", f"echo 'Welcome to pi'; exec {talking}"])
    with far(home, banner) as there:
        assert verify_ends(load_bundle(home / "cut.bundle"), there, there).ok
        assert there.noise == "Welcome to pi"


@pytest.mark.parametrize(
    ("command", "kind", "says", "helps"),
    [
        ("sh -c 'echo Last login: now'", LinkError, "Last login: now", "waistline_node"),
        ("sh -c 'nosuchprogram'", LinkError, "exit code 127", "path"),
        (f"{sys.executable} -m waistline_node.prob", LinkError, "No module named", "pip install"),
        ("sh -c 'kill -9 $$'", LinkError, "SIGKILL", "probe"),
        ("sh -c 'echo secret >&2; exit 255'", LinkError, "exit code 255", "probe"),
        ("no-such-program-here", ConfigError, "No such file", "shell"),
        ("sh -c 'unbalanced", ConfigError, "closing quotation", ""),
        ("yes", LinkError, "does not stop", "probe"),
    ],
)  # fmt: skip
def test_a_way_that_leads_nowhere_is_named(home, command, kind, says, helps):
    with pytest.raises(kind) as caught:
        far(home, command)
    assert says in caught.value.cause
    assert helps in caught.value.fix


def test_last_words_are_repeated(home):
    with pytest.raises(LinkError) as caught:
        far(home, "sh -c 'echo ssh: connect to host pi: No route to host >&2; exit 255'")
    assert "No route to host" in caught.value.cause


def test_silence_ends_at_the_deadline(home):
    with pytest.raises(LinkTimeout, match=r"said nothing for 0\.2 s"):
        far(home, "sleep 60", timeout_s=0.2)


@pytest.mark.parametrize(
    "first", [b"", pipe.frame(pipe.Kind.HELLO, bytes(60000))[:24]], ids=["noise", "a message"]
)
def test_a_drip_of_bytes_ends(home, monkeypatch, first):
    """Each byte comes in time, and the message never ends."""
    monkeypatch.setattr(far_process, "MIN_RATE_BYTES_S", 1e6)
    # Imports nothing that takes its time: the first byte has to come in time as well.
    drip = python(
        f"import os, time\nos.write(1, {first!r})\n"
        "while True:\n    os.write(1, b'a'); time.sleep(0.02)"
    )
    with pytest.raises(LinkError) as caught:
        far(home, drip, timeout_s=4.0)
    said = caught.value.what + caught.value.cause
    assert "too slow" in said or "it goes on" in said


def test_a_result_in_tiny_chunks_ends(home, monkeypatch):
    """What counts is the whole message, not each of its frames."""
    slow = instead_of_a_run(
        "from waistline_node import probe; write = probe.Pipe.write; import time\n"
        "    def dribble(self, *frames):\n"
        "        for data in frames:\n"
        "            if data[9] != pipe.Kind.CHUNK: write(self, data); continue\n"
        "            for byte in data[pipe.HEADER_BYTES:]:\n"
        "                write(self, pipe.frame(pipe.Kind.CHUNK, bytes([byte])))\n"
        "                time.sleep(0.05)\n"
        "    from waistline.verification import pipe; probe.Pipe.write = dribble"
    )
    with far(home, slow, timeout_s=WAIT_S) as there:
        monkeypatch.setattr(far_process, "MIN_RATE_BYTES_S", 1e6)
        there._process._timeout_s = 4.0
        with pytest.raises(LinkTimeout, match="too slow"):
            verify_ends(load_bundle(home / "cut.bundle"), there, there)


def test_a_sigterm_ends_the_program_that_leads_there(home, tmp_path):
    mark = tmp_path / "pid"
    waits = python(
        f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    verify = subprocess.Popen(
        [sys.executable, "-m", "waistline_hostctl", "verify", home / "cut.bundle", "--via", waits],
        stderr=subprocess.DEVNULL,
    )
    while not mark.exists() or not mark.read_text():
        assert verify.poll() is None
        time.sleep(0.02)
    pid = int(mark.read_text())
    verify.terminate()
    assert verify.wait(WAIT_S) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_terminal_in_between_is_recognized(home):
    cooked = python(
        "import sys\nfrom waistline.verification import pipe\n"
        "data = pipe.frame(pipe.Kind.HELLO, b'{}').replace(b'\\n', b'\\r\\n')\n"
        "sys.stdout.buffer.write(data); sys.stdout.flush(); sys.stdin.read()"
    )
    with pytest.raises(LinkError, match="as a terminal does") as caught:
        far(home, cooked)
    assert "ssh -T" in caught.value.fix


@pytest.mark.parametrize(
    ("code", "how"),
    [("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"), ("os._exit(7)", "exit code 7")],
)
def test_a_far_side_that_dies_in_its_engine_is_named(home, code, how):
    with far(home, instead_of_a_run(code)) as there, pytest.raises(LinkClosed) as caught:
        verify_ends(load_bundle(home / "cut.bundle"), there, there)
    assert how in caught.value.cause


def test_errors_of_the_far_side_arrive_as_they_are(home):
    with pytest.raises(ConfigError, match="at the far side: there is no backend named 'onnxrun'"):
        far(home, PROBE, head=EndChoice("onnxrun"))
    with far(home, instead_of_a_run("raise ValueError('odd')")) as there:
        with pytest.raises(LinkClosed) as caught:
            verify_ends(load_bundle(home / "cut.bundle"), there, there)
        assert "ValueError: odd" in caught.value.cause


def sends(data: str) -> str:
    return python(
        "import sys, struct, zlib\nfrom waistline.verification import pipe\n"
        f"sys.stdout.buffer.write({data}); sys.stdout.flush(); sys.stdin.read()"
    )


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        ("pipe.frame(pipe.Kind.RESULT, b'{}')", BadFrame, "out of place"),
        ("pipe.frame(pipe.Kind.HELLO, b'[]')", BadFrame, "does not read"),
        ("pipe.frame(pipe.Kind.HELLO, bytes(1 << 17))", BadFrame, "are allowed"),
        ("pipe.frame(pipe.Kind.HELLO, b'{}')[:-1] + b'X'", BadFrame, "fails its CRC-32"),
        ("pipe.MAGIC + bytes(16)", BadFrame, "fails its CRC-32"),
        ("(lambda start: start + struct.pack('<I', zlib.crc32(start)))"
         "(pipe.MAGIC + bytes([9, 1]) + bytes(10))", VersionMismatch, "another version"),
    ],
)  # fmt: skip
def test_a_far_side_that_speaks_otherwise_is_refused(home, data, kind, says):
    with pytest.raises(kind, match=says):
        far(home, sends(data))


def test_the_command_line_says_where_it_ran(home):
    done = cli("verify", "cut.bundle", "--via", PROBE, "--ends", "both", "--source", "frames.npz",
               "--frames", "3", "--threads", "1", "--json", cwd=home)  # fmt: skip
    assert done.returncode == 0
    found = result(done, VerifyResult)
    assert found.ok
    assert found.report.frames.frames == 3
    assert found.report.frames.different == 0
    assert found.report.tail_at.name == PROBE
    shown = cli("verify", "cut.bundle", "--via", PROBE, cwd=home)
    assert shown.returncode == 0
    assert f"waistline {found.report.head_at.waistline}" in " ".join(shown.stdout.split())
    assert max(map(len, shown.stdout.splitlines())) <= 100


def test_a_wrong_head_there_ends_with_5_and_is_explained(home):
    wrong = python(
        f"{_PREAMBLE}def run_head(self, frame):\n"
        "    made = own(self, frame)\n"
        "    values = [v[:, ::-1].copy() for v in made.values]\n"
        "    return ends.HeadRun(self._codec.codes(values), tuple(values))\n"
        "own, ends.LocalEnds.run_head = ends.LocalEnds.run_head, run_head\n"
        "from waistline_node.probe import main\nsys.exit(main())"
    )
    done = cli("verify", "cut.bundle", "--via", wrong, "--json", cwd=home)
    assert done.returncode == 5
    (check,) = result(done, VerifyResult).report.tensors
    assert (check.verdict, check.looks_like) == ("fault", "channels")
    shown = cli("verify", "cut.bundle", "--via", wrong, cwd=home)
    assert shown.returncode == 5
    assert "FAILED" in shown.stdout
    assert "channels in another order" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(
    "flags",
    [("--ends", "tail"), ("--via-bundle", "x"), ("--frames", "3"), ("--backend-option", "x"),
     ("--via", "")],
)  # fmt: skip
def test_flags_that_say_nothing_alone_are_refused(home, flags):
    assert cli("verify", "cut.bundle", *flags, cwd=home).returncode == 2


@pytest.mark.parametrize("timeout_s", ["nan", "inf", "1e300"])
def test_a_timeout_that_is_none_is_refused(home, timeout_s):
    done = cli(
        "verify", home / "cut.bundle", "--via", PROBE, "--timeout-s", timeout_s, cwd=home
    )  # fmt: skip
    assert done.returncode == 2
    assert "--timeout-s" in done.stderr


def test_what_a_far_side_says_does_not_steer_the_terminal(home):
    command = python("import sys; print('\\x1b[2J\\x1b]0;t\\x07', file=sys.stderr); sys.exit(3)")
    done = cli("verify", home / "cut.bundle", "--via", command, cwd=home)
    assert done.returncode == 4
    assert "\\x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr

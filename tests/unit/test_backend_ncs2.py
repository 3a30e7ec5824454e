"""The NCS2's worker over its pipe: sound, lying, dying, hanging, and with other OpenVINOs."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from waistline import toolenv
from waistline.backends import _ncs2_errors as errors
from waistline.backends import _ncs2_worker as worker_side
from waistline.backends import ncs2
from waistline.backends._ncs2_pipe import Worker, worker_file
from waistline.backends._ncs2_worker import HEADER, MAGIC, MAX_JSON_BYTES, MAX_RAW_BYTES
from waistline.backends.base import BackendOptions, load_backend
from waistline.errors import BackendError, ConfigError, MissingExtra
from waistline.tensors import TensorSpec

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fashion" / "model.onnx"
ONE = TensorSpec("y", "float32", (1, 2))
SPEC = {"name": "x", "dtype": "float32", "shape": [1, 2]}
HELLO = {"protocol": 1, "dialect": "none", "version": "0.1-x", "python": "3", "devices": ["CPU"]}

LIAR = """
import json, os, struct, sys, time
HEADER = struct.Struct("<4sIQ")
def ask():
    magic, size, raw = HEADER.unpack(sys.stdin.buffer.read(HEADER.size))
    body = json.loads(sys.stdin.buffer.read(size))
    sys.stdin.buffer.read(raw)
    return body
def say(body, raw=b"", magic=b"WNC2", json_len=None, raw_len=None):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    sys.stdout.buffer.write(HEADER.pack(
        magic, len(text) if json_len is None else json_len, len(raw) if raw_len is None else raw_len
    ) + text + raw)
    sys.stdout.buffer.flush()
"""


def liar(code, timeout_s=20.0):
    """A worker that does what ``code`` says instead."""
    return Worker([sys.executable, "-c", LIAR + code], timeout_s)


def stand_in(folder, code):
    """An interpreter that runs ``code`` whatever it is given."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{LIAR}\n{code}")
    path.chmod(0o755)
    return str(path)


def backend(**extra):
    return load_backend("ncs2", "onnx", BackendOptions(extra={"device": "CPU", **extra}))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def model(tmp_path):
    """A file for workers that never read it."""
    path = tmp_path / "head.onnx"
    path.write_bytes(b"not read")
    return path


TENSORS = f"tensors=[{json.dumps({'dtype': 'float32', 'shape': [1, 2]})}]"
LIES = {
    "another magic": "say({}, magic=b'HTTP')",
    "text over the limit": f"say(b'', json_len={MAX_JSON_BYTES + 1})",
    "tensors over all limits": "say({}, raw_len=1 << 62)",
    "more tensors than the slice makes": f"say(dict(id=ask()['id'], {TENSORS}), b'0' * 16)",
    "fewer tensors": f"say(dict(id=ask()['id'], {TENSORS}))",
    "no tensors": "say(dict(id=ask()['id'], tensors=[]))",
    "another type": "say(dict(id=ask()['id'], tensors=[dict(dtype='int64', shape=[1])]), b'0' * 8)",
    "another shape": "say(dict(id=1, tensors=[dict(dtype='float32', shape=[2])]), b'0' * 8)",
    "no JSON": "say(b'{', b'0' * 8)",
    "a list": "say([], b'0' * 8)",
    "not UTF-8": r"say(b'{\"a\": \"\xff\"}', b'0' * 8)",
    "the answer to another request": f"say(dict(id=7, {TENSORS}), b'0' * 8)",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_lie_ends_the_worker_and_is_told(lie):
    worker = liar(lie + "\ntime.sleep(60)")
    with pytest.raises(BackendError, match="answer that is none"):
        worker.ask({"op": "run"}, [], [ONE])
    assert not alive(worker.pid)
    with pytest.raises(BackendError, match="answer that is none"):
        worker.ask({"op": "run"}, [], [ONE])


def test_an_announced_size_is_checked_before_it_is_stored():
    import tracemalloc

    worker = liar(f"say({{}}, json_len={MAX_JSON_BYTES}, raw_len={MAX_RAW_BYTES})\ntime.sleep(60)")
    tracemalloc.start()
    with pytest.raises(BackendError):
        worker.ask({"op": "run"}, [], [ONE])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


@pytest.mark.parametrize("size", [0, 1, HEADER.size - 1, HEADER.size, HEADER.size + 5])
def test_a_truncated_answer_is_a_worker_that_ended(size):
    text = b'{"id":1,"tensors":[]}'
    frame = HEADER.pack(MAGIC, len(text), 0) + text
    code = f"ask()\nsys.stdout.buffer.write({frame[:size]!r})\nsys.stdout.buffer.flush()"
    with pytest.raises(BackendError, match="exit status 0"):
        liar(code).ask({"op": "run"})


def test_a_worker_that_dies_is_named_with_its_signal_and_last_words():
    code = (
        "ask()\nprint('first\\nMyriad lost', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 11)"
    )
    with pytest.raises(BackendError, match="SIGSEGV") as caught:
        liar(code).ask({"op": "run"})
    assert caught.value.cause == "Myriad lost"


def test_a_worker_that_ends_by_itself_is_named_with_its_status():
    with pytest.raises(BackendError, match="exit status 3"):
        liar("sys.exit(3)").ask({"op": "run"})


@pytest.mark.parametrize("code", ["time.sleep(600)", "ask()\nos.close(1)\ntime.sleep(600)"])
def test_a_worker_that_hangs_is_ended(code):
    worker = liar(code, timeout_s=1.0)
    with pytest.raises(BackendError, match=r"gave no answer within 1 s|closed its output"):
        worker.ask({"op": "run"}, [np.zeros(1 << 20, np.uint8)])
    assert not alive(worker.pid)


def test_one_that_takes_no_input_but_answers_is_heard():
    """Neither side may wait for the other to read."""
    worker = liar("say(dict(id=1, tensors=[]))\ntime.sleep(60)")
    told, arrays = worker.ask({"op": "run"}, [np.zeros(1 << 22, np.uint8)])
    assert (told["id"], arrays) == (1, [])
    worker.close()
    assert not alive(worker.pid)


def test_a_flood_of_words_blocks_nothing_and_its_end_is_kept():
    code = (
        "sys.stderr.write('noise\\n' * 200_000 + 'the end\\n')\nsys.stderr.flush()\n"
        "say(dict(id=ask()['id'], tensors=[]))\nask()"
    )
    worker = liar(code)
    worker.ask({"op": "hello"})
    assert worker.printed.endswith("the end\n")
    assert len(worker.printed) < 1 << 16
    worker.close()


def test_a_worker_that_nobody_closes_does_not_stay():
    worker = liar("ask()")
    pid = worker.pid
    del worker
    assert not alive(pid)


BAD_ANSWERS = {
    "another protocol": [{**HELLO, "protocol": 9}],
    "no version": [{"protocol": 1}],
    "no tensors": [HELLO, {}],
    "a tensor without a name": [HELLO, {"inputs": [{"shape": [1]}], "outputs": []}],
    "an absurd shape": [HELLO, {"inputs": [{**SPEC, "shape": [1 << 40]}], "outputs": [SPEC]}],
    "an absurd type": [HELLO, {"inputs": [{**SPEC, "dtype": "object"}], "outputs": [SPEC]}],
}


@pytest.mark.parametrize("answers", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_worker_that_describes_nonsense_is_refused_and_ended(tmp_path, model, answers):
    code = f"""
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
for answer in {answers!r}:
    say(dict(answer, id=ask()["id"], tensors=[]))
ask()
"""
    with pytest.raises(BackendError):
        backend(python=stand_in(tmp_path, code)).open(model)
    assert not alive(int((tmp_path / "pid").read_text()))


def refused_by(tmp_path, model, kind, message, *, device="CPU", said=""):
    """The error for a worker that answers to ``open`` with an error of its own."""
    answer = {"error": kind, "message": message}
    code = f"""
sys.stderr.write({said!r}); sys.stderr.flush()
for answer in [{HELLO!r}, {answer!r}]:
    say(dict(answer, id=ask()["id"], tensors=[]))
ask()
"""
    with pytest.raises(BackendError) as caught:
        backend(python=stand_in(tmp_path, code), device=device).open(model)
    return caught.value


def test_no_stick_and_no_permission_are_told_apart(tmp_path, model):
    usb = tmp_path / "usb"
    for name, vendor in (("1-1", "03e7"), ("1-2", "1d6b"), ("1-3", None)):
        (usb / name).mkdir(parents=True)
        if vendor:
            (usb / name / "idVendor").write_text(vendor + "\n")
    assert errors.usb_sticks(usb) == 1
    assert errors.usb_sticks(tmp_path / "none") == 0
    assert "no permission" in errors.no_stick("openvino 2021.4.2", 1).cause
    assert "udev" in errors.no_stick("openvino 2021.4.2", 1).fix
    assert errors.no_stick("openvino 2021.4.2", 0).what == "there is no NCS2"


def test_a_library_that_is_too_new_is_told(tmp_path, model):
    message = (
        'Check failed at x.cpp:1:\nDevice with "MYRIAD" name is not registered in the OpenVINO'
    )
    error = refused_by(tmp_path, model, "compile", message, device="MYRIAD")
    assert "does not drive an NCS2" in error.what
    assert "waistline tools install ncs2" in error.fix


def test_a_stick_that_does_not_start_is_told(tmp_path, model):
    error = refused_by(tmp_path, model, "compile", "Can not init Myriad device: NC_ERROR")
    assert error.what == "the NCS2 did not start"
    assert "NC_ERROR" in error.cause


def test_an_opset_that_is_too_new_is_told(tmp_path, model):
    warning = "Currently ONNX operator set version: 18 is unsupported. Falling back to: 13\n"
    error = refused_by(tmp_path, model, "read", "axes must be given\n", said=warning)
    assert "opset 18 is newer" in error.what
    assert "opset 13" in error.fix


def test_an_interpreter_without_an_engine_is_told(tmp_path, model):
    error = refused_by(tmp_path, model, "no_engine", "No module named 'openvino'")
    assert "has no OpenVINO" in error.what
    assert error.fix == "waistline tools install ncs2"


def test_one_of_several_sticks_must_be_named(tmp_path, model):
    sticks = {"devices": ["1.2-ma2480", "1.4-ma2480"]}
    code = f"""
for answer in [{HELLO!r}, {sticks!r}]:
    say(dict(answer, id=ask()["id"], tensors=[]))
ask()
"""
    with pytest.raises(ConfigError) as caught:
        backend(python=stand_in(tmp_path, code), device="MYRIAD").open(model)
    assert "MYRIAD.1.4-ma2480" in caught.value.cause
    assert caught.value.fix == "name one: device=MYRIAD.1.2-ma2480"


def test_without_an_interpreter_the_fix_installs_one(tmp_path, model, monkeypatch):
    monkeypatch.setenv("WAISTLINE_TOOLS", str(tmp_path / "tools"))
    with pytest.raises(MissingExtra) as caught:
        backend().open(model)
    assert "waistline tools install ncs2" in caught.value.fix
    assert [one.state for one in ncs2.probe()] == ["missing library"]


def test_an_interpreter_that_is_none_is_refused(tmp_path, model):
    with pytest.raises(BackendError, match="cannot be started"):
        backend(python=str(tmp_path / "absent")).open(model)


@pytest.mark.parametrize(
    ("option", "value"), [("device", "GPU"), ("timeout_s", "0"), ("timeout_s", "x")]
)
def test_options_that_cannot_be_are_refused(option, value):
    with pytest.raises(ConfigError, match=value):
        backend(**{option: value})


def test_the_worker_runs_on_python_3_6():
    ast.parse(worker_file().read_text(), feature_version=(3, 6))
    imported = {
        name.split(".")[0]
        for item in ast.walk(ast.parse(worker_file().read_text()))
        for name in ([item.module] if isinstance(item, ast.ImportFrom) else
                     [one.name for one in item.names] if isinstance(item, ast.Import) else [])
    }  # fmt: skip
    assert imported - set(sys.stdlib_module_names) == {"numpy"}


def talk(*requests):
    """What the worker program answers to bytes, and its exit status."""
    done = subprocess.run(
        [sys.executable, str(worker_file())], input=b"".join(requests), capture_output=True
    )
    return done.stdout, done.returncode


def request(body, raw=b"", **lies):
    text = json.dumps(body).encode()
    sizes = {"json_len": len(text), "raw_len": len(raw), **lies}
    return HEADER.pack(MAGIC, sizes["json_len"], sizes["raw_len"]) + text + raw


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        request({}, json_len=MAX_JSON_BYTES + 1),
        request({}, raw_len=MAX_RAW_BYTES + 1),
        request({"id": 1, "tensors": [{"dtype": "object", "shape": [1]}]}, b"0" * 8),
        request({"id": 1, "tensors": [{"dtype": "int8", "shape": [9]}]}, b"0" * 8),
        request({"id": 1, "tensors": []}, b"0" * 8),
    ],
)
def test_the_worker_checks_its_side_too(sent):
    answered, code = talk(sent)
    magic, size, _ = HEADER.unpack(answered[: HEADER.size])
    told = json.loads(answered[HEADER.size :][:size])
    assert (magic, told["error"], code) == (MAGIC, "protocol", 0)


def test_the_worker_ends_with_its_input():
    assert talk() == (b"", 0)
    assert talk(request({"id": 1})[:9]) == (b"", 0)


def test_sizes_are_multiplied_without_overflow():
    huge = [{"dtype": "float32", "shape": [1 << 31, 1 << 31]}]
    with pytest.raises(worker_side.Refused, match="longer"):
        worker_side.unpack(huge, b"0" * 8)


def _pythons():
    """Interpreters with an engine: this one, and the tool environment where it is installed."""
    found = [sys.executable]
    if toolenv.tool_state("ncs2").state == "ready":
        found.append(str(toolenv.tool_python("ncs2")))
    return found


@pytest.fixture(params=_pythons(), ids=["this", "tool"][: len(_pythons())])
def python(request):
    if request.param == sys.executable:
        pytest.importorskip("openvino", reason="needs openvino: pip install 'waistline[openvino]'")
    return request.param


def test_the_example_agrees_with_onnxruntime(python):
    pytest.importorskip("onnxruntime")
    image = np.random.default_rng(1).random((1, 1, 28, 28), np.float32)
    (wanted,) = load_backend("onnxruntime", "onnx").open(EXAMPLE).run([image])
    piece = backend(python=python).open(EXAMPLE)
    (got,) = piece.run([image])
    info = piece.info()
    profile = piece.profile([image], 2)
    piece.close()
    assert np.abs(got - wanted).max() < 1e-5 * wanted.std()
    assert info["precision"] == "f32", "as on the CPU; the stick computes in f16"
    assert info["dialect"] in {"Core", "runtime.Core", "IECore"}
    assert len(profile.layers) > 10
    assert sum(layer.duration_s for layer in profile.layers) > 0


def test_fifty_slices_leave_no_process_and_no_file_open(tmp_path, model):
    code = f"""
for answer in [{HELLO!r}, {{"inputs": [{SPEC!r}], "outputs": [{SPEC!r}]}}]:
    say(dict(answer, id=ask()["id"], tensors=[]))
ask()
"""
    python = stand_in(tmp_path, code)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("needs /proc")
    before = len(list(Path("/proc/self/fd").iterdir())), children.read_text()
    for _ in range(50):
        backend(python=python).open(model).close()
    assert (len(list(Path("/proc/self/fd").iterdir())), children.read_text()) == before


def test_the_worker_goes_when_its_parent_is_killed(tmp_path, model):
    """Its input ends then; one that hangs in the engine looks for its parent once a second."""
    code = """
import sys, time
from waistline.backends._ncs2_pipe import Worker, worker_file
worker = Worker([sys.executable, str(worker_file())], 60.0)
print(worker.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 60
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)


def test_what_the_library_prints_is_not_taken_for_an_answer(tmp_path):
    """The real worker, with an engine that prints to standard output as it is imported."""
    noisy = tmp_path / "openvino"
    noisy.mkdir()
    (noisy / "__init__.py").write_text(
        "import os\nos.write(1, b'E: Device not found, please check your wiring\\n')\n"
        "print('hello from the library', flush=True)\n"
    )
    code = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[0] = 'w'\n"
    code += f"runpy.run_path({str(worker_file())!r}, run_name='__main__')"
    worker = Worker([sys.executable, "-c", code], 60.0)
    told, _ = worker.ask({"op": "hello", "protocols": [1]})
    assert told["error"] == "no_engine"
    assert "hello from the library" in worker.printed
    worker.close()

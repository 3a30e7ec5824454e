"""The Edge TPU's backend, with small libraries in place of libedgetpu, sound and broken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from waistline.backends import _coral
from waistline.backends._coral_devices import Found, devices
from waistline.backends._tflite_runtime import Runtime
from waistline.backends.base import BackendOptions
from waistline.errors import BackendError, ConfigError, MissingExtra

made = pytest.importorskip("tflite_help", reason="the models are made by LiteRT's schema")
coral = pytest.importorskip("waistline.backends.coral", reason="needs a TFLite runtime")

ROOT = Path(__file__).resolve().parents[2]
# The parts of TensorFlow Lite's C interface (core/c/common.h) that a delegate needs. The sound one
# takes over the only operator and writes 42 into tensor 0, which the models below have as output.
SOURCE = r"""
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
typedef struct { int size, data[1]; } Nodes;
struct Context; struct Delegate;
typedef struct {
  void *(*init)(struct Context *, const char *, size_t);
  void (*free)(struct Context *, void *);
  int (*prepare)(struct Context *, void *), (*invoke)(struct Context *, void *);
  const char *(*profile)(void); int32_t builtin; const char *name; int version; void *more[8];
} Registration;
typedef struct Context {
  size_t count; void *plan; char *tensors; void *impl, *resize;
  void (*report)(struct Context *, const char *, ...); void *add, *node;
  int (*replace)(struct Context *, Registration, const Nodes *, struct Delegate *);
} Context;
typedef struct Delegate {
  void *data; int (*prepare)(Context *, struct Delegate *); void *from, *to, *release;
  int64_t flags; void *more[16];
} Delegate;
static void *init(Context *c, const char *b, size_t n) { return ""; }
static void drop(Context *c, void *b) {}
static int fine(Context *c, void *n) { return 0; }
static int invoke(Context *c, void *n) {
  float *made;
  memcpy(&made, c->tensors + 8, sizeof made);
  for (int k = 0; k < 4; k++) made[k] = 42;
  return 0;
}
static int prepare(Context *c, Delegate *d) {
  Nodes nodes = {1, {0}};
  Registration own = {init, drop, fine, invoke, 0, 0, "Stub", 1};
#ifdef IDLE
  return 0;
#elif defined NEWER
  c->report(c, "Package requires runtime version (14), which is newer than"
               " this runtime version (13).");
  return 1;
#elif defined REFUSES
  c->report(c, "no room for the parameters");
  return 1;
#elif defined CRASHES_LATER
  raise(SIGSEGV);
#endif
  return c->replace(c, own, &nodes, d);
}
#ifdef CRASHES_LOADING
__attribute__((constructor)) static void loaded(void) { raise(SIGSEGV); }
#endif
#ifndef NO_DELEGATE
static Delegate only;
void *tflite_plugin_create_delegate(char **k, char **v, size_t n, void (*report)(const char *)) {
#ifdef NONE
  return 0;
#elif defined CRASHES
  raise(SIGSEGV);
#elif defined ABORTS
  abort();
#elif defined HANGS
  sleep(600);
#endif
  only.prepare = prepare;
  only.flags = 1;
  return &only;
}
void tflite_plugin_destroy_delegate(void *d) {}
#endif
#ifdef VERSION
const char *edgetpu_version(void) { return "stub, RuntimeVersion(14)"; }
#endif
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Compiles a stand-in for libedgetpu that behaves as its name says."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc)")
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "stub.c").write_text(SOURCE)

    def build(kind="VERSION"):
        path = folder / f"lib{kind.lower()}.so"
        if not path.exists():
            command = [compiler, "-shared", "-fPIC", "-w", f"-D{kind}", "-o", path, "stub.c"]
            subprocess.run(command, cwd=folder, check=True)
        return str(path)

    return build


@pytest.fixture
def compiled(tmp_path):
    """A forged model, as if edgetpu_compiler had made it: y (1, 4) = op(x (1, 4)), y first."""
    net = made.Net()
    y = net.tensor([1, 4], "y")
    net.op(made.OPS.CUSTOM, [net.input([1, 4], "x")], [y])

    def name(model):
        model.operatorCodes[0].customCode = "edgetpu-custom-op"

    path = tmp_path / "model_edgetpu.tflite"
    path.write_bytes(made.changed(net.finish(y), name))
    return path


def _open(path, **extra):
    return coral.open_backend(BackendOptions(extra=extra)).open(path)


def _refused(path, **extra):
    with pytest.raises(BackendError) as caught:
        _open(path, **extra)
    assert caught.value.fix
    return caught.value


def test_a_sound_library_runs_the_model(library, compiled):
    opened = _open(compiled, library=library())
    x = np.ones((1, 4), np.float32)
    assert [one.tolist() for one in opened.run([x])] == [[[42.0] * 4]]
    assert opened.info()["device"] == "Edge TPU"
    assert opened.info()["library"] == library()
    assert opened.info()["library_version"] == "stub, RuntimeVersion(14)"
    profile = opened.profile([x], 2)
    assert [(one.name, one.operator) for one in profile.layers] == [("y", "edgetpu-custom-op")]
    opened.close()


@pytest.mark.parametrize(
    ("kind", "what", "cause", "fix"),
    [
        ("NONE", "there is no Edge TPU", "1a6e:089a or 18d1:9302", "plug it in"),
        ("NO_DELEGATE", "is not an Edge TPU library", "tflite_plugin_create", "library=PATH"),
        ("CRASHES", "SIGSEGV", "when it opened the device", "same TensorFlow version"),
        ("ABORTS", "SIGABRT", "when it opened the device", "same TensorFlow version"),
        ("CRASHES_LOADING", "SIGSEGV", "when it was loaded", "same TensorFlow version"),
        ("CRASHES_LATER", "SIGSEGV", "when it was given the model", "same TensorFlow version"),
        ("IDLE", "not the Edge TPU's", "left the operator edgetpu-custom-op", "library=PATH"),
        ("NEWER", "compiled for a newer", "needs runtime version 14", "--min_runtime_version 13"),
        ("REFUSES", "refused the model", "no room for the parameters", "compile"),
    ],
)
def test_what_is_in_the_way_is_told_apart(library, compiled, monkeypatch, kind, what, cause, fix):
    monkeypatch.setattr(_coral, "devices", tuple)
    error = _refused(compiled, library=library(kind))
    assert what in error.what
    assert cause in error.cause
    assert fix in error.fix


def test_every_obstacle_has_a_text_of_its_own(library, compiled, monkeypatch, tmp_path):
    monkeypatch.setattr(_coral, "devices", tuple)
    broken = tmp_path / "libbroken.so"
    broken.write_text("no library")
    choices = [library(kind) for kind in ("NONE", "NO_DELEGATE", "CRASHES", "IDLE", "NEWER")]
    choices += [str(tmp_path / "libabsent.so"), str(broken)]
    texts = [_refused(compiled, library=choice).what for choice in choices]
    texts = [text.replace(choice, "") for text, choice in zip(texts, choices, strict=True)]
    assert len(set(texts)) == len(texts)


def test_a_library_that_is_not_there_or_no_library(compiled, tmp_path):
    absent = _refused(compiled, library=str(tmp_path / "libabsent.so"))
    assert "is not installed" in absent.what
    assert "libabsent.so" in absent.what
    broken = tmp_path / "libbroken.so"
    broken.write_text("no library")
    error = _refused(compiled, library=str(broken))
    assert "cannot be loaded" in error.what
    assert "processor" in error.fix


def test_a_library_that_needs_another(library, compiled, tmp_path):
    needed = tmp_path / "libusb-stub.so"
    shutil.copy(library(), needed)
    source = Path(library()).with_name("stub.c")
    path = tmp_path / "libneeds.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-w", "-Wl,--no-as-needed", "-o", path, source, needed,
         f"-Wl,-rpath,{tmp_path}"],
        check=True,
    )  # fmt: skip
    needed.unlink()
    error = _refused(compiled, library=str(path))
    assert "not installed" in error.what
    assert "libusb-stub.so" in error.what + error.cause


def test_a_library_that_never_answers_is_ended(library, compiled):
    setup = _coral.Setup(_runtime(), library("HANGS"), "")
    verdict = _coral.trial(setup, compiled.read_bytes(), timeout_s=0.5)
    assert verdict.state == "failed"
    assert "0.5 s" in verdict.cause


def test_a_model_that_was_not_compiled(compiled, tmp_path):
    net = made.Net()
    path = tmp_path / "plain.tflite"
    path.write_bytes(net.finish(net.conv(net.input([1, 4, 4, 3]), 2)))
    error = _refused(path)
    assert "not compiled for the Edge TPU" in error.what
    assert "edgetpu_compiler plain.tflite" in error.fix


def _runtime():
    return coral.open_backend(BackendOptions())._setup.runtime


def _no_device(seen, device=""):
    return _coral.no_device(_coral.Setup(_runtime(), "libedgetpu.so.1", device), seen, "busy")


def test_devices_that_are_missing_forbidden_or_taken(tmp_path):
    node = tmp_path / "node"
    node.touch()
    free = Found("usb:0", node, "18d1:9302, ready")
    barred = Found("usb:0", tmp_path / "absent", "18d1:9302, ready")
    card = Found("pci:0", tmp_path / "apex_0", "/dev/apex_0")
    assert _no_device([]).state == "missing device"
    other = _no_device([free], "pci:0")
    assert (other.state, other.fix) == ("missing device", "give device=usb:0")
    assert _no_device([free], "usb:3").state == "missing device"
    forbidden = _no_device([barred])
    assert forbidden.state == "no permission"
    assert "plugdev" in forbidden.fix
    assert str(barred.node) in forbidden.cause
    assert "apex" in _no_device([card]).fix
    taken = _no_device([free], "usb")
    assert taken.state == "failed"
    assert "busy" in taken.cause


def test_devices_are_found_by_their_ids(tmp_path):
    def usb(name, vendor, product, bus, number):
        folder = tmp_path / "sys/bus/usb/devices" / name
        folder.mkdir(parents=True)
        facts = {"idVendor": vendor, "idProduct": product, "busnum": bus, "devnum": number}
        for key, value in facts.items():
            (folder / key).write_text(f"{value}\n")

    assert devices(tmp_path / "sys", tmp_path / "dev") == ()
    usb("1-1", "18d1", "9302", 1, 7)
    usb("1-2", "0bda", "8153", 1, 2)
    usb("2-1", "1a6e", "089a", 2, "x")
    (tmp_path / "sys/bus/usb/devices/1-0:1.0").mkdir()
    node = tmp_path / "dev/bus/usb/001/007"
    node.parent.mkdir(parents=True)
    node.touch()
    (tmp_path / "dev/apex_0").touch()
    found = devices(tmp_path / "sys", tmp_path / "dev")
    assert [one.name for one in found] == ["usb:0", "usb:1", "pci:0"]
    assert [one.permitted for one in found] == [True, False, True]
    assert found[0].node == node


def test_the_probe_tells_every_state(library, monkeypatch, tmp_path):
    node = tmp_path / "node"
    node.touch()
    stick = Found("usb:0", node, "18d1:9302, ready")
    barred = Found("usb:0", tmp_path / "absent", "18d1:9302, ready")

    def probed(kind, *seen):
        monkeypatch.setattr(coral, "devices", lambda: seen)
        monkeypatch.setattr(coral, "LIBRARY", library(kind) if kind else "libabsent.so.1")
        (probe,) = coral.probe()
        assert probe.state == "ok" or probe.fix
        return probe.device, probe.state

    assert probed("") == ("Edge TPU", "missing library")
    assert probed("NONE") == ("Edge TPU", "missing device")
    assert probed("VERSION", barred) == ("Edge TPU usb:0", "no permission")
    assert probed("VERSION", stick) == ("Edge TPU usb:0", "ok")
    assert probed("CRASHES", stick) == ("Edge TPU usb:0", "wrong version")
    assert probed("NONE", stick) == ("Edge TPU usb:0", "failed")


def test_the_probe_survives_a_runtime_that_does_not_work(monkeypatch):
    def broken(name: str) -> Runtime:
        raise BackendError(f"{name} cannot run with NumPy 9", cause="seen", fix="mend it")

    monkeypatch.setattr(coral, "runtime", broken)
    (probe,) = coral.probe()
    assert (probe.state, probe.fix) == ("wrong version", "mend it")


@pytest.mark.parametrize("device", ["gpu", "usb:", "usb:-1", "usb:0 ", "pci:100"])
def test_a_device_that_is_none(device):
    with pytest.raises(ConfigError):
        coral.open_backend(BackendOptions(extra={"device": device}))


def test_the_runtime_can_be_chosen():
    assert _runtime().name in {"litert", "tflite-runtime"}
    with pytest.raises(ConfigError, match="pycoral"):
        coral.open_backend(BackendOptions(extra={"runtime": "pycoral"}))
    for name in {"litert", "tflite-runtime"} - set(coral._INSTALLED):
        with pytest.raises(MissingExtra):
            coral.open_backend(BackendOptions(extra={"runtime": name}))


def test_the_package_of_coral_reefs_is_never_imported(library, compiled):
    code = (
        "import sys; sys.modules['pycoral'] = None\n"
        "from pathlib import Path\n"
        "from waistline.backends.base import load_backend, BackendOptions\n"
        f"options = BackendOptions(extra={{'library': {library()!r}}})\n"
        f"load_backend('coral', 'tflite', options).open(Path({str(compiled)!r})).close()\n"
        "from waistline.backends import coral; coral.probe()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    importing = re.compile(r"^\s*(import|from)\s+pycoral|import_module\(.pycoral", re.MULTILINE)
    rooms = ("core", "node", "edge", "hostctl", "planner", "calibration", "firmware_bridge")
    sources = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert sources
    assert not [path for path in sources if importing.search(path.read_text())]

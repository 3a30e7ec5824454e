"""Ctrl-C at any moment: exit code 130 (0 where all was done), and not one word of a traceback.

Each program is started with SIGINT held back, as `waistline.interrupts.held_back` does, so that the
interpreter's own start, in which no program has a say, is not what is tried.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from edge_rig import fake_bundle

from waistline import interrupts

WAIT_S = 120.0
MOMENTS_S = (0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
WAISTLINE = (sys.executable, "-m", "waistline_hostctl")
ENDINGS = {0, interrupts.INTERRUPTED, -signal.SIGINT}
"""The last: the interpreter has put the default back and is nearly gone; shells make it 130."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("interrupts") / "a.bundle").path


def start(words, folder):
    """A process group of its own, as a shell makes one for each job."""
    with interrupts.held_back():
        return subprocess.Popen(
            list(map(str, words)), cwd=folder, process_group=0,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def interrupted(process, after_s):
    """Interrupt the whole group, as a terminal does; exit code and standard error."""
    time.sleep(after_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    try:
        _, said = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    return process.returncode, said


def quiet(said):
    return not any(word in said for word in ("Traceback", "Exception ignored", "error:"))


@pytest.mark.parametrize("moment_s", MOMENTS_S)
@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("mcu", "info"),
        ("capture", "--meter", "sim", "--duration", "60s"),
        ("run", "BUNDLE", "--count", "3"),
    ],
    ids=lambda words: words[0],
)
def test_an_interrupt_at_any_moment_is_no_traceback(words, moment_s, bundle, tmp_path):
    given = [bundle if word == "BUNDLE" else word for word in words]
    code, said = interrupted(start([*WAISTLINE, *given], tmp_path), moment_s)
    assert code in ENDINGS, said
    assert quiet(said), said


@pytest.mark.parametrize("module", ["waistline_node", "waistline_edge"])
@pytest.mark.parametrize("moment_s", MOMENTS_S[::3])
def test_an_interrupted_service_is_no_traceback(module, moment_s, tmp_path):
    process = start([sys.executable, "-m", module, "--help"], tmp_path)
    code, said = interrupted(process, moment_s)
    assert code in ENDINGS, said
    assert quiet(said), said


_AT_AN_IMPORT = """
import os, signal, sys
count = 0
class Interrupting:
    @staticmethod
    def find_spec(name, path=None, target=None):
        global count
        count += 1
        if count == {number}:
            os.kill(os.getpid(), signal.SIGINT)
from waistline_hostctl.cli import main
sys.meta_path.insert(0, Interrupting)
sys.argv = ["waistline", {words}]
main()
"""


@pytest.mark.parametrize("number", [1, 2, 5, 15, 40, 90, 160])
@pytest.mark.parametrize("words", ["'mcu', 'info'", "'mcu', 'load', 'none', '--board', 'host'"])
def test_an_interrupt_in_an_import_is_one(words, number, tmp_path):
    code = _AT_AN_IMPORT.format(number=number, words=words)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == interrupts.INTERRUPTED, done.stderr
    assert done.stderr.strip() == ""


_IN_A_CALLBACK = """
import os, signal, time, weakref
from waistline import interrupts
class Thing: pass
def gone(reference):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
interrupts.end_at_once()
interrupts.be_raised()
thing = Thing()
kept = weakref.ref(thing, gone)
try:
    del thing
    while True: time.sleep(0.01)
except KeyboardInterrupt:
    print("raised")
"""


def test_an_interrupt_in_a_callback_is_raised_a_moment_later():
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_CALLBACK], capture_output=True, text=True, timeout=WAIT_S
    )
    assert (done.stdout.strip(), done.stderr) == ("raised", "")


_MET_LATER = """
import os, signal, weakref
from waistline import interrupts
class Thing: pass
def gone(reference):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
interrupts.end_at_once()
interrupts.be_raised()
thing = Thing()
kept = weakref.ref(thing, gone)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
del thing
LATER
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
while True: signal.pause()
"""


@pytest.mark.parametrize(
    ("later", "code"),
    [
        ("signal.signal(signal.SIGINT, lambda *_: os._exit(7))", 7),
        ("interrupts.end_at_once()", interrupts.INTERRUPTED),
    ],
    ids=["collected", "ended"],
)
def test_an_interrupt_that_comes_again_is_met_as_one_of_then(later, code):
    done = subprocess.run(
        [sys.executable, "-c", _MET_LATER.replace("LATER", later)],
        capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")


def test_where_interrupts_are_ignored_they_stay_so():
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from waistline import interrupts\n"
        "interrupts.end_at_once(); interrupts.be_raised()\n"
        "signal.raise_signal(signal.SIGINT); print('here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "here"
    assert done.returncode == 0


def test_an_error_that_an_interrupt_caused_is_an_interrupt():
    def half_an_import():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("half of it") from error

    with pytest.raises(ImportError) as caught:
        half_an_import()
    assert interrupts.behind(caught.value)
    assert not interrupts.behind(ImportError("none"))

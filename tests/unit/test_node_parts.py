"""The node's small parts: queues between stages, heads, and what starting it imports."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline.errors import ConfigError
from waistline_node.heads import tensor
from waistline_node.heads.base import HeadChoice
from waistline_node.pipe import Pipe

WAIT_S = 30


def run(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    return thread, found


@given(st.lists(st.integers(), max_size=50), st.integers(1, 5))
def test_a_pipe_keeps_order_and_loses_nothing(items, limit):
    pipe = Pipe(limit)
    thread, found = run(lambda: list(iter(pipe.get, None)))
    for item in items:
        assert pipe.put(item) is None
    pipe.end()
    thread.join(WAIT_S)
    assert found == [items]


def test_a_full_pipe_makes_the_putter_wait():
    pipe = Pipe(1)
    pipe.put(1)
    thread, found = run(lambda: pipe.put(2))
    thread.join(0.05)
    assert thread.is_alive()
    assert pipe.get() == 1
    thread.join(WAIT_S)
    assert found == [None]
    assert pipe.get() == 2


def test_a_dropping_pipe_gives_up_its_oldest():
    pipe = Pipe(2, drop_oldest=True)
    assert [pipe.put(item) for item in range(5)] == [None, None, 0, 1, 2]
    pipe.end()
    assert [pipe.get(), pipe.get(), pipe.get()] == [3, 4, None]


@pytest.mark.parametrize("drop_oldest", [False, True])
def test_closing_lets_both_sides_go(drop_oldest):
    pipe = Pipe(1, drop_oldest=drop_oldest)
    getter, got = run(pipe.get)
    assert pipe.close() == []
    getter.join(WAIT_S)
    assert got == [None]
    assert pipe.put("late") == "late"
    waiting = Pipe(1)
    waiting.put("first")
    putter, refused = run(lambda: waiting.put("second"))
    putter.join(0.05)
    assert waiting.close() == ["first"]
    putter.join(WAIT_S)
    assert refused == ["second"]
    assert waiting.get() is None


def bundle(hints):
    return SimpleNamespace(head=SimpleNamespace(hints={"fake": hints}, format="fake"))


def test_what_the_user_chose_comes_before_what_the_bundle_hints(monkeypatch):
    seen = []
    monkeypatch.setattr(tensor, "open_slice", lambda backend, bundle, stage: None)
    monkeypatch.setattr(tensor, "TensorHead", lambda bundle, piece: piece)
    monkeypatch.setattr(tensor, "load_backend", lambda name, kind, options: seen.append(options))
    hinted = bundle({"threads": "3", "function": "noise", "delay_ms": "1"})
    tensor.open_head(hinted, HeadChoice("fake"))
    tensor.open_head(hinted, HeadChoice("fake", 2, {"delay_ms": "9"}))
    assert [options.threads for options in seen] == [3, 2]
    assert seen[1].extra == {"function": "noise", "delay_ms": "9"}
    tensor.open_head(hinted, HeadChoice())  # the slice's format is at home in the fake engine
    assert seen[2].threads == 3
    for threads in ("many", "9" * 5000):
        with pytest.raises(ConfigError, match=f"'{threads[:20]}'"):
            tensor.open_head(bundle({"threads": threads}), HeadChoice("fake"))


def test_a_node_about_to_stream_has_imported_no_more_than_it_needs():
    code = (
        "import sys, waistline_node.service, waistline_node.heads.tensor;"
        "import waistline_node.sources.npz, waistline.links.tcp; print('\\n'.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"onnx", "onnxruntime", "serial", "click", "PIL", "prometheus_client", "asyncio"}
    assert not loaded & heavy
    assert "importlib.metadata" not in done.stdout.split()

"""``waistline mcu bench --mark``: the marker pin while a head is measured."""

from __future__ import annotations

import json

import mcu_cli_help as help_
import pytest
from bridge_help import needs_compiler
from mcu_cli_help import call, head_file

from waistline.errors import ConfigError
from waistline_bridge.client import Client
from waistline_bridge.messages import Feature, Mark
from waistline_hostctl.markers.ticks import read_ticks
from waistline_hostctl.mcu_mark import MODES, Marking, marking, set_mark

HOST = ("--board", "host")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAISTLINE_FIRMWARE", str(help_.firmware_folder("host")))
    return head_file(tmp_path / "head.blob")


@pytest.mark.parametrize(
    ("mark", "settle_s", "says"),
    [
        (None, 1e-5, "--settle says"),
        ("off", 1e-5, "--settle says"),
        ("edges", None, "no mode 'edges'"),
        ("head", 0.0656, "65600 us"),
        ("head", -1e-6, "cannot settle"),
        ("layers", 2.5e-6, "2.5 us"),
        ("head", float("nan"), "cannot settle"),
        ("pulses", None, "no length"),
    ],
)
def test_what_a_pin_cannot_do_is_refused(mark, settle_s, says):
    with pytest.raises(ConfigError, match=says):
        marking(mark, settle_s)


def test_what_is_asked_for_is_what_the_board_is_told():
    assert marking(None, None) is None
    assert marking("head", None) == Marking(Mark.HEAD, 0)
    assert marking("layers", 20e-6) == Marking(Mark.LAYERS, 20)
    assert marking("pulses", 0.065535) == Marking(Mark.PULSES, 65535)
    assert marking("off", None) == Marking(Mark.OFF, 0)
    assert set(MODES) == {"off", "head", "layers", "pulses"}


class Pin:
    """What `set_mark` needs of a device."""

    def __init__(self, features, emulated):
        self.name, self.emulated, self.told = "board", emulated, []
        self.client = self.info = self
        self.features = features

    def mark(self, mode, settle_us):
        self.told.append((mode, settle_us))


def test_a_real_board_without_a_pin_marks_nothing():
    notes = []
    real = Pin(Feature(0), emulated=False)
    with pytest.raises(ConfigError, match="no marker pin"):
        set_mark(real, Marking(Mark.HEAD, 5), notes.append)
    assert real.told == []
    set_mark(real, Marking(Mark.OFF, 0), notes.append)
    assert notes == []
    with_pin = Pin(Feature.MARKER, emulated=False)
    set_mark(with_pin, Marking(Mark.LAYERS, 5), notes.append)
    assert (with_pin.told, notes) == ([(Mark.LAYERS, 5)], [])
    set_mark(Pin(Feature(0), emulated=True), Marking(Mark.HEAD, 5), notes.append)
    assert len(notes) == 1


@needs_compiler
def test_bench_sets_the_pin_behind_loading_and_waits_at_its_edges(desk, tmp_path, monkeypatch):
    order = []
    for name in ("mark", "infer", "load_blob"):
        method = getattr(Client, name)

        def seen(self, *args, _name=name, _method=method, **more):
            order.append((_name, *args) if _name == "mark" else (_name,))
            return _method(self, *args, **more)

        monkeypatch.setattr(Client, name, seen)
    words = ("--mark", "layers", "--settle", "20ms", "--repeat", 1, "--frames", 1)
    done = call("bench", desk, *HOST, *words, "--json")
    assert done.exit_code == 0, done.stderr
    place = order.index(("mark", Mark.LAYERS, 20_000))
    assert order.index(("load_blob",)) < place
    assert [name for name, *_ in order[place + 1 :]] == ["infer", "infer"]
    found = json.loads(done.stdout)
    assert (found["mark"], found["settle_us"]) == ("layers", 20_000)
    assert "no marker pin" in done.stderr
    # Two layers have three edges; a clock that waits cannot be early.
    assert found["figures"]["infer_duration"]["value"] >= 3 * 20e-3
    path = tmp_path / "bench.json"
    path.write_text(done.stdout)
    assert len(read_ticks(path).of_layers) == 2


@needs_compiler
def test_bench_says_how_the_trace_is_read_and_leaves_the_pin_alone_unless_told(desk):
    shown = call("bench", desk, *HOST, "--mark", "head", "--settle", "50us").stdout
    assert "marker    head, 50 us at each edge, in these 6 runs" in shown
    assert "waistline trace markers TRACE --bit N --mark head --settle 50us --ticks FILE" in shown
    assert max(len(line) for line in shown.splitlines() if not line.startswith("head")) <= 100
    assert "marker    off" in call("bench", desk, *HOST, "--mark", "off").stdout
    assert "marker" not in call("bench", desk, *HOST).stdout


@needs_compiler
@pytest.mark.parametrize(
    "words",
    [("--settle", "20us"), ("--mark", "edges"), ("--mark", "head", "--settle", "1s"),
     ("--mark", "head", "--settle", "soon")],
)  # fmt: skip
def test_the_command_refuses_before_a_board_is_started(desk, monkeypatch, words):
    from waistline_hostctl import mcu_work

    monkeypatch.setattr(mcu_work, "opened", None)
    assert call("bench", desk, *HOST, *words).exit_code == 2

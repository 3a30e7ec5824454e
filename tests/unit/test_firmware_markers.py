"""The marker pin, as QEMU's trace of the board's LED sees it; what ticks are."""

from __future__ import annotations

import re
import time

import pytest
from bridge_help import small_head
from qemu_help import emulated, needs_boards

from waistline_bridge.messages import Feature, Mark

pytestmark = needs_boards

BOARD = "qemu-mps2-an386"
LAYERS = 2
EDGES = {
    Mark.OFF: "",
    Mark.HEAD: "10",
    Mark.LAYERS: "100",
    Mark.PULSES: "10" + "1010",
}
"""Levels written for a head of two layers; with LAYERS the end is low whatever their number."""


def _levels(log):
    written = re.findall(r"mps2_fpgaio_write.*offset 0x0 data 0x([01])", log.read_text())
    return "".join(written)


@pytest.mark.parametrize("settle_us", [0, 40])
def test_each_mode_gives_its_edges(tmp_path, settle_us):
    log = tmp_path / "trace"
    trace = ("-trace", "mps2_fpgaio_write", "-D", str(log))
    blob, values, _ = small_head()
    with emulated(tmp_path, BOARD, *trace, icount="on") as client:
        assert Feature.MARKER in client.info.features
        client.load_blob(blob.bytes())
        assert client.head().layers == LAYERS
        client.load_input(values.tobytes())
        seen, counts = _levels(log), []
        for mode, edges in EDGES.items():
            client.mark(mode, settle_us)
            client.infer()
            counts.append(client.ticks())
            now = _levels(log)
            assert now.removeprefix(seen) == edges, mode
            seen = now
        assert all(ticks == counts[0] for ticks in counts), "ticks are the layers' alone"


def test_an_edge_settles_for_the_time_asked_for(tmp_path):
    blob, values, _ = small_head()
    with emulated(tmp_path, BOARD) as client:
        client.load_blob(blob.bytes())
        client.load_input(values.tobytes())
        client.mark(Mark.LAYERS, 30_000)
        begin = time.monotonic()
        client.infer()
        assert time.monotonic() - begin > len(EDGES[Mark.LAYERS]) * 0.029


@pytest.mark.parametrize(
    ("board", "hz"),
    [
        ("qemu-mps2-an386", 25_000_000),
        ("qemu-mps2-an505", 20_000_000),
        ("qemu-netduinoplus2", 168_000_000),
    ],
)
def test_ticks_are_systicks_where_dwt_does_not_count(tmp_path, board, hz):
    with emulated(tmp_path, board) as client:
        assert Feature.CYCLES not in client.info.features
        assert client.info.tick_source.startswith("SysTick")
        assert client.info.tick_hz == hz

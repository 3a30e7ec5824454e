"""The marker pin as a meter samples it: every mode, through a trace on disk."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyjls", reason="needs the extra capture")

from waistline.errors import MarkerMissing
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Block, TraceSpec
from waistline.trace.jls_read import JlsTrace
from waistline.trace.store import create, open_trace
from waistline_bridge.messages import Mark
from waistline_hostctl.markers.mcu import passes

RATE_HZ = 100_000.0
SETTLE_S = 50e-6
RUNS, LAYERS = 6, 5


def pin(mode: Mark, seed: int) -> tuple[list[float], list[list[tuple[float, float]]]]:
    """Times at which the pin changes, and (begin, end) of the layers of each run, in seconds."""
    rng = np.random.default_rng(seed)
    changes: list[float] = []
    runs, at, level = [], 0.003, 0

    def write(high: int) -> None:
        nonlocal at, level
        if high != level:
            changes.append(at)
            level = high
        at += SETTLE_S

    for _ in range(RUNS):
        layers = []
        if mode == Mark.HEAD:
            write(1)
        for layer in range(LAYERS):
            if mode == Mark.LAYERS:
                write(1 - layer % 2)
            for _ in range(layer + 1 if mode == Mark.PULSES else 0):
                write(1)
                write(0)
            layers.append((at, at + rng.uniform(100e-6, 2e-3)))
            at = layers[-1][1]
        if mode != Mark.PULSES:
            write(0)
        runs.append(layers)
        at += 0.02 + rng.uniform(0, 1e-3)
    return changes, runs


def sampled(path: Path, changes: list[float], length_s: float) -> JlsTrace:
    times = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    logic = (np.searchsorted(changes, times, side="right") % 2).astype(np.uint8)
    spec = TraceSpec(RATE_HZ, (SIGNALS["current"], SIGNALS["d0"]), "sim:1", Evidence.SIMULATED)
    with create(path, spec) as writer:
        writer.write(Block(0, current_a=np.zeros(len(times), np.float32), logic=logic))
    return open_trace(path)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mode", [Mark.HEAD, Mark.LAYERS, Mark.PULSES])
def test_layers_are_where_they_were(tmp_path: Path, mode: Mark, seed: int) -> None:
    changes, runs = pin(mode, seed)
    with sampled(tmp_path / "a.jls", changes, runs[-1][-1][1] + 0.01) as trace:
        found, odd = passes(trace, 0, mode, layers=LAYERS, settle_us=50, longest_s=0.01)
    assert odd == 0
    assert len(found) == RUNS
    for one, layers in zip(found, runs, strict=True):
        truth = [(layers[0][0], layers[-1][1])] if mode == Mark.HEAD else layers
        assert one.layers == tuple(range(len(truth)))
        begins, ends = np.array(truth).T * RATE_HZ
        # Half a sample is all that sampling takes.
        np.testing.assert_allclose(one.begins, begins, atol=0.5 + 1e-6)
        known = ~np.isnan(one.ends)
        np.testing.assert_allclose(one.ends[known], ends[known], atol=0.5 + 1e-6)
        assert known[:-1].all()


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    changes, _ = pin(Mark.PULSES, 1)
    with sampled(tmp_path / "a.jls", changes, 0.01) as trace:
        with pytest.raises(MarkerMissing, match="was off"):
            passes(trace, 0, Mark.OFF, layers=5, settle_us=50)
        with pytest.raises(MarkerMissing, match="too short") as caught:
            passes(trace, 0, Mark.PULSES, layers=5, settle_us=10)
        assert "30 us" in caught.value.fix
        with pytest.raises(MarkerMissing, match="no logic bit"):
            passes(trace, 3, Mark.HEAD, layers=5, settle_us=0)
    with sampled(tmp_path / "b.jls", [], 0.01) as trace:
        with pytest.raises(MarkerMissing, match="no run") as caught:
            passes(trace, 0, Mark.LAYERS, layers=5, settle_us=0)
        assert "changes 0 times" in caught.value.cause

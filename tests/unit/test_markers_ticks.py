"""Ticks of a head against its marker pin: the drift, and layers that the pin does not show."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from waistline.errors import MarkerMissing, TraceError
from waistline.trace.markers import Pass
from waistline_bridge.messages import Mark
from waistline_hostctl.markers.ticks import HeadTicks, LayerTicks, place_ticks, read_ticks

RATE_HZ, TICK_HZ = 100_000.0, 16e6
SETTLE_S = 50e-6
LAYERS_S = (300e-6, 2e-3, 40e-6, 900e-6)
DRIFT = 4e-3


def truth(mode: Mark) -> tuple[np.ndarray, np.ndarray]:
    """(begins, ends) of the layers after the first one's begin, seconds of the board's clock."""
    begins, ends, at = [], [], 0.0
    for k, duration_s in enumerate(LAYERS_S):
        if k and mode == Mark.LAYERS:
            at += SETTLE_S
        if k and mode == Mark.PULSES:
            at += 2 * SETTLE_S * (k + 1)
        begins.append(at)
        at += duration_s
        ends.append(at)
    return np.array(begins), np.array(ends)


def shown(mode: Mark, runs: int, seed: int) -> tuple[list[Pass], list[float]]:
    """What a meter makes of the pin, and where each run truly begins, in samples."""
    rng = np.random.default_rng(seed)
    begins, ends = truth(mode)
    places = (np.arange(runs) * 0.03 + rng.uniform(0.01, 0.02, runs)) * RATE_HZ
    found = []
    for place in places.tolist():
        on = np.ceil(place + begins * (1 + DRIFT) * RATE_HZ) - 0.5
        off = np.ceil(place + ends * (1 + DRIFT) * RATE_HZ) - 0.5
        if mode == Mark.HEAD:
            found.append(Pass((0,), on[:1], off[-1:]))
        else:
            off[-1] = math.nan
            found.append(Pass(tuple(range(len(on))), on, off))
    return found, places.tolist()


def ticks() -> HeadTicks:
    rows = [LayerTicks(round(duration_s * TICK_HZ)) for duration_s in LAYERS_S]
    return HeadTicks(TICK_HZ, (*rows, LayerTicks(12_345, "", "")))


@pytest.mark.parametrize("mode", [Mark.HEAD, Mark.LAYERS, Mark.PULSES])
def test_layers_and_drift_are_found(mode: Mark) -> None:
    seen, places = shown(mode, 40, 3)
    found = place_ticks(seen, ticks(), mode, RATE_HZ, SETTLE_S)
    clock = found.clock
    assert clock.drift == pytest.approx(DRIFT, abs=4 * clock.drift_uncertainty)
    assert clock.drift_uncertainty < 1e-3
    assert clock.residual_s < 6e-6
    begins, ends = truth(mode)
    for one, place in zip(found.passes, places, strict=True):
        assert one.layers == tuple(range(len(LAYERS_S)))
        # All layers of a run share what sampling takes of its begin: half a sample or so.
        np.testing.assert_allclose(one.begins, place + begins * (1 + DRIFT) * RATE_HZ, atol=1.0)
        np.testing.assert_allclose(one.ends, place + ends * (1 + DRIFT) * RATE_HZ, atol=1.0)
    assert clock.place(0.0) == pytest.approx(places[0], abs=1.0)


def test_ticks_of_another_head_are_refused() -> None:
    seen, _ = shown(Mark.HEAD, 5, 1)
    other = HeadTicks(TICK_HZ * 2, ticks().layers)
    with pytest.raises(MarkerMissing, match="not of the head") as caught:
        place_ticks(seen, other, Mark.HEAD, RATE_HZ, SETTLE_S)
    assert "2.0" in caught.value.cause
    single = [Pass((2,), np.array([5.0]), np.array([math.nan]))]
    with pytest.raises(MarkerMissing, match="not of the head"):
        place_ticks(single, ticks(), Mark.PULSES, RATE_HZ, SETTLE_S)


def test_what_the_bench_printed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    rows = [{"name": "conv", "ticks": 5, "shape": "4x4", "share": 1.0}, {"ticks": 2, "shape": ""}]
    path.write_text(json.dumps({"command": "mcu bench", "tick_hz": 25_000_000, "layers": rows}))
    found = read_ticks(path)
    assert [(row.name, row.ticks) for row in found.of_layers] == [("conv", 5)]


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"tick_hz": 0, "layers": [{"ticks": 1}]}', '{"tick_hz": 1e6, "layers": []}',
     '{"tick_hz": 1e6, "layers": [{"ticks": -1}, {"ticks": 5}]}', "[" * 200_000,
     '{"tick_hz": 1e6, "layers": [{"ticks": 0}]}', '{"tick_hz": NaN, "layers": [{"ticks": 1}]}',
     '{"tick_hz": 1e6, "layers": [{"ticks": 99999999999999999999}]}'],
)  # fmt: skip
def test_what_holds_no_ticks_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(TraceError, match="cannot be read"):
        read_ticks(path)

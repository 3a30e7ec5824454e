"""A code in the power: found and placed on traces of the simulated device."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyjls", reason="needs the extra capture")

from waistline.errors import MarkerMissing, TraceError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Block, Gap, TraceSpec
from waistline.trace.coded import CodeAt, Played, clock_of, code, find_code, find_codes, read_played
from waistline.trace.jls_read import JlsTrace
from waistline.trace.store import create, open_trace
from waistline_hostctl.markers import load
from waistline_hostctl.simulated.device import Device, DeviceSpec
from waistline_hostctl.simulated.load import Burst, Layer, Load

RATE_HZ = 20_000.0
CHIP_S = 0.005
BUSY_W = 0.8


def played(seed: int, order: int = 6) -> Played:
    """A code whose chips do not change just when they should."""
    rng = np.random.default_rng(seed)
    chips = code(order).tolist()
    times = 100.0 + np.arange(len(chips) + 1) * CHIP_S + rng.exponential(50e-6, len(chips) + 1)
    return Played(tuple(times.tolist()), tuple(chips))


def trace_of(
    path: Path,
    codes: list[tuple[Played, float]],
    *,
    span_s: float = 2.0,
    noise_w: float = 0.1,
    drift: float = 0.0,
    gap: tuple[int, int] | None = None,
) -> JlsTrace:
    """A device that runs codes from some moments of the trace on, and layers beside."""
    bursts = []
    for one, begin_s in codes:
        times = begin_s + (np.array(one.times_s) - one.times_s[0]) * (1 + drift)
        bursts += [
            Burst(f"c{k}", float(times[k]), float(times[k + 1] - times[k]), BUSY_W)
            for k, chip in enumerate(one.chips)
            if chip
        ]
    layers = tuple(Layer(f"l{k}", 0.01, 0.5) for k in range(5))
    spec = DeviceSpec(
        Load(span_s, 0.3, start_s=0.1, layers=layers, bursts=tuple(bursts)), noise_w=noise_w
    )
    made = Device(spec, RATE_HZ).samples(0, int(span_s * RATE_HZ))
    signals = TraceSpec(RATE_HZ, (SIGNALS["power"],), "sim:1", Evidence.SIMULATED)
    with create(path, signals) as writer:
        if gap:
            writer.write(Block(0, power_w=made.power_w[: gap[0]]))
            writer.gap(Gap(gap[0], gap[1] - gap[0], "counter"))
            writer.write(Block(gap[1], power_w=made.power_w[gap[1] :]))
        else:
            writer.write(Block(0, power_w=made.power_w))
    return open_trace(path)


def off_s(found: CodeAt, one: Played, begin_s: float) -> float:
    """Error of a place, seconds."""
    return found.place / RATE_HZ - (begin_s + found.time_s - one.times_s[0])


@pytest.mark.parametrize("order", range(5, 12))
def test_codes_are_like_themselves_nowhere_else(order: int) -> None:
    signs = 2.0 * code(order) - 1
    spectrum = np.abs(np.fft.fft(signs)) ** 2
    around = np.fft.ifft(spectrum).real
    assert len(signs) == 2**order - 1
    np.testing.assert_allclose(around[1:], -1, atol=1e-6)
    with pytest.raises(ValueError, match="from 5 to 11"):
        code(12)


@pytest.mark.parametrize("seed", range(8))
def test_a_code_is_placed_within_its_uncertainty(tmp_path: Path, seed: int) -> None:
    begin_s = 0.4 + 0.1234567 * seed
    one = played(seed)
    with trace_of(tmp_path / "a.jls", [(one, begin_s)]) as trace:
        found = find_code(trace, one)
    assert abs(off_s(found, one, begin_s)) < 4 * found.uncertainty_s
    assert found.uncertainty_s < 20e-6
    assert found.busy_w == pytest.approx(BUSY_W, rel=0.05)
    assert found.match > 2 * found.rival


def test_errors_are_of_the_size_that_is_claimed(tmp_path: Path) -> None:
    ratios = []
    for seed in range(12):
        one, begin_s = played(seed, 5), 0.5 + 0.0321 * seed
        with trace_of(tmp_path / f"{seed}.jls", [(one, begin_s)], span_s=1.5) as trace:
            found = find_code(trace, one)
        ratios.append(off_s(found, one, begin_s) / found.uncertainty_s)
    assert 0.3 < np.sqrt(np.mean(np.square(ratios))) < 2


def test_two_codes_give_the_drift(tmp_path: Path) -> None:
    first, last = played(1), played(2)
    later = 3.0
    last = Played(tuple(at + later for at in last.times_s), last.chips)
    drift = 120e-6
    between_s = last.times_s[0] - first.times_s[0]
    codes = [(first, 0.3), (last, 0.3 + between_s * (1 + drift))]
    with trace_of(tmp_path / "a.jls", codes, span_s=4.0, drift=drift) as trace:
        found = [
            find_code(trace, first, 0, int(2 * RATE_HZ)),
            find_code(trace, last, int(2 * RATE_HZ)),
        ]
    clock = clock_of(found, RATE_HZ)
    assert clock.drift == pytest.approx(drift, abs=4 * clock.drift_uncertainty)
    moment = first.times_s[0] + 2.0
    expected = (0.3 + 2.0 * (1 + drift)) * RATE_HZ
    off = abs(float(clock.place(moment)) - expected) / RATE_HZ
    assert off < 4 * float(clock.uncertainty_s(moment))


def test_one_code_alone_leaves_the_drift_open() -> None:
    clock = clock_of([CodeAt(5.0, 1000.0, 1e-6, 0.9, 0.1, 1.0)], RATE_HZ, drift=100e-6)
    assert clock.place(5.0) == pytest.approx(1000.0)
    assert clock.place(6.0) == pytest.approx(1000.0 + RATE_HZ)
    assert clock.uncertainty_s(5.0) == pytest.approx(1e-6)
    assert clock.uncertainty_s(15.0) == pytest.approx(1e-3, rel=0.01)


def test_a_gap_costs_precision_only(tmp_path: Path) -> None:
    one = played(3)
    path = tmp_path / "a.jls"
    with trace_of(path, [(one, 0.7)], gap=(15_000, 16_500)) as trace:
        found = find_code(trace, one)
    assert abs(off_s(found, one, 0.7)) < 4 * found.uncertainty_s


def test_a_trace_without_the_code_is_refused(tmp_path: Path) -> None:
    with trace_of(tmp_path / "a.jls", []) as trace, pytest.raises(MarkerMissing, match="not in"):
        find_code(trace, played(1))
    with (
        trace_of(tmp_path / "b.jls", [(played(1), 0.2), (played(1), 1.0)]) as trace,
        pytest.raises(MarkerMissing, match="another 0"),
    ):
        find_code(trace, played(1))


def test_a_stretch_that_is_too_short_is_refused(tmp_path: Path) -> None:
    one = played(1)
    with trace_of(tmp_path / "a.jls", [(one, 0.5)]) as trace:
        for stop in (0, 10, 6_000):
            with pytest.raises(MarkerMissing, match="does not fit"):
                find_code(trace, one, 0, stop)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"times_s": [0, 1], "chips": [2]}', b'{"times_s": [0, 0, 1], "chips": [0, 1]}',
     b'{"times_s": [0, 1, 2], "chips": [1, 1]}', b'{"times_s": [0, 1], "chips": [0, 1]}'],
)  # fmt: skip
def test_what_is_no_code_is_refused(data: bytes) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_played(data)


def test_a_code_is_run_and_noted(tmp_path: Path) -> None:
    chips = code(5).tolist()
    begun_s = time.monotonic()
    one = load.play(chips, 0.002, threads=2)
    assert one.chips == tuple(chips)
    assert one.times_s[0] >= begun_s
    # The code begins two chips after the call at the soonest, and no change of it comes early,
    # however late the machine lets the first one be.
    due = begun_s + 0.002 * (2 + np.arange(len(chips) + 1))
    assert np.all(np.array(one.times_s) >= due - 1e-9)


def test_idle_chips_cost_nothing() -> None:
    before = time.thread_time(), time.monotonic()
    one = load.play([1] + [0] * 30, 0.002)
    spent_s, passed_s = time.thread_time() - before[0], time.monotonic() - before[1]
    assert one.chips == (1,) + (0,) * 30
    assert spent_s < passed_s / 2


def test_the_program_writes_what_can_be_read(tmp_path: Path) -> None:
    target = tmp_path / "played.json"
    module = "waistline_hostctl.markers.load"
    words = [sys.executable, "-m", module, "-o", str(target), "--order", "5", "--chip", "0.001"]
    subprocess.run([*words, "--threads", "1"], check=True, timeout=60)
    assert read_played(target.read_bytes()).chips == tuple(code(5).tolist())
    failed = subprocess.run([*words, "--order", "3"], capture_output=True, timeout=60, check=False)
    assert failed.returncode == 2
    probe = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    assert not {"click", "onnx", "pyjls"} & set(json.loads(shown.stdout))


def test_one_code_played_twice_is_found_twice(tmp_path: Path) -> None:
    first, drift = played(1), 50e-6
    last = Played(tuple(at + 2.5 for at in first.times_s), first.chips)
    codes = [(first, 0.3), (last, 0.3 + 2.5 * (1 + drift))]
    with trace_of(tmp_path / "a.jls", codes, span_s=3.4, drift=drift) as trace:
        clock = clock_of(find_codes(trace, [last, first]), RATE_HZ)
        with pytest.raises(MarkerMissing, match="two places") as caught:
            find_code(trace, first)
        assert "--from" in caught.value.fix
        with pytest.raises(MarkerMissing, match="at one time"):
            find_codes(trace, [first, first])
        late = Played(tuple(at + 9.0 for at in first.times_s), first.chips)
        with pytest.raises(MarkerMissing, match="does not fit"):
            find_codes(trace, [first, late])
    assert clock.drift == pytest.approx(drift, abs=4 * clock.drift_uncertainty)


def test_a_bounded_lag_is_taken_off_by_half_and_stays_uncertain() -> None:
    found = [CodeAt(5.0, 1000.0, 1e-6, 0.9, 0.1, 1.0), CodeAt(9.0, 81_000.0, 1e-6, 0.9, 0.1, 1.0)]
    plain, bounded = clock_of(found, RATE_HZ), clock_of(found, RATE_HZ, lag_s=4e-3)
    assert float(plain.place(7.0) - bounded.place(7.0)) == pytest.approx(2e-3 * RATE_HZ)
    assert float(bounded.uncertainty_s(7.0)) == pytest.approx(4e-3 / np.sqrt(12), rel=1e-3)
    assert bounded.drift_uncertainty == plain.drift_uncertainty
    assert plain.common_s == 0

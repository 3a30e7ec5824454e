"""A capture keeps its result whatever becomes of its page."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from waistline.errors import ConfigError
from waistline.evidence import Evidence
from waistline.instrument import Calibration
from waistline.trace.accuracy import Parts, figures_of, trace_figures
from waistline.trace.base import SIGNALS, Block, Gap, TraceSpec
from waistline.trace.store import create, open_trace
from waistline_hostctl import recording
from waistline_hostctl.capture.page import LONG, with_page
from waistline_hostctl.capture.record import Captured
from waistline_hostctl.capture.signals import Signals
from waistline_hostctl.capture.sums import Sums
from waistline_hostctl.console import Console
from waistline_hostctl.meters.base import MeterInfo
from waistline_hostctl.recording import Rendered


def captured(folder: Path | None, samples: int = 10) -> Captured:
    info = MeterInfo("sim", "test:1", 1e5, (SIGNALS["power"],), Evidence.SIMULATED, False, "none")
    return Captured(
        Path("trace.jls"), folder, info, "duration", {}, {}, (), (), samples=samples, missing=0
    )


def test_interrupts_leave_out_the_page_and_not_the_result(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    monkeypatch.setattr(recording, "report_again", interrupted)
    said, signals = io.StringIO(), Signals()
    with signals.taken():
        found = with_page(captured(tmp_path), signals, Console(beside=said))
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert found == captured(tmp_path)
    assert signals.received == [signal.SIGINT, signal.SIGINT, signal.SIGTERM]
    assert f"waistline report {tmp_path} makes it" in said.getvalue()


def test_what_prevents_a_page_is_said(tmp_path, monkeypatch):
    def full(*_, **__):
        raise ConfigError("no room", cause="the disk is full")

    monkeypatch.setattr(recording, "report_again", full)
    said = io.StringIO()
    assert with_page(captured(tmp_path), Signals(), Console(beside=said)).report is None
    assert "no room (the disk is full)" in said.getvalue()


def test_a_trace_alone_has_no_page_and_a_long_one_is_announced(tmp_path, monkeypatch):
    page = tmp_path / "report.html"
    monkeypatch.setattr(recording, "report_again", lambda *_, **__: Rendered(page, (), ()))
    said = io.StringIO()
    console = Console(beside=said)
    assert with_page(captured(None), Signals(), console).report is None
    assert with_page(captured(tmp_path), Signals(), console).report == page
    assert said.getvalue() == ""
    assert with_page(captured(tmp_path, LONG + 1), Signals(), console).report == page
    assert "Ctrl-C leaves it out" in said.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_the_next_signal_is_raised(number):
    signals = Signals()
    with signals.taken():
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt), signals.raised():
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert signals.received == [number] * 3


def test_a_capture_shows_the_figures_that_its_trace_gives(tmp_path):
    pytest.importorskip("pyjls", reason="needs the extra capture")
    rng = np.random.default_rng(4)
    signals = (SIGNALS["current"], SIGNALS["voltage"])
    spec = TraceSpec(1e5, signals, "test:1", Evidence.SIMULATED)
    known = Calibration(
        current_gain_uncertainty=1e-3, voltage_gain_uncertainty=1e-3, rate_uncertainty=1e-6
    )
    at, sums = 0, Sums(Parts())
    with create(tmp_path / "a.jls", spec) as writer:
        for size in rng.integers(1, 5000, 40).tolist():
            # 0.2 A for a third of each 700 samples, and noise.
            busy = np.arange(at, at + size) % 700 < 233
            current = (0.2 * busy + rng.normal(0.1, 0.01, size)).astype(np.float32)
            block = Block(at, current_a=current, voltage_v=np.full(size, 3.3, np.float32))
            writer.write(block)
            sums.block(block, None)
            gap = Gap(at + size, 37, "counter")
            writer.gap(gap)
            sums.gap(gap)
            at = gap.end
    shown = figures_of(sums.parts, spec, sums.samples, known)
    with open_trace(tmp_path / "a.jls") as trace:
        found = trace_figures(trace, calibration=known)
    assert shown.keys() == found.keys()
    for name, figure in shown.items():
        assert found[name].value == pytest.approx(figure.value, rel=1e-6)
        assert found[name].n == figure.n
        assert found[name].standard_uncertainty == pytest.approx(
            figure.standard_uncertainty, rel=1e-3
        )

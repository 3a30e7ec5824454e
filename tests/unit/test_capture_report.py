"""The tables and the page of a capture, made of traces whose truth is known."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import numpy as np
import pytest

pytest.importorskip("pyjls")

from waistline.bench import Bench, ResolvedBench
from waistline.errors import ConfigError, TraceError
from waistline.evidence import Evidence
from waistline.instrument import Calibration
from waistline.run import load_run, pretty, read_table
from waistline.trace.accuracy import SETTING
from waistline.trace.base import SIGNALS, Annotation, Block, Gap, TraceSpec
from waistline.trace.rewrite import rewrite
from waistline.trace.store import create, open_trace
from waistline_hostctl.capture.record import record_of
from waistline_hostctl.meters._ledger import Ledger, Loss
from waistline_hostctl.meters.base import MeterInfo
from waistline_hostctl.page.quantity import spread_of, value, whole, with_spread
from waistline_hostctl.recording import report_again
from waistline_hostctl.trace_svg import Picture, _lanes

RATE_HZ = 1000.0
KNOWN = Calibration(current_gain_uncertainty=0.01, supply_uncertainty_v=0.02)


def folder_of(tmp_path, samples, *, gaps=(), notes=(), logic=None, evidence=Evidence.SIMULATED):
    """A run folder as a capture leaves it before its page: a current at 2 V, and run.json."""
    folder = tmp_path / "run"
    folder.mkdir(parents=True)
    bits = () if logic is None else (SIGNALS["d0"],)
    info = MeterInfo(
        "sim", "test:1", RATE_HZ, (SIGNALS["current"], *bits), evidence, False, "counter",
        supply_v=2.0, details={SETTING: msgspec.to_builtins(KNOWN)},
    )  # fmt: skip
    spec = TraceSpec(RATE_HZ, info.signals, info.id, evidence, supply_v=2.0)
    ledger = Ledger("counter", balance=0.0)
    with create(folder / "trace.jls", spec) as writer:
        at = 0
        for gap in (*gaps, Gap(len(samples), 0, "counter")):
            if gap.first > at:
                part = None if logic is None else logic[at : gap.first]
                writer.write(Block(at, current_a=samples[at : gap.first], logic=part))
            ledger.kept += gap.first - at
            if gap.count:
                writer.gap(gap)
                low, high = (gap.count if b is None else b for b in (gap.low, gap.high))
                ledger.hole(Loss(gap.first, gap.count, low, high, 0, gap.kind))
            at = gap.end
        for note in notes:
            writer.annotate(note)
        missing = sum(gap.count for gap in gaps)
        told = {"ended": "duration", "problems": [], "samples": at, "missing": missing}
        told["ledger"] = ledger.as_dict()
        record = record_of("run", datetime.now(UTC), ResolvedBench(Bench(), {}, ""), info, told)
        writer.user_data(msgspec.json.encode(record))
        writer.close(msgspec.json.encode(ledger.as_dict()))
    (folder / "run.json").write_bytes(pretty(record))
    return folder


def made(folder):
    """The page, and the rows of a table by its name."""
    page = report_again(folder, recompute=True).path.read_text()
    names = [row.name for row in load_run(folder).tables]
    return page, {name: read_table(folder, name).dicts() for name in names}


def ramp(count=4000):
    return np.linspace(0.1, 0.5, count, dtype=np.float32)


def joules(samples):
    return float(samples.sum(dtype=np.float64)) * 2.0 / RATE_HZ


def test_segments_of_every_origin_have_the_energy_of_their_samples(tmp_path):
    samples, logic = ramp(), np.zeros(4000, np.uint8)
    logic[100:200] = 1
    notes = [
        Annotation(500, "segment", "stored", 700),
        Annotation(1000, "marker", "run-begin"),
        Annotation(1200, "marker", "run-begin"),
        Annotation(1300, "marker", "run-end"),
        Annotation(1500, "marker", "run-end"),
        Annotation(1600, "marker", "alone-begin"),
    ]
    page, rows = made(folder_of(tmp_path, samples, notes=notes, logic=logic))
    found = {(row["name"], round(row["begin_s"] * RATE_HZ)): row for row in rows["segments"]}
    assert set(found) == {("stored", 500), ("run", 1000), ("run", 1200), ("D0 high", 100)}
    assert found["stored", 500]["energy_j"] == pytest.approx(joules(samples[500:700]), rel=1e-9)
    assert found["run", 1000]["energy_j"] == pytest.approx(joules(samples[1000:1500]), rel=1e-9)
    assert found["run", 1200]["energy_j"] == pytest.approx(joules(samples[1200:1300]), rel=1e-9)
    # The bit changed between two samples: half of each is in.
    assert found["D0 high", 100]["samples"] == 100
    assert {row["state"] for row in rows["segments"]} == {"whole"}
    assert [row["text"] for row in rows["markers"]] == ["alone-begin"]
    assert "alone-begin" in page


def test_a_gap_of_unknown_size_makes_a_segment_invalid_and_a_known_one_only_smaller(tmp_path):
    samples = ramp()
    gaps = [Gap(1000, 50, "counter"), Gap(3000, 64, "counter", 0, 128)]
    notes = [Annotation(900, "segment", "holed", 1200), Annotation(2900, "segment", "void", 3200)]
    page, rows = made(folder_of(tmp_path, samples, gaps=gaps, notes=notes))
    holed, void = rows["segments"]
    there = np.concatenate([samples[900:1000], samples[1050:1200]])
    assert holed["energy_j"] == pytest.approx(joules(there), rel=1e-9)
    assert (holed["state"], holed["missing"]) == ("samples lost", 50)
    assert void["energy_j"] is None
    assert void["mean_power_w"] is None
    assert void["state"] == "gap of unknown size"
    assert [(row["count"], row["known"]) for row in rows["gaps"]] == [(50, True), (64, False)]
    assert "0 to 128" in page
    assert "cannot be trusted" in page
    account = {row["entry"]: row["count"] for row in rows["account"]}
    assert account["kept"] + account["lost"] == account["in the trace"] == 4000
    assert (account["not accounted for"], account["without a value"]) == (0, 114)
    assert account["closes"] == 0


def test_what_the_uncertainty_is_made_of_adds_up_and_a_baseline_shares_it(tmp_path):
    random = np.random.default_rng(1)
    samples = (0.5 + random.normal(0, 0.01, 8000)).astype(np.float32)
    samples[:2000] -= 0.4
    notes = [Annotation(0, "segment", "idle", 2000)]
    folder = folder_of(tmp_path, samples, notes=notes)
    _, rows = made(folder)
    figures = load_run(folder).figures
    for name in ("energy_j", "mean_power_w", "mean_current_a", "duration_s"):
        terms = [row["contribution"] for row in rows["terms"] if row["figure"] == name]
        assert math.hypot(*terms) == pytest.approx(figures[name].standard_uncertainty)
    above = figures["energy_above_baseline_j"]
    idle_w = 2.0 * float(samples[:2000].mean(dtype=np.float64))
    assert figures["baseline_power_w"].value == pytest.approx(idle_w)
    assert above.value == pytest.approx(figures["energy_j"].value - 8 * idle_w)
    # 1 % of the scale and 1 % of the supply are shared: of the difference, not of both in turn.
    shared = math.hypot(0.01, 0.01) * above.value
    assert above.standard_uncertainty == pytest.approx(shared, rel=0.05)
    assert figures["peak_power_w"].value == pytest.approx(2 * float(samples.max()), rel=1e-6)


def test_recomputing_gives_the_same_bytes_and_says_what_run_json_lied_about(tmp_path):
    folder = folder_of(tmp_path, ramp(), notes=[Annotation(10, "segment", "a", 99)])
    assert report_again(folder, recompute=True).changed == ()
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert report_again(folder, recompute=True).changed == ()
    assert report_again(folder, recompute=False).recomputed == ()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    record = json.loads(files["run.json"])
    record["settings"]["capture"]["samples"] = 10**12
    record["settings"]["capture"]["meter"]["evidence"] = "metered"
    record["figures"]["energy_j"]["value"] = 1e9
    (folder / "run.json").write_text(json.dumps(record))
    found = report_again(folder, recompute=True)
    assert set(found.changed) == {"samples in run.json", "evidence in run.json", "energy_j"}
    assert (folder / "run.json").read_bytes() == files["run.json"]
    assert "Simulated:" in found.path.read_text()


def test_a_page_needs_nothing_and_runs_nothing(tmp_path):
    evil = "<script>alert('x')</script>"
    notes = [Annotation(10, "segment", evil, 400), Annotation(500, "marker", evil)]
    folder = folder_of(tmp_path, ramp(), notes=notes, evidence=Evidence.REPLAYED)
    record = json.loads((folder / "run.json").read_text())
    record["settings"] |= {"title": evil, "remarks": [evil]}
    record["settings"]["capture"] |= {"ended": evil, "problems": [evil]}
    (folder / "run.json").write_text(json.dumps(record))
    page, _ = made(folder)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in re.sub(r'(xmlns="[^"]*"|http-equiv)', "", page)
    assert "Replayed:" in page
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"\b(nan|inf)\b", page)


def test_a_page_stays_small_and_says_what_it_leaves_out(tmp_path):
    gaps = [Gap(20 + 40 * k, 9, "counter") for k in range(3000)]
    notes = [Annotation(40 * k, "segment", f"layer{k % 50}", 40 * k + 15) for k in range(3000)]
    notes += [Annotation(40 * k + 1, "marker", f"mark {k}") for k in range(3000)]
    page, rows = made(folder_of(tmp_path, ramp(121_000), gaps=gaps, notes=notes))
    assert [len(rows[name]) for name in ("gaps", "segments", "markers")] == [3000] * 3
    assert len(page) < 400_000
    assert "The 30 largest of 3,000" in page
    assert "3,000 segments in all" in page


def test_without_its_trace_a_page_is_made_of_the_tables(tmp_path):
    folder = folder_of(tmp_path, ramp())
    page, _ = made(folder)
    whole = (folder / "trace.jls").read_bytes()
    (folder / "trace.jls").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError):
        report_again(folder, recompute=True)
    (folder / "trace.jls").unlink()
    assert report_again(folder, recompute=False).path.read_text() == page
    with pytest.raises(ConfigError, match="no trace"):
        report_again(folder, recompute=True)
    (folder / "account.csv").write_text("entry,count,unit,where\n")
    with pytest.raises(ConfigError, match="edited"):
        report_again(folder, recompute=False)


@pytest.mark.parametrize("entry", [None, 3, {"meter": {}}, {"meter": {"name": 1}}])
def test_a_run_that_does_not_say_what_it_captured_is_refused(tmp_path, entry):
    folder = folder_of(tmp_path, ramp())
    record = json.loads((folder / "run.json").read_text())
    record["settings"]["capture"] = entry
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="what it captured"):
        report_again(folder, recompute=True)


def test_three_samples_make_a_page(tmp_path):
    page, rows = made(folder_of(tmp_path, ramp(3)))
    assert [row["mean"] for row in rows["overview"]] == pytest.approx([0.2, 0.6, 1.0])
    assert "<polyline" in page
    assert "uncertainty not known" in page


@pytest.mark.parametrize(
    ("number", "spread", "text"),
    [
        (3.48237, 0.0172, "3.482 ± 0.017 J"),
        (0.000123456, None, "123.5 µJ"),
        (0.0, 0.0, "0 J"),
        (0.0009, 0.0099, "0.9 ± 9.9 mJ"),
        (12.3456, 1e-15, "12.35 J"),
        (1234.5, 12.0, "1.234 ± 0.012 kJ"),
        (math.nan, 1.0, "–"),
        (1.0, math.inf, "1.000 J"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(number, spread, text):
    assert with_spread(number, "J", spread) == text
    assert value(None, "J") == "–"
    assert spread_of(1.0, "J", None) == ""


def test_a_table_that_has_no_row_any_more_is_gone(tmp_path):
    folder = folder_of(tmp_path, ramp(), gaps=[Gap(1000, 50, "counter")])
    made(folder)
    assert (folder / "gaps.csv").exists()
    (folder / "notes.csv").write_text("mine\n")
    whole = folder_of(tmp_path / "whole", ramp())
    (whole / "trace.jls").replace(folder / "trace.jls")
    found = report_again(folder, recompute=True)
    assert "gaps" in found.changed
    assert not (folder / "gaps.csv").exists()
    assert not (folder / "gaps.schema.json").exists()
    assert (folder / "notes.csv").exists()


def test_a_capture_that_was_killed_has_its_page_by_the_copy_in_the_trace(tmp_path):
    folder = folder_of(tmp_path, ramp())
    stored = json.loads((folder / "run.json").read_text())
    stored["settings"]["capture"].pop("ended", None)
    with open_trace(folder / "trace.jls") as trace:
        rewrite(trace, folder / "new.jls", (), json.dumps(stored).encode())
    (folder / "new.jls").replace(folder / "trace.jls")
    (folder / "run.json").unlink()
    page = report_again(folder, recompute=False).path.read_text()
    assert "the copy in the trace" in page
    assert "the capture itself was killed" in page
    again = json.loads((folder / "run.json").read_text())
    assert again["settings"]["capture"]["samples"] == len(ramp())
    assert "energy_j" in again["figures"]
    assert report_again(folder, recompute=True).changed == ()


def test_a_folder_whose_trace_knows_nothing_of_its_run_is_refused(tmp_path):
    folder = folder_of(tmp_path, ramp())
    (folder / "run.json").unlink()
    with open_trace(folder / "trace.jls") as trace:
        rewrite(trace, folder / "new.jls", (), b"")
    (folder / "new.jls").replace(folder / "trace.jls")
    with pytest.raises(ConfigError, match=r"no run\.json"):
        report_again(folder, recompute=False)


def test_segments_of_one_name_share_a_row_and_none_covers_another():
    bit = [(k * 0.01, k * 0.01 + 0.007, "D0 high") for k in range(100)]
    inner = [(0.5 + k * 0.1, 0.55 + k * 0.1, "conv") for k in range(3)]
    inner += [(0.55 + k * 0.1, 0.6 + k * 0.1, "dense") for k in range(3)]
    outer = [(0.5 + k * 0.1, 0.6 + k * 0.1, "infer") for k in range(3)]
    rows = sorted([*bit, *inner, *outer, (0.2, 0.9, "command")], key=lambda one: (one[0], -one[1]))
    nothing = {"begins": [], "low": [], "high": [], "mean": [], "markers": [], "gaps": []}
    lanes = _lanes(Picture("power", "W", 1.0, segments=rows, rate_hz=1e5, **nothing))
    found = [{name for _, _, name in lane} for lane in lanes]
    assert found == [{"D0 high"}, {"command"}, {"infer"}, {"conv", "dense"}]
    assert sum(len(lane) for lane in lanes) == len(rows)
    for lane in lanes:
        assert all(first[1] <= second[0] + 1e-12 for first, second in pairwise(lane))


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (15_515.6, "15,516"), (1234.0, "1,234"), (0.4, "under 1"), (-0.4, "over -1"),
     (None, "–"), (2e15, "2e+15")],
)  # fmt: skip
def test_counts_are_whole_numbers(count, shown):
    assert whole(count) == shown

"""Faults of an instrument, each alone on the sample axis, against the account of the capture.

The machine may stall, and then the emulator's FIFO loses samples of its own: it logs them, and what
is compared is the account with that log, hole by hole and to the sample. The end is a place on the
sample axis too, so no second of the host's counts.
"""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from capture_rig import PPK2, WAIT_S, capturing, emulator, read

pytest.importorskip("pyjls")

RATE_HZ = 100_000
PERIOD, RISE, FALL = 100_000, 10_000, 60_000
DEVICE = {
    "load": {
        "period_s": PERIOD / RATE_HZ,
        "idle_w": 0.033,
        "start_s": RISE / RATE_HZ,
        "layers": [{"name": "on", "duration_s": (FALL - RISE) / RATE_HZ, "power_w": 0.01}],
    }
}
"""A marker of half a second in each: its edges tell which sample of the instrument an id is."""
FIRST, SECOND, LAST = 250_000, 450_000, 600_000
UNSETTLED = 30_000
"""At the end of a trace, where a loss may not have been seen yet."""


@pytest.mark.parametrize(
    "faults",
    [
        # More than the counter counts to, and whole turns of it, which it does not show at all.
        (f"drop@{FIRST}:455", f"drop@{SECOND}:320"),
        (f"byte@{FIRST}", f"dup@{SECOND}:7"),
        (f"stall@{FIRST}:0.02", f"drop@{SECOND}:1"),
    ],
    ids=["drops", "byte and copies", "stall and one"],
)
def test_each_fault_of_the_instrument_is_in_the_account_to_the_sample(tmp_path, faults):
    (tmp_path / "device.json").write_text(json.dumps(DEVICE))
    flags = [word for fault in (*faults, f"stall@{LAST}:0.001") for word in ("--fault", fault)]
    waveform = ("--waveform", f"device:{tmp_path / 'device.json'}")
    with emulator(tmp_path, *waveform, *flags) as instrument:
        with capturing(
            tmp_path, *PPK2, "--port", instrument.port, "--buffer", "60", "-o", "run.jls"
        ) as capture:
            _passed(instrument, LAST)
            capture.interrupt()
            code, result = capture.result()
        truth = instrument.events()
    ledger = result["ledger"]
    assert (code == 0) == result["trusted"] == ledger["closes"]
    with read(tmp_path / "run.jls") as trace:
        lost = np.isnan(trace.read("current"))
        bits = trace.bits("d0").astype(bool)
        holes = [(gap.first, gap.end) for gap in trace.gaps]
        assert np.array_equal(lost, trace.bits("gap").astype(bool))
    assert sum(stop - first for first, stop in holes) == result["missing"] == lost.sum()
    if ledger["contradictions"]:
        assert not ledger["closes"]
        return
    begin = _begin(bits, lost, ledger["start_dropped"], truth)
    if begin is None:
        assert result["missing"] > result["samples"] - 2 * PERIOD
        return
    until = result["samples"] - UNSETTLED
    _holes_are_true(ledger, begin, until, truth)
    if not ledger["unknown"]:
        place = (begin + np.arange(until)) % PERIOD
        played = (place >= RISE) & (place < FALL)
        assert np.array_equal(bits[:until][~lost[:until]], played[~lost[:until]])


def _passed(instrument, sample):
    """Wait until the instrument has come to a stall there."""
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit:
        if any(row["event"] == "stall" and row["first"] >= sample for row in instrument.events()):
            return
        time.sleep(0.05)
    raise AssertionError("the instrument did not come so far")


def _begin(bits, lost, dropped, truth):
    """Number that the instrument gave to sample 0 of the trace; None: no edge is in it."""
    there = ~lost[1:] & ~lost[:-1]
    rises = np.flatnonzero(~bits[:-1] & bits[1:] & there) + 1
    falls = np.flatnonzero(bits[:-1] & ~bits[1:] & there) + 1
    if not len(rises) + len(falls):
        return None
    seen = (RISE - rises[0] if len(rises) else FALL - falls[0]) % PERIOD
    # Within a turn: so much came before it, and so much was lost there.
    about = dropped
    for row in truth:
        about += row["count"] if row["event"] == "lost" and row["first"] < about else 0
    return int(seen + round((about - seen) / PERIOD) * PERIOD)


def _holes_are_true(ledger, begin, until, truth):
    """Every hole lacks what the instrument lost there, and there is no loss beside them."""
    rows = [(row["event"], *_place(row)) for row in truth if row["event"] in _PLACES]
    rows = sorted((at - begin, kind, n) for kind, at, n in rows if at >= begin)
    copies = shift = 0
    for loss in ledger["losses"]:
        if loss["first"] + loss["lost"] + loss["invalid"] > until:
            # A machine that stalls to the end leaves a hole that is open there.
            until = min(until, loss["first"])
            break
        begins, net = loss["first"] + shift, 0
        inside = []
        # What is lost in a hole makes it longer.
        while found := [
            row for row in rows if begins <= row[0] <= begins + loss["invalid"] + max(0, net)
        ]:
            rows.remove(found[0])
            inside.append(found[0])
            net += -found[0][2] if found[0][1] == "repeated" else found[0][2]
        copies += max(0, -net)
        if loss["low"] == loss["high"]:
            assert loss["lost"] == max(0, net), (loss, inside)
        else:
            assert loss["low"] <= net <= loss["high"], (loss, inside)
            # Ids behind a hole of uncertain size are off by what is not known of it.
            shift += net - loss["lost"]
    rows = [row for row in rows if row[0] - shift < until]
    assert [row for row in rows if row[1] != "repeated"] == [], (ledger, begin, until)
    if ledger["holes"] == len(ledger["losses"]) and not ledger["unknown"]:
        assert ledger["repeated"] == copies + sum(n for _, _, n in rows)


_PLACES = ("lost", "byte", "repeated")


def _place(row):
    """(first sample that it is about, how many); copies come behind what they are copies of."""
    if row["event"] == "repeated":
        return row["first"] + row["count"], row["count"]
    return (row["sample"], 1) if row["event"] == "byte" else (row["first"], row["count"])

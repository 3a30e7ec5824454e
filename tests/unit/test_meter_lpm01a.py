"""The LPM01A: two forms of samples with messages between, and losses that only time shows."""

from __future__ import annotations

import time

import numpy as np
import pytest
from emulator_help import capture, emulated, lost, mark
from hypothesis import given, settings
from hypothesis import strategies as st
from meter_help import RATE_HZ, Fault, faulty_ids, reads

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import Gap
from waistline_hostctl.emulators.lpm01a import binary, text
from waistline_hostctl.meters import lpm01a
from waistline_hostctl.meters._lpm01a_stream import Binary, Text
from waistline_hostctl.meters.base import MeterChoice, open_meter

STAMP = b"\xf0\xf3\x00\x00\x03\xe8\x00\xff\xff"
CURRENTS = np.array([1e-7, 6.409e-4, 0.003, 0.0123, 0.2, 0.0], np.float32)


@pytest.mark.parametrize(("form", "encode", "rtol"), [(Binary, binary, 2e-3), (Text, text, 1e-3)])
def test_currents_come_back_to_their_precision(form, encode, rtol):
    begin = STAMP if form is Binary else b"PowerShield > ack start\r\n"
    seen = form().feed(begin + encode(CURRENTS).tobytes() + STAMP + bytes(40))
    np.testing.assert_allclose(seen[: len(CURRENTS)], CURRENTS, rtol=rtol, atol=1e-10)


def test_the_documented_line_is_read():
    form = Text()
    seen = form.feed(b"PowerShield > ack start\r\nTimeStamp: 0s 0ms, buff 0%\r\n6409-07\r\n64")
    assert seen.tolist() == [np.float32(6409e-7)]
    assert form.feed(b"10-07\r\n").tolist() == [np.float32(6410e-7)]


@given(
    st.lists(st.sampled_from([b"\x54\x01", b"\x63\xff", b"\xe0\xf3", STAMP]), max_size=60),
    st.lists(st.integers(0, 400), max_size=20),
)
@settings(max_examples=60)
def test_chunking_changes_nothing(pieces, cuts):
    raw = b"PowerShield > ack start\r\n" + STAMP + b"".join(pieces) + b"\xf0\xf4\xff\xffsummary"
    cuts = sorted(min(cut, len(raw)) for cut in cuts)
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    form, samples = Binary(), [piece for piece in pieces if piece != STAMP]
    seen = np.concatenate([form.feed(chunk) for chunk in chunks])
    words = np.frombuffer(b"".join(samples), ">u2").astype(int)
    np.testing.assert_array_equal(seen, ((words & 0xFFF) * 16.0 ** -(words >> 12)).astype("f4"))
    assert form.ended
    assert form.slips == 0


def test_a_lost_byte_is_noticed_at_the_next_time_stamp():
    samples = binary(np.full(1000, 0.003, np.float32)).tobytes()
    decoder = lpm01a.Lpm01aDecoder(100_000.0, "binary")
    decoder.feed(STAMP + samples[:1001] + samples[1002:] + STAMP + samples, 10**9)
    decoder.finish(10**9)
    account = decoder.ledger()
    assert (account["resyncs"], account["unknown"], account["closes"]) == (1, 1, False)


@given(st.binary(max_size=3000))
@settings(max_examples=60)
def test_hostile_bytes_never_break_a_decoder(junk):
    for form in ("binary", "ascii"):
        decoder = lpm01a.Lpm01aDecoder(10_000.0, form)
        parts = decoder.feed(STAMP + junk[:1000], 10**9)
        parts += decoder.feed(junk[1000:], 2 * 10**9) + decoder.finish(2 * 10**9)
        kept = sum(len(part) for part in parts if not isinstance(part, Gap))
        assert kept == decoder.ledger()["kept"]


@pytest.mark.parametrize("count", [0, 500, 4000])
def test_a_loss_is_measured_by_time_and_stays_within_bounds(count):
    ids = faulty_ids(250_000, [Fault(120_000, count)])
    decoder, before, parts = lpm01a.Lpm01aDecoder(RATE_HZ, "binary"), 0, []
    row = binary(np.array([0.003], np.float32)).tobytes()
    for received, host_ns in reads(ids, np.random.default_rng(1)):
        head = b"" if before else STAMP
        parts += decoder.feed(head + row * (received - before), host_ns)
        before = received
    parts += decoder.finish(host_ns)
    gaps, account = lost(parts), decoder.ledger()
    if not count:
        assert (gaps, account["closes"]) == ([], True)
        return
    assert [gap.kind for gap in gaps] == ["host-time"]
    found = account["losses"][0]
    assert found["low"] <= count <= found["high"] < found["low"] + 64
    assert not account["closes"]


@pytest.mark.parametrize(
    "options", [{}, {"rate": "10000", "format": "ascii"}, {"rate": "50000", "voltage": "1.8"}]
)
def test_the_emulated_board_is_read(tmp_path, options):
    rate_hz = float(options.get("rate", 100_000))
    one_second = int(rate_hz)
    with emulated("lpm01a", tmp_path, "--waveform", "constant:0.003", *mark(one_second)) as there:
        meter = open_meter(MeterChoice("lpm01a", there.port, options))
        assert meter.info.evidence is Evidence.EMULATED
        assert meter.info.ledger == "host-time"
        began = time.monotonic()
        parts, account, ended = capture(meter, lambda: there.at_mark(one_second))
        passed = time.monotonic() - began
        sent = there
    assert ended is None
    blocks = [part for part in parts if not isinstance(part, Gap)]
    ids = parts[-1].first + (parts[-1].count if lost(parts) and parts[-1] is lost(parts)[-1] else 0)
    assert 0 < ids <= passed * rate_hz + 100
    for block in blocks:
        np.testing.assert_allclose(block.current_a, 0.003, rtol=2e-3)
    if not account["holes"] and not sent.truth("lost") and not account["start_dropped"]:
        assert account["closes"]


def test_a_pulled_plug_ends_the_capture(tmp_path):
    with emulated("lpm01a", tmp_path, "--fault", "unplug@40000") as there:
        meter = open_meter(MeterChoice("lpm01a", there.port))
        _, account, ended = capture(meter)
    assert isinstance(ended, MeterError)
    came = account["kept"] + account["invalid"] + account["start_dropped"]
    assert came + sum(row["count"] for row in there.truth("lost")) > 20_000


@pytest.mark.parametrize(
    "options",
    [{"rate": "3"}, {"rate": "100000", "format": "ascii"}, {"voltage": "5"}, {"format": "csv"}],
)
def test_bad_options_are_refused_before_anything_is_opened(options):
    with pytest.raises(ConfigError):
        lpm01a.open_meter(MeterChoice("lpm01a", "/dev/null", options))


def test_a_board_that_refuses_is_named(tmp_path):
    with emulated("ppk2", tmp_path) as there, pytest.raises(MeterError) as caught:
        open_meter(MeterChoice("lpm01a", there.port))
    assert "htc" in caught.value.what


def test_a_torn_line_is_a_slip_and_a_message_is_none():
    form = Text()
    torn = b"09-07\r\nack start\r\n6409-07\r\nsummary\r\n640907\r\n9999+99\r\n6409-07\r6409-07\r\n"
    assert form.feed(torn).tolist() == [np.float32(6409e-7)]
    assert form.slips == 3


@pytest.mark.parametrize("form", ["binary", "ascii"])
def test_an_account_without_samples_does_not_close(form):
    decoder = lpm01a.Lpm01aDecoder(1000, form)
    for number in range(100):
        decoder.feed(b"\x00garbage", number * 10**8)
    decoder.finish(10**10)
    assert decoder.ledger()["kept"] == 0
    assert not decoder.ledger()["closes"]

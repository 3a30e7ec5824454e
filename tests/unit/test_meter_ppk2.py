"""The PPK2's decoder against a plain one, sample by sample, under any chunking and damage."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meter_help import Fault, faulty_ids, ramp_words, reads

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import Gap
from waistline_hostctl.emulators.ppk2 import Instrument
from waistline_hostctl.meters import _serial, ppk2
from waistline_hostctl.meters._ppk2_calibration import parse
from waistline_hostctl.meters.base import Found, MeterChoice, choose_port
from waistline_hostctl.simulated.waveform import Constant

METADATA = Instrument(Constant(0.0, 3.3)).metadata()
SUPPLY_V = 3.0


def _decode(chunks, period_ns=10_000):
    decoder = ppk2.Ppk2Decoder(parse(METADATA), SUPPLY_V)
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        parts += decoder.feed(chunk, 10**9 + size // 4 * period_ns)
    parts += decoder.finish(10**9 + size // 4 * period_ns)
    return parts, decoder.ledger()


def _joined(parts):
    """Currents and logic by id; NaN and 0 in gaps."""
    length = max(
        (part.first + (part.count if isinstance(part, Gap) else len(part))) for part in parts
    )
    current, logic = np.full(length, np.nan, np.float32), np.zeros(length, np.uint8)
    for part in parts:
        if not isinstance(part, Gap):
            current[part.first : part.first + len(part)] = part.current_a
            logic[part.first : part.first + len(part)] = part.logic
    return current, logic


def _plain(words):
    """The data sheet's formula and the filter's rule, one sample after the other."""
    values = {}
    for line in METADATA.decode().splitlines():
        key, _, number = line.partition(":")
        if number:
            values[key] = float(number)
    fast = slow = before = None
    left = row = 0
    out = []
    for word in words.tolist():
        adc, band = word & 0x3FFF, min(word >> 14 & 7, 4)
        v = {key: values[f"{key}{band}"] for key in ("R", "GS", "GI", "O", "S", "I", "UG")}
        g = (4 * adc - v["O"]) * (1.8 / 163840) / v["R"]
        amps = v["UG"] * (g * (v["GS"] * g + v["GI"]) + (v["S"] * SUPPLY_V + v["I"]))
        kept = fast, slow
        fast = amps if fast is None else 0.18 * amps + 0.82 * fast
        slow = amps if slow is None else 0.06 * amps + 0.94 * slow
        if before not in (None, band):
            left, row = 3, 0
        else:
            row += 1
        if left:
            left -= 1
            if band == 4 and row < 2:
                fast, slow = kept
            amps = slow if band == 4 else fast
        before = band
        out.append(amps)
    return np.array(out)


@pytest.mark.parametrize("switch", [0, 1, 2, 3, 7, 100, 1000])
def test_currents_follow_the_formula_and_the_spike_filter(switch):
    raw = ramp_words(np.arange(6000), switch=switch)
    parts, ledger = _decode([raw])
    current, logic = _joined(parts)
    words = np.frombuffer(raw, "<u4")
    np.testing.assert_allclose(current, _plain(words), rtol=3e-7)
    np.testing.assert_array_equal(logic, words >> 24)
    assert ledger["closes"]


@given(data=st.data(), switch=st.sampled_from([0, 2, 13, 400]))
@settings(max_examples=40)
def test_chunking_changes_nothing(data, switch):
    ids = faulty_ids(3000, [Fault(1000, 5), Fault(1003, 2), Fault(2000, 700)])
    raw = bytearray(ramp_words(ids, switch=switch))
    del raw[4 * 500 + data.draw(st.integers(0, 3))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=60)))
    chunks = [bytes(raw[a:b]) for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    def once(pieces):
        decoder = ppk2.Ppk2Decoder(parse(METADATA), SUPPLY_V)
        parts = []
        for piece in pieces:
            parts += decoder.feed(piece, 10**9)
        return parts + decoder.finish(10**9), decoder.ledger()

    whole, chunked = once([bytes(raw)]), once(chunks)
    assert whole[1] == chunked[1]
    for one, other in zip(_joined(whole[0]), _joined(chunked[0]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("at", [61_200, 61_247, 61_248])
def test_a_lost_byte_costs_two_samples_and_no_more(which, at):
    raw = bytearray(ramp_words(np.arange(120_000), switch=1000))
    del raw[4 * at + which]
    step = 800
    parts, ledger = _decode([bytes(raw[i : i + step]) for i in range(0, len(raw), step)])
    gaps = [part for part in parts if isinstance(part, Gap)]
    assert [(gap.count, gap.kind) for gap in gaps] == [(2, "resync")]
    assert gaps[0].first <= at < gaps[0].end
    assert (ledger["lost"], ledger["invalid"], ledger["resyncs"]) == ({"resync": 1}, 1, 1)
    current, _ = _joined(parts)
    good = np.isfinite(current)
    # Damage must not reach the averages: what follows a switch long after is as without it.
    expected, _ = _joined(_decode([ramp_words(np.arange(120_000), switch=1000)])[0])
    later = np.arange(len(current)) > at + 2
    np.testing.assert_allclose(
        current[good & later], expected[: len(current)][good & later], rtol=1e-6
    )


def test_noise_before_and_inside_the_stream_is_thrown_away():
    rng = np.random.default_rng(1)
    raw = ramp_words(np.arange(100_000))
    junk = rng.integers(0, 256, 3001, dtype=np.uint8).tobytes()
    stream = junk + raw[:200_000] + junk + raw[200_000:]
    step = 2000
    parts, ledger = _decode([stream[i : i + step] for i in range(0, len(stream), step)])
    assert ledger["resyncs"] >= 1
    assert ledger["resync_bytes"] >= 6000
    current, _ = _joined(parts)
    expected, _ = _joined(_decode([raw])[0])
    found = current[np.isfinite(current)]
    assert np.isin(found, expected).all()


def test_bytes_thrown_away_on_the_host_are_known_to_the_sample():
    raw = ramp_words(np.arange(150_000))
    decoder = ppk2.Ppk2Decoder(parse(METADATA), SUPPLY_V)
    parts, now = [], 10**9
    gone = (200_001, 202_003)
    for start in range(0, len(raw), 1000):
        now += 2_500_000
        if start < gone[0] <= start + 1000:
            parts += decoder.feed(raw[start : gone[0]], now)
        elif gone[0] <= start < gone[1]:
            keep = raw[max(gone[1], start) : start + 1000]
            if keep:
                parts += decoder.skip(gone[1] - gone[0], now)
                parts += decoder.feed(keep, now)
        else:
            parts += decoder.feed(raw[start : start + 1000], now)
    parts += decoder.finish(now)
    gaps = [part for part in parts if isinstance(part, Gap)]
    assert gaps == [Gap(50_000, 501, "ring")]
    assert decoder.ledger()["closes"]


@given(st.binary(max_size=6000))
@settings(max_examples=60)
def test_hostile_bytes_never_break_the_decoder(junk):
    parts, ledger = _decode([junk[:1000], junk[1000:]])
    assert ledger["kept"] == sum(len(part) for part in parts if not isinstance(part, Gap))


@given(st.binary(max_size=400), st.integers(0, len(METADATA)))
def test_hostile_calibration_is_refused_or_finite(junk, at):
    try:
        table = parse(METADATA[:at] + junk + METADATA[at:]).table(3.3)
    except MeterError:
        return
    assert np.isfinite(table).all()


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (b"R1: 101.65", b"R1: nan", "R1"),
        (b"R1: 101.65", b"R1: 0", "R1"),
        (b"O2: 0.0", b"", "O2"),
        (b"UG0: 1.0", b"UG0: 1e999", "UG0"),
        (b"HW", b"X" * 5000, "4096"),
    ],
)
def test_a_bad_calibration_names_its_fault(old, new, cause):
    with pytest.raises(MeterError) as caught:
        parse(METADATA.replace(old, new))
    assert cause in caught.value.cause


def test_the_voltage_command_is_the_one_observed():
    assert ppk2.regulator_command(3.3) == bytes.fromhex("0d0ce4")


@pytest.mark.parametrize(
    "options",
    [{}, {"voltage": "9"}, {"voltage": "x"}, {"voltage": "3", "mode": "z"}, {"speed": "1"}],
)
def test_bad_options_are_refused_before_anything_is_opened(options):
    with pytest.raises(ConfigError):
        ppk2.open_meter(MeterChoice("ppk2", "/dev/null", options))


def test_two_instruments_are_listed_and_neither_is_picked():
    found = [Found("1915:c00a:A", "/dev/ttyACM0", "PPK2", True)]
    found.append(Found("1915:c00a:B", "/dev/ttyACM2", "PPK2", True))
    with pytest.raises(ConfigError) as caught:
        choose_port(MeterChoice("ppk2"), found, "PPK2")
    assert "1915:c00a:A" in caught.value.cause
    assert caught.value.fix == "choose one: --port 1915:c00a:A"
    assert choose_port(MeterChoice("ppk2", "1915:c00a:B"), found, "PPK2") == "/dev/ttyACM2"


def test_only_usb_ids_make_a_sample_metered(tmp_path):
    path = tmp_path / "ttyACM0"
    path.touch()
    found = [Found("1915:c00a:A", str(path), "PPK2", True)]
    link = tmp_path / "link"
    link.symlink_to(path)
    assert _serial.identity_of(str(link), found) == ("1915:c00a:A", Evidence.METERED)
    assert _serial.identity_of("/dev/pts/0", found)[1] is Evidence.EMULATED


def test_a_decoder_can_be_handed_to_another_process():
    raw = ramp_words(np.arange(30_000), switch=50)
    decoder = ppk2.Ppk2Decoder(parse(METADATA), SUPPLY_V)
    parts = decoder.feed(raw[:50_001], 10**9)
    decoder = pickle.loads(pickle.dumps(decoder))
    parts += decoder.feed(raw[50_001:], 10**9) + decoder.finish(10**9)
    whole = _decode([raw])[0]
    np.testing.assert_array_equal(_joined(parts)[0], _joined(whole)[0])


def test_a_whole_turn_lost_right_before_copies_is_not_taken_for_fewer_copies():
    ids = faulty_ids(200_000, [Fault(80_000, 64), Fault(80_098, -174)])
    raw, before = ramp_words(ids), 0
    decoder, parts = ppk2.Ppk2Decoder(parse(METADATA), SUPPLY_V), []
    for received, host_ns in reads(ids, np.random.default_rng(1)):
        parts += decoder.feed(raw[4 * before : 4 * received], host_ns)
        before = received
    parts += decoder.finish(host_ns)
    current, _ = _joined(parts)
    expected, _ = _joined(_decode([ramp_words(np.arange(len(current)))])[0])
    there = np.isfinite(current)
    np.testing.assert_array_equal(current[there], expected[there])
    assert there.sum() > 190_000
    assert decoder.ledger()["closes"]


def test_a_stream_that_never_comes_to_rest_does_not_close():
    ids = np.arange(100_000)
    calibration = parse(Instrument(Constant(0.0, 3.3)).metadata())
    one, raw = ppk2.Ppk2Decoder(calibration, 3.3), ramp_words(ids + ids // 17 * 5)
    for at in range(0, len(raw), 4000):
        one.feed(raw[at : at + 4000], (at + 4000) * 2500)
    one.finish(len(raw) * 2500)
    account = one.ledger()
    assert account["start_dropped"] > 0
    assert not account["closes"]


def test_a_calibration_of_endless_currents_is_refused():
    text = Instrument(Constant(0.0, 3.3)).metadata().replace(b"R2: 10.15", b"R2: 1e-300")
    with pytest.raises(MeterError) as caught:
        parse(text)
    assert "currents of up to" in caught.value.cause


def test_a_port_that_may_not_be_opened_names_its_group(monkeypatch):
    def refuse(*_, **__):
        raise _serial.serial.SerialException("[Errno 13] Permission denied")

    monkeypatch.setattr(_serial.serial, "Serial", refuse)
    with pytest.raises(MeterError) as caught:
        _serial.Port("/dev/null", 9600)
    assert "usermod -aG" in caught.value.fix

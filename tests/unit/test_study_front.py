"""What is worth having among codecs, and what is advised for a link."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline_hostctl.study_front import Advice, advise, loss_bound, pareto, why_text


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=30))
def test_pareto_keeps_what_no_other_beats(points):
    expected = [
        not any(o != p and all(a <= b for a, b in zip(o, p, strict=True)) for o in points)
        for p in points
    ]
    assert pareto(points) == expected


def row(codec, size, encode, loss, u_loss=0.0, n=10_000):
    return {"codec": codec, "quantizer": codec.partition("|")[0], "lossless": True,
            "mean_bytes": size, "encode_s": encode, "decode_s": 0.0,
            "loss": loss, "u_loss": u_loss, "n": n}  # fmt: skip


def test_slow_links_call_for_small_payloads_and_fast_ones_for_fast_coders():
    rows = [row("a|ctx", 500, 1e-3, 0.0), row("a|zstd:1", 700, 1e-4, 0.0),
            row("b|ctx", 100, 1e-3, 0.05)]  # fmt: skip
    assert advise(rows, 1e5, 1, 0.01, ())[0].codec == "a|ctx"
    assert advise(rows, 1e8, 1, 0.01, ())[0].codec == "a|zstd:1"
    assert advise(rows, 1e6, 10, 0.01, ())[0].codec == "a|zstd:1"
    assert advise(rows, 0, 1, 0.01, ())[0].send_s == 0
    assert advise(rows, 1e5, 1, 0.1, ())[0].codec == "b|ctx"
    first = advise(rows, 1e5, 1, 0.01, ())[0]
    assert first.time_s == pytest.approx(500 * 8 / 1e5 + 1e-3)


def test_a_bound_needs_frames():
    few, many = row("a|ctx", 1, 1, 0.0, n=20), row("a|ctx", 1, 1, 0.0, n=2000)
    assert loss_bound(few, ()) > 0.05
    assert loss_bound(many, ()) < 0.001
    assert loss_bound(few, ("a",)) == 0
    assert loss_bound(row("a|ctx", 1, 1, -0.5), ()) > 0


def test_what_a_coder_is_chosen_for_is_told_in_units_that_fit():
    rows = {
        "q|ctx": {"quantizer": "q", "coder": "ctx", "encode_s": 0.0092},
        "q|none": {"quantizer": "q", "coder": "none", "encode_s": 0.0},
    }
    small = Advice("q|ctx", 0.02, 0.0001, 0.0, 0.010)
    large = Advice("q|none", 0.03, 0.0007, 0.0, 0.030)
    assert why_text(small, [small, large], rows) == (
        "against none: encode +9.2 ms, line -20 ms, link -600 µs"
    )
    assert why_text(small, [small], rows) == ""

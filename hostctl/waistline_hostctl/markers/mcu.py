"""A microcontroller's marker pin in a trace: layers by the mode that the bridge's MARK had set."""

from __future__ import annotations

from waistline.errors import MarkerMissing
from waistline.trace.base import Trace
from waistline.trace.markers import (
    Pass,
    passes_of_head,
    passes_of_layers,
    passes_of_pulses,
    read_edges,
)
from waistline_bridge.messages import Mark

LONGEST_S = 0.05
LEAST_PULSE = 3
"""Samples that a pulse lasts, so that its two edges and the low behind it are told apart."""


def passes(
    trace: Trace,
    bit: int,
    mode: Mark,
    *,
    layers: int,
    settle_us: int,
    longest_s: float = LONGEST_S,
    start: int = 0,
    stop: int | None = None,
) -> tuple[list[Pass], int]:
    """Runs of the head, and how many pieces of them made no sense.

    Args:
        trace: whose logic bit is wired to the pin.
        bit: that one.
        mode: as MARK had it.
        layers: of the head.
        settle_us: as MARK had it.
        longest_s: no layer takes longer, and runs are further apart; for ``LAYERS``.
        start: first sample to look at.
        stop: the one behind the last; None is the end.

    Raises:
        MarkerMissing: no such bit, no run in the trace, or a mode that cannot show layers so.
    """
    settle = settle_us * 1e-6 * trace.spec.rate_hz
    if mode == Mark.OFF:
        raise MarkerMissing(
            "the marker pin was off", cause="mode 0", fix="set another mode by MARK, such as 2"
        )
    if mode == Mark.PULSES and settle < LEAST_PULSE:
        least_us = round(1e6 * LEAST_PULSE / trace.spec.rate_hz)
        raise MarkerMissing(
            "the marker's pulses are too short for this meter",
            cause=f"{settle_us} us are {settle:.2g} samples",
            fix=f"let them last {least_us} us or more",
        )
    edges = read_edges(trace, bit, start, stop)
    if mode == Mark.HEAD:
        found, odd = passes_of_head(edges, settle), 0
    elif mode == Mark.LAYERS:
        pause = longest_s * trace.spec.rate_hz
        found, odd = passes_of_layers(edges, layers, pause, settle)
    else:
        found, odd = passes_of_pulses(edges, layers, settle)
    if not found:
        raise MarkerMissing(
            "no run of the head is marked in this trace",
            cause=f"D{bit} changes {len(edges)} times; {odd} pieces make no sense",
            fix="check wire, bit, mode, the number of layers, and how far runs are apart",
        )
    return found, odd

"""Pareto fronts, and which codec a link calls for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waistline_hostctl.console import si

BOUND = "95 %"
_QUANTILE = 1.645
"""Of the normal distribution, one-sided at `BOUND`."""
KEPT = 5
"""Advised codecs that a study lists for a link."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A codec under a link.

    Attributes:
        codec: its spec.
        time_s: encode on the node + send + decode on the edge.
        send_s: payload over the link's rate.
        line_s: of a microcontroller, waist over its line to the bridge.
        loss_bound: what it loses at the bound.
    """

    codec: str
    time_s: float
    send_s: float
    loss_bound: float
    line_s: float = 0.0


def pareto(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Whether each point, all of whose coordinates should be small, is beaten by no other.

    One beats another if it is nowhere larger and somewhere smaller; equal points stay together.
    """
    order = sorted(range(len(points)), key=lambda place: points[place])
    front: list[tuple[float, ...]] = []
    best = [False] * len(points)
    for place in order:  # whoever beats a point sorts before it
        point = points[place]
        if not any(_beats(other, point) for other in front):
            front.append(point)
            best[place] = True
    return best


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def loss_bound(row: Mapping[str, Any], exact: Sequence[str]) -> float:
    """What a codec loses, at the `BOUND`; nothing if the tail gets the bits the head made.

    Among n frames, no fewer than one is taken to be uncertain: a few frames without a change do
    not prove that there is none. What a codec seems to gain is chance, and counts as nothing.
    """
    if row["quantizer"] in exact and row["lossless"]:
        return 0.0
    spread = max(row["u_loss"] or 0.0, 1.0 / max(row["n"], 1))
    return float(max(row["loss"], 0.0) + _QUANTILE * spread)


def advise(
    rows: Sequence[Mapping[str, Any]],
    rate_bps: float,
    slowdown: float,
    max_loss: float,
    exact: Sequence[str],
    line_rate: float = 0.0,
    kept: int | None = KEPT,
) -> list[Advice]:
    """The fastest codecs within ``max_loss``, best first.

    Args:
        rows: of the table of codecs.
        rate_bps: of the link; 0: unlimited.
        slowdown: how many times slower than the measuring machine the node encodes.
        max_loss: what a codec may lose at its bound.
        exact: quantizers that lose nothing.
        line_rate: bytes a second on the line from a microcontroller to the bridge; 0: there is
            none. What crosses it is in ``line_bytes``, and goes on once it is whole.
        kept: at most so many; None: all.
    """
    found = []
    for row in rows:
        bound = loss_bound(row, exact)
        if bound <= max_loss:
            send_s = 8 * row["mean_bytes"] / rate_bps if rate_bps else 0.0
            line_s = row["line_bytes"] / line_rate if line_rate else 0.0
            time_s = row["encode_s"] * slowdown + line_s + send_s + row["decode_s"]
            found.append(Advice(row["codec"], time_s, send_s, bound, line_s))
    return sorted(found, key=lambda one: one.time_s)[:kept]


def why_text(
    one: Advice, all_of_them: Sequence[Advice], rows: Mapping[str, Mapping[str, Any]]
) -> str:
    """How a codec compares with the fastest other coder behind its quantizer, "" without one.

    Such as ``against none: encode +4.6 ms, line -9.9 ms, link -730 µs``; for people.
    """
    left = rows[one.codec]["quantizer"]
    rival = next(
        (
            other
            for other in all_of_them
            if other.codec != one.codec and rows[other.codec]["quantizer"] == left
        ),
        None,
    )
    if rival is None:
        return ""
    encode_s = rows[one.codec]["encode_s"] - rows[rival.codec]["encode_s"]
    parts = (
        ("encode", encode_s),
        ("line", one.line_s - rival.line_s),
        ("link", one.send_s - rival.send_s),
    )
    named = ", ".join(
        f"{name} {'+' if value_s > 0 else ''}{si(value_s, 's')}" for name, value_s in parts
    )
    return f"against {rows[rival.codec]['coder']}: {named}"

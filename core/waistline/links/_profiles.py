"""The protocol table ``protocols.csv`` as link profiles.

Each row carries the source of its figures and how far they can be trusted. The columns added for
emulation (RTT, jitter, rates) have a source column each; most are assumptions and say so there.
Powers stand in milliwatts as in the sources and are converted here.
"""

from __future__ import annotations

import csv
import difflib
import functools
from importlib import resources

from waistline.errors import ConfigError
from waistline.evidence import Evidence
from waistline.links.base import LinkProfile

TABLE = "protocols.csv"

_Row = dict[str, str]


@functools.cache
def profiles() -> dict[str, LinkProfile]:
    """Every row by its id, in the table's order."""
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return {row["id"]: _profile(row) for row in csv.DictReader(text.splitlines())}


def profile(profile_id: str) -> LinkProfile:
    """One row.

    Raises:
        ConfigError: there is none of that id; near ones are named.
    """
    table = profiles()
    if profile_id in table:
        return table[profile_id]
    near = difflib.get_close_matches(profile_id, table, n=3, cutoff=0.4)
    raise ConfigError(
        f"there is no link profile {profile_id!r}",
        cause=f"known: {', '.join(table)}",
        fix=f"use {' or '.join(near)}" if near else "use one of the known ids",
    )


def _profile(row: _Row) -> LinkProfile:
    rate_up_bps, rate_down_bps = float(row["rate_up_bps"]), float(row["rate_down_bps"])
    added = (("rtt", "rtt_source"), ("jitter", "jitter_source"), ("rate up", "rate_up_source"),
             ("rate down", "rate_down_source"))  # fmt: skip
    sources = [row["source"], *(f"{name}: {row[column]}" for name, column in added)]
    return LinkProfile(
        id=row["id"],
        name=f"{row['protocol']}, {row['variant']}",
        rate_up_bps=rate_up_bps,
        rate_down_bps=rate_down_bps,
        rtt_s=float(row["rtt_s"]),
        jitter_s=float(row["jitter_s"]),
        tx_power_w=_watts(row, "tx_power_mW") or _linear(row, "alpha_up", rate_up_bps),
        rx_power_w=_watts(row, "rx_power_mW") or _linear(row, "alpha_down", rate_down_bps),
        idle_power_w=_watts(row, "idle_power_mW"),
        sleep_power_w=_watts(row, "sleep_power_mW"),
        setup_s=_number(row, "setup_latency_s"),
        setup_power_w=_watts(row, "setup_power_mW"),
        tail_s=_number(row, "tail_s"),
        tail_power_w=_watts(row, "tail_power_mW"),
        payload_per_frame_bytes=int(row["payload_per_frame_bytes"] or 0),
        overhead_per_frame_bytes=int(row["overhead_per_frame_bytes"] or 0),
        evidence=Evidence.PUBLISHED,
        source="; ".join(sources),
        confidence=row["confidence"],
    )


def _number(row: _Row, column: str) -> float | None:
    return float(row[column]) if row[column] else None


def _watts(row: _Row, column: str) -> float | None:
    power_mw = _number(row, column)
    return None if power_mw is None else power_mw / 1e3


def _linear(row: _Row, slope: str, rate_bps: float) -> float | None:
    """Power of the linear model ``alpha * throughput + beta`` at the row's own throughput."""
    alpha, beta = _watts(row, f"{slope}_mW_per_Mbps"), _watts(row, "beta_mW")
    return None if alpha is None or beta is None else alpha * rate_bps * 1e-6 + beta

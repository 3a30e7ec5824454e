"""From raw tables to the tables and figures of a report: pure, so that it can be done again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from waistline.evidence import Figure
from waistline.run import Table
from waistline.task.kinds.base import load_kind
from waistline_hostctl import raw
from waistline_hostctl.derived import cost, quality, timing
from waistline_hostctl.derived.base import (
    BITS,
    BYTES,
    FLOAT,
    LATENCY,
    MAIN,
    ON_BOARD,
    ON_LINE,
    OUTCOMES,
    OVERLAP,
    PICTURE,
    QUALITY,
    RADIO,
    UNCUT,
    WAIST,
    Settings,
    label_text,
    measure_of,
)
from waistline_hostctl.derived.cost import cheaper
from waistline_hostctl.derived.timing import SEED

__all__ = [
    "BITS", "BYTES", "FLOAT", "LATENCY", "MAIN", "ON_BOARD", "ON_LINE", "OUTCOMES", "OVERLAP",
    "PICTURE", "QUALITY", "RADIO", "SEED", "UNCUT", "WAIST", "Derived", "Settings", "cheaper",
    "derive", "label_text", "measure_of", "pick_metric", "stream_words",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Derived:
    """Computed tables in the order of the report, and figures by name."""

    tables: tuple[Table, ...]
    figures: dict[str, Figure]


def derive(tables: Mapping[str, Table], settings: Settings) -> Derived:
    """Every computed table and figure.

    Args:
        tables: raw tables by name; ``frames`` and ``inputs`` at least.
        settings: of the run.
    """
    frames, inputs = tables[raw.FRAMES].dicts(), tables[raw.INPUTS].dicts()
    pictures = tables[raw.PICTURES].dicts() if raw.PICTURES in tables else []
    kind = load_kind(settings.answer)
    latency = timing.latency_table(frames, settings)
    sizes = cost.bytes_table(frames, inputs, pictures, settings)
    scores = quality.quality_table(frames, inputs, pictures, kind, settings)
    radio = cost.radio_table(frames, sizes, settings)
    made = [timing.outcomes_table(frames), latency, sizes, scores, radio]
    if raw.STUDY in tables:
        made.append(quality.bits_table(tables[raw.STUDY].dicts(), kind, settings))
    figures = {
        **timing.latency_figures(latency, settings),
        **timing.board_figures(latency, settings),
        **cost.bytes_figures(sizes),
        **quality.quality_figures(scores, settings),
        **cost.radio_figures(radio),
        **timing.throughput_figures(frames, settings),
    }
    return Derived(tuple(row for row in made if row.rows), figures)


def pick_metric(labels: Iterable[str], settings: Settings) -> str:
    """The metric that fits the run's answers and labels, "" for none."""
    return quality.pick_metric(labels, load_kind(settings.answer), settings)


def stream_words(sequential: bool, picture: str = "") -> dict[str, str]:
    """What people call each stream.

    Args:
        sequential: the main one ran one frame at a time.
        picture: codec of the picture stream.
    """
    main = "one at a time" if sequential else "pipelined"
    return {MAIN: main, OVERLAP: "pipelined", PICTURE: raw.picture_name(picture or "png")}

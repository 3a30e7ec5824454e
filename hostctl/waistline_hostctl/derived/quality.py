"""How good the answers are: of the waist that was sent, and of each picture that could have been.

A metric is computed over all frames of a choice; changes are paired with the uncut model's answers
to the same frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from waistline.evidence import Evidence, Figure
from waistline.run import Cell, Column, Table, table
from waistline.task.boxes import Boxes
from waistline.task.kinds.base import Kind
from waistline.task.metrics.base import Metric, load_metric
from waistline_hostctl import raw
from waistline_hostctl.derived.base import (
    BITS,
    DETECTION,
    QUALITY,
    UNCUT,
    WAIST,
    Rows,
    Settings,
    label_of,
    main_rows,
    mean_of,
    measure_of,
    unpacked,
)

Answers = Mapping[int, Any]
"""Answer by frame, frames without one left out."""


def pick_metric(labels: Iterable[str], kind: Kind, settings: Settings) -> str:
    """The metric that fits answers and labels, "" where a frame has no label of their kind.

    ``top1`` for classes, ``map50`` for boxes of which there is one at least.
    """
    found = [label_of(text, kind, settings) for text in labels]
    if not found or None in found:
        return ""
    if settings.answer.kind == DETECTION:
        return "map50" if any(isinstance(item, Boxes) and len(item) for item in found) else ""
    return "top1" if settings.answer.kind == "classify" else ""


def quality_table(
    frames: Rows, inputs: Rows, pictures: Rows, kind: Kind, settings: Settings
) -> Table:
    measure = measure_of(settings)
    columns = (
        Column("sent", "text", "", "what crossed the link; the uncut model has the frame itself"),
        Column("score", "number", "1", f"{measure}, against labels", Evidence.MEASURED.value),
        Column("score_u", "number", "1", "standard uncertainty"),
        Column("change", "number", "1", "of the score, paired with the uncut model's",
               Evidence.MEASURED.value),
        Column("change_u", "number", "1", "standard uncertainty"),
        Column("agreement", "number", "1", "with the uncut model, no labels",
               Evidence.MEASURED.value),
        Column("agreement_u", "number", "1", "standard uncertainty of the mean"),
        Column("n", "integer", "frame"),
    )  # fmt: skip
    uncut = _answers(inputs, kind)
    labels = {row["index"]: label_of(row["label"], kind, settings) for row in inputs}
    sent: dict[str, Answers] = {WAIST: _answers(main_rows(frames), kind)}
    for codec in dict.fromkeys(row["codec"] for row in pictures):
        rows = [row for row in pictures if row["codec"] == codec]
        sent[raw.picture_name(codec)] = _answers(rows, kind)
    metric = load_metric(settings.metric, kind, None) if settings.metric else None
    reference = {k: uncut[k] for k in sorted(set(uncut) & set(sent[WAIST]))}
    made: list[Sequence[Cell]] = []
    if metric and reference:
        score = metric.score([(answer, labels[k]) for k, answer in reference.items()])
        made.append((UNCUT, score.value, score.standard_uncertainty, None, None, None, None,
                     len(reference)))  # fmt: skip
    for name, answers in sent.items():
        both = sorted(set(answers) & set(uncut))
        if both:
            made.append((name, *_compared(both, answers, uncut, labels, kind, metric), len(both)))
    return table(QUALITY, columns, made)


def _compared(
    both: Sequence[int], answers: Answers, uncut: Answers, labels: Answers, kind: Kind,
    metric: Metric | None,
) -> list[Cell]:  # fmt: skip
    """Score, change and agreement, each with its uncertainty."""
    cells: list[Cell] = [None] * 4
    if metric:
        pairs = [(answers[k], labels[k]) for k in both]
        score, change = metric.score(pairs), metric.compare(pairs, [(uncut[k], labels[k])
                                                                    for k in both])  # fmt: skip
        cells = [score.value, score.standard_uncertainty, change.value,
                 change.standard_uncertainty]  # fmt: skip
    return [*cells, *mean_of([kind.agrees(answers[k], uncut[k]) for k in both])[:2]]


def _answers(rows: Rows, kind: Kind) -> dict[int, Any]:
    found = {row["index"]: unpacked(kind, row["answer"]) for row in rows}
    return {index: answer for index, answer in found.items() if answer is not None}


def quality_figures(quality: Table, settings: Settings) -> dict[str, Figure]:
    """Score of the cut and the uncut model, their paired change, agreement; each picture's."""
    measure, figures = measure_of(settings), {}

    def add(name: str, row: Mapping[str, Any], column: str, source: str) -> None:
        if row[column] is not None:
            figures[name] = Figure(
                row[column], "1", Evidence.MEASURED, source, row[f"{column}_u"], row["n"]
            )

    for row in quality.dicts():
        if row["sent"] == UNCUT:
            add(f"{measure}_uncut", row, "score", settings.metric)
        elif row["sent"] == WAIST:
            add(f"{measure}_cut", row, "score", settings.metric)
            add("change_paired", row, "change", settings.metric)
            add("agreement", row, "agreement", "same answer as the uncut model")
        else:
            name = raw.figure_name(row["sent"])
            add(f"{measure}_{name}", row, "score", settings.metric)
            add(f"agreement_{name}", row, "agreement", "same answer as the uncut model")
    return figures


def bits_table(study: Rows, kind: Kind, settings: Settings) -> Table:
    measure = measure_of(settings)
    columns = (
        Column("bits", "integer", "bit", f"code width; {raw.FLOAT_BITS}: uncoded float"),
        Column("mean_bytes", "number", "byte", "on the wire", Evidence.MEASURED.value),
        Column("u_bytes", "number", "byte", "standard uncertainty of the mean"),
        Column("score", "number", "1", f"{measure} on selection data", Evidence.MEASURED.value),
        Column("score_u", "number", "1", "standard uncertainty"),
        Column("agreement", "number", "1", "with the uncoded waist", Evidence.MEASURED.value),
        Column("agreement_u", "number", "1", "standard uncertainty of the mean"),
        Column("n", "integer", "frame"),
    )
    metric = load_metric(settings.metric, kind, None) if settings.metric else None
    by_bits: dict[int, list[dict[str, Any]]] = {}
    for row in study:
        by_bits.setdefault(row["bits"], []).append(row)
    whole = _answers(by_bits.get(raw.FLOAT_BITS, []), kind)
    made = []
    for bits, group in sorted(by_bits.items()):
        answers = _answers(group, kind)
        kept = [row for row in group if row["index"] in answers and row["index"] in whole]
        if not kept:
            continue
        score: tuple[float | None, float | None] = (None, None)
        if metric:
            pairs = [(answers[row["index"]], label_of(row["label"], kind, settings))
                     for row in kept]  # fmt: skip
            found = metric.score(pairs)
            score = (found.value, found.standard_uncertainty)
        agreement = mean_of([kind.agrees(answers[row["index"]], whole[row["index"]])
                             for row in kept])  # fmt: skip
        payload = mean_of([row["payload_bytes"] for row in kept])
        made.append((bits, *payload[:2], *score, *agreement))
    return table(BITS, columns, made)

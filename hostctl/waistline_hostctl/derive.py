"""From raw tables to the tables and figures of a report: pure, so that it can be done again.

Percentiles carry a bootstrap uncertainty (frames resampled, fixed seed); means carry s / sqrt(n).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from waistline.errors import CodecError
from waistline.evidence import Evidence, Figure, mean, weakest
from waistline.links._energy import radio_energy_j
from waistline.links._profiles import profile
from waistline.run import Column, Table, table
from waistline.session.bodies import REPLY_TIMES_BYTES
from waistline.task.kinds.base import Kind, load_kind
from waistline.task.metrics.base import load_metric
from waistline.task.spec import AnswerSpec
from waistline.wire import HEADER_BYTES
from waistline_hostctl import raw
from waistline_node.summary import STAGES as STAGE_COLUMNS

SEED = 20_260_101
RESAMPLES = 200
_DRAWN = 1 << 20
"""Values resampled at a time; a run may have millions."""
STAGES = tuple(column.removesuffix("_s") for column in STAGE_COLUMNS)
LATENCY, BYTES, QUALITY, RADIO, BITS, OUTCOMES = (
    "latency", "bytes", "quality", "radio", "bits", "outcomes",
)  # fmt: skip
MAIN, OVERLAP, PICTURE = "waist", "overlap", "picture"
ANSWERED = ("remote", "local")
_ABOUT_AS_MUCH = 0.01
"""Energies nearer than this share are called the same."""


class Settings(msgspec.Struct, frozen=True):
    """What deriving needs to know besides the tables; stored in run.json.

    Attributes:
        answer: kind and options of the bundle's answers.
        metric: ``top1``; "" where frames have no labels of that kind.
        link: profile that paced the link, "" for loopback as it is.
        radios: profiles whose energy is modelled.
        partition_point, codec: of the main stream.
    """

    answer: AnswerSpec
    metric: str
    link: str
    radios: tuple[str, ...]
    partition_point: int
    codec: str


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
    frames = tables[raw.FRAMES].dicts()
    inputs = tables[raw.INPUTS].dicts()
    kind = load_kind(settings.answer)
    made = [_outcomes(frames), _latency(frames, settings), _bytes(frames, inputs, settings)]
    made.append(_quality(frames, inputs, kind, settings))
    made.append(_radio(frames, made[2], settings))
    if raw.STUDY in tables:
        made.append(_bits(tables[raw.STUDY].dicts(), kind, settings))
    kept = tuple(row for row in made if row.rows)
    return Derived(kept, _figures(kept, frames, settings))


def label_of(text: str, settings: Settings) -> int | None:
    """The class a label names, by number or by name; None for anything else."""
    if text.isascii() and text.isdigit():
        return int(text)
    classes = list(settings.answer.options.get("classes", ()))
    return classes.index(text) if text in classes else None


def pick_metric(labels: Iterable[str], settings: Settings) -> str:
    """``top1`` where every frame has a class for a label and answers are classes, else ""."""
    found = [label_of(text, settings) for text in labels]
    fits = settings.answer.kind == "classify" and bool(found) and None not in found
    return "top1" if fits else ""


def cheaper(tables: Iterable[Table]) -> list[str]:
    """Whether the waist that was sent pays, for each radio: in words, whichever way it is."""
    found = next((row for row in tables if row.name == RADIO), None)
    remarks = []
    for radio in dict.fromkeys(found.column("radio")) if found else []:
        rows = [row for row in found.dicts() if row["radio"] == radio] if found else []
        energy = {row["what"]: row["energy_j"] for row in rows}
        waist = energy["waist as sent"]
        pictures = {what: value for what, value in energy.items() if what.startswith("picture")}
        if not pictures:
            continue
        best = min(pictures, key=pictures.__getitem__)
        name = best.removeprefix("picture ")
        if abs(pictures[best] - waist) <= _ABOUT_AS_MUCH * waist:
            remarks.append(
                f"over {radio}, this waist costs as much radio energy as the picture as {name} "
                f"(modelled; the radio alone)"
            )
        elif pictures[best] < waist:
            remarks.append(
                f"over {radio}, sending the picture itself as {name} is cheaper than this waist: "
                f"{pictures[best] / waist:.2g} of its radio energy (modelled)"
            )
        else:
            remarks.append(
                f"over {radio}, this waist costs {waist / pictures[best]:.2g} of the radio energy "
                f"of the picture as {name} (modelled; the radio alone)"
            )
    return remarks


def stream_words(sequential: bool) -> dict[str, str]:
    """What people call each stream; ``sequential``: the main one ran one frame at a time."""
    main = "one at a time" if sequential else "pipelined"
    return {MAIN: main, OVERLAP: "pipelined", PICTURE: "picture, PNG"}


def _outcomes(frames: list[dict[str, Any]]) -> Table:
    counts: dict[tuple[str, str, str], int] = {}
    for row in frames:
        key = (row["stream"], row["outcome"], row["reason"])
        counts[key] = counts.get(key, 0) + 1
    columns = (
        Column("stream", "text"),
        Column("outcome", "text", "", "remote, local, dropped or error"),
        Column("reason", "text"),
        Column("frames", "integer", "frame", "that ended so", Evidence.MEASURED.value),
    )
    return table(OUTCOMES, columns, [(*key, count) for key, count in sorted(counts.items())])


def _latency(frames: list[dict[str, Any]], settings: Settings) -> Table:
    columns = (
        Column("stream", "text", "", "waist: the main one; overlap: pipelined"),
        Column("stage", "text", "", "total is the frame from reading to outcome"),
        Column("p50_s", "number", "s", "median", "row"),
        Column("p50_u_s", "number", "s", "its standard uncertainty, bootstrap", "row"),
        Column("p99_s", "number", "s", "99th percentile", "row"),
        Column("p99_u_s", "number", "s", "its standard uncertainty, bootstrap", "row"),
        Column("mean_s", "number", "s", "mean", "row"),
        Column("n", "integer", "frame", "answered frames"),
        Column("evidence", "text"),
    )
    rows = []
    for stream in dict.fromkeys(row["stream"] for row in frames):
        answered = [row for row in frames if row["stream"] == stream and row["outcome"] in ANSWERED]
        for stage in (*STAGES, "total"):
            name = "latency_s" if stage == "total" else f"{stage}_s"
            values = np.array([row[name] for row in answered])
            if not len(values):
                continue
            linked = bool(settings.link) and name in raw.ON_LINK
            grade = Evidence.EMULATED if linked else Evidence.MEASURED
            p50, p99 = np.percentile(values, (50, 99))
            u50, u99 = _percentile_errors(values)
            rows.append((stream, stage, float(p50), u50, float(p99), u99,
                         float(values.mean()), len(values), grade.value))  # fmt: skip
    return table(LATENCY, columns, rows)


def _percentile_errors(values: np.ndarray) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    rng = np.random.default_rng(SEED)
    count = len(values)
    at_once = max(1, _DRAWN // count)
    found = []
    for done in range(0, RESAMPLES, at_once):
        drawn = values[rng.integers(count, size=(min(at_once, RESAMPLES - done), count))]
        found.append(np.percentile(drawn, (50, 99), axis=1))
    p50, p99 = np.concatenate(found, axis=1)
    return float(p50.std(ddof=1)), float(p99.std(ddof=1))


def _bytes(frames: list[dict[str, Any]], inputs: list[dict[str, Any]], settings: Settings) -> Table:
    columns = (
        Column("what", "text", "", "one frame, without headers"),
        Column("mean_bytes", "number", "byte", "mean", Evidence.MEASURED.value),
        Column("u_bytes", "number", "byte", "standard uncertainty of the mean"),
        Column("min_bytes", "integer", "byte"),
        Column("max_bytes", "integer", "byte"),
        Column("n", "integer", "frame"),
    )
    main = [row for row in frames if row["stream"] == MAIN and row["outcome"] in ANSWERED]
    sizes = {"waist as sent": [row["waist_bytes"] for row in main]}
    if settings.partition_point > 0:  # the sensor frame has no float waist
        sizes["waist in float"] = [row["float_bytes"] for row in inputs if row["float_bytes"]]
    for name, text in zip(raw.PICTURES, ("raw", "PNG", "JPEG q90"), strict=True):
        sizes[f"picture {text}"] = [
            row[f"{name}_bytes"] for row in inputs if row[f"{name}_bytes"] is not None
        ]
    rows = []
    for what, values in sizes.items():
        if values:
            average, spread, count = _mean(values)
            rows.append((what, average, spread, min(values), max(values), count))
    return table(BYTES, columns, rows)


def _quality(
    frames: list[dict[str, Any]], inputs: list[dict[str, Any]], kind: Kind, settings: Settings
) -> Table:
    columns = (
        Column("what", "text", "", "accuracy needs labels; agreement is with the uncut model"),
        Column("value", "number", "1", "mean over frames", Evidence.MEASURED.value),
        Column("u", "number", "1", "standard uncertainty of the mean"),
        Column("n", "integer", "frame"),
    )
    sent = {
        row["index"]: _unpacked(kind, row["answer"])
        for row in frames
        if row["stream"] == MAIN and row["outcome"] in ANSWERED
    }
    uncut = {row["index"]: _unpacked(kind, row["answer"]) for row in inputs}
    labels = {row["index"]: label_of(row["label"], settings) for row in inputs}
    both = [
        index for index, answer in sent.items()
        if answer is not None and uncut.get(index) is not None
    ]  # fmt: skip
    rows: list[tuple[str, float, float | None, int]] = []
    if settings.metric and both:
        cut = _scores(kind, settings, [(sent[index], labels[index]) for index in both])
        whole = _scores(kind, settings, [(uncut[index], labels[index]) for index in both])
        change = [after - before for after, before in zip(cut, whole, strict=True)]
        names = ("accuracy, cut", "accuracy, uncut", "change, paired")
        rows += [(name, *_mean(values)) for name, values in zip(names, (cut, whole, change),
                                                               strict=True)]  # fmt: skip
    if both:
        agrees = [kind.agrees(sent[index], uncut[index]) for index in both]
        rows.append(("agreement", *_mean(agrees)))
    return table(QUALITY, columns, rows)


def _scores(kind: Kind, settings: Settings, pairs: Sequence[tuple[Any, Any]]) -> list[float]:
    metric = load_metric(settings.metric, kind, Path())
    return [metric.score([pair]).value for pair in pairs]


def _radio(frames: list[dict[str, Any]], sizes: Table, settings: Settings) -> Table:
    columns = (
        Column("radio", "text", "", "row of the protocol table"),
        Column("name", "text"),
        Column("what", "text", "", "what is sent for one frame"),
        Column("up_bytes", "number", "byte", "payload and header", Evidence.MEASURED.value),
        Column("down_bytes", "number", "byte", "reply and header", Evidence.MEASURED.value),
        Column("energy_j", "number", "J", "radio alone, ideal transfer", Evidence.MODELLED.value),
        Column("cheapest", "flag", "", "of this radio"),
        Column("source", "text"),
    )
    main = [row for row in frames if row["stream"] == MAIN and row["outcome"] in ANSWERED]
    if not main:
        return table(RADIO, columns, [])
    answers = [len(data) for data in raw.answers(row["answer"] for row in main)]
    down_bytes = HEADER_BYTES + REPLY_TIMES_BYTES + sum(answers) / len(answers)
    rows = []
    for radio in settings.radios:
        found = profile(radio)
        options = []
        for row in sizes.dicts():
            up_bytes = HEADER_BYTES + row["mean_bytes"]
            options.append((row["what"], up_bytes, radio_energy_j(found, up_bytes, down_bytes)))
        least = min(figure.value for _, _, figure in options)
        rows += [
            (radio, found.name, what, up_bytes, down_bytes, figure.value, figure.value == least,
             figure.source)
            for what, up_bytes, figure in options
        ]  # fmt: skip
    return table(RADIO, columns, rows)


def _bits(study: list[dict[str, Any]], kind: Kind, settings: Settings) -> Table:
    columns = (
        Column("bits", "integer", "bit", f"code width; {raw.FLOAT_BITS}: uncoded float"),
        Column("mean_bytes", "number", "byte", "on the wire", Evidence.MEASURED.value),
        Column("u_bytes", "number", "byte", "standard uncertainty of the mean"),
        Column("accuracy", "number", "1", "on selection data", Evidence.MEASURED.value),
        Column("accuracy_u", "number", "1", "standard uncertainty of the mean"),
        Column("agreement", "number", "1", "with the uncoded waist", Evidence.MEASURED.value),
        Column("agreement_u", "number", "1", "standard uncertainty of the mean"),
        Column("n", "integer", "frame"),
    )
    by_bits: dict[int, list[dict[str, Any]]] = {}
    for row in study:
        by_bits.setdefault(row["bits"], []).append(row)
    whole = {
        row["index"]: _unpacked(kind, row["answer"]) for row in by_bits.get(raw.FLOAT_BITS, [])
    }
    rows = []
    for bits, group in sorted(by_bits.items()):
        answers = [_unpacked(kind, row["answer"]) for row in group]
        kept = [
            (row, answer) for row, answer in zip(group, answers, strict=True)
            if answer is not None and whole.get(row["index"]) is not None
        ]  # fmt: skip
        if not kept:
            continue
        accuracy: tuple[float | None, float | None] = (None, None)
        if settings.metric:
            pairs = [(answer, label_of(row["label"], settings)) for row, answer in kept]
            accuracy = _mean(_scores(kind, settings, pairs))[:2]
        agreement = _mean([kind.agrees(answer, whole[row["index"]]) for row, answer in kept])
        payload = _mean([row["payload_bytes"] for row, _ in kept])
        rows.append((bits, *payload[:2], *accuracy, *agreement))
    return table(BITS, columns, rows)


def _figures(
    tables: Sequence[Table], frames: list[dict[str, Any]], settings: Settings
) -> dict[str, Figure]:
    by_name = {row.name: row for row in tables}
    figures: dict[str, Figure] = {}
    link = f"link paced to {settings.link}" if settings.link else "loopback"
    for row in by_name[LATENCY].dicts() if LATENCY in by_name else []:
        if row["stage"] == "total":
            for name in ("p50", "p99"):
                figures[f"latency_{name}_{row['stream']}_s"] = Figure(
                    row[f"{name}_s"], "s", Evidence(row["evidence"]),
                    f"frames.csv, stream {row['stream']}, {link}", row[f"{name}_u_s"], row["n"],
                )  # fmt: skip
    for row in by_name[BYTES].dicts() if BYTES in by_name else []:
        name = row["what"].lower().replace(" ", "_")
        figures[f"{name}_bytes"] = Figure(
            row["mean_bytes"], "byte", Evidence.MEASURED, "mean a frame, without headers",
            row["u_bytes"], row["n"],
        )  # fmt: skip
    for row in by_name[QUALITY].dicts() if QUALITY in by_name else []:
        name = row["what"].replace(", ", "_").replace(" ", "_")
        agreed = row["what"] == "agreement"
        source = "same answer as the uncut model" if agreed else settings.metric
        figures[name] = Figure(row["value"], "1", Evidence.MEASURED, source, row["u"], row["n"])
    for row in by_name[RADIO].dicts() if RADIO in by_name else []:
        name = row["what"].lower().replace(" ", "_")
        figures[f"radio_{row['radio']}_{name}_j"] = Figure(
            row["energy_j"], "J", weakest((Evidence.MEASURED, Evidence.MODELLED)), row["source"]
        )
    figures.update(_throughput(frames, settings))
    return figures


def _throughput(frames: list[dict[str, Any]], settings: Settings) -> dict[str, Figure]:
    """Frames a second when pipelined, from the outcomes of the overlap stream."""
    ends = sorted(
        row["started_s"] + row["latency_s"]
        for row in frames
        if row["stream"] == OVERLAP and row["outcome"] in ANSWERED
    )
    if len(ends) < 3 or ends[-1] <= ends[0]:
        return {}
    gaps = np.diff(ends).tolist()
    gap_s, spread_s = mean(gaps)
    spread = None if spread_s is None else spread_s / gap_s**2
    grade = Evidence.EMULATED if settings.link else Evidence.MEASURED
    return {
        "throughput_overlap_hz": Figure(
            1 / gap_s, "Hz", grade, "outcomes a second, stages overlapping", spread, len(gaps)
        )
    }


def _unpacked(kind: Kind, cell: str) -> Any:
    data = next(raw.answers([cell]))
    if not data:
        return None
    try:
        return kind.unpack(data)
    except CodecError:
        return None


def _mean(values: Sequence[float]) -> tuple[float, float | None, int]:
    return *mean(values), len(values)

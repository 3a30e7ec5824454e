"""A study's raw tables, and what is computed from them: means, quality, fronts, advice.

Pure, so that ``waistline report --recompute`` gives the same bytes. Quality is the task's metric
where frames have labels, else agreement with the uncut model. What a codec loses is the difference
to the uncut model on the same frames.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from waistline.codec.spec import parse_spec
from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure, mean
from waistline.links._profiles import profile
from waistline.run import Column, RunRecord, Table, table
from waistline.task.boxes import Boxes
from waistline.task.kinds.base import Kind, load_kind
from waistline.task.metrics.base import Metric, load_metric
from waistline_hostctl.derive import Derived, Settings
from waistline_hostctl.derived.base import label_of, label_text, unpacked
from waistline_hostctl.study_board import BITS_PER_BYTE
from waistline_hostctl.study_front import BOUND, KEPT, advise, pareto, why_text
from waistline_hostctl.study_grid import is_lossy
from waistline_hostctl.study_measure import UNCUT, Measured, SizeRow

SIZES, ANSWERS, FRAMES = "codec_sizes", "codec_answers", "codec_frames"
CODECS, LINKS = "codecs", "codec_links"
UNCODED = "uncut"
"""First row of the codecs: the waist in float, not coded at all."""
_FAR = 0.2
"""Of the metric: what a codec that loses more loses is known without its uncertainty, unless the
user would accept as much."""
_MEASURED, _MODELLED = Evidence.MEASURED.value, Evidence.MODELLED.value


class StudySettings(Settings, frozen=True):
    """What computing a study's tables needs to know besides `Settings`.

    Attributes:
        metric_folder: where a metric of the task's own lies; "" where that is not to be run.
        links: profiles that codecs are compared under.
        slowdown: how many times slower than this machine the node computes.
        max_loss: of the metric, that an advised codec may have at its 95 % bound.
        data: set of the task that gave the frames.
        float_bytes: the waist as the model has it.
        exact: quantizers that hand the tail the very bits of the head.
        board, clock_hz: microcontroller that encodes; "": none does.
        baud: of its line to the bridge.
    """

    metric_folder: str = ""
    links: tuple[str, ...] = ()
    slowdown: float = 1.0
    max_loss: float = 0.01
    data: str = "selection"
    float_bytes: int = 0
    exact: tuple[str, ...] = ()
    board: str = ""
    clock_hz: float = 0.0
    baud: int = 0


def recorded_settings(record: RunRecord) -> StudySettings:
    """What a study's tables are computed with; no code that the record names is run.

    Raises:
        ConfigError: run.json does not say it.
    """
    try:
        found = msgspec.convert(record.settings["compute"], StudySettings)
    except (KeyError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"study {record.name} does not say how its tables are computed",
            cause=str(error),
            fix="run the study again",
        ) from error
    return msgspec.structs.replace(found, metric_folder="")


def raw_tables(found: Measured, kind: Kind, board: str = "") -> list[Table]:
    """What was seen, as tables; ``board``: the microcontroller that encodes."""
    uncut = {row.index: row.answer for row in found.answers if row.codec == UNCUT}
    sizes = (
        Column("codec", "text"),
        Column("index", "integer", "frame", "position in the study's data"),
        Column("payload_bytes", "integer", "byte", "on the wire", _MEASURED),
        Column("encode_s", "number", "s", "CPU time of the thread", _MEASURED),
        Column("decode_s", "number", "s", "CPU time of the thread", _MEASURED),
    )
    answers = (
        Column("codec", "text", "", "a quantizer alone stands for all its lossless coders"),
        Column("index", "integer", "frame", "position in the study's data"),
        Column("answer", "text", "", "base64", _MEASURED),
    )
    frames = (
        Column("index", "integer", "frame", "position in the study's data"),
        Column("label", "text", "", "a class number, or boxes packed as an answer in base64"),
        Column("answer", "text", "", "of the uncut model, base64", _MEASURED),
    )
    return [
        table(FRAMES, frames, [(index, label_text(kind, label), _text(uncut[index]))
                               for index, label in found.labels.items()]),
        table(SIZES, _on_board(sizes, _SIZES_ON_BOARD) if board else sizes,
              [_size(row, board) for row in found.sizes]),
        table(ANSWERS, answers, [(row.codec, row.index, _text(row.answer))
                                 for row in found.answers if row.codec != UNCUT]),
    ]  # fmt: skip


def derive(tables: Mapping[str, Table], settings: Settings) -> Derived:
    """Every computed table and figure.

    Args:
        tables: raw tables by name.
        settings: of the study.
    """
    assert isinstance(settings, StudySettings)
    rows = _codecs(tables, settings)
    links = [row for link in settings.links for row in _under(link, rows, settings)]
    codec_columns: tuple[Column, ...] = _CODEC_COLUMNS
    link_columns: tuple[Column, ...] = _LINK_COLUMNS
    if settings.board:
        codec_columns = _on_board(codec_columns, _CODECS_ON_BOARD)
        link_columns = _on_board(link_columns, _LINKS_ON_BOARD)
    made = (table(CODECS, codec_columns, rows), table(LINKS, link_columns, links))
    return Derived(tuple(row for row in made if row.rows), _figures(rows, links, settings))


_CODEC_COLUMNS = (
    Column("codec", "text", "", f"{UNCODED}: the waist in float, as the model has it"),
    Column("quantizer", "text"),
    Column("bits", "integer", "bit", "code width; empty: not quantized"),
    Column("coder", "text"),
    Column("lossless", "flag", "", "coder that gives every code back"),
    Column("mean_bytes", "number", "byte", "payload of a frame", _MEASURED),
    Column("u_bytes", "number", "byte", "standard uncertainty of the mean"),
    Column("encode_s", "number", "s", "quantize, pack, entropy code: mean CPU time", _MEASURED),
    Column("u_encode_s", "number", "s", "standard uncertainty of the mean"),
    Column("decode_s", "number", "s", "the reverse: mean CPU time", _MEASURED),
    Column("u_decode_s", "number", "s", "standard uncertainty of the mean"),
    Column("n_coded", "integer", "frame", "behind bytes and times"),
    Column("accuracy", "number", "1", "the task's metric; empty without labels", _MEASURED),
    Column("u_accuracy", "number", "1", "standard uncertainty"),
    Column("loss", "number", "1", "uncut less coded, same frames: accuracy, else agreement",
           _MEASURED),
    Column("u_loss", "number", "1", "standard uncertainty, paired; empty for a large loss"),
    Column("agreement", "number", "1", "with the uncut model", _MEASURED),
    Column("u_agreement", "number", "1", "standard uncertainty of the mean"),
    Column("n", "integer", "frame", "behind accuracy and agreement"),
    Column("front_bytes", "flag", "", "no other is as small and as good, and one of them better"),
    Column("front_cpu", "flag", "", "likewise with encode_s + decode_s as a third aim"),
)  # fmt: skip
_LINK_COLUMNS = (
    Column("link", "text", "", "row of the protocol table"),
    Column("rank", "integer", "", "1: the fastest that keeps the bound on its loss"),
    Column("codec", "text"),
    Column("time_s", "number", "s", "encode x slowdown + payload / rate + decode",
           Evidence.MODELLED.value),
    Column("send_s", "number", "s", "payload / rate", Evidence.MODELLED.value),
    Column("loss_bound", "number", "1", "loss at its 95 % bound", _MEASURED),
)  # fmt: skip
_ENCODE = Column("encode_s", "number", "s", "cycles / clock of the board", _MODELLED)
_INSTRUCTIONS = Column("instructions", "number", "1", "of the board, to encode", _MODELLED)
_LINE = Column("line_bytes", "number", "byte", "board to bridge, with framing", _MODELLED)
_SIZES_ON_BOARD = (
    _ENCODE, _INSTRUCTIONS, Column("cycles", "number", "1", "of the board, to encode", _MODELLED),
    _LINE,
)  # fmt: skip
_CODECS_ON_BOARD = (
    _ENCODE, _INSTRUCTIONS, _LINE,
    Column("front_cpu", "flag", "", "likewise with the board's encode_s as a third aim"),
)  # fmt: skip
_LINKS_ON_BOARD = (
    Column("time_s", "number", "s", "encode + line + payload / rate + decode", _MODELLED),
    Column("encode_s", "number", "s", "on the board", _MODELLED),
    Column("line_s", "number", "s", "from the board to the bridge", _MODELLED),
    Column("why", "text", "", "against the other coder behind the same quantizer"),
)
Row = dict[str, Any]


def front_rows(rows: Sequence[Row]) -> list[Row]:
    """The codecs worth having, smallest first; on a board also those that take less of its time."""
    front = "front_cpu" if "instructions" in rows[0] else "front_bytes"
    return sorted((row for row in rows if row[front]), key=lambda row: row["mean_bytes"])


def _on_board(columns: Iterable[Column], others: Iterable[Column]) -> tuple[Column, ...]:
    """``columns`` with ``others`` in the place of those of their names, or behind."""
    named = {column.name: column for column in (*columns, *others)}
    return tuple(named.values())


_SIZE_NAMES = ("codec", "index", "payload_bytes", "encode_s", "decode_s")


def _size(row: SizeRow, board: str) -> Row:
    found = asdict(row)
    return found if board else {name: found[name] for name in _SIZE_NAMES}


def _codecs(tables: Mapping[str, Table], settings: StudySettings) -> list[Row]:
    kind = load_kind(settings.answer)
    score = _Score(kind, tables[FRAMES], settings)
    quality: dict[str, Row] = {UNCODED: score.of(score.uncut)}
    for codec, answers in _grouped(tables[ANSWERS], "codec").items():
        found = {row["index"]: unpacked(kind, row["answer"]) for row in answers}
        quality[codec] = score.of(found)
    rows: list[Row] = [
        {"codec": UNCODED, "quantizer": UNCODED, "coder": "", "lossless": True,
         "mean_bytes": float(settings.float_bytes), "encode_s": 0.0, "decode_s": 0.0,
         "n_coded": quality[UNCODED]["n"], **quality[UNCODED]}
    ]  # fmt: skip
    for codec, group in _grouped(tables[SIZES], "codec").items():
        spec = parse_spec(codec)
        quantizer = _left(codec)
        row: Row = {"codec": codec, "quantizer": quantizer, "bits": spec.bits,
                    "coder": codec.rpartition("|")[2], "n_coded": len(group)}  # fmt: skip
        row["lossless"] = not is_lossy(row["coder"])
        for name in ("instructions", "line_bytes") if settings.board else ():
            row[name] = mean([one[name] for one in group])[0]
        for name in ("payload_bytes", "encode_s", "decode_s"):
            short = name.removeprefix("payload_")
            value, spread = mean([one[name] for one in group])
            row["mean_bytes" if short == "bytes" else name] = value
            row[f"u_{short}"] = spread
        rows.append(row | quality[quantizer if row["lossless"] else codec])
    coded = rows[1:]
    for name, aims in (_AIMS | (_AIMS_ON_BOARD if settings.board else {})).items():
        for row, best in zip(coded, pareto([aims(row) for row in coded]), strict=True):
            row[name] = best
    return rows


_AIMS: dict[str, Callable[[Row], tuple[float, ...]]] = {
    "front_bytes": lambda row: (row["mean_bytes"], row["loss"]),
    "front_cpu": lambda row: (row["mean_bytes"], row["loss"], row["encode_s"] + row["decode_s"]),
}
"""What each front makes small."""
_AIMS_ON_BOARD: dict[str, Callable[[Row], tuple[float, ...]]] = {
    "front_cpu": lambda row: (row["mean_bytes"], row["loss"], row["encode_s"]),
}


def _left(codec: str) -> str:
    left, bar, _ = codec.partition("|")
    return left if bar else "raw"


class _Score:
    """Quality of the answers to the study's frames."""

    def __init__(self, kind: Kind, frames: Table, settings: StudySettings) -> None:
        self._kind = kind
        self._far = max(_FAR, settings.max_loss)
        rows = frames.dicts()
        self.uncut = {row["index"]: unpacked(kind, row["answer"]) for row in rows}
        self._labels = {
            row["index"]: label_of(row["label"], kind, settings) for row in rows if settings.metric
        }
        self._metric: Metric | None = None
        self._scored: dict[tuple[int, ...], Figure] = {}
        if settings.metric:
            self._metric = load_metric(
                settings.metric,
                kind,
                Path(settings.metric_folder) if settings.metric_folder else None,
            )

    def of(self, answers: Mapping[int, Any]) -> Row:
        """Accuracy, loss and agreement with their uncertainties."""
        both = [index for index, answer in answers.items()
                if answer is not None and self.uncut.get(index) is not None]  # fmt: skip
        agrees = [self._kind.agrees(answers[index], self.uncut[index]) for index in both]
        agreement, spread = mean(agrees)
        row: Row = {"agreement": agreement, "u_agreement": spread, "n": len(both),
                    "loss": 1.0 - agreement, "u_loss": spread}  # fmt: skip
        if self._metric is None:
            return row
        pairs = [(answers[index], self._labels[index]) for index in both]
        whole = [(self.uncut[index], self._labels[index]) for index in both]
        score = self._metric.score(pairs)
        frames = tuple(both)
        before = self._scored.get(frames) or self._metric.score(whole)
        self._scored[frames] = before
        row |= {"accuracy": score.value, "u_accuracy": score.standard_uncertainty,
                "loss": before.value - score.value, "u_loss": None}  # fmt: skip
        if row["loss"] <= self._far:  # the bootstrap of some metrics takes seconds
            row["u_loss"] = self._metric.compare(pairs, whole).standard_uncertainty
        return row


def _under(link: str, rows: Sequence[Row], settings: StudySettings) -> list[Row]:
    """The advised codecs, best first, at most `KEPT`."""
    advice = advise(
        rows[1:],
        profile(link).rate_up_bps,
        settings.slowdown,
        settings.max_loss,
        settings.exact,
        settings.baud / BITS_PER_BYTE,
        kept=None,
    )
    by_codec = {row["codec"]: row for row in rows}
    found = [
        {"link": link, "rank": rank, **asdict(one), "encode_s": by_codec[one.codec]["encode_s"],
         "why": why_text(one, advice, by_codec)}
        for rank, one in enumerate(advice, 1)
    ]  # fmt: skip
    return found[:KEPT]


def _figures(
    rows: Sequence[Row], links: Sequence[Row], settings: StudySettings
) -> dict[str, Figure]:
    source = f"{settings.data} frames through {len(rows) - 1} codecs"
    whole, by_codec = rows[0], {row["codec"]: row for row in rows}
    figures: dict[str, Figure] = {}
    modelled = {"encode_s", "instructions"} if settings.board else set()

    def put(name: str, row: Row, column: str, unit: str, count: str) -> None:
        if row.get(column) is not None:
            spread = row.get("u_" + column.removeprefix("mean_"))
            grade = Evidence.MODELLED if column in modelled else Evidence.MEASURED
            figures[name] = Figure(row[column], unit, grade, source, spread, row[count])

    put("uncut_accuracy", whole, "accuracy", "1", "n")
    for link in links:
        if link["rank"] != 1:
            continue
        row, name = by_codec[link["codec"]], link["link"]
        put(f"{name}_bytes", row, "mean_bytes", "byte", "n_coded")
        put(f"{name}_encode_s", row, "encode_s", "s", "n_coded")
        put(f"{name}_instructions", row, "instructions", "1", "n_coded")
        put(f"{name}_decode_s", row, "decode_s", "s", "n_coded")
        put(f"{name}_loss", row, "loss", "1", "n")
        formula = f"encode x {settings.slowdown:g} + payload / rate of {name} + decode"
        if settings.board:
            formula = (
                f"encode on {settings.board} + line at {settings.baud} baud + payload / "
                f"rate of {name} + decode"
            )
        figures[f"{name}_time_s"] = Figure(
            link["time_s"], "s", Evidence.MODELLED, f"{formula} ({BOUND} bound)", None, row["n"]
        )
    return figures


def _grouped(rows: Table, column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows.dicts():
        groups.setdefault(row[column], []).append(row)
    return groups


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def has_labels(labels: Iterable[Any]) -> bool:
    """Whether every frame has a ground truth that the raw tables can hold."""
    found = list(labels)
    return bool(found) and all(isinstance(label, int | Boxes) for label in found)

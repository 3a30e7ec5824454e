"""From raw tables to figures: values that can be worked out by hand."""

import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import numpy as np
import pytest

from waistline import provenance
from waistline.bench import resolve
from waistline.bundle.cuts import CutRow
from waistline.evidence import Evidence
from waistline.links._energy import radio_energy_j
from waistline.links._profiles import profile
from waistline.run import RunRecord, Table
from waistline.task.boxes import Boxes, truth
from waistline.task.kinds.base import load_kind
from waistline.task.kinds.classify import Ranking
from waistline.task.spec import AnswerSpec
from waistline.tensors import TensorSpec
from waistline_hostctl import derive, raw, summary
from waistline_hostctl.derived import base, timing
from waistline_hostctl.report import render
from waistline_node.records import FrameRecord

ANSWER = AnswerSpec("classify", {"top_k": 1, "classes": ["cat", "dog"]})
KIND = load_kind(ANSWER)
CODEC = "affine:b=4|zstd:1"


def settings(**changes: Any) -> derive.Settings:
    base = derive.Settings(ANSWER, "top1", "wifi-n-esp32", ("lte-cat1",), 3, CODEC)
    return msgspec.structs.replace(base, **changes)


def packed(index: int) -> bytes:
    return KIND.pack(Ranking((index,), (0.5,)))


def record(index: int, chosen: int, **changes: Any) -> FrameRecord:
    values: dict[str, Any] = {
        "index": index, "name": f"f{index}", "label": "0", "seq": index + 1, "outcome": "remote",
        "reason": "", "started_s": float(index), "latency_s": 0.010 + 0.001 * index,
        "head_s": 0.004, "transit_s": 0.005, "waist_bytes": 60 + index, "raw_len": 100,
        "answer": packed(chosen),
    }  # fmt: skip
    return FrameRecord(**{**values, **changes})


def inputs(answers: list[int], labels: list[str]) -> list[raw.InputRow]:
    return [
        raw.InputRow(index, label, packed(answer), 512)
        for index, (answer, label) in enumerate(zip(answers, labels, strict=True))
    ]


PICTURES = {"raw|none": 784, "png": 500, "jpeg:90": 700, "webp:50": 300}


def pictures(answers: list[int], coarse: list[int]) -> list[raw.PictureRow]:
    """Every picture gives the uncut answers but WebP, which gives ``coarse``."""
    return [
        raw.PictureRow(index, codec, size, packed(chosen[index]))
        for codec, size in PICTURES.items()
        for chosen in [coarse if codec.startswith("webp") else answers]
        for index in range(len(answers))
    ]


def tables(*rows: Table) -> dict[str, Table]:
    return {row.name: row for row in rows}


@pytest.fixture
def four() -> dict[str, Table]:
    """Four frames: sent 0 1 0 0, uncut 0 0 0 1, labels cat cat dog cat; a fifth was dropped."""
    records = [record(index, answer) for index, answer in enumerate((0, 1, 0, 0))]
    lost = record(4, 0, outcome="dropped", reason="queue", answer=b"", latency_s=9.0)
    sent = raw.Sent(derive.MAIN, [*records, lost])
    return tables(
        raw.frames_table([sent], emulated=True),
        raw.inputs_table(inputs([0, 0, 0, 1, 0], ["cat", "0", "dog", "0", "0"])),
        raw.pictures_table(pictures([0, 0, 0, 1, 0], [1, 1, 0, 1, 1])),
    )


def test_accuracy_agreement_and_their_uncertainty(four: dict[str, Table]) -> None:
    figures = derive.derive(four, settings()).figures
    assert figures["accuracy_cut"].value == pytest.approx(2 / 4)
    assert figures["accuracy_uncut"].value == pytest.approx(2 / 4)
    change = figures["change_paired"]
    assert change.value == 0.0
    assert change.source == figures["accuracy_cut"].source == "top1"
    assert change.standard_uncertainty == pytest.approx(math.sqrt(2 / 3 / 4))
    assert figures["agreement"].value == pytest.approx(2 / 4)
    assert figures["agreement"].n == 4


def test_without_labels_nothing_is_called_accuracy(four: dict[str, Table]) -> None:
    found = derive.derive(four, settings(metric=""))
    assert not [name for name in found.figures if "accuracy" in name]
    assert "agreement" in found.figures


def test_frames_without_an_answer_do_not_count_as_latency(four: dict[str, Table]) -> None:
    found = derive.derive(four, settings())
    p50 = found.figures["latency_p50_waist_s"]
    assert p50.value == pytest.approx(0.0115)
    assert p50.n == 4
    assert p50.evidence is Evidence.EMULATED
    outcomes = next(row for row in found.tables if row.name == derive.OUTCOMES).dicts()
    assert {(row["outcome"], row["frames"]) for row in outcomes} == {("remote", 4), ("dropped", 1)}


def test_resampling_in_parts_gives_the_same_as_all_at_once(
    four: dict[str, Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = derive.derive(four, settings())
    monkeypatch.setattr(timing, "_DRAWN", 30)
    assert derive.derive(four, settings()) == whole


def test_grades_are_per_stage_and_follow_the_link(four: dict[str, Table]) -> None:
    def grades(link: str) -> dict[str, str]:
        found = derive.derive(four, settings(link=link)).tables
        latency = next(row for row in found if row.name == derive.LATENCY)
        return {row["stage"]: row["evidence"] for row in latency.dicts()}

    paced, loopback = grades("wifi-n-esp32"), grades("")
    assert paced["transit"] == paced["total"] == "emulated"
    assert paced["head"] == "measured"
    assert set(loopback.values()) == {"measured"}


def test_radio_energy_is_the_formula_with_headers(four: dict[str, Table]) -> None:
    figures = derive.derive(four, settings()).figures
    answer_bytes = len(packed(0))
    expected = radio_energy_j(profile("lte-cat1"), 61.5 + 40, 40 + 20 + answer_bytes)
    found = figures["radio_lte-cat1_waist_as_sent_j"]
    assert found.value == pytest.approx(expected.value)
    assert found.evidence is Evidence.MODELLED
    assert figures["radio_lte-cat1_picture_png_j"].value > found.value


def test_a_node_that_answers_itself_gets_no_answer_back(four: dict[str, Table]) -> None:
    """At x = N; the edge would answer a picture."""
    figures = derive.derive(four, settings(partition_point=9, codec="")).figures
    sent = radio_energy_j(profile("lte-cat1"), 61.5 + 40, 40 + 20)
    assert figures["radio_lte-cat1_waist_as_sent_j"].value == pytest.approx(sent.value)
    picture = radio_energy_j(profile("lte-cat1"), 500 + 40, 40 + 20 + len(packed(0)))
    assert figures["radio_lte-cat1_picture_png_j"].value == pytest.approx(picture.value)


def test_where_the_picture_is_cheaper_it_is_said_plainly(four: dict[str, Table]) -> None:
    remark, *_ = derive.cheaper(derive.derive(four, settings()).tables, settings())
    assert "this waist costs" in remark
    dear = [record(index, 0, waist_bytes=600) for index in range(4)]
    made = {**four, **tables(raw.frames_table([raw.Sent(derive.MAIN, dear)], emulated=True))}
    remark, *_ = derive.cheaper(derive.derive(made, settings()).tables, settings())
    assert "sending the picture itself as PNG is cheaper" in remark
    assert "modelled" in remark


def test_a_waist_as_dear_as_the_picture_is_not_called_dearer(four: dict[str, Table]) -> None:
    same = [record(index, 0, waist_bytes=500) for index in range(4)]
    made = {**four, **tables(raw.frames_table([raw.Sent(derive.MAIN, same)], emulated=True))}
    remark, *_ = derive.cheaper(derive.derive(made, settings()).tables, settings())
    assert "costs as much radio energy as the picture as PNG" in remark


def test_a_picture_that_answers_worse_is_left_out_of_the_comparison() -> None:
    count = 40
    right, wrong = [0] * count, [1] * count
    sent = [record(index, 0, waist_bytes=400) for index in range(count)]
    made = tables(
        raw.frames_table([raw.Sent(derive.MAIN, sent)], emulated=True),
        raw.inputs_table(inputs(right, ["cat"] * count)),
        raw.pictures_table(pictures(right, wrong)),
    )
    against, left_out = derive.cheaper(derive.derive(made, settings()).tables, settings())
    assert "picture as PNG" in against
    assert "left out" in left_out
    assert "WebP q50" in left_out
    assert "a lower accuracy" in left_out


@pytest.mark.parametrize("count", [1, 2])
def test_a_frame_or_two_prove_no_picture_worse(count: int) -> None:
    sent = [record(index, 0, waist_bytes=400) for index in range(count)]
    made = tables(
        raw.frames_table([raw.Sent(derive.MAIN, sent)], emulated=True),
        raw.inputs_table(inputs([0] * count, ["cat"] * count)),
        raw.pictures_table(pictures([0] * count, [1] * count)),
    )
    remarks = derive.cheaper(derive.derive(made, settings()).tables, settings())
    assert not any("left out" in remark for remark in remarks)


def test_each_picture_has_its_score_and_change(four: dict[str, Table]) -> None:
    found = derive.derive(four, settings())
    rows = next(row for row in found.tables if row.name == derive.QUALITY).dicts()
    by_name = {row["sent"]: row for row in rows}
    assert by_name["picture PNG"]["change"] == 0
    assert by_name["picture PNG"]["agreement"] == 1
    assert by_name["picture WebP q50"]["change"] == pytest.approx(-3 / 5)
    assert found.figures["accuracy_picture_webp_q50"].value == 0
    assert found.figures["agreement_picture_webp_q50"].value == pytest.approx(2 / 5)


def test_boxes_go_through_a_table_and_are_scored_as_precision() -> None:
    answer = AnswerSpec(
        "detect",
        {"classes": ["a"], "heads": [{"output": 0, "stride": 8, "anchors": [[8.0, 8.0]]}]},
    )
    kind = load_kind(answer)
    known = truth(np.array([[0, 0, 4, 4]]), np.array([0]))
    found = Boxes(known.corners, known.classes, np.array([0.5], np.float32))
    chosen = settings(answer=answer, metric="map50")
    text = base.label_text(kind, known)
    assert derive.pick_metric([text], chosen) == "map50"
    assert derive.pick_metric([text, ""], chosen) == ""
    rows = [raw.InputRow(k, text, kind.pack(found), 512) for k in range(3)]
    sent = [record(k, 0, answer=kind.pack(found)) for k in range(3)]
    made = tables(
        raw.frames_table([raw.Sent(derive.MAIN, sent)], emulated=False), raw.inputs_table(rows)
    )
    figures = derive.derive(made, chosen).figures
    assert figures["map50_cut"].value == pytest.approx(1.0)
    assert figures["change_paired"].value == 0.0


def test_the_sensor_frame_has_no_float_waist(four: dict[str, Table]) -> None:
    assert "waist_uncoded_bytes" in derive.derive(four, settings()).figures
    assert "waist_uncoded_bytes" not in derive.derive(four, settings(partition_point=0)).figures


def test_streams_are_called_what_they_were(four: dict[str, Table]) -> None:
    made = derive.derive(four, settings())
    found = {row.name: row for row in made.tables}
    assert "one at a time" in summary.run_text(found, made.figures, metric="accuracy")
    overlapping = summary.run_text(found, made.figures, metric="accuracy", sequential=False)
    assert "one at a time" not in overlapping
    assert "pipelined" in overlapping


def test_reasons_come_with_the_first_frame_that_met_them() -> None:
    lost = {"outcome": "error", "reason": "source", "answer": b""}
    records = [
        record(0, 0), record(1, 0, **lost, detail="it is 9x9, the task says 8x8"),
        record(2, 0, **lost, detail="later"), record(3, 0, outcome="dropped", reason="queue"),
    ]  # fmt: skip
    table = raw.frames_table([raw.Sent(derive.MAIN, records)], emulated=False)
    text = " ".join(summary.reasons_text(table).split())
    assert "2 error(source), first f1: it is 9x9, the task says 8x8" in text
    assert "1 dropped(queue), first f3" in text
    assert "later" not in text
    assert summary.reasons_text(raw.frames_table([], emulated=False)) == ""


def test_study_is_against_the_float_waist(four: dict[str, Table]) -> None:
    rows = []
    for index, (whole, coarse) in enumerate([(0, 0), (1, 0), (1, 1), (0, 1)]):
        label = str(whole)
        rows.append(raw.StudyRow(raw.FLOAT_BITS, index, label, 512, packed(whole)))
        rows.append(raw.StudyRow(1, index, label, 16, packed(coarse)))
    found = derive.derive({**four, **tables(raw.study_table(rows))}, settings())
    bits = next(row for row in found.tables if row.name == derive.BITS).dicts()
    assert [row["bits"] for row in bits] == [1, raw.FLOAT_BITS]
    assert bits[0]["score"] == pytest.approx(0.5)
    assert bits[0]["agreement"] == pytest.approx(0.5)
    assert bits[1]["score"] == 1.0


def test_throughput_comes_from_the_overlap_stream() -> None:
    rows = [record(index, 0, started_s=index * 0.02, latency_s=0.5) for index in range(11)]
    made = tables(
        raw.frames_table([raw.Sent(derive.OVERLAP, rows)], emulated=False),
        raw.inputs_table(inputs([0] * 11, ["0"] * 11)),
    )
    figures = derive.derive(made, settings(link="")).figures
    assert figures["throughput_overlap_hz"].value == pytest.approx(50)
    assert figures["throughput_overlap_hz"].evidence is Evidence.MEASURED


def test_labels_by_number_or_class_name() -> None:
    assert base.label_of("7", KIND, settings()) == 7
    assert base.label_of("dog", KIND, settings()) == 1
    assert base.label_of("bird", KIND, settings()) is None
    assert derive.pick_metric(["cat", "1"], settings()) == "top1"
    assert derive.pick_metric(["cat", ""], settings()) == ""
    assert derive.pick_metric([], settings()) == ""


def test_the_same_raw_tables_give_the_same_computed_ones(four: dict[str, Table]) -> None:
    assert derive.derive(four, settings()) == derive.derive(four, settings())


def page(four: dict[str, Table], title: str) -> str:
    cuts = [
        CutRow(x, (TensorSpec(f"t{x}", "float32", (1, x + 1)),), f"n{x}", 10 * x + 4, 5 * x + 1,
               x, x / 3, 0)
        for x in range(4)
    ]  # fmt: skip
    study = [
        raw.StudyRow(bits, index, "0", 10 * bits, packed(0))
        for bits in (1, 2, raw.FLOAT_BITS)
        for index in range(2)
    ]
    made = {**four, **tables(raw.cuts_table(cuts, 2), raw.study_table(study))}
    found = derive.derive(made, settings())
    about = RunRecord(
        name="t", started_utc="now", ended_utc="now", command=("waistline",), version="0",
        commit="", seeds={}, inputs={}, libraries=(), machine=provenance.machine(), threads={},
        bench=resolve(), codec="c", evidence={}, figures=found.figures, tables=(),
        settings={"title": title, "remarks": ["a <remark>"], "link": "emulated link",
                  "compute": msgspec.to_builtins(settings())},
    )  # fmt: skip
    return render(about, {**made, **tables(*found.tables)}).decode()


def test_the_report_needs_nothing_but_itself(four: dict[str, Table]) -> None:
    html = page(four, "plain")
    assert not re.findall(r"<(script|link|iframe|object)\b", html)
    addresses = set(re.findall(r"https?://[^\"' <]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_the_report_has_three_sound_charts(four: dict[str, Table]) -> None:
    charts = re.findall(r"<svg.*?</svg>", page(four, "plain"), flags=re.DOTALL)
    assert len(charts) == 3
    for chart in charts:
        root = ET.fromstring(chart)
        numbers = re.findall(r' (?:x|y|x1|y1|x2|y2|cx|cy|width|height)="([^"]*)"', chart)
        assert root.attrib["viewBox"]
        assert np.isfinite([float(number) for number in numbers]).all()


def test_the_report_grades_its_figures_and_escapes_names(four: dict[str, Table]) -> None:
    html = page(four, "<b>bold</b> & more")
    assert "<b>bold</b> & more" not in html
    assert "&lt;b&gt;bold" in html
    assert "a &lt;remark&gt;" in html
    for grade in ("measured", "emulated", "modelled"):
        assert f'<span class="grade {grade}">' in html

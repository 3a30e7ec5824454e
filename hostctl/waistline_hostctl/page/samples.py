"""Frames to look at, with what both ends found on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from waistline.task.boxes import Boxes
from waistline.task.kinds.base import Kind, load_kind
from waistline_hostctl import derive, raw
from waistline_hostctl.derived.base import DETECTION, label_of, main_rows, unpacked
from waistline_hostctl.page.html import Dicts, legend

_SHADES = 9
_TEXT = 7.5
"""Height of a label, in hundredths of the picture's width."""
_LETTER = 2.7
"""Width of a letter, in the same; keeps a label inside the picture."""
_SHOWN_SCORE = 0.3
"""Boxes below are not drawn; the metric counts them, a person would not."""


def samples_section(rows: Mapping[str, Dicts], settings: derive.Settings) -> str:
    samples = rows.get(raw.SAMPLES, [])
    if not samples:
        return ""
    kind = load_kind(settings.answer)
    sent = {row["index"]: row for row in main_rows(rows.get(raw.FRAMES, []))}
    inputs = {row["index"]: row for row in rows.get(raw.INPUTS, [])}
    boxes = settings.answer.kind == DETECTION
    cards = []
    for sample in samples:
        answer = unpacked(kind, sent[sample["index"]]["answer"])
        uncut = unpacked(kind, inputs[sample["index"]]["answer"])
        label = label_of(inputs[sample["index"]]["label"], kind, settings)
        if answer is None or uncut is None:
            continue
        overlay = _boxes(sample, answer, label, _classes(settings)) if boxes else ""
        cards.append(
            f"<figure>{_picture(sample, overlay)}<figcaption>"
            f"{_caption(sample, kind, answer, uncut, label, settings)}</figcaption></figure>"
        )
    return (
        f"<h2>Frames of this run</h2>{_note(boxes, settings)}"
        f'<div class="samples">{"".join(cards)}</div>'
    )


def _note(boxes: bool, settings: derive.Settings) -> str:
    if not boxes:
        return '<p class="note">With the answer that came back through the waist.</p>'
    classes = _classes(settings)
    shades = {name: place % _SHADES for place, name in enumerate(classes)}
    return (
        '<p class="note">Solid: what came back through the waist, with its score, from '
        f"{_SHOWN_SCORE:g} on. Dashed: the ground truth.</p>{legend(shades, 'd')}"
    )


def _classes(settings: derive.Settings) -> Sequence[str]:
    return [str(name) for name in settings.answer.options.get("classes", ())]


def _picture(sample: Mapping[str, Any], overlay: str) -> str:
    width, height = sample["width"], sample["height"]
    data = f"data:{escape(sample['media'])};base64,{escape(sample['picture'])}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img"><image width="{width}" '
        f'height="{height}" href="{data}" style="image-rendering:auto"/>{overlay}</svg>'
    )


def _boxes(sample: Mapping[str, Any], answer: Boxes, label: object, classes: Sequence[str]) -> str:
    unit = sample["width"] / 100
    parts = []
    if isinstance(label, Boxes):
        parts += [_rectangle(corners, f"truth d{index % _SHADES}", unit * 0.5)
                  for corners, index in zip(label.corners, label.classes, strict=True)]  # fmt: skip
    for corners, index, score in zip(answer.corners, answer.classes, answer.scores, strict=True):
        if score < _SHOWN_SCORE:
            continue
        parts.append(_rectangle(corners, f"found d{index % _SHADES}", unit * 0.8))
        name = classes[index] if index < len(classes) else str(index)
        room = 100 * unit - _LETTER * unit * (len(name) + 5)
        x, y = min(float(corners[0]), room), max(float(corners[1]) - 0.8 * unit, 4 * unit)
        parts.append(
            f'<text class="box-name" x="{x:.1f}" y="{y:.1f}" style="font-size:'
            f'{_TEXT * unit * 0.6:.2f}px;stroke-width:{unit:.2f}px">{escape(name)} '
            f"{score:.2f}</text>"
        )
    return "".join(parts)


def _rectangle(corners: Sequence[float], style: str, width: float) -> str:
    x0, y0, x1, y1 = (float(side) for side in corners)
    return (
        f'<rect class="box {style}" x="{x0:.1f}" y="{y0:.1f}" width="{max(x1 - x0, 0):.1f}" '
        f'height="{max(y1 - y0, 0):.1f}" style="stroke-width:{width:.2f}px"/>'
    )


def _caption(
    sample: Mapping[str, Any], kind: Kind, answer: Any, uncut: Any, label: object,
    settings: derive.Settings,
) -> str:  # fmt: skip
    agrees = kind.agrees(answer, uncut)
    text = f"frame {sample['index']}: {sample['why']}"
    if settings.answer.kind == DETECTION:
        known = f", {len(label)} are there" if isinstance(label, Boxes) else ""
        shown = int((answer.scores >= _SHOWN_SCORE).sum())
        text = f"{text}; {shown} found{known}; agreement {agrees:.2f}"
    else:
        names = _classes(settings)
        known = ""
        if isinstance(label, int):
            known = f"; label {names[label] if label < len(names) else label}"
        text = f"{text}: {kind.describe(answer)}{known}"
    return escape(text)

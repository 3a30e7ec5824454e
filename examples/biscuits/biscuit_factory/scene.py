"""One frame of the conveyor: what lies where, painted bottom to top, with its ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import belt, biscuits, camera, foreign
from .biscuits import Biscuit
from .noise import Rng
from .outline import SORTS, break_off
from .patch import Light, Patch, shade, shadow

CLASSES = ("whole", "broken", "foreign")
"""A chipped biscuit is whole, see `outline.WHOLE_LOSS`; each piece of a broken one is broken."""
WHOLE, BROKEN, FOREIGN = range(3)
LEAST_SEEN = 0.25
"""An object of which a smaller share can be seen is not labelled: nobody could tell what it is."""
_STREAM = 0xB15C
"""Keeps these random streams apart from others that start from small seeds."""


@dataclass(frozen=True)
class Thing:
    """One object on the belt, in shares of the frame's side.

    Attributes:
        label: index into `CLASSES`.
        kind: sort of biscuit or of foreign body.
        x, y: of the centre.
        radius: nominal.
        angle: radians.
        seed: of its surface.
        biscuit: what to paint; None for a foreign body.
    """

    label: int
    kind: str
    x: float
    y: float
    radius: float
    angle: float
    seed: int
    biscuit: Biscuit | None = None


@dataclass(frozen=True)
class Frame:
    """A picture and what is on it.

    Attributes:
        image: uint8 (size, size, 3), sRGB.
        corners: float32 (n, 4): x0, y0, x1, y1 of each object's visible pixels, x1 and y1 behind
            the last one.
        classes: int64 (n,), into `CLASSES`.
        masks: uint8 (size, size): 0 belt, k + 1 the visible pixels of object k.
        kinds: n names: sort and damage, or the foreign body.
    """

    image: np.ndarray
    corners: np.ndarray
    classes: np.ndarray
    masks: np.ndarray
    kinds: tuple[str, ...]


def render(seed: int, size: int = 192) -> Frame:
    """The frame of this seed; the same scene at every size, noise apart.

    Args:
        seed: 0 or more.
        size: pixels a side, a multiple of 32 from 96 on.

    Raises:
        ValueError: another size.
    """
    if size % 32 or size < 96:
        raise ValueError(f"size {size} is not a multiple of 32 from 96 on")
    plan, ground, lamp, shot = (np.random.default_rng([_STREAM, seed, part]) for part in range(4))
    light = camera.draw_light(lamp)
    things = _lay_out(plan)
    canvas = belt.paint(ground, belt.BELTS[plan.integers(len(belt.BELTS))], size)
    masks = np.zeros((size, size), np.uint8)
    areas = [_place(canvas, masks, thing, index + 1, light) for index, thing in enumerate(things)]
    canvas *= camera.illumination(lamp, light, size)
    masks, shown = _visible(masks, things, areas)
    return _frame(camera.expose(shot, canvas), masks, shown)


def _visible(
    masks: np.ndarray, things: list[Thing], areas: list[int]
) -> tuple[np.ndarray, list[Thing]]:
    """The objects of which enough can be seen, and the masks with those alone, numbered anew."""
    seen = np.bincount(masks.ravel(), minlength=len(things) + 1)[1:]
    kept = [index for index, area in enumerate(areas) if seen[index] > LEAST_SEEN * area]
    numbers = np.zeros(len(things) + 1, np.uint8)
    numbers[[index + 1 for index in kept]] = np.arange(1, len(kept) + 1)
    return numbers[masks], [things[index] for index in kept]


def _frame(image: np.ndarray, masks: np.ndarray, things: list[Thing]) -> Frame:
    corners = np.zeros((len(things), 4), np.float32)
    for index in range(len(things)):
        rows, columns = np.nonzero(masks == index + 1)
        corners[index] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    classes = np.array([thing.label for thing in things], np.int64)
    return Frame(image, corners, classes, masks, tuple(map(_describe, things)))


def _describe(thing: Thing) -> str:
    damage = "none" if thing.biscuit is None else thing.biscuit.cut.kind
    return thing.kind if damage == "none" else f"{thing.kind}, {damage}"


def _place(canvas: np.ndarray, masks: np.ndarray, thing: Thing, number: int, light: Light) -> int:
    """Paint one object over what is there, its shadow first; its area in pixels."""
    size = len(masks)
    at_x, at_y = thing.x * size - 0.5, thing.y * size - 0.5
    middle_x, middle_y = round(at_x), round(at_y)
    shift = (at_x - middle_x, at_y - middle_y)
    if thing.biscuit is not None:
        patch = biscuits.paint(thing.biscuit, thing.radius * size, thing.angle, shift)
    else:
        patch = foreign.paint(thing.kind, thing.seed, thing.radius * size, thing.angle, shift)
    reach = len(patch.alpha) // 2
    top, left = max(middle_y - reach, 0), max(middle_x - reach, 0)
    bottom, right = min(middle_y + reach + 1, size), min(middle_x + reach + 1, size)
    inside = np.s_[
        top - middle_y + reach : bottom - middle_y + reach,
        left - middle_x + reach : right - middle_x + reach,
    ]
    _paste(canvas[:, top:bottom, left:right], patch, inside, light)
    covered = patch.alpha[inside] >= 0.5
    masks[top:bottom, left:right][covered] = number
    return int(np.count_nonzero(patch.alpha >= 0.5))


def _paste(area: np.ndarray, patch: Patch, inside: tuple[slice, slice], light: Light) -> None:
    area *= shadow(patch, light)[inside]
    alpha = patch.alpha[inside]
    area += (shade(patch, light)[:, *inside] - area) * alpha


def _lay_out(rng: Rng) -> list[Thing]:
    """What lies on the belt, bottom to top: whole, then broken biscuits, then foreign bodies."""
    radius = rng.uniform(0.105, 0.150)
    sorts = [SORTS[rng.integers(len(SORTS))]]
    if rng.random() < 0.3:
        sorts.append(SORTS[rng.integers(len(SORTS))])
    bake, crowded = rng.uniform(0.15, 0.75), rng.random() < 0.4
    places = _places(rng, radius, 0.76 if crowded else 1.04)
    row_angle = rng.uniform(0, 2 * np.pi)
    whole: list[Thing] = []
    broken: list[Thing] = []
    for x, y in places:
        sort = sorts[rng.integers(len(sorts))]
        size = radius * rng.uniform(0.93, 1.07)
        turn = row_angle + rng.normal(0, 0.35) if rng.random() < 0.6 else rng.uniform(0, 6.28)
        baked = float(np.clip(bake + rng.normal(0, 0.10), 0.0, 1.0))
        biscuit = Biscuit(sort, int(rng.integers(1 << 31)), baked)
        within = min(x, y, 1 - x, 1 - y) > 0.55 * radius
        if within and rng.random() < 0.34:
            broken += _break(rng, biscuit, x, y, size, turn)
        else:
            if rng.random() < 0.3:
                cut = break_off(sort, biscuit.seed, rng, "chip")
                biscuit = Biscuit(sort, biscuit.seed, baked, cut)
            whole.append(Thing(WHOLE, sort, x, y, size, turn, biscuit.seed, biscuit))
    return whole + broken + _foreign(rng, [(t.x, t.y, t.radius) for t in whole + broken])


def _places(rng: Rng, radius: float, spacing: float) -> list[tuple[float, float]]:
    """Centres of biscuits: in lanes along the belt, or strewn; ``spacing`` in diameters."""
    wanted = int(rng.integers(2, 10))
    if rng.random() < 0.55:
        lanes = max(1, int(1.0 / (radius * 2.25)))
        pitch = 1.0 / lanes
        along = radius * 2.0 * rng.uniform(1.12, 1.35)
        phase = rng.uniform(0, along)
        candidates = [
            (
                phase + column * along + lane * rng.normal(0, 0.02) + rng.normal(0, 0.08) * radius,
                (lane + 0.5) * pitch + rng.normal(0, 0.14) * radius,
            )
            for lane in range(lanes)
            for column in range(-1, int(1.0 / along) + 1)
        ]
        candidates = [candidates[i] for i in rng.permutation(len(candidates))]
    else:
        candidates = []
    candidates += [tuple(rng.uniform(0.02, 0.98, 2)) for _ in range(90)]
    chosen: list[tuple[float, float]] = []
    touching = 0
    for x, y in candidates:
        if len(chosen) == wanted:
            break
        if not (-0.1 * radius < x < 1 + 0.1 * radius and 0.2 * radius < y < 1 - 0.2 * radius):
            continue
        gaps = [np.hypot(x - a, y - b) / (2 * radius) for a, b in chosen]
        nearest = min(gaps, default=9.0)
        if nearest < spacing or (nearest < 1.1 and touching >= 2):
            continue
        touching += nearest < 1.1
        chosen.append((float(x), float(y)))
    return chosen


def _break(rng: Rng, biscuit: Biscuit, x: float, y: float, size: float, turn: float) -> list[Thing]:
    """One damaged biscuit, or both pieces of it beside each other."""
    kind = str(rng.choice(["fracture", "bite", "wedge"], p=[0.5, 0.25, 0.25]))
    cut = break_off(biscuit.sort, biscuit.seed, rng, kind)
    piece = Biscuit(biscuit.sort, biscuit.seed, biscuit.bake, cut)
    things = [Thing(BROKEN, biscuit.sort, x, y, size, turn, biscuit.seed, piece)]
    if kind == "fracture" and rng.random() < 0.5:
        twin = replace(piece, cut=replace(cut, other=-1))
        gap = size * rng.uniform(0.10, 0.38)
        # The fracture's normal, turned with the biscuit: v runs down as y does.
        way = cut.angle + turn
        things[0] = replace(things[0], x=x - gap / 2 * np.cos(way), y=y - gap / 2 * np.sin(way))
        other_x, other_y = x + gap * np.cos(way), y + gap * np.sin(way)
        swing = turn + rng.normal(0, 0.16)
        things.append(
            Thing(BROKEN, biscuit.sort, other_x, other_y, size, swing, biscuit.seed, twin)
        )
    return things


def _foreign(rng: Rng, taken: list[tuple[float, float, float]]) -> list[Thing]:
    """None to three foreign bodies; most lie on the belt, some on a biscuit."""
    things: list[Thing] = []
    for _ in range(int(rng.choice(4, p=[0.32, 0.38, 0.20, 0.10]))):
        kind = foreign.THINGS[rng.integers(len(foreign.THINGS))]
        radius = rng.uniform(*foreign.SIZES[kind])
        on_biscuit = rng.random() < 0.2
        for _ in range(60):
            x, y = rng.uniform(radius * 1.1, 1 - radius * 1.1, 2)
            gaps = [np.hypot(x - a, y - b) - r for a, b, r in taken]
            apart = all(np.hypot(x - t.x, y - t.y) > radius + t.radius + 0.01 for t in things)
            if apart and (on_biscuit or min(gaps, default=1.0) > radius * 1.05):
                seed, angle = int(rng.integers(1 << 31)), rng.uniform(0, 2 * np.pi)
                things.append(Thing(FOREIGN, kind, float(x), float(y), radius, angle, seed))
                break
    return things

"""How a biscuit looks: dough, bake, holes, chocolate, cream, and the crumb where it broke."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .noise import Rng, field, fractal, linear, mix, step
from .outline import HALF_SIDES, WHOLE, Cut, outline, removed
from .patch import Patch, local_axes

PALE, BROWN, BURNT = linear("e2ba80"), linear("a8682e"), linear("6a3c18")
CRUMB = linear("eed5a6")
COCOA, COCOA_DARK, CREAM = linear("4a2e20"), linear("2a1811"), linear("f0e6d2")
CHOCOLATE, CHOCOLATE_LIGHT = linear("47281a"), linear("6b4128")
THICKNESS = {"butter": 0.17, "marie": 0.16, "oat": 0.30, "sandwich": 0.34}
"""In radii; others 0.22."""
REACH = {"butter": 1.38}
"""No outline goes farther from the centre, in radii; others 1.14."""
_SHADE = 0.4
"""Room for the shadow, in radii."""
_FINE_RADIUS = 45.0
"""Pixels from which on the finest grain of the dough is resolved."""


@dataclass(frozen=True)
class Biscuit:
    """One biscuit: what it is, how it is baked, what is missing.

    Attributes:
        sort: one of `outline.SORTS`.
        seed: makes it an individual; both halves of a broken one share it.
        bake: 0 pale .. 1 dark.
        cut: what is missing.
    """

    sort: str
    seed: int
    bake: float
    cut: Cut = WHOLE


def paint(biscuit: Biscuit, radius: float, angle: float, shift: tuple[float, float]) -> Patch:
    """The biscuit as a patch; ``radius`` in pixels, ``angle`` in radians, ``shift`` as elsewhere.

    The square leaves room for its shadow.
    """
    span = REACH.get(biscuit.sort, 1.14) + _SHADE
    reach = int(np.ceil(radius * span))
    u, v = local_axes(reach, radius, angle, shift)
    rng = np.random.default_rng([biscuit.seed, 3])
    edge = outline(biscuit.sort, u, v, biscuit.seed)
    missing = removed(biscuit.cut, u, v)
    solid = edge if missing is None else np.maximum(edge, missing)
    alpha = np.clip(0.5 - solid * np.float32(radius), 0.0, 1.0)
    grain = fractal(rng, u.shape, 5.2 * span, 3, 0.8)
    if radius > _FINE_RADIUS:
        fine = np.random.default_rng([biscuit.seed, 5])
        grain += 0.35 * fractal(fine, u.shape, 34.0 * span, 2, 0.8)
    thick = THICKNESS.get(biscuit.sort, 0.22)
    # A round shoulder: full height about one thickness in from the rim.
    inward = np.clip(-edge / (0.9 * thick), 0.0, 1.0)
    relief = thick * np.sqrt(1.0 - (1.0 - inward) ** 2) + 0.010 * grain
    color, relief, gloss = _SURFACES[biscuit.sort](rng, biscuit, u, v, edge, grain, relief)
    if missing is not None:
        color, relief, gloss = _fracture_face(rng, biscuit, missing, thick, color, relief, gloss)
    height = (relief * radius).astype(np.float32)
    return Patch(alpha, color, height, thick * radius, gloss, shine=26.0)


Surface = tuple[np.ndarray, np.ndarray, np.ndarray | float]


def _dough(biscuit: Biscuit, edge: np.ndarray, grain: np.ndarray, rim: float) -> np.ndarray:
    """Baked dough: darker towards the rim and on the bumps."""
    bake = 0.10 + 0.75 * biscuit.bake + rim * step(edge, -0.30, 0.02) + 0.09 * grain
    color = mix(PALE, BROWN, np.clip(bake, 0.0, 1.0))
    return mix(color, BURNT, np.clip(bake - 1.0, 0.0, 1.0))


def _holes(u: np.ndarray, v: np.ndarray, pitch: float, width: float) -> np.ndarray:
    """Docker holes on a lattice of rows set half a pitch apart: 1 in a hole, 0 elsewhere."""
    row = np.round(v / (pitch * 0.87))
    off_v = v - row * (pitch * 0.87)
    slide = (row % 2) * (pitch / 2)
    off_u = u - slide - np.round((u - slide) / pitch) * pitch
    return np.exp(-(off_u**2 + off_v**2) / width**2)


def _digestive(rng: Rng, biscuit, u, v, edge, grain, relief) -> Surface:
    low = field(rng, u.shape, 5.0)
    color = _dough(biscuit, edge, grain + 0.9 * low, 0.26)
    bran = step(field(rng, u.shape, 34.0), 1.1, 2.0)
    color = mix(color, BURNT, 0.55 * bran)
    holes = _holes(u, v, 0.36, 0.062) * step(edge, -0.16, -0.22)
    ring = np.exp(-(((edge + 0.15) / 0.035) ** 2))
    return mix(color, BURNT, 0.75 * holes), relief - 0.10 * holes - 0.018 * ring, 0.0


def _butter(rng: Rng, biscuit, u, v, edge, grain, relief) -> Surface:
    half_u, half_v = HALF_SIDES
    frame = np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)
    color = _dough(biscuit, frame + 0.06, 0.6 * grain + 0.7 * field(rng, u.shape, 4.0), 0.52)
    inside = step(frame, -0.13, -0.18)
    pitch_u, pitch_v = half_u * 2 / 7, half_v * 2 / 5
    off_u = u - np.round(u / pitch_u) * pitch_u
    off_v = v - np.round(v / pitch_v) * pitch_v
    holes = np.exp(-(off_u**2 + off_v**2) / 0.052**2) * inside
    ring = np.exp(-(((frame + 0.15) / 0.03) ** 2))
    # Raised lettering is below what the camera resolves; two embossed bars are what stays of it.
    bars = step(np.abs(np.abs(v) - pitch_v / 2), 0.045, 0.02) * step(np.abs(u), 0.72, 0.66)
    bars = bars * step(np.sin(u * 34.0 + 4.0 * np.sign(v)), -0.3, 0.1)
    color = mix(mix(color, BURNT, 0.7 * holes), PALE, 0.25 * bars)
    return color, relief - 0.09 * holes - 0.02 * ring + 0.022 * bars, 0.02


def _marie(rng: Rng, biscuit, u, v, edge, grain, relief) -> Surface:
    color = _dough(biscuit, edge, 0.6 * grain + 0.8 * field(rng, u.shape, 4.0), 0.40)
    rho = np.hypot(u, v)
    ring = np.exp(-(((rho - 0.80) / 0.030) ** 2))
    dots = 0.5 + 0.5 * np.cos(44.0 * np.arctan2(v, u))
    beads = np.exp(-(((rho - 0.89) / 0.035) ** 2)) * dots
    holes = _holes(u, v, 0.30, 0.048) * step(rho, 0.70, 0.64)
    color = mix(mix(color, BURNT, 0.6 * holes + 0.25 * ring), PALE, 0.25 * beads)
    return color, relief - 0.08 * holes - 0.03 * ring + 0.03 * beads, 0.03


def _dipped(rng: Rng, biscuit, u, v, edge, grain, relief) -> Surface:
    color, relief, _ = _digestive(rng, biscuit, u, v, edge, grain, relief)
    wave = 0.07 * np.sin(5.0 * v + rng.uniform(0, 6.28)) + 0.03 * np.sin(13.0 * v)
    coat = step(u + wave + rng.uniform(-0.12, 0.2), -0.02, 0.02)
    ridges = np.sin(u * 13.0 + 2.2 * np.sin(v * 2.4) + 0.8 * field(rng, u.shape, 5.0))
    dark = mix(CHOCOLATE, CHOCOLATE_LIGHT, np.clip(0.5 + 0.5 * ridges, 0.0, 1.0) * 0.5)
    shoulder = np.clip(-edge / 0.2, 0.0, 1.0)
    smooth = 0.25 * np.sqrt(1.0 - (1.0 - shoulder) ** 2) + 0.014 * ridges
    return mix(color, dark, coat), relief + (smooth - relief) * coat, 0.16 * coat


def _sandwich(rng: Rng, biscuit, u, v, edge, grain, relief) -> Surface:
    rho, theta = np.hypot(u, v), np.arctan2(v, u)
    tone = np.clip(0.55 - 0.5 * biscuit.bake + 0.22 * grain, 0.0, 1.0)
    color = mix(COCOA_DARK, COCOA, tone)
    # Seen from above: the lower wafer's rim, a bead of cream, the upper wafer inside it.
    inset = edge + 0.03 + 0.025 * np.cos(theta - rng.uniform(0, 6.28))
    cream = step(inset, -0.085, -0.06) * step(inset, 0.012, -0.012)
    color = mix(color, CREAM * np.float32(0.9), 0.92 * cream)
    ring = np.exp(-(((rho - 0.62) / 0.03) ** 2)) + np.exp(-(((rho - 0.30) / 0.03) ** 2))
    petals = step(np.cos(8.0 * theta), 0.2, 0.8) * np.exp(-(((rho - 0.46) / 0.09) ** 2))
    notches = step(np.cos(36.0 * theta), 0.0, 0.7) * step(rho, 0.72, 0.76) * step(rho, 0.9, 0.86)
    stamped = relief + 0.030 * ring + 0.028 * petals + 0.030 * notches - 0.07 * cream
    return mix(color, COCOA * np.float32(1.5), 0.35 * (ring + petals)), stamped, 0.02


def _oat(rng: Rng, biscuit, u, v, edge, grain, relief) -> Surface:
    lumps = fractal(rng, u.shape, 13.0, 2, 0.7)
    color = _dough(biscuit, edge, grain + 0.9 * lumps, 0.30)
    cracks = np.exp(-((field(rng, u.shape, 9.0) / 0.16) ** 2)) * step(edge, -0.08, -0.3)
    color = mix(color, BURNT, 0.45 * cracks)
    chips = step(field(rng, u.shape, 12.0), 1.25, 1.45) * step(edge, -0.05, -0.12)
    relief = relief + 0.030 * lumps - 0.045 * cracks + 0.05 * chips
    return mix(color, CHOCOLATE, 0.95 * chips), relief, 0.10 * chips


_SURFACES = {
    "digestive": _digestive,
    "butter": _butter,
    "marie": _marie,
    "dipped": _dipped,
    "sandwich": _sandwich,
    "oat": _oat,
}


def _fracture_face(
    rng: Rng,
    biscuit: Biscuit,
    missing: np.ndarray,
    thick: float,
    color: np.ndarray,
    relief: np.ndarray,
    gloss: np.ndarray | float,
) -> Surface:
    """Where it broke: a steep, rough face of pale crumb, never browned, never coated."""
    rough = field(rng, missing.shape, 30.0)
    face = step(missing + 0.02 * rough, -0.10, -0.025)
    inner = CRUMB * np.float32(0.92)
    if biscuit.sort == "sandwich":
        inner = mix(COCOA * np.float32(1.3), CREAM, step(np.abs(missing + 0.05), 0.025, 0.012))
    lively = inner * (1.0 + 0.10 * rough)
    drop = np.clip(-missing / (0.45 * thick), 0.0, 1.0)
    return mix(color, lively, 0.9 * face), relief * (0.35 + 0.65 * drop), gloss * (1.0 - face)

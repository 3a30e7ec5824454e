"""Things that do not belong on the belt: stone, nut, washer, plastic, string, splinter."""

from __future__ import annotations

import numpy as np

from .noise import Rng, field, fractal, linear, mix, ripple, step
from .patch import Patch, local_axes

THINGS = ("stone", "nut", "washer", "plastic", "string", "splinter")
SIZES = {
    "stone": (0.034, 0.056),
    "nut": (0.035, 0.052),
    "washer": (0.035, 0.052),
    "plastic": (0.040, 0.066),
    "string": (0.055, 0.090),
    "splinter": (0.052, 0.085),
}
"""Radius as a share of the frame's side, least and most."""
_STONES = ("8c857b", "6f6a63", "a39886", "5b5550", "8a7460")
_PLASTICS = ("1f6fd0", "d8352a", "1f9a4c", "f2c21a", "e9eef2", "2a2d33", "e46a1c")
_STRINGS = ("2f64c8", "e8e4d8", "c23b30", "2e2e30", "b99a5b")
_WOODS = ("b98d55", "8a6136", "d3b07a")


def paint(thing: str, seed: int, radius: float, angle: float, shift: tuple[float, float]) -> Patch:
    """A foreign body as a patch; ``radius`` in pixels, others as `patch.local_axes` says."""
    reach = int(np.ceil(radius * 1.25 + 8.0))
    u, v = local_axes(reach, radius, angle, shift)
    rng = np.random.default_rng([seed, 4])
    return _PAINTERS[thing](rng, u, v, np.float32(radius))


def _cover(distance: np.ndarray, radius: np.float32) -> np.ndarray:
    return np.clip(0.5 - distance * radius, 0.0, 1.0).astype(np.float32)


def _dome(distance: np.ndarray, width: float, thick: float) -> np.ndarray:
    inward = np.clip(-distance / width, 0.0, 1.0)
    return thick * np.sqrt(1.0 - (1.0 - inward) ** 2)


def _pick(rng: Rng, colors: tuple[str, ...]) -> np.ndarray:
    return linear(colors[rng.integers(len(colors))])


def _stone(rng: Rng, u: np.ndarray, v: np.ndarray, radius: np.float32) -> Patch:
    v = v * np.float32(rng.uniform(1.0, 1.45))
    theta = np.arctan2(v, u)
    edge = np.hypot(u, v) - (0.9 + 0.09 * ripple(theta, rng, (2, 3, 4, 5)))
    grain = fractal(rng, u.shape, 9.0, 2, 0.8)
    color = _pick(rng, _STONES) * np.clip(1.0 + 0.22 * grain, 0.3, 2.0)
    height = (_dome(edge, 0.8, 0.62) + 0.05 * grain) * radius
    return Patch(_cover(edge, radius), color, height, float(0.6 * radius), 0.03)


def _metal(rng: Rng, u, v, edge, hole, radius: np.float32) -> Patch:
    ring = np.maximum(edge, hole)
    tone = linear("9a9fa6") * np.float32(rng.uniform(0.75, 1.15))
    brushed = 1.0 + 0.10 * field(rng, u.shape, (26.0, 5.0))
    color = tone * brushed
    height = (_dome(ring, 0.22, 0.42)) * radius
    # The bore shows dark metal and shade, so the whole disc is the object.
    bore = step(hole, -0.04, 0.06)
    color = mix(color, linear("26272a"), 0.85 * bore)
    alpha = _cover(edge, radius)
    return Patch(alpha, color, height, float(0.42 * radius), 0.55 * (1.0 - bore), shine=34.0)


def _nut(rng: Rng, u: np.ndarray, v: np.ndarray, radius: np.float32) -> Patch:
    sides = [
        np.abs(u * np.float32(np.cos(a)) + v * np.float32(np.sin(a)))
        for a in (0.0, np.pi / 3, 2 * np.pi / 3)
    ]
    edge = np.maximum.reduce(sides) - 0.88
    return _metal(rng, u, v, edge, 0.46 - np.hypot(u, v), radius)


def _washer(rng: Rng, u: np.ndarray, v: np.ndarray, radius: np.float32) -> Patch:
    rho = np.hypot(u, v)
    return _metal(rng, u, v, rho - 0.95, 0.45 - rho, radius)


def _plastic(rng: Rng, u: np.ndarray, v: np.ndarray, radius: np.float32) -> Patch:
    turns = np.sort(rng.uniform(0.0, 2 * np.pi, 5)) + np.array([0, 0.3, 0.6, 0.9, 1.2])
    edge = np.hypot(u, v) - 1.05
    for turn in turns:
        side = u * np.float32(np.cos(turn)) + v * np.float32(np.sin(turn))
        edge = np.maximum(edge, side - np.float32(rng.uniform(0.45, 0.85)))
    color = _pick(rng, _PLASTICS) * np.float32(rng.uniform(0.8, 1.1))
    tilt = u * np.float32(rng.uniform(-0.2, 0.2)) + v * np.float32(rng.uniform(-0.2, 0.2))
    height = (_dome(edge, 0.25, 0.22) + tilt) * radius
    even = np.broadcast_to(color, (3, *u.shape))
    return Patch(_cover(edge, radius), even, height, float(0.3 * radius), 0.22, shine=14.0)


def _string(rng: Rng, u: np.ndarray, v: np.ndarray, radius: np.float32) -> Patch:
    length = np.linspace(0.0, 1.0, 26)
    bend = rng.uniform(2.0, 7.0) * rng.choice([-1.0, 1.0])
    wobble = rng.uniform(0.3, 1.2) * np.sin(rng.uniform(4, 9) * length + rng.uniform(0, 6))
    heading = bend * length + wobble
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), axis=0)
    points -= (points.max(0) + points.min(0)) / 2
    points *= 0.92 / np.hypot(*points.T).max()
    gap = points.astype(np.float32)
    squared = (u[..., None] - gap[:, 0]) ** 2 + (v[..., None] - gap[:, 1]) ** 2
    nearest = squared.argmin(-1)
    width = max(1.1 / radius, rng.uniform(0.075, 0.12))
    edge = _to_segments(u, v, gap, nearest) - np.float32(width)
    twist = 0.5 + 0.5 * np.sin(nearest.astype(np.float32) * 2.2 + 20.0 * (u + v))
    color = _pick(rng, _STRINGS) * (0.7 + 0.4 * twist)
    return Patch(
        _cover(edge, radius), color, _dome(edge, width, width) * radius, float(width * radius * 1.5)
    )


def _to_segments(
    u: np.ndarray, v: np.ndarray, points: np.ndarray, nearest: np.ndarray
) -> np.ndarray:
    """Distance to the polyline, looking only at the two segments beside the nearest point."""
    best = np.full(u.shape, np.inf, np.float32)
    for side in (-1, 1):
        other = np.clip(nearest + side, 0, len(points) - 1)
        start, way = points[nearest], points[other] - points[nearest]
        to_u, to_v = u - start[..., 0], v - start[..., 1]
        along = (to_u * way[..., 0] + to_v * way[..., 1]) / np.maximum((way**2).sum(-1), 1e-9)
        along = np.clip(along, 0.0, 1.0)
        best = np.minimum(best, np.hypot(to_u - along * way[..., 0], to_v - along * way[..., 1]))
    return best


def _splinter(rng: Rng, u: np.ndarray, v: np.ndarray, radius: np.float32) -> Patch:
    width = max(1.4 / radius, rng.uniform(0.10, 0.2))
    taper = 1.0 - 0.5 * np.clip(np.abs(u) - 0.5, 0.0, 0.5) - 0.25 * u
    edge = np.maximum(np.abs(v + 0.06 * np.sin(3 * u)) - width * taper, np.abs(u) - 0.95)
    grain = field(rng, u.shape, (40.0, 5.0))
    color = _pick(rng, _WOODS) * (1.0 + 0.18 * grain)
    height = _dome(edge, float(width), float(width) * 0.9) * radius
    return Patch(_cover(edge, radius), color, height, float(width * radius))


_PAINTERS = {
    "stone": _stone,
    "nut": _nut,
    "washer": _washer,
    "plastic": _plastic,
    "string": _string,
    "splinter": _splinter,
}

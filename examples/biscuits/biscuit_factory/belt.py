"""The belt under the biscuits: cloth, weave, mesh; seams, wear, crumbs, a rail at the side."""

from __future__ import annotations

import numpy as np

from .noise import Rng, field, fractal, linear, mix, step

BELTS = ("blue", "white", "green", "mesh", "cloth")
_COLORS = {
    "blue": "4f8fc4",
    "white": "d9d7cf",
    "green": "3f7a66",
    "mesh": "8b8c8c",
    "cloth": "c3b393",
}


def paint(rng: Rng, kind: str, size: int) -> np.ndarray:
    """Reflectance (3, size, size), linear; the belt runs along x."""
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = steps[np.newaxis], steps[:, np.newaxis]
    shape = (size, size)
    tone = linear(_COLORS[kind]) * np.float32(rng.uniform(0.85, 1.12))
    pattern = _PATTERNS[kind](rng, x, y)
    wear = 0.045 * field(rng, shape, (70.0, 2.5)) + 0.05 * fractal(rng, shape, 3.0, 3)
    grain = 0.035 * field(rng, shape, 150.0)
    color = tone * (1.0 + pattern + wear + grain)
    if rng.random() < 0.55:  # flour and fine crumbs, trodden into lanes
        lanes = field(rng, shape, (9.0, 1.6)) + 0.8 * field(rng, shape, (60.0, 12.0))
        dust = step(lanes, 0.4, 3.6) * np.float32(rng.uniform(0.1, 0.4))
        color = mix(color, linear("d8bf94"), dust)
    if rng.random() < 0.18:
        color = _seam(rng, color, x, y)
    color = _crumbs(rng, color, size)
    if rng.random() < 0.3:
        color = _rail(rng, color, y)
    return np.clip(color, 0.004, 1.0).astype(np.float32)


def _smooth(rng: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A coated belt: hardly any pattern, faint ribs across."""
    return 0.018 * np.sin(x * np.float32(rng.uniform(90, 140))) + 0.0 * y


def _weave(rng: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Threads over and under."""
    pitch = np.float32(2 * np.pi * rng.uniform(26, 38))
    over = np.sin(x * pitch) * np.sin(y * pitch)
    return 0.07 * over + 0.05 * np.sin(2 * y * pitch) * (over > 0)


def _mesh(rng: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An oven band: bright wire spirals, dark gaps between."""
    pitch = np.float32(rng.uniform(22, 30))
    zigzag = np.abs((x * pitch) % 1.0 - 0.5)
    strand = np.abs(((y * pitch * 0.9 + zigzag) % 1.0) - 0.5)
    wire = step(strand, 0.18, 0.36)
    return 0.30 * wire - 0.30 + 0.10 * np.cos(zigzag * 12.0) * wire


def _cloth(rng: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Canvas: a diagonal twill."""
    pitch = np.float32(2 * np.pi * rng.uniform(40, 54))
    return 0.06 * np.sin((x + y) * pitch) + 0.03 * np.sin(y * pitch * 1.7)


_PATTERNS = {"blue": _smooth, "white": _weave, "green": _smooth, "mesh": _mesh, "cloth": _cloth}


def _seam(rng: Rng, color: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where the belt's ends are joined: a slanted line with clips along it."""
    at = x - rng.uniform(0.15, 0.85) - (y - 0.5) * np.float32(rng.uniform(-0.12, 0.12))
    gap = np.exp(-((at / 0.005) ** 2))
    clips = step(np.abs(at), 0.022, 0.018) * step(np.sin(y * 190.0), 0.0, 0.3)
    color = mix(color, color * np.float32(0.72), clips.astype(np.float32))
    return mix(color, linear("2c2b29"), (0.75 * gap).astype(np.float32))


def _crumbs(rng: Rng, color: np.ndarray, size: int) -> np.ndarray:
    """Loose crumbs of up to two pixels at 192, each with a speck of shade beside it."""
    scale = size / 192.0
    for _ in range(int(rng.integers(0, 46))):
        x, y = rng.uniform(0.0, size, 2)
        radius = scale * rng.uniform(0.35, 1.15)
        tone = linear("c99a5c") * np.float32(rng.uniform(0.6, 1.25))
        reach = int(np.ceil(radius + 1))
        left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
        right, bottom = min(int(x) + reach + 2, size), min(int(y) + reach + 2, size)
        across = np.arange(left, right) - x
        down = np.arange(top, bottom)[:, np.newaxis] - y
        area = color[:, top:bottom, left:right]
        shade = np.clip(radius + 0.5 - np.hypot(across - radius, down - radius), 0.0, 1.0)
        area *= (1.0 - 0.35 * shade).astype(np.float32)
        cover = np.clip(radius + 0.5 - np.hypot(across, down), 0.0, 1.0).astype(np.float32)
        area += (tone - area) * cover
    return color


def _rail(rng: Rng, color: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A guide of brushed steel along one side."""
    width = rng.uniform(0.02, 0.05)
    inside = (y if rng.random() < 0.5 else 1.0 - y) / np.float32(width)
    steel = linear("aab0b5") * (0.75 + 0.35 * np.cos(inside * 2.6) + 0.0)
    shape = color.shape[1:]
    cover = np.broadcast_to(step(inside, 1.03, 0.97), shape).astype(np.float32)
    shade = 1.0 - 0.45 * np.exp(-np.clip(inside - 1.0, 0.0, None) * 3.0)
    color = color * np.broadcast_to(shade, shape)
    brushed = steel * (1.0 + 0.05 * field(rng, shape, (120.0, 3.0)))
    return mix(color, brushed.astype(np.float32), cover)

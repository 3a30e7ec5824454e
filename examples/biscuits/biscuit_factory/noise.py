"""Smooth random fields and the few filters the pictures need; float32 throughout.

Colours are planes, (3, h, w) or (3, 1, 1): numpy is several times faster on them than on pixels.

A field is drawn on a grid whose size does not depend on the number of pixels, so that one seed
gives the same scene at every resolution.
"""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator


def linear(color: str) -> np.ndarray:
    """An sRGB colour ``rrggbb`` as linear light, float32 (3, 1, 1) in 0..1."""
    parts = np.array([int(color[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
    return ((parts / 255.0) ** 2.2).reshape(3, 1, 1)


def step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, a smooth slope between; ``low > high`` turns it round."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours (3, h, w): ``first`` where ``share`` (h, w) is 0, ``second`` where it is 1."""
    return first + (second - first) * share


def field(rng: Rng, shape: tuple[int, int], cells: tuple[float, float] | float) -> np.ndarray:
    """Smooth noise (h, w), mean 0, deviation near 1, with ``cells`` bumps down and across."""
    down, across = cells if isinstance(cells, tuple) else (cells, cells)
    grid = rng.standard_normal((int(down) + 3, int(across) + 3), np.float32)
    rows, row_share = _places(shape[0], down)
    columns, column_share = _places(shape[1], across)
    tall = grid[rows] * (1 - row_share[:, None]) + grid[rows + 1] * row_share[:, None]
    wide = np.take(tall, columns + 1, axis=1)
    left = np.take(tall, columns, axis=1)
    wide -= left
    wide *= column_share
    wide += left
    wide *= np.float32(1.5)
    return wide


def _places(length: int, cells: float) -> tuple[np.ndarray, np.ndarray]:
    """Knot to the left of each pixel, and how far the pixel is on the way to the next one."""
    at = (np.arange(length, dtype=np.float32) + 0.5) * np.float32(cells / length) + 0.5
    knot = at.astype(np.intp)
    share = at - knot.astype(np.float32)
    return knot, share * share * (3.0 - 2.0 * share)


def fractal(
    rng: Rng, shape: tuple[int, int], cells: float, octaves: int, fade: float = 0.55
) -> np.ndarray:
    """Noise of several grain sizes (h, w), deviation near 1: each octave twice as fine."""
    total = np.zeros(shape, np.float32)
    weight, power = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(weight) * field(rng, shape, cells * 2**octave)
        power += weight * weight
        weight *= fade
    return total / np.float32(np.sqrt(power))


def line_noise(rng: Rng, places: np.ndarray, knots: int, reach: float) -> np.ndarray:
    """Jagged noise along a line: straight between ``knots`` random heights over -reach..reach."""
    heights = rng.uniform(-1.0, 1.0, knots)
    return np.interp(places, np.linspace(-reach, reach, knots), heights).astype(np.float32)


def ripple(theta: np.ndarray, rng: Rng, orders: tuple[int, ...]) -> np.ndarray:
    """A wavy function of the angle, of size about 1, out of a few cosines."""
    total = np.zeros_like(theta)
    for order in orders:
        share, phase = rng.uniform(0.4, 1.0), rng.uniform(0.0, 2 * np.pi)
        total += np.float32(share) * np.cos(order * theta + np.float32(phase))
    return total / np.float32(np.sqrt(len(orders)))


def blur(values: np.ndarray, radius: float, axis: int) -> np.ndarray:
    """Running mean over ``2 * radius + 1`` pixels along ``axis``, edges repeated, any radius."""
    if radius <= 0.02:
        return values
    whole, part = int(radius), np.float32(radius - int(radius))
    source = values.swapaxes(axis, 0)
    total = source.copy()
    for by in range(1, whole + 2):
        share = part if by > whole else np.float32(1.0)
        part_of = source if by <= whole else source * share
        total[by:] += part_of[:-by]
        total[:by] += part_of[0]
        total[:-by] += part_of[by:]
        total[-by:] += part_of[-1]
    total *= np.float32(1.0 / (2 * radius + 1))
    return total.swapaxes(axis, 0)


def soften(values: np.ndarray, radius: float) -> np.ndarray:
    """`blur` along both axes of a picture."""
    return blur(blur(values, radius, 0), radius, 1)

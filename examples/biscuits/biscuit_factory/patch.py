"""One object as paint and relief on a square of pixels, and how light falls on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .noise import soften

AMBIENT = 0.34
"""Share of the light that comes from everywhere."""


@dataclass(frozen=True)
class Light:
    """A lamp: unit vector towards it (x right, y down, z to the camera); softness in thicknesses.

    Attributes:
        softness: blur radius of a shadow's edge, as a share of its length.
    """

    x: float
    y: float
    z: float
    softness: float


@dataclass(frozen=True)
class Patch:
    """An object before the light falls on it; arrays (h, w), the object in the middle.

    Attributes:
        alpha: coverage 0..1.
        color: (3, h, w) reflectance, linear light.
        height: of the surface above the belt, pixels.
        gloss: strength of the highlight, a number or (h, w).
        shine: sharpness of the highlight.
        thickness: of the whole object, pixels: how far its shadow reaches.
    """

    alpha: np.ndarray
    color: np.ndarray
    height: np.ndarray
    thickness: float
    gloss: np.ndarray | float = 0.0
    shine: float = 20.0


def local_axes(
    reach: int, radius: float, angle: float, shift: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Local u, v of a square of ``2 * reach + 1`` pixels around a centre that lies ``shift`` off.

    Args:
        reach: pixels from the middle pixel to the edge.
        radius: pixels to a local unit.
        angle: of the object, radians.
        shift: (x, y) of the centre against the middle pixel, pixels.
    """
    steps = np.arange(-reach, reach + 1, dtype=np.float32)
    x = ((steps - np.float32(shift[0])) / np.float32(radius))[np.newaxis]
    y = ((steps - np.float32(shift[1])) / np.float32(radius))[:, np.newaxis]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def shade(patch: Patch, light: Light) -> np.ndarray:
    """What the camera sees of it, (3, h, w): ambient, diffuse and a highlight (Blinn)."""
    slope_y, slope_x = np.gradient(patch.height)
    norm = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    facing = (light.z - slope_x * light.x - slope_y * light.y) * norm
    diffuse = np.clip(facing / light.z, 0.0, 1.6)
    seen = patch.color * (AMBIENT + (1.0 - AMBIENT) * diffuse)
    if np.any(patch.gloss):
        half = np.array([light.x, light.y, light.z + 1.0])
        half /= np.linalg.norm(half)
        toward = (half[2] - slope_x * half[0] - slope_y * half[1]) * norm
        glint = np.clip(toward, 0.0, 1.0) ** patch.shine * patch.gloss
        seen = seen + glint
    return seen.astype(np.float32)


def shadow(patch: Patch, light: Light) -> np.ndarray:
    """How much light is left around and under the object, (h, w) in 0..1."""
    reach = patch.thickness / max(light.z, 0.2)
    cast = patch.alpha
    for part in (0.4, 0.7, 1.0):
        moved = _moved(patch.alpha, -light.x * reach * part, -light.y * reach * part)
        cast = np.maximum(cast, moved)
    cast = soften(soften(cast, reach * light.softness), reach * light.softness)
    close = soften(patch.alpha, 0.45 * patch.thickness)
    return 1.0 - (1.0 - AMBIENT) * 0.9 * cast - AMBIENT * 0.55 * close


def _moved(values: np.ndarray, x: float, y: float) -> np.ndarray:
    """``values`` shifted by whole pixels, zeros coming in."""
    right, down = round(x), round(y)
    moved = np.zeros_like(values)
    height, width = values.shape
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = values[
        max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return moved

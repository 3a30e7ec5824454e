"""Light over the whole picture, and the camera: blur, colour, noise, 8 bits."""

from __future__ import annotations

import numpy as np

from .noise import Rng, blur
from .patch import Light

_LEVELS = 4096
"""Of the sensor's converter, 12 bits, before the tone curve."""


def draw_light(rng: Rng) -> Light:
    """One lamp for the whole frame, 32 to 60 degrees above the belt."""
    azimuth, height = rng.uniform(0.0, 2 * np.pi), np.radians(rng.uniform(32.0, 60.0))
    across = np.cos(height)
    return Light(
        float(across * np.cos(azimuth)),
        float(across * np.sin(azimuth)),
        float(np.sin(height)),
        float(rng.uniform(0.10, 0.30)),
    )


def illumination(rng: Rng, light: Light, size: int) -> np.ndarray:
    """Light on each pixel (size, size), about 1: falls off from the lamp, a spot, a vignette."""
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = steps[np.newaxis], steps[:, np.newaxis]
    slope = np.float32(rng.uniform(0.0, 0.55))
    field = 1.0 + slope * (x * np.float32(light.x) + y * np.float32(light.y))
    spot_x, spot_y = rng.uniform(-0.45, 0.45, 2)
    width = np.float32(rng.uniform(0.16, 0.4))
    strength = np.float32(rng.uniform(0.0, 0.6) if rng.random() < 0.7 else 0.0)
    spot = ((x - np.float32(spot_x)) ** 2 + (y - np.float32(spot_y)) ** 2) / width**2
    field = field + strength * np.exp(-spot)
    vignette = 1.0 - np.float32(rng.uniform(0.15, 0.65)) * (x * x + y * y)
    return (field * vignette).astype(np.float32)


def expose(rng: Rng, scene: np.ndarray) -> np.ndarray:
    """The picture, uint8 (size, size, 3), of linear light (3, size, size).

    Motion along x while the shutter is open, a lens slightly out of focus, a colour cast that the
    white balance left, shot and read noise, 12-bit conversion, tone curve.
    """
    size = scene.shape[1]
    scale = size / 192.0
    scene = blur(scene, rng.uniform(0.0, 1.7) * scale, 2)
    focus = rng.uniform(0.12, 0.42) * scale
    scene = blur(blur(scene, focus, 1), focus, 2)
    cast = rng.normal(1.0, (0.035, 0.012, 0.045)).astype(np.float32).reshape(3, 1, 1)
    level = np.float32(rng.uniform(0.72, 1.12))
    signal = np.clip(scene * (cast * level), 0.0, 1.05)
    full_well = np.float32(rng.uniform(2500.0, 9000.0))
    read = np.float32(rng.uniform(0.0012, 0.0035))
    noise = rng.standard_normal(scene.shape, np.float32)
    signal += noise * np.sqrt(signal / full_well + read * read)
    codes = np.clip(signal * (_LEVELS - 1) + 0.5, 0, _LEVELS - 1).astype(np.uint16)
    return np.ascontiguousarray(_TONE[codes].transpose(1, 2, 0))


def _tone() -> np.ndarray:
    """SRGB curve as a table of `_LEVELS` 8-bit values."""
    light = np.linspace(0.0, 1.0, _LEVELS)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(curve * 255.0).astype(np.uint8)


_TONE = _tone()

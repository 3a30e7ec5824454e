"""Biscuit outlines and what is broken off them, as signed distances.

Coordinates u, v are local: the biscuit's nominal radius is 1, its centre the origin. Distances are
negative inside, in the same unit, exact enough near the edge to paint it without steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .noise import Rng, line_noise, ripple

SORTS = ("digestive", "butter", "marie", "dipped", "sandwich", "oat")
"""Wheat biscuit with holes; petit-beurre with teeth; scalloped; half chocolate; cocoa with cream;
rough cookie with chocolate chips."""
HALF_SIDES = (0.98, 0.76)
"""Of the rectangular sort."""
WHOLE_LOSS = (0.010, 0.055)
"""A chip takes this share of the area; the biscuit still counts as whole."""
BROKEN_LOSS = (0.16, 0.66)
"""A fracture or bite takes this share; between the two there is no biscuit to argue about."""
_CHECK = np.linspace(-1.3, 1.3, 41, dtype=np.float32)


@dataclass(frozen=True)
class Cut:
    """What is missing: ``kind`` none, chip, fracture, bite, wedge; the rest is drawn by ``seed``.

    Attributes:
        seed: of the jags.
        angle: where on the rim, radians.
        depth: offset of a fracture from the centre, or radius of a bite, in radii.
        other: 1, or -1 for the part on the far side of the same fracture.
    """

    kind: str = "none"
    seed: int = 0
    angle: float = 0.0
    depth: float = 0.0
    other: int = 1


WHOLE = Cut()


def outline(sort: str, u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    """Signed distance of a complete biscuit of this sort; the seed makes it an individual."""
    rng = np.random.default_rng([seed, 1])
    if sort == "butter":
        return _toothed(u, v)
    rho, theta = np.hypot(u, v), np.arctan2(v, u)
    if sort == "marie":
        edge = 1.0 + 0.032 * np.cos(22 * theta) + 0.008 * ripple(theta, rng, (2, 3))
    elif sort == "oat":
        edge = 1.0 + 0.05 * ripple(theta, rng, (2, 3, 5, 7, 11))
    elif sort == "sandwich":
        edge = 1.0 + 0.012 * np.cos(36 * theta) + 0.006 * ripple(theta, rng, (2, 3))
    else:
        edge = 1.0 + 0.018 * ripple(theta, rng, (2, 3, 5))
    return rho - edge


def _toothed(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    half_u, half_v = HALF_SIDES
    out_u, out_v = np.abs(u) - half_u, np.abs(v) - half_v
    box = np.maximum(out_u, out_v)
    teeth = np.where(out_u > out_v, np.cos(v * (11 * np.pi / half_v / 2)), 0.0)
    teeth = np.where(out_u > out_v, teeth, np.cos(u * (15 * np.pi / half_u / 2)))
    ears = np.hypot(out_u + 0.02, out_v + 0.02) - 0.13
    return np.minimum(box - 0.035 * teeth, ears).astype(np.float32)


def removed(cut: Cut, u: np.ndarray, v: np.ndarray) -> np.ndarray | None:
    """Signed distance to the missing part, positive inside it; None where nothing is missing."""
    rng = np.random.default_rng([cut.seed, 2])
    if cut.kind == "none":
        return None
    if cut.kind in {"chip", "bite"}:
        missing = _bite(rng, cut, u, v)
        if cut.kind == "bite" and rng.random() < 0.35:
            beside = Cut("bite", cut.seed, cut.angle + rng.uniform(0.5, 0.8), cut.depth * 0.75)
            missing = np.maximum(missing, _bite(rng, beside, u, v))
        return missing
    missing = _fracture(rng, cut.angle, cut.depth, u, v)
    if cut.kind == "wedge":
        turn = cut.angle + rng.uniform(1.0, 1.7)
        missing = np.minimum(missing, _fracture(rng, turn, cut.depth - 0.1, u, v))
    return missing * np.float32(cut.other)


def _fracture(rng: Rng, angle: float, depth: float, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    across = u * np.float32(np.cos(angle)) + v * np.float32(np.sin(angle))
    along = v * np.float32(np.cos(angle)) - u * np.float32(np.sin(angle))
    jags = 0.10 * line_noise(rng, along, 6, 1.5) + 0.05 * line_noise(rng, along, 17, 1.5)
    jags += 0.025 * line_noise(rng, along, 45, 1.5)
    return across - np.float32(depth) + jags


def _bite(rng: Rng, cut: Cut, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    reach = 1.0 if cut.kind == "chip" else 1.0 + cut.depth * 0.25
    from_u, from_v = u - reach * np.cos(cut.angle), v - reach * np.sin(cut.angle)
    rho, theta = np.hypot(from_u, from_v), np.arctan2(from_v, from_u)
    turn = (theta - cut.angle) % (2 * np.pi) - np.pi
    if cut.kind == "chip":
        jags = 0.30 * cut.depth * line_noise(rng, turn, 11, np.pi)
    else:
        tooth = np.abs(np.cos(turn * (1.5 / cut.depth)))
        jags = 0.09 * tooth + 0.03 * line_noise(rng, turn, 25, np.pi)
    return (cut.depth + jags - rho).astype(np.float32)


def break_off(sort: str, seed: int, rng: Rng, kind: str) -> Cut:
    """A cut of ``kind`` whose loss lies in the class's range, found by trying.

    The loss is a share of the area, counted on a grid of 41 x 41 points.
    """
    limits = WHOLE_LOSS if kind == "chip" else BROKEN_LOSS
    u, v = np.meshgrid(_CHECK, _CHECK)
    inside = outline(sort, u, v, seed) < 0.0
    depths = {"chip": (0.16, 0.34), "bite": (0.45, 0.8), "wedge": (-0.35, 0.15)}
    low, high = depths.get(kind, (-0.3, 0.6))
    for _ in range(40):
        angle, depth = rng.uniform(0.0, 2 * np.pi), rng.uniform(low, high)
        cut = Cut(kind, int(rng.integers(1 << 31)), angle, depth)
        missing = removed(cut, u, v)
        lost = np.count_nonzero(inside & (missing > 0.0)) / np.count_nonzero(inside)
        if limits[0] <= lost <= limits[1]:
            return cut
    raise RuntimeError(f"no {kind} of a {sort} biscuit takes {limits} of it")

"""Refusing a head that the firmware cannot run, with the name of the node and why."""

from __future__ import annotations

from waistline.errors import ModelError


class Unsupported(Exception):
    """Why the firmware cannot run a node; the reader adds the node's name."""


class NoLayer(Unsupported):
    """There is no such operator in the firmware."""

    def __init__(self, operator: str) -> None:
        super().__init__(f"there is no {operator} in the firmware")


def refusal(node: str, model: str, why: str) -> ModelError:
    """The error for a head that cannot become a blob."""
    return ModelError(
        f"{node} of {model} cannot run on a microcontroller",
        cause=why,
        fix="choose another cut: waistline split MODEL --backend mcu --list",
    )

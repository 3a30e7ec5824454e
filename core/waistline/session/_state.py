"""How far a node's connection has come."""

from __future__ import annotations

import enum


class State(enum.Enum):
    DOWN = enum.auto()
    GREETING = enum.auto()
    """HELLO said, WELCOME awaited."""
    READY = enum.auto()
    BROKEN = enum.auto()
    """This connection is of no more use; the owner has been told to close it."""
    OVER = enum.auto()
    """Finished or refused: no connection will be of use."""


# Python 3.11 looks up each member of an enum in Python, and these are asked for all the time.
READY = State.READY
OPEN = (State.GREETING, State.READY)

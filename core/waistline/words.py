"""What the stages of a frame are called: in tables and JSON by key, for people by name.

Everything that names a stage takes it from here: records and summaries of nodes, computed tables,
the terminal, the report.
"""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """A stage of a frame; the durations of all of them add up to its latency.

    Attributes:
        key: in tables and JSON; a column of seconds is ``<key>_s``.
        name: for people.
        meaning: what of the frame's time it is.
    """

    key: str
    name: str
    meaning: str

    @property
    def column(self) -> str:
        """Its duration in tables and JSON, s."""
        return f"{self.key}_s"


STAGES = (
    Stage("source", "source", "reading the frame; of a camera, from its capture on"),
    Stage("preprocess", "preprocess", "preprocessing on the node"),
    Stage("head", "head", "head; of one on a board, the way there and back, too"),
    Stage("encode", "encode", "quantizing, packing, entropy coding"),
    Stage("node_queue", "node queue", "waiting on the node, between stages and for the link"),
    Stage("transit", "transit", "round trip minus the edge's residence"),
    Stage("edge_queue", "edge queue", "waiting on the edge"),
    Stage("decode", "decode", "decoding on the edge"),
    Stage("edge_preprocess", "edge preprocess", "preprocessing on the edge (x = 0)"),
    Stage("tail", "tail", "tail"),
    Stage("postprocess", "postprocess", "from outputs to answer"),
)
"""In the order in which a frame passes them."""
ON_BOARD = Stage("board", "head on its board", "of the head, what a board computed by its ticks")
ON_LINE = Stage("bridge", "way to the board", "of the head, the rest: the line and the host")
"""The two parts of a head on a board."""
FORMER = {"queue": "edge_queue"}
"""Keys that older run folders have for stages."""

_NAMES = {stage.key: stage.name for stage in (*STAGES, ON_BOARD, ON_LINE)}


def stage_name(key: str) -> str:
    """A stage for people; what is no stage, such as ``total``, stays as it is."""
    return _NAMES.get(key, key)

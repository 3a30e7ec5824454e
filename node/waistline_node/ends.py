"""Verification's ends on this machine, with the head on a board where one was chosen."""

from __future__ import annotations

from contextlib import ExitStack

import msgspec

from waistline.bundle.store import Bundle
from waistline.frame import SensorFrame
from waistline.verification.ends import EndChoice, Ends, HeadRun, LocalEnds
from waistline_node.heads.base import MCU, HeadChoice, Progress, Say, quiet

FIRMWARE = "firmware"
"""Stands for the implementation of the codec: the board's own."""


class BoardEnds:
    """The head on a microcontroller, the tail, if it is wanted, on this machine.

    Raises:
        What `waistline_node.heads.mcu.open_head` and `LocalEnds` raise.
    """

    def __init__(
        self,
        bundle: Bundle,
        head: EndChoice,
        tail: EndChoice | None,
        *,
        say: Say = quiet,
        progress: Progress | None = None,
    ) -> None:
        # Here, because opening a bundle without a board needs no bridge.
        from waistline_node.heads.mcu import open_head

        self._codec = bundle.waist_codec()
        with ExitStack() as stack:
            self._tail = stack.enter_context(LocalEnds(bundle, head=None, tail=tail))
            options = dict(head.options)
            chosen = HeadChoice(MCU, head.threads, options, say=say, progress=progress)
            self._head = open_head(bundle, chosen)
            stack.callback(self._head.close)
            self._opened = stack.pop_all()
        self.place = msgspec.structs.replace(
            self._tail.place,
            codec=FIRMWARE if self._codec else "none",
            head_backend=MCU,
            head_engine=self._head.info(),
        )

    def run_head(self, frame: SensorFrame) -> HeadRun:
        inputs = self._head.preprocess(frame)
        if self._codec is None:
            return HeadRun(b"", (), self._head.encode(self._head.head(inputs)).payload)
        waist, values = self._head.look(inputs)
        return HeadRun(self._codec.packed(waist.payload, waist.raw_len), values)

    def run_tail(self, codes: bytes) -> bytes:
        return self._tail.run_tail(codes)

    def close(self) -> None:
        self._opened.close()


def open_ends(
    bundle: Bundle,
    *,
    head: EndChoice | None,
    tail: EndChoice | None,
    say: Say = quiet,
    progress: Progress | None = None,
) -> Ends:
    """Ends on this machine, or on a board that hangs on it, by ``head.backend``.

    Raises:
        WaistlineError: an engine or a board that cannot be opened.
    """
    if head is not None and head.backend == MCU:
        return BoardEnds(bundle, head, tail, say=say, progress=progress)
    return LocalEnds(bundle, head=head, tail=tail)

"""A board with a head on it, kept through what happens to boards.

Boards are unplugged, lose power and hang; emulators die; lines add noise. `Attached.perform` does
one piece of work with whatever of that happens in between: it opens the same board again, looks
what it holds, loads the head if it is gone, and does the work anew, while the budget lasts.

A board that is plugged in is waited for until the budget has passed. One that is a program is
started again once for each piece of work: what kills it twice would kill it for ever.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from waistline.blob.pack import VERSION as KERNELS
from waistline.blob.records import VERSION, Blob
from waistline.bundle.store import Bundle
from waistline.errors import (
    BadFrame,
    BridgeError,
    ConfigError,
    LinkClosed,
    LinkError,
    LinkTimeout,
    ModelError,
    VerificationFailed,
    VersionMismatch,
    WaistlineError,
)
from waistline_bridge.boards._programs import behind
from waistline_bridge.boards.base import Board
from waistline_bridge.client import DEADLINE_S, Client, Progress
from waistline_bridge.fit import smaller_fix
from waistline_bridge.golden import goldens_of
from waistline_bridge.messages import DeviceInfo, Feature, Refusal, Status
from waistline_bridge.places import release_fix

BUDGET_S = 5.0
GREET_S = 5.0
"""A board that is there says so in this time, its start included."""
QUIET_S = 1.0
"""Longer than this nobody needs to put another board in the place of one that was not watched."""
POLL_S = 0.2
RESTARTS = 1
LOADS = 3
_SILENT_FIX = "check power, cable and --baud, and that its firmware is ours (waistline mcu build)"
_SLOWEST = 4.0
"""An INFER may take so many times as long as the first one did."""

T = TypeVar("T")


class Attached:
    """A board that holds ``blob`` and has shown that it computes it. For one thread at a time.

    Args:
        open_: starts or attaches to it.
        blob: of the head; loaded unless the board holds it.
        bundle: that the head is of; its golden frame is sent where the blob holds none.
        budget_s: time in which a piece of work may be begun anew.
        say: told what a person should know, in one line.
        progress: told bytes loaded, and bytes in all.

    Attributes:
        info: what the device last said of itself.
        emulated: it is a program; its ticks are no time of a processor.

    Raises:
        ConfigError, MissingExtra: no such board or port, several ports, or a program is missing.
        LinkError, BridgeError: it does not answer, or refuses the head.
        VersionMismatch: its firmware is of another version.
        ModelError: the head does not fit it.
        VerificationFailed: it computes something else from the head's golden input.
    """

    def __init__(
        self,
        open_: Callable[[], Board],
        blob: Blob,
        bundle: Bundle | None = None,
        *,
        budget_s: float = BUDGET_S,
        say: Callable[[str], None] = lambda text: None,
        progress: Progress | None = None,
    ) -> None:
        self._open = open_
        self._blob = blob
        self._crc = zlib.crc32(blob.data)
        self._golden = next(iter(goldens_of(blob, bundle)), None)
        self._budget_s = budget_s
        self._say = say
        self._progress = progress
        self._stopped = threading.Event()
        self._board: Board | None = None
        self._client: Client | None = None
        self._silence_s = DEADLINE_S
        self._proved: tuple[str, int] | None = None
        self._heard = 0.0
        self.emulated = False
        self._restarts = False
        try:
            self._greet(GREET_S)
            self._settle()
        except BaseException:
            self._leave()
            raise

    @property
    def info(self) -> DeviceInfo:
        return self._info

    def perform(self, work: Callable[[Client], T]) -> T:
        """What ``work`` gives, which is begun anew after anything that is no fault of its own.

        Raises:
            BridgeError: the board did not come back in time, or fails again and again.
            LinkError, WireError, ModelError, VerificationFailed: it came back as another one.
        """
        deadline = time.monotonic() + self._budget_s
        refused: Refusal | None = None
        restarts = 0
        while True:
            try:
                client = self._ready(deadline)
                resent = client.resent
                made = work(client)
                # A reply that did not come may have been a board that was put in its place.
                if client.resent == resent or client.refresh().active_crc == self._crc:
                    self._heard = time.monotonic()
                    return made
                fault: WaistlineError = BridgeError("the board lost its head")
            except Refusal as found:
                fault = found
                if refused is not None and _same(refused, found):
                    raise
                refused = found
            except (BadFrame, BridgeError) as found:
                fault = found
            except LinkError as found:
                fault = found
                self._lost(found)
                restarts += self._restarts
            self._heard = 0.0
            if restarts > RESTARTS or time.monotonic() >= deadline or self._stopped.is_set():
                raise self._given_up(fault, restarts) from fault

    def interrupt(self) -> None:
        """End the waiting for a board that is gone; from any thread, for good."""
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()
        self._leave()

    def _ready(self, deadline: float) -> Client:
        """The board as it should be; waits for it."""
        began = time.monotonic()
        away = self._client is None
        try:
            if self._client is None:
                self._come_back(deadline)
            if began - self._heard > QUIET_S:
                self._settle()
        except (BridgeError, ModelError, VersionMismatch, VerificationFailed) as fault:
            # Another board, or other firmware: the next frame looks whether the right one is back.
            if not isinstance(fault, Refusal):
                self._leave()
            raise
        if away and time.monotonic() >= deadline:
            raise LinkTimeout(
                f"{self._info.board} came back too late for this frame",
                cause=f"after {time.monotonic() - began:.1f} s, its budget is {self._budget_s:g} s",
                fix="give frames more time: --budget-s",
            )
        assert self._client is not None
        return self._client

    def _come_back(self, deadline: float) -> None:
        """Open it again.

        Raises:
            LinkError, BridgeError, ConfigError: it is not back at ``deadline``.
        """
        while True:
            try:
                self._greet(min(GREET_S, max(POLL_S, deadline - time.monotonic())))
                self._check_same()
                break
            except (LinkError, BridgeError, BadFrame, ConfigError) as error:
                # A board that is just starting may say anything; it is closed before it is opened.
                self._leave()
                waits = not self._restarts and not isinstance(error, VersionMismatch)
                if not waits or time.monotonic() >= deadline or self._stopped.wait(POLL_S):
                    raise LinkTimeout(
                        f"{self._info.board} is not back", cause=str(error), fix=error.fix
                    ) from error
        self._heard = 0.0
        kept = self._info.active_crc == self._crc
        self._say(f"{self._info.board} is back, {'with' if kept else 'without'} its head")

    def _greet(self, deadline_s: float) -> None:
        board = self._board = self._open()
        try:
            # A program that starts on a busy machine is given time: it does come.
            patience_s = DEADLINE_S if board.emulated else deadline_s
            client = self._client = Client(board.line, deadline_s=patience_s)
        except LinkTimeout as error:
            if not board.emulated:
                error.fix = _SILENT_FIX
            raise
        except LinkClosed as error:
            raise behind(board.process, error) from error
        self._info = client.info
        # What hangs on a port may be an emulator, which says so itself.
        self.emulated = board.emulated or Feature.EMULATED in client.info.features
        self._restarts = board.emulated
        self._open = board.again or self._open

    def _settle(self) -> None:
        """Look what the board is and holds, and put right what is not as it should be."""
        client = self._client
        assert client is not None
        self._info = client.refresh()
        self._check_same()
        check_device(self._info, self._blob)
        client.deadline_s = DEADLINE_S
        is_new = self._proved != (self._info.board, self._info.build)
        if self._info.active_crc != self._crc:
            self._load(client)
            is_new = True
        if is_new:
            self._prove(client)
        client.deadline_s = self._silence_s
        self._heard = time.monotonic()

    def _check_same(self) -> None:
        if self._proved is not None and self._proved[0] != self._info.board:
            raise BridgeError(
                "another board is in its place",
                cause=f"it says {self._info.board}, it was {self._proved[0]}",
                fix="plug the first one in again, or start anew",
            )

    def _load(self, client: Client) -> None:
        for attempt in range(1, LOADS + 1):
            try:
                client.load_blob(self._blob.data, self._progress)
                break
            except (Refusal, BadFrame) as fault:
                # A board that was reset behind the commit no longer knows what it has answered.
                if client.refresh().active_crc == self._crc:
                    break
                lost_its_place = not isinstance(fault, Refusal) or fault.status in {
                    Status.ORDER,
                    Status.NOT_NOW,
                }
                if not lost_its_place or attempt == LOADS:
                    raise
        self._info = client.info

    def _prove(self, client: Client) -> None:
        """Run the head's golden input.

        Raises:
            VerificationFailed: the output is another.
        """
        if self._golden is not None:
            began = time.monotonic()
            made = self._golden.run(client, self._blob.output[1])
            self._silence_s = max(self._budget_s, _SLOWEST * (time.monotonic() - began))
            if problem := self._golden.problem(made):
                raise VerificationFailed(
                    f"{self._info.board} does not reproduce the head's golden output",
                    cause=problem,
                    fix=release_fix("; or split again"),
                )
        self._proved = (self._info.board, self._info.build)

    def _lost(self, fault: LinkError) -> None:
        if self._client is None:
            return
        self._leave()
        what = "starting it again" if self._restarts else "waiting for it"
        self._say(f"{self._info.board} is gone: {fault}; {what}")

    def _given_up(self, fault: WaistlineError, restarts: int) -> BridgeError:
        if restarts > RESTARTS:
            what = f"{self._info.board} ended, and again after it was started anew"
        else:
            what = f"{self._info.board} gave nothing for this frame in {self._budget_s:g} s"
        return BridgeError(what, cause=str(fault), fix=fault.fix)

    def _leave(self) -> None:
        board, self._board, self._client = self._board, None, None
        if board is not None:
            with suppress(OSError):
                board.close()


def check_device(info: DeviceInfo, blob: Blob) -> None:
    """Whether a device can run a head, by what it says of itself.

    Raises:
        VersionMismatch: its firmware reads other blobs.
        ModelError: too little room in a slot, or too small an arena.
    """
    if (info.blob_version, info.kernels) != (VERSION, KERNELS):
        raise VersionMismatch(
            f"the firmware of {info.board} reads other heads",
            cause=f"blobs of version {info.blob_version}.{info.kernels}, this is "
            f"{VERSION}.{KERNELS}",
            fix=release_fix(),
        )
    missing = []
    if len(blob.data) > info.slot_bytes:
        missing.append(f"the blob has {len(blob.data)} bytes, a slot takes {info.slot_bytes}")
    if blob.arena_bytes > info.arena_bytes:
        missing.append(f"its tensors take {blob.arena_bytes} bytes, it has {info.arena_bytes}")
    if missing:
        raise ModelError(
            f"the head does not fit {info.board}",
            cause="; ".join(missing),
            fix=smaller_fix(blob, info.arena_bytes),
        )


def _same(one: Refusal, other: Refusal) -> bool:
    return (one.status, one.reason, one.detail) == (other.status, other.reason, other.detail)

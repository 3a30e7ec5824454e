"""A board that is lost and found: without power, swapped, dead, on a bad line."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from attached_help import Desk, desk, head, run
from bridge_help import needs_compiler, small_head

from waistline.blob.records import read_blob
from waistline.errors import BridgeError, ModelError, VerificationFailed, VersionMismatch
from waistline_bridge.attached import check_device
from waistline_bridge.client import Client
from waistline_bridge.frames import REPLY, Frame, decode_frame, encode_frame
from waistline_bridge.messages import Command, Refusal, Status
from waistline_bridge.shim import BadLine, Damage

pytestmark = needs_compiler
__all__ = ["desk"]


def test_a_head_is_loaded_once_and_found_again(desk):
    blob, data, output = head()
    first = desk.attached(blob)
    assert first.perform(run(data)) == output
    assert (first.info.board, first.emulated) == ("host", True)
    first.close()
    second = desk.attached(blob)
    assert second.perform(run(data)) == output
    second.close()
    assert desk.loads == [len(blob.data)]
    other, more, expected = head(seed=5)
    third = desk.attached(other)
    assert third.perform(run(more)) == expected
    third.close()
    assert desk.loads == [len(blob.data), len(other.data)]


def test_a_board_that_dies_is_started_again_and_the_frame_is_done(desk):
    blob, data, output = head()
    attached = desk.attached(blob)
    for deaths in (1, 2, 3):
        desk.kill()
        assert attached.perform(run(data)) == output
        assert len(desk.opened) == 1 + deaths
    assert len(desk.loads) == 1, "its slots are a file"
    assert "starting it again" in desk.said[0]
    assert desk.said[1] == "host is back, with its head"
    attached.close()


def test_a_head_that_is_gone_is_loaded_again(desk):
    blob, data, output = head()
    attached = desk.attached(blob)
    desk.kill()
    desk.opened[-1].process.wait()
    Path(desk.options["flash"]).unlink()
    assert attached.perform(run(data)) == output
    assert len(desk.loads) == 2
    assert desk.said[1] == "host is back, without its head"
    attached.close()


def test_what_kills_a_board_twice_costs_its_frame_and_not_the_next(desk):
    blob, data, output = head()
    attached = desk.attached(blob)

    def deadly(client):
        desk.kill()
        return run(data)(client)

    with pytest.raises(BridgeError, match="ended, and again"):
        attached.perform(deadly)
    assert len(desk.opened) == 2
    assert attached.perform(run(data)) == output
    attached.close()


def test_a_board_that_is_plugged_in_later_is_waited_for(desk):
    desk.emulated = False
    blob, data, output = head()
    attached = desk.attached(blob)
    desk.unplugged.set()
    desk.kill()
    later = threading.Timer(0.5, desk.unplugged.clear)
    later.start()
    assert attached.perform(run(data)) == output
    later.join()
    assert "waiting for it" in desk.said[0]
    attached.close()


def test_a_board_that_stays_away_costs_each_frame_its_budget(desk):
    desk.emulated = False
    blob, data, output = head()
    attached = desk.attached(blob, budget_s=0.3)
    desk.unplugged.set()
    desk.kill()
    for _ in range(2):
        with pytest.raises(BridgeError, match=r"gave nothing for this frame in 0\.3 s") as lost:
            attached.perform(run(data))
    assert "there is no serial port x" in lost.value.cause
    assert lost.value.fix == "plug the board in"
    assert len(desk.said) == 1, "said once, not for every frame"
    desk.unplugged.clear()
    # The first one back may find its budget gone; the board is there for the next.
    for _ in range(20):
        try:
            assert attached.perform(run(data)) == output
            break
        except BridgeError:
            continue
    else:
        pytest.fail("it never came back")
    attached.close()


def test_a_board_that_talks_nonsense_while_it_starts_is_closed_before_it_is_opened_again(desk):
    desk.emulated = False
    blob, data, output = head()
    attached = desk.attached(blob)
    desk.wrap = lambda line: _Short(line, len(desk.opened))
    desk.kill()
    assert attached.perform(run(data)) == output
    *before, _ = desk.opened
    assert len(before) == 3
    assert all(board.process.poll() is not None for board in before)
    attached.close()


class _Short:
    """The first two boards that come back answer INFO with too little."""

    def __init__(self, line, number):
        self.name, self._line, self._damaged = line.name, line, number < 3
        self._asked = None

    def send(self, data):
        self._asked = decode_frame(data.strip(b"\0"), 1024)
        self._line.send(data)

    def receive(self, timeout_s):
        data = self._line.receive(timeout_s)
        if data and self._damaged and self._asked.command == Command.INFO:
            return encode_frame(Frame(Command.INFO | REPLY, self._asked.seq, 0, b"?"))
        return data

    def close(self):
        self._line.close()


def test_waiting_ends_when_it_is_told_to(desk):
    desk.emulated = False
    blob, data, _ = head()
    attached = desk.attached(blob)
    desk.unplugged.set()
    desk.kill()
    threading.Timer(0.2, attached.interrupt).start()
    with pytest.raises(BridgeError):
        attached.perform(run(data))
    attached.close()


def test_a_power_cut_between_input_and_inference_costs_nothing(desk):
    """The board starts anew behind its adapter: the line stays, the input is gone."""
    blob, data, output = head()
    attached = desk.attached(blob)
    cuts = []

    def work(client):
        client.load_input(data)
        if not cuts:
            cuts.append(client._ask(8, bytes(4)))
        return client.infer().output

    assert attached.perform(work) == output
    assert len(desk.opened) == 1
    attached.close()


def test_a_refusal_that_stays_is_the_frames_own(desk):
    blob, data, output = head()
    attached = desk.attached(blob)
    with pytest.raises(Refusal) as refused:
        attached.perform(lambda client: client.infer(golden=7))
    assert refused.value.status == Status.ARGUMENT
    assert attached.perform(run(data)) == output
    attached.close()


class Swapped:
    """A line that leads to another board from some moment on, as behind a bench's adapter."""

    def __init__(self, line):
        self.name, self.line = line.name, line

    def send(self, data):
        self.line.send(data)

    def receive(self, timeout_s):
        return self.line.receive(timeout_s)

    def close(self):
        self.line.close()


def test_another_head_on_the_same_line_is_noticed_after_a_pause(desk, tmp_path, monkeypatch):
    monkeypatch.setattr("waistline_bridge.attached.QUIET_S", 0.0)
    desk.wrap = Swapped
    blob, data, output = head()
    attached = desk.attached(blob)
    (tmp_path / "other").mkdir()
    other = Desk(tmp_path / "other")
    held = other.attached(head(seed=9)[0])
    ours, desk.opened[0].line.line = desk.opened[0].line.line, other.opened[0].line
    assert attached.perform(run(data)) == output
    assert len(desk.loads) == 2
    attached.close()
    held.close()
    ours.close()


def test_another_kind_of_board_is_not_taken_for_the_first(desk, monkeypatch):
    desk.emulated = False
    blob, data, output = head()
    attached = desk.attached(blob, budget_s=5.0)
    real = Client.refresh

    def renamed(self):
        self.info = replace(real(self), board="nucleo-f446re")
        return self.info

    with monkeypatch.context() as patched:
        patched.setattr(Client, "refresh", renamed)
        desk.kill()
        with pytest.raises(BridgeError) as refused:
            attached.perform(run(data))
        assert "another board is in its place" in refused.value.cause
    assert len(desk.said) == 1
    attached._budget_s = 60.0
    assert attached.perform(run(data)) == output
    attached.close()


def test_a_device_that_announces_too_much_is_not_listened_to(desk):
    blob, data, _ = head()
    attached = desk.attached(blob, budget_s=3.0)

    def work(client):
        client.load_input(data)
        return client.infer(limit_bytes=10)

    with pytest.raises(BridgeError) as refused:
        attached.perform(work)
    assert "announces more than its head can give" in refused.value.cause
    attached.close()


def test_a_board_that_hangs_costs_a_frame_no_more_than_its_budget(desk):
    blob, data, output = head()
    attached = desk.attached(blob)
    attached._budget_s = attached._silence_s = 0.3
    attached._client.deadline_s = 0.3
    desk.opened[-1].process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(BridgeError, match="gave nothing for this frame"):
        attached.perform(run(data))
    assert time.monotonic() - began < 15
    attached._budget_s = attached._silence_s = 60.0
    assert attached.perform(run(data)) == output
    attached.close()


@pytest.mark.parametrize(
    "damage",
    [Damage(flip=1e-4), Damage(drop=3e-4), Damage(insert=3e-4), Damage(1e-4, 1e-4, 1e-4)],
    ids=["flip", "drop", "insert", "all"],
)
def test_noise_costs_time_and_no_frame(desk, damage):
    desk.wrap = lambda line: BadLine(line, damage, seed=11)
    blob, data, output = head(filler=1500)
    attached = desk.attached(blob)
    for _ in range(4):
        assert attached.perform(run(data)) == output
    assert len(desk.opened) == 1
    attached.close()


def test_a_head_that_does_not_fit_is_refused_before_it_is_loaded(desk):
    desk.options["arena"] = "16384"
    blob, _, _ = head()
    with pytest.raises(ModelError, match="does not fit host") as refused:
        desk.attached(blob)
    assert "its tensors take 20480 bytes, it has 16384" in refused.value.cause
    assert desk.loads == []
    assert desk.opened[0].process.poll() is not None, "ended with the attempt"


def test_what_a_device_says_of_itself_is_held_against_the_head(desk):
    blob, _, _ = head()
    attached = desk.attached(blob)
    info = attached.info
    attached.close()
    check_device(info, blob)
    with pytest.raises(ModelError, match="a slot takes 9"):
        check_device(replace(info, slot_bytes=9), blob)
    for arena_bytes, advice in ((900, "larger board"), (16384, "narrower cut")):
        with pytest.raises(ModelError, match="its tensors take") as refused:
            check_device(replace(info, arena_bytes=arena_bytes), blob)
        assert advice in refused.value.fix
    for other in (replace(info, kernels=99), replace(info, blob_version=1)):
        with pytest.raises(VersionMismatch, match="reads other heads"):
            check_device(other, blob)


def test_a_board_that_computes_something_else_is_refused(desk):
    small, values, _ = small_head()
    small.golden(values.tobytes(), 0x12345678)
    with pytest.raises(VerificationFailed, match="does not reproduce") as failed:
        desk.attached(read_blob(small.bytes()))
    assert "instead of 12345678" in failed.value.cause

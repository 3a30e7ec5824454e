"""Heads and a desk with a board on it, for tests of what happens to boards."""

from __future__ import annotations

import signal
import threading
import zlib

import pytest
from bridge_help import host_program, payload_of, small_head

from waistline.blob.records import read_blob
from waistline.errors import ConfigError
from waistline_bridge.attached import Attached
from waistline_bridge.boards import open_board

PLANES = (6, 4, 5)
PATIENT_S = 60.0
"""Far above what anything here takes on a busy machine."""


def head(seed=0, filler=0):
    """(records, an input, its output) of a small head with a golden input."""
    blob, values, codes = small_head(seed=seed, filler=filler)
    output = payload_of(codes, 4, PLANES)
    blob.golden(values.tobytes(), zlib.crc32(output))
    return read_blob(blob.bytes()), values.tobytes(), output


def run(data):
    def work(client):
        client.load_input(data)
        return client.infer().output

    return work


class Desk:
    """Opens the host board again and again; keeps what was opened and what was said."""

    def __init__(self, folder, *, wrap=lambda line: line, emulated=True, **options):
        self.options = {"firmware": str(host_program()), "flash": str(folder / "slots"), **options}
        self.wrap = wrap
        self.emulated = emulated
        self.opened, self.said, self.loads = [], [], []
        self.unplugged = threading.Event()

    def __call__(self):
        if self.unplugged.is_set():
            raise ConfigError("there is no serial port x", fix="plug the board in")
        board = open_board("host", **self.options)
        board.line = self.wrap(board.line)
        board.emulated = self.emulated
        self.opened.append(board)
        return board

    def attached(self, blob, **more):
        more = {"budget_s": PATIENT_S, **more}
        return Attached(self, blob, say=self.said.append, progress=self._loaded, **more)

    def _loaded(self, done, of):
        if done == of:
            self.loads.append(of)

    def kill(self):
        self.opened[-1].process.send_signal(signal.SIGKILL)


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    for board in made.opened:
        board.close()

"""When the edge gives a peer up that is slow to read."""

from __future__ import annotations

import asyncio

import pytest

from waistline.session.store import SessionStore
from waistline_edge.connection import Connection, Limits
from waistline_edge.stats import EdgeStats

HIGH_BYTES = 1000


class SlowPeer:
    """A stream writer and its transport; each wait for the peer ends with the next level."""

    def __init__(self, levels):
        self.levels = list(levels)
        self.transport = self
        self.waits = 0

    def get_extra_info(self, name):
        return None

    def get_write_buffer_limits(self):
        return HIGH_BYTES // 4, HIGH_BYTES

    def get_write_buffer_size(self):
        return self.levels[0]

    async def drain(self):
        self.waits += 1
        if len(self.levels) > 1:
            self.levels.pop(0)
        if self.levels[0] > HIGH_BYTES // 4:
            await asyncio.Event().wait()


async def wait_for(peer):
    connection = Connection(
        asyncio.StreamReader(),
        peer,
        store=SessionStore({}),
        stats=EdgeStats(),
        limits=Limits(handshake_s=60.0, idle_s=60.0, unread_s=0.01, unsent_bytes=1 << 20),
        request=lambda connection, event: None,
    )
    await connection._wait_for_reader()


@pytest.mark.parametrize(("levels", "waits"), [([HIGH_BYTES], 0), ([9000, 5000, 2000, 100], 3)])
def test_a_peer_that_reads_slowly_is_waited_for(levels, waits):
    peer = SlowPeer(levels)
    asyncio.run(wait_for(peer))
    assert peer.waits == waits


def test_a_peer_that_reads_nothing_is_given_up():
    peer = SlowPeer([9000, 5000, 5000])
    with pytest.raises(TimeoutError):
        asyncio.run(wait_for(peer))
    assert peer.waits == 2

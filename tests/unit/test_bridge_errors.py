"""Bit errors on the line: what gets through is what was sent, and resending gets all through."""

from __future__ import annotations

import random

import pytest
from bridge_help import needs_compiler, payload_of, small_head
from device_help import client_over, device_program

from waistline_bridge.messages import Area
from waistline_bridge.shim import Damage

pytestmark = needs_compiler
PLANES = (6, 4, 5)


@pytest.fixture(scope="module")
def program():
    return device_program()


@pytest.mark.parametrize(
    "damage",
    [
        Damage(),
        Damage(flip=1e-6),
        Damage(flip=1e-5),
        Damage(flip=1e-4),
        Damage(drop=1e-4),
        Damage(insert=1e-4),
        Damage(flip=1e-4, drop=1e-4, insert=1e-4),
    ],
    ids=str,
)
def test_all_requests_are_answered_rightly_over_a_bad_line(program, damage):
    source = random.Random(2)
    with client_over(program, damage, seed=3) as client:
        for n in range(6):
            blob, values, codes = small_head(4, seed=n, filler=2000)
            assert client.load_blob(blob.bytes()) == n + 1, "a commit was carried out twice"
            client.load_input(values.tobytes())
            assert client.infer().output == payload_of(codes, 4, PLANES)
            for _ in range(20):
                at, count = source.randrange(1000), source.randrange(1, 1200)
                assert client.read(Area.BLOB, at, count) == blob.bytes()[at : at + count]
        assert (client.resent > 10) is (damage.flip + damage.drop + damage.insert >= 1e-4)


def test_a_device_carries_out_each_commit_once_however_often_it_is_asked(program):
    with client_over(program, Damage(flip=4e-4), 9, deadline_s=600) as client:
        for n in range(8):
            assert client.load_blob(small_head(seed=n)[0].bytes()) == n + 1
        assert client.resent > 8


def test_time_passes_only_while_the_client_waits(program):
    with client_over(program, Damage(), seed=1) as client:
        client.load_blob(small_head(seed=1)[0].bytes())
        assert client._line._line.now_s == 0.0
        assert client.resent == 0

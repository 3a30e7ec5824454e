"""The harness that fuzzes the firmware: it finds nothing in it, and would find what is there."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fuzz"))

import blobs
import sanitized
import talks
import updates
from bridge_help import FIRMWARE, ROOT, needs_compiler
from device_help import device_program
from driver import Died, Driver
from heads import random_blob

from waistline.blob.records import Reason
from waistline_bridge.frames import Frame, encode_frame
from waistline_bridge.messages import Command

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def drivers():
    opened = [Driver(device_program(path)) for path in ("portable", "dsp")]
    yield opened
    for driver in opened:
        driver.close()


@pytest.fixture(autouse=True)
def _fewer_seeds(monkeypatch):
    monkeypatch.setattr(sanitized, "SEEDS", 50)


def _counted(count):
    left = iter(range(count))
    return lambda: next(left, None) is not None


def test_thousands_of_changed_blobs_do_no_harm(drivers):
    found = sanitized.fuzz_blobs(drivers, 11, _counted(2000))
    assert found.problems == []
    refused = {end.removeprefix("refused: ") for end in found.ends if end.startswith("refused")}
    assert refused >= {reason.name.lower() for reason in Reason} - {"twice", "waist_scratch"}
    assert found.ends["ran; tensors equal"] > 200


def test_hundreds_of_talks_do_no_harm(drivers):
    found = sanitized.fuzz_talks(drivers, 11, _counted(60))
    assert found.problems == []
    assert found.ends.keys() >= {"COMMIT: ok", "COMMIT: refused", "COMMIT: crc", "INFER: ok"}


def test_hundreds_of_updates_do_no_harm():
    driver = Driver(device_program("update"))
    found = sanitized.fuzz_updates([driver], 11, _counted(80))
    driver.close()
    assert found.problems == []
    assert found.ends.keys() >= {"no head", "a head, commit 1", "a head, commit 2"}


def test_an_update_that_leaves_a_refused_head_in_force_is_found(monkeypatch):
    driver = Driver(device_program("update"))
    said = [
        encode_frame(Frame(Command.RESET, 1, 0, b"\1\0\0\0")),
        *(updates.lines(one) for one in _upload(random_blob(2).data)),
    ]
    assert sanitized.try_update(driver, (40_000, 16_384, 16_384), said) == "a head, commit 1"
    monkeypatch.setattr(blobs, "verdict", lambda data, arena_bytes: (Reason.GOLDEN, 3, None))
    with pytest.raises(talks.Wrong, match="refused for reason 18 of 3"):
        sanitized.try_update(driver, (40_000, 16_384, 16_384), said)
    driver.close()


def _upload(blob):
    for at in range(0, len(blob), 256):
        body = {"off": at, "data": blob[at : at + 256]} | ({"len": len(blob)} if at == 0 else {})
        yield updates.message(True, 1, 1, updates.cbor(body), at)


def test_changed_blobs_reach_every_rule():
    rng, seen = random.Random(1), set()
    sound = [random_blob(k) for k in range(60)]
    for _ in range(7_000):
        one = rng.choice(sound)
        data = blobs.changed(rng, one.data, one.plan.size_bytes)
        seen.add(blobs.verdict(data, one.plan.size_bytes)[0])
    assert seen == {0, *Reason}


def test_a_reader_of_another_mind_is_found(drivers, monkeypatch):
    honest = blobs.verdict

    def lenient(data, arena_bytes):
        reason, record, blob = honest(data, arena_bytes)
        return (Reason.SHAPE if reason == Reason.WEIGHTS else reason), record, blob

    monkeypatch.setattr(blobs, "verdict", lenient)
    monkeypatch.setattr(
        sanitized.Found, "problem", lambda self, what, _: self.problems.append(what)
    )
    found = sanitized.fuzz_blobs(drivers, 5, _counted(500))
    assert any("reason 11 of record" in what for what in found.problems)


@pytest.mark.parametrize(
    "what", ["reads behind its input", "writes before its output", "shifts by too much"]
)
def test_a_kernel_that_errs_is_found(what, monkeypatch):
    planted = str(ROOT / "tests" / "firmware" / "planted.c")
    include = f"-I{FIRMWARE / 'src'}"
    driver = Driver(
        device_program("portable", planted, include, "-Wl,--wrap=wl_max_pool", name="planted")
    )
    random_blobs = [random_blob(seed).data for seed in range(40)]
    monkeypatch.setenv("PLANTED", what)

    def run_many():
        for seed, data in enumerate(random_blobs):
            sanitized.try_blob([driver], data, 40_000, seed)

    with pytest.raises(Died, match=r"AddressSanitizer|runtime error"):
        run_many()
    monkeypatch.setenv("PLANTED", "nothing")
    run_many()
    driver.close()


def test_wrong_numbers_are_found(drivers, monkeypatch):
    honest = blobs.expected_tensors

    def off(blob, seed):
        found = honest(blob, seed)
        return found and bytes([found[0] ^ 1]) + found[1:]

    monkeypatch.setattr(blobs, "expected_tensors", off)
    with pytest.raises(talks.Wrong, match="differ"):
        sanitized.try_blob(drivers, random_blob(1).data, 40_000, 1)


def test_the_model_of_the_device_notices_what_must_not_be():
    ping = encode_frame(Frame(Command.PING, 7, 0, b"hello"))
    pong = encode_frame(Frame(Command.PING | 0x80, 7, 0, b"hello"))
    talks.Model(4096, 4096, 4096).check(ping, pong, 0)
    for wrong, layers in (
        (b"", 0),
        (pong + pong, 0),
        (pong, 1),
        (pong[:-1], 0),
        (encode_frame(Frame(Command.PING | 0x80, 7, 0, b"other")), 0),
        (encode_frame(Frame(Command.PING | 0x80, 8, 0, b"hello")), 0),
        (encode_frame(Frame(Command.PING | 0x80, 7, 2, bytes(8))), 0),
    ):
        with pytest.raises(talks.Wrong):
            talks.Model(4096, 4096, 4096).check(ping, wrong, layers)
    model = talks.Model(4096, 4096, 4096)
    model.check(ping, pong, 0)
    with pytest.raises(talks.Wrong, match="anew"):
        model.check(ping, pong + b"\0", 0)
    with pytest.raises(talks.Wrong):
        model.check(b"noise" + bytes(3), pong, 0)


def test_sound_blobs_are_the_same_for_a_seed_and_use_every_operator():
    seen = set()
    for seed in range(50):
        one = random_blob(seed)
        assert one.data == random_blob(seed).data
        assert blobs.verdict(one.data, one.plan.size_bytes)[0] == 0
        seen |= {type(layer).__name__ for layer in one.head.layers}
    assert len(seen) == 9
    assert np.mean([len(random_blob(seed).head.outputs) for seed in range(40)]) > 1


@pytest.mark.parametrize("target", sanitized.TARGETS)
def test_workers_put_together_what_they_found(target):
    programs = [str(device_program(kind)) for kind in sanitized.TARGETS[target][1]]
    found = sanitized.run(target, programs, seed=3, seconds=0.3, jobs=1)
    assert found["inputs"] > 0
    assert sum(found["ends"].values()) > 0
    assert found["problems"] == []


def test_a_worker_that_finds_something_or_dies_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sanitized, "KEPT", tmp_path)
    found = sanitized.Found("blobs")
    found.problem("it broke", b"input")
    (kept,) = tmp_path.iterdir()
    assert found.problems == [f"{kept.name}: it broke"]
    monkeypatch.setenv("FUZZ_KEPT", str(tmp_path))
    ended = sanitized.run("talks", ["/bin/false"], seed=3, seconds=0.1, jobs=1)
    assert ended["problems"]
    assert "FAILED" not in sanitized.shown("talks", ended)

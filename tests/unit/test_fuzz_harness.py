"""The fuzz harness: it finds nothing in the code, and it would find what is there to be found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fuzz"))


import targets
from bombs import bombs, payload_of
from drive import BLOCK, Driver
from waists import all_cases

from waistline import plugins
from waistline.errors import CodecError
from waistline.session.edge import EdgeSession

FUZZ = Path(targets.__file__).parent


@pytest.fixture(scope="module")
def cases():
    return all_cases()


def test_thousands_of_mutations_do_no_harm(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, FUZZ / "run.py", "--frames", "3000", "--jobs", "2", "--seed", "7"]
    done = subprocess.run([*command, "--json", report], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["frames"] == 3000
    assert found["crashes"] == found["wrong_tensors"] == 0
    assert {"damaged: refused (protocol)", "forged payload: decoded"} <= set(found["ends"])


def test_every_coder_is_among_the_cases(cases):
    text = " ".join(each.codec for case in cases for each in case.waist)
    for coder in plugins.names("waistline.codec.coders"):
        assert coder in text


def test_the_same_seed_and_number_give_the_same_frames(cases):
    ends = []
    for _ in range(2):
        driver = Driver(3, cases[:5])
        driver.block(4, 100)
        ends.append(driver.found.ends)
    assert ends[0] == ends[1]
    other = Driver(4, cases[:5])
    other.block(4, 100)
    assert other.found.ends != ends[0]


def test_a_tensor_that_is_off_by_one_bit_is_found(cases, monkeypatch):
    case = next(case for case in cases if case.name.startswith("pixels affine:b=8|zstd"))
    honest = case.codec.decode

    def off(payload, raw_len):
        arrays = honest(payload, raw_len)
        arrays[0].view(np.uint32).reshape(-1)[5] ^= 1
        return arrays

    monkeypatch.setattr(case.codec, "decode", off)
    driver = Driver(1, [case])
    driver.block(0, BLOCK)
    assert driver.found.wrong > 0
    assert driver.found.crashes == 0


def test_a_crash_is_found_and_numbered(cases, monkeypatch):
    case = next(case for case in cases if case.name.startswith("planes q1:b=4|deflate"))
    monkeypatch.setattr(case.codec, "decode", lambda payload, raw_len: 1 // 0)
    driver = Driver(1, [case])
    driver.block(2, 50)
    assert driver.found.crashes > 0
    number, what = driver.found.problems[0]
    assert 2 * BLOCK <= number < 2 * BLOCK + 50
    assert "ZeroDivisionError" in what


def test_a_frame_that_is_answered_twice_is_found(cases, monkeypatch):
    honest = EdgeSession.reply

    def twice(self, seq, times, answer):
        honest(self, seq, times, answer)
        self._say(self._busy_message(seq, 1.0))

    monkeypatch.setattr(EdgeSession, "reply", twice)
    driver = Driver(1, cases[:1])
    driver.block(0, 100)
    assert driver.found.wrong > 0


_BOMBS_IN_A_PROCESS_OF_THEIR_OWN = """
import sys
sys.path.insert(0, sys.argv[1])
import run
from bombs import bombs, payload_of
from waists import all_cases
from waistline.errors import CodecError

cases = [(case, bombs(case.reference.first.spec.coder)) for case in all_cases()]
run.SPARE_BYTES = 48 << 20  # less than any bomb
before = run._start_watching()
seen = set()
for case, charges in cases:
    first = case.reference.first
    for coded in charges:
        for cut in (coded, coded[: first.size_bytes - 1]):
            payload = payload_of(cut, first.range_bytes)
            try:
                case.codec.decode(payload, case.codec.raw_len)
                assert first.spec.coder == "ctx", case.name
            except CodecError:
                seen.add(first.spec.coder)
grown = run._memory("VmHWM") - before
assert grown < 8 << 20, grown
print(*sorted(seen))
"""


def test_no_bomb_of_any_coder_gets_memory():
    """Under a limit on the address space that is below what any of them asks for."""
    done = subprocess.run(
        [sys.executable, "-c", _BOMBS_IN_A_PROCESS_OF_THEIR_OWN, str(FUZZ)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused = set(done.stdout.split())
    everyone = {name for name in plugins.names("waistline.codec.coders") if bombs(name)}
    assert refused == everyone >= {"zstd", "deflate", "ctx", "png", "jpeg", "webp"}


def test_bombs_fill_the_first_tensor_of_a_waist(cases):
    case = next(case for case in cases if case.name.startswith("pixels affine:b=8|zstd"))
    first = case.reference.first
    payload = payload_of(bombs("zstd")[0][: first.size_bytes - 1], first.range_bytes)
    with pytest.raises(CodecError, match="announces"):
        case.codec.decode(payload, case.codec.raw_len)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_targets_of_the_guided_fuzzer_take_their_seeds(name):
    target = targets.TARGETS[name]()
    seeds = target.seeds()
    assert seeds
    for seed in seeds:
        target.run(seed)
        target.run(seed[: len(seed) // 2])
    target.run(b"")
    target.run(b"\xff" * 100)
    target.close()


def test_the_names_of_the_targets_are_those_on_the_command_line():
    import guided

    assert set(guided.NAMES) == set(targets.TARGETS)


def test_headers_are_signed_anew(cases):
    from waistline.wire import HEADER_BYTES, MessageType, Parser, encode_message

    stream = bytearray(b"".join(encode_message(MessageType.PING, seq=1)) * 2)
    stream[HEADER_BYTES + 12] ^= 1
    messages = list(Parser({MessageType.PING: 0}).feed(targets.signed(bytes(stream))))
    assert [message.seq for message in messages] == [1, 0]

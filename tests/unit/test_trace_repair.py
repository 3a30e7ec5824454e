"""Files whose writer was killed, and files that were damaged: what is left is mended bit by bit."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from trace_help import Made, make, spec_of

from waistline.errors import TraceError, WaistlineError
from waistline.trace.base import Gap
from waistline.trace.chunks import TAG_FSR_DATA, JlsFile
from waistline.trace.crc32c import crc32c
from waistline.trace.jls_read import JlsTrace
from waistline.trace.mend import mend
from waistline.trace.repair import repair
from waistline.trace.rewrite import ordered
from waistline.trace.store import open_trace

pytest.importorskip("pyjls")


def unclosed(path: Path, data: bytes) -> Path:
    """A file as a killed writer leaves it: cut anywhere, its length still zero."""
    head = data[:16] + bytes(8) + data[24:28]
    path.write_bytes(head + struct.pack("<I", crc32c(head)) + data[32:])
    return path


def same(path: Path, made: Made, length: int) -> None:
    """Every sample of a mended file is one that was written."""
    with open_trace(path) as trace:
        assert trace.length == length
        power = trace.read("power")
        lost = np.isnan(made.power[:length])
        assert np.array_equal(np.isnan(power), lost)
        assert np.array_equal(power[~lost].view("u4"), made.power[:length][~lost].view("u4"))
        for bit in (0, 3):
            assert np.array_equal(trace.bits(f"d{bit}"), made.logic[:length] >> bit & 1)
        whole = [gap for gap in made.gaps if gap.end <= length]
        assert [gap for gap in trace.gaps if gap in whole] == whole
        assert trace.annotations[-1].text == "recovered up to here"


def test_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    data = random.Random(1).randbytes(70_001)
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    register, wanted = 0xFFFFFFFF, {}
    for place, byte in enumerate(data):
        wanted[place] = register ^ 0xFFFFFFFF
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    for size in (0, 1, 63, 64, 65, 4095, 4096, 5000, 65_536, 65_537, 70_000):
        assert crc32c(data[:size]) == wanted[size]


def test_a_file_cut_anywhere_is_mended(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls", blocks=14)
    data = made.path.read_bytes()
    with JlsFile_of(made.path) as chunks:
        borders = [chunk.offset for chunk in chunks]
    draw = random.Random(3)
    first = next(place for place in borders if place > 4000)
    cuts = [draw.randrange(first, len(data)) for _ in range(20)]
    cuts += draw.sample([place for place in borders if place > first], 5)
    lengths = []
    for number, cut in enumerate(sorted(cuts)):
        broken = unclosed(tmp_path / f"{number}.jls", data[:cut])
        new = tmp_path / f"{number}.new.jls"
        # In this process, for speed; `repair` runs the same in a child.
        report = mend(broken, new)
        assert report.repaired
        same(new, made, report.length)
        lengths.append(report.length)
    assert lengths == sorted(lengths)
    assert lengths[-1] > 0.9 * len(made.power)


class JlsFile_of:
    def __init__(self, path: Path) -> None:
        self.file = JlsFile(path)

    def __enter__(self) -> list:
        return list(self.file.chunks())

    def __exit__(self, *_: object) -> None:
        self.file.close()


def test_repair_replaces_the_file_and_keeps_what_it_said(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls")
    broken = unclosed(tmp_path / "b.jls", made.path.read_bytes()[:-3000])
    report = repair(broken)
    assert report.repaired
    assert report.path == str(broken)
    same(broken, made, report.length)
    with open_trace(broken) as trace:
        assert trace.spec == spec_of()
        assert trace.run == b'{"name": "run"}'
        assert trace.ledger == b""
    again = repair(broken)
    assert not again.repaired
    assert again.length == report.length
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.jls", "t.jls"]


def test_repair_into_another_file_leaves_the_original(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls", blocks=4)
    broken = unclosed(tmp_path / "b.jls", made.path.read_bytes())
    before = broken.read_bytes()
    report = repair(broken, tmp_path / "c.jls")
    assert report.length == len(made.power)
    assert broken.read_bytes() == before
    same(tmp_path / "c.jls", made, len(made.power))


def test_damage_inside_becomes_a_gap(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls", blocks=14)
    data = bytearray(made.path.read_bytes())
    with JlsFile_of(made.path) as chunks:
        power = [c for c in chunks if c.tag == TAG_FSR_DATA and c.meta == 3]
    hit = power[2]
    data[hit.payload + 5000] ^= 0x10
    path = tmp_path / "d.jls"
    path.write_bytes(data)
    # The file is closed, so a reader in a hurry takes it; a repair checks every sum.
    report = repair(path)
    assert report.repaired
    assert report.length == len(made.power)
    first = 2 * (hit.length - 16) // 4
    with open_trace(path) as trace:
        found = [gap for gap in trace.gaps if gap.kind == "damage"]
        assert sum(gap.count for gap in found) == report.damaged_samples > 0
        assert all(first <= gap.first and gap.end <= first * 3 // 2 for gap in found)
        assert [gap for gap in trace.gaps if gap.kind != "damage"] == made.gaps
        kept = ~np.isnan(trace.read("power"))
        kept_power = trace.read("power")[kept]
        assert np.array_equal(kept_power, made.power[kept])
        assert (kept.sum() + report.damaged_samples) == (~np.isnan(made.power)).sum()


def test_nothing_recoverable_leaves_the_original(tmp_path: Path) -> None:
    for name, data in (("a.jls", b"nonsense" * 100), ("b.jls", b"")):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(TraceError):
            repair(path)
        assert path.read_bytes() == data
    assert len(list(tmp_path.iterdir())) == 2


def test_hostile_files_are_refused_or_read(tmp_path: Path) -> None:
    made = make(tmp_path / "t.jls", blocks=5, largest=4000)
    data = made.path.read_bytes()
    with JlsFile_of(made.path) as chunks:
        places = [chunk.offset for chunk in chunks]
    draw, path = random.Random(11), tmp_path / "h.jls"
    for _ in range(100):
        bad = bytearray(data)
        for _ in range(draw.choice([1, 1, 3])):
            place = min(draw.choice(places) + draw.randrange(80), len(bad) - 1)
            bad[place] = draw.choice([0, 255, bad[place] ^ 1 << draw.randrange(8)])
        path.write_bytes(bad)
        for salvage in (False, True):
            try:
                with JlsTrace(path, salvage=salvage) as trace:
                    # However a file lies, its length is bounded by its size.
                    assert trace.length <= 8 * len(bad)
                    trace.read(trace.spec.floats[0])
                    trace.overview("power", 0, trace.length, 50)
                    trace.energy()
            except WaistlineError:
                continue


_WRITER = """
import sys, time
sys.path[:0] = [{folder!r}]
from pathlib import Path
import numpy as np
from trace_help import spec_of
from waistline.trace.base import Block, Gap
from waistline.trace.store import create
writer = create(Path(sys.argv[1]), spec_of("power", "d0"))
for number in range(100_000):
    first = number * 2500
    if number % 9 == 4:
        writer.gap(Gap(first, 2500, "ring"))
    else:
        values = np.arange(first, first + 2500).astype(np.float32)
        writer.write(Block(first, power_w=values, logic=(values % 5 < 2).astype(np.uint8)))
    print(first + 2500, flush=True)
    time.sleep(0.005)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.4, 0.9])
def test_a_killed_writer_leaves_a_trace(tmp_path: Path, after_s: float) -> None:
    path = tmp_path / "t.jls"
    program = _WRITER.format(folder=str(Path(__file__).parent))
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    while not path.exists():
        assert child.poll() is None
        time.sleep(0.002)
    time.sleep(after_s)
    child.kill()
    said, _ = child.communicate()
    given = int((said.split() or ["0"])[-1])
    report = repair(path)
    with open_trace(path) as trace:
        ids = np.arange(trace.length)
        lost = ids // 2500 % 9 == 4
        values = trace.read("power")
        assert np.array_equal(np.isnan(values), lost)
        assert np.array_equal(values[~lost], ids[~lost].astype(np.float32))
        assert np.array_equal(trace.bits("d0")[~lost], ids[~lost].astype(np.float32) % 5 < 2)
        assert all(gap == Gap(gap.first, gap.count, "ring") for gap in trace.gaps)
    # What is not in a chunk yet, and what pyjls still held: never more than a second, at any pace
    # of the writer that pyjls keeps up with.
    assert given - report.length <= 100_000


SLOW = """
import os, sys
import numpy as np
from pathlib import Path
from trace_help import spec_of
from waistline.trace.base import Block
from waistline.trace.store import create
rate, count = float(sys.argv[2]), int(sys.argv[3])
ids = np.arange(count)
writer = create(Path(sys.argv[1]), spec_of("power", "d0", "d3", rate_hz=rate))
for at in range(0, count, 100):
    part = ids[at : at + 100]
    logic = (part > 0.9 * count).astype(np.uint8)
    writer.write(Block(at, power_w=part.astype(np.float32), logic=logic))
writer.sync()
os._exit(9)
"""


@pytest.mark.parametrize("rate_hz", [512, 1000, 5000])
def test_a_killed_slow_writer_with_logic_bits_loses_half_a_second(
    tmp_path: Path, rate_hz: int
) -> None:
    path, count = tmp_path / "slow.jls", 11 * rate_hz + 70
    command = [sys.executable, "-c", SLOW, str(path), str(rate_hz), str(count)]
    assert subprocess.run(command, cwd=Path(__file__).parent).returncode == 9
    assert count - repair(path).length <= rate_hz / 2
    with open_trace(path) as trace:
        ids = np.arange(trace.length)
        assert np.array_equal(trace.read("power"), ids)
        assert np.array_equal(trace.bits("d0"), ids > 0.9 * count)
        assert not trace.bits("d3").any()


def test_what_is_cut_off_a_gap_of_unknown_size_leaves_it_unknown():
    unknown = Gap(90, 20, "counter", 0, 64)
    inner = Gap(95, 4, "counter", 0, 64)
    found = ordered([unknown, inner, Gap(10, 5, "ring"), Gap(12, 10, "ring")], 100)
    assert [(gap.first, gap.count, gap.resolved) for gap in found] == [
        (10, 5, True),
        (15, 7, True),
        (90, 10, False),
    ]
    (cut,) = ordered([unknown], 92)
    assert (cut.first, cut.count, cut.resolved) == (90, 2, False)
    assert cut.high == 64
    (swallowed,) = ordered([Gap(10, 20, "ring"), Gap(12, 2, "counter", 0, 64)], 100)
    assert (swallowed.count, swallowed.resolved) == (20, False)
    assert ordered([Gap(10, 20, "ring"), Gap(12, 2, "counter")], 100) == [Gap(10, 20, "ring")]
    assert ordered([Gap(100, 5, "ring")], 100) == []

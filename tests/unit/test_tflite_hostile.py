"""Files that lie: whatever the bytes, a ModelError or a model, in little memory."""

import resource
import struct
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="TFLite models are read with LiteRT's schema")

from hypothesis import given
from hypothesis import strategies as st
from tflite_help import branched, changed, load, mobilenet, schema

from waistline.errors import ModelError
from waistline.model import tflite_cut

SEEDS = [branched(), branched(quantized=True)]


def read_or_refuse(data: bytes) -> bool:
    """Whether it was read; one that was is cut too."""
    try:
        model = load(data)
        for frontier in model.graph.frontiers[:3]:
            tflite_cut.cut_model(model, frontier)
    except ModelError:
        return False
    return True


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """One to four words or bytes changed, sometimes a part cut out, doubled or left off."""
    found = bytearray(data)
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(0, len(found) - 8))
        match random.integers(0, 6):
            case 0:
                found[at] = random.integers(0, 256)
            case 1:
                wild = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(found), 1 << 28]
                struct.pack_into("<I", found, at & ~3, int(random.choice(wild)))
            case 2:
                struct.pack_into("<H", found, at & ~1, int(random.integers(0, 1 << 16)))
            case 3:
                struct.pack_into("<I", found, at & ~3, int(random.integers(0, len(found))))
            case 4:
                other = int(random.integers(0, len(found) - 8))
                found[at & ~3 : (at & ~3) + 4] = found[other & ~3 : (other & ~3) + 4]
            case _:
                del found[len(found) - int(random.integers(1, 200)) :]
    return bytes(found)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_end_in_a_model_error(seed):
    random = np.random.default_rng(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = sum(read_or_refuse(mutated(SEEDS[k % 2], random)) for k in range(300))
    assert 0 < read < 300
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # KiB


@given(st.binary(max_size=300))
def test_hostile_bytes_behind_the_identifier(data):
    read_or_refuse(data[:4].ljust(4, b"\x10") + b"TFL3" + data[4:])


@given(st.integers(0, len(SEEDS[0]) - 1), st.integers(0, 255))
def test_one_hostile_byte(place, value):
    data = bytearray(SEEDS[0])
    data[place] = value
    read_or_refuse(bytes(data))


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_files_cut_short(length):
    assert not read_or_refuse(SEEDS[0][:length])
    assert not read_or_refuse(SEEDS[0][: len(SEEDS[0]) - 1 - length])


def test_a_million_references_to_one_table_are_refused():
    """20 kB in which every list is full of the same table would unpack to billions of objects."""
    data = bytearray(SEEDS[0])
    model = schema.Model.GetRootAs(bytes(data), 0)
    graph = model.Subgraphs(0)
    tensors = graph._tab.Vector(graph._tab.Offset(4))
    target = graph.Tensors(0)._tab.Pos
    fill = 5000
    at = len(data) + (-len(data)) % 4
    data += bytes(at - len(data)) + struct.pack("<I", fill)
    data += b"".join(
        struct.pack("<I", (target - (at + 4 + 4 * k)) & 0xFFFFFFFF) for k in range(fill)
    )
    field = graph._tab.Pos + graph._tab.Offset(4)
    struct.pack_into("<I", data, field, at - field)
    assert tensors
    assert not read_or_refuse(bytes(data))


def test_lists_over_one_another_are_refused():
    """Many buffers that share one region would be copied once each."""

    def share(model):
        model.buffers[1].data = np.zeros(100_000, np.uint8)
        model.buffers += [schema.BufferT(data=np.zeros(4, np.uint8)) for _ in range(200)]

    data = bytearray(changed(SEEDS[0], share))
    model = schema.Model.GetRootAs(bytes(data), 0)
    big = model.Buffers(1)._tab
    start = big.Vector(big.Offset(4)) - 4
    for k in range(20, model.BuffersLength()):
        table = model.Buffers(k)._tab
        field = table.Pos + table.Offset(4)
        struct.pack_into("<I", data, field, (start - field) & 0xFFFFFFFF)
    tracemalloc.start()
    try:
        assert not read_or_refuse(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    finally:
        tracemalloc.stop()


def test_a_sound_large_file_is_not_mistaken_for_a_lie():
    assert read_or_refuse(mobilenet(quantized=True))

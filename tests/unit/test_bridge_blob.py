"""The blob: bytes and back, what is hostile refused, and the firmware of the same mind."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its heads are made from TFLite models")

import tflite_help
from bridge_help import ctx_scratch
from hypothesis import given, settings
from hypothesis import strategies as st
from lower_help import ALL_LAYERS, CC, FAILED, Firmware, lowered, random_inputs
from lower_nets import ACTS, NETS, SAME, VALID, Int8Net

from waistline.blob import records
from waistline.blob.check import check_blob
from waistline.blob.interpret import every_tensor, run_head
from waistline.blob.layers import head_of
from waistline.blob.records import HEADER, LAYER, TENSOR, WAIST, Reason, read_blob
from waistline.codec.waist import WaistCodec
from waistline.errors import BundleError, ConfigError
from waistline.model import tflite_cut
from waistline.model.load import load_model
from waistline_bridge.lower.tflite import lower_tflite

_WAISTS = 40
"""Where a blob's header says where its waists are."""
FASHION = Path(__file__).parents[2] / "examples/fashion/model.int8.tflite"
CODECS = ("i8:b=8|none", "raw|none", "i8:b=4|none", "i8:b=1|ctx", "i8:b=3|ctx", "i8:b=8|ctx")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory):
    if CC is None:
        pytest.skip("needs a C compiler (cc)")
    return Firmware(tmp_path_factory.mktemp("firmware"))


@pytest.fixture(scope="module")
def everything():
    return lowered(_head("everything"), "i8:b=3|ctx")


def _head(name):
    return lower_tflite(tflite_help.load(NETS[name]()))


def _sealed(data):
    """With the CRC that makes it whole again."""
    data = bytes(data)
    crc = struct.pack("<I", zlib.crc32(data[16:]))
    return data[:12] + crc + data[16:]


@pytest.mark.parametrize("name", NETS)
def test_a_blob_computes_what_the_head_does(name):
    head = _head(name)
    made = lowered(head)
    again = head_of(read_blob(made.data))
    assert len(again.layers) == len(head.layers)
    for seed in range(2):
        inputs = random_inputs(head, seed)
        others = [x.reshape(p.spec.shape) for x, p in zip(inputs, again.inputs, strict=True)]
        for a, b in zip(run_head(head, inputs), run_head(again, others), strict=True):
            np.testing.assert_array_equal(a.reshape(-1), b.reshape(-1))


@pytest.mark.parametrize("name", NETS)
def test_the_firmware_takes_it_and_gives_the_same_tensors(firmware, name):
    made = lowered(_head(name))
    blob = read_blob(made.data)
    assert firmware.check(made.data, made.plan.size_bytes) == 0
    tensors = list(every_tensor(head_of(blob), _golden(blob)))
    for done, (number, wanted) in enumerate(tensors[blob.inputs :], 1):
        _, arena = firmware.run(made.data, made.plan.size_bytes, done)
        at = blob.tensors[number].offset
        found = arena[at : at + wanted.size].view(np.int8)
        np.testing.assert_array_equal(found, wanted.reshape(-1), err_msg=f"layer {done - 1}")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", ["block1_pw_relu", "block2_pw_relu", "logits"])
def test_the_firmware_sends_the_bytes_of_the_waist_codec(firmware, codec, name):
    model = load_model(FASHION)
    frontier = next(item for item in model.graph.frontiers if item.names[-1] == name)
    head = lower_tflite(tflite_help.load(tflite_cut.cut_model(model, frontier)[0]))
    made = lowered(head, codec)
    blob = read_blob(made.data)
    size, arena = firmware.run(made.data, made.plan.size_bytes, ALL_LAYERS)
    assert size != FAILED
    sent = arena[blob.output[0] : blob.output[0] + size].tobytes()
    tensors = run_head(head, random_inputs(head))
    assert sent == WaistCodec(made.waist).encode(tensors).payload
    assert zlib.crc32(sent) == blob.goldens[0].crc


def _golden(blob):
    at = blob.goldens[0].input
    raw = np.frombuffer(blob.data, np.int8, blob.input_bytes, at)
    sizes = [tensor.size_bytes for tensor in blob.tensors[: blob.inputs]]
    parts = np.split(raw, np.cumsum(sizes)[:-1])
    shapes = [tensor.shape for tensor in blob.tensors[: blob.inputs]]
    return [part.reshape(1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def test_tensors_alive_at_once_never_overlap(everything):
    blob = read_blob(everything.data)
    ends = {number: k for k, layer in enumerate(blob.layers) for number in layer.inputs}
    ends.update({waist.tensor: len(blob.layers) for waist in blob.waists})
    alive = set(range(blob.inputs))
    for k, layer in enumerate(blob.layers):
        out = blob.tensors[layer.output]
        taken = [(out.offset, out.size_bytes), layer.scratch]
        taken += [(blob.tensors[n].offset, blob.tensors[n].size_bytes) for n in alive]
        marks = np.zeros(blob.arena_bytes, int)
        for at, size in taken:
            marks[at : at + size] += 1
        assert marks.max() <= 1
        alive = {number for number in (*alive, layer.output) if ends.get(number, -1) > k}


def test_without_a_golden_frame_and_with_an_identity():
    head = _head("conv")
    waist = lowered(head).waist
    from waistline_bridge.lower.assemble import assemble

    one, two = assemble(head, waist, identity=b"a"), assemble(head, waist, identity=b"b")
    assert read_blob(one.data).goldens == ()
    assert read_blob(one.data).id != read_blob(two.data).id
    assert assemble(head, waist, identity=b"a").data == one.data


@pytest.mark.parametrize(
    ("codec", "why"),
    [
        ("i8:b=4|zstd:1", "not with zstd"),
        ("i8:b=4|deflate", "the firmware codes with none or ctx"),
        ("raw|zstd:1", "not with zstd"),
    ],
)
def test_codecs_the_firmware_does_not_offer_are_refused_by_name(codec, why):
    with pytest.raises(ConfigError, match="cannot run on a microcontroller") as caught:
        lowered(_head("conv"), codec)
    assert why in caught.value.cause


def test_another_waist_is_refused():
    from waistline_bridge.lower.assemble import assemble

    with pytest.raises(ConfigError, match="not what the head makes"):
        assemble(_head("conv"), lowered(_head("pad")).waist)


# Hostile bytes.


def test_no_cut_and_no_single_flip_is_taken(everything):
    data = everything.data
    for size in [0, 1, HEADER.size - 1, HEADER.size, len(data) - 1]:
        with pytest.raises(BundleError):
            read_blob(data[:size])
    with pytest.raises(BundleError):
        read_blob(data + b"\0")
    for at in range(0, len(data), 97):
        with pytest.raises(BundleError):
            read_blob(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])


_HOSTILE = st.one_of(
    st.integers(0, 255).map(lambda value: bytes([value])),
    st.sampled_from(
        [b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\xfc\xff\xff\xff", b"\x80" * 4]
    ),
)


@settings(max_examples=300)
@given(data=st.data())
def test_hostile_records_are_refused_or_harmless_as_the_firmware_says(everything, firmware, data):
    """Changed records with a right CRC: reader and firmware agree, and what passes runs."""
    raw = bytearray(everything.data)
    blob = read_blob(everything.data)
    records_end = HEADER.size + len(blob.tensors) * TENSOR.size + len(blob.layers) * LAYER.size
    records_end += len(blob.waists) * WAIST.size
    for _ in range(data.draw(st.integers(1, 3))):
        at, value = data.draw(st.integers(16, records_end - 1)), data.draw(_HOSTILE)
        raw[at : at + len(value)] = value
    sealed = _sealed(raw)
    limit = everything.plan.size_bytes
    refused = firmware.check(sealed, limit)
    try:
        head = head_of(check_blob(read_blob(sealed), limit))
    except BundleError:
        assert refused
        return
    assert refused == 0
    size, _ = firmware.run(sealed, limit)
    assert size != FAILED
    run_head(head, random_inputs(head))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: dataclasses.replace(b, arena_bytes=8), "TENSOR"),
        (lambda b: _layer(b, op=11), "LAYER"),
        (lambda b: _layer(b, output=0), "TWICE"),
        (lambda b: _layer(b, inputs=(5,)), "ORDER"),
        (lambda b: _layer(b, clamp=(3, 2)), "CLAMP"),
        (lambda b: _layer(b, stride=(0, 1)), "SHAPE"),
        (lambda b: _layer(b, weights=(len(b.data), 8)), "WEIGHTS"),
        (lambda b: _layer(b, weights=(b.layers[0].weights[0], 8)), "WEIGHTS"),
        (lambda b: _layer(b, scratch=(b.tensors[0].offset // 8 * 8, 256)), "OVERLAP"),
        (lambda b: _layer(b, scratch=(b.arena_bytes, 8)), "SCRATCH"),
        (lambda b: _waist(b, tensor=200), "WAIST"),
        (lambda b: _waist(b, bits=9), "CODES"),
        (lambda b: _waist(b, bits=1), "CODES"),
        (lambda b: _waist(b, scratch=(0, 0)), "WAIST_SCRATCH"),
        (lambda b: dataclasses.replace(b, output=(b.output[0], 3)), "OUTPUT"),
    ],
)
def test_each_rule_is_named(everything, change, reason):
    blob = read_blob(everything.data)
    with pytest.raises(BundleError) as caught:
        check_blob(change(blob))
    assert f"{reason.lower()} " in caught.value.cause


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_context_coder_gets_what_it_needs_and_no_byte_more(firmware, bits):
    made = lowered(_head("everything"), f"i8:b={bits}|ctx")
    waists = read_blob(made.data).waists
    assert [w.scratch[1] for w in waists] == [ctx_scratch(bits, w.columns) for w in waists]
    raw = bytearray(made.data)
    (table,) = struct.unpack_from("<I", raw, _WAISTS)
    struct.pack_into("<I", raw, table + WAIST.size - 4, waists[0].scratch[1] - 1)
    assert firmware.check(_sealed(raw), made.plan.size_bytes) == Reason.WAIST_SCRATCH
    with pytest.raises(BundleError) as caught:
        check_blob(read_blob(_sealed(raw)))
    assert "waist_scratch " in caught.value.cause


def _layer(blob, **fields):
    first = dataclasses.replace(blob.layers[0], **fields)
    return dataclasses.replace(blob, layers=(first, *blob.layers[1:]))


def _waist(blob, **fields):
    first = dataclasses.replace(blob.waists[0], **fields)
    return dataclasses.replace(blob, waists=(first, *blob.waists[1:]))


def test_an_arena_too_small_is_refused(everything):
    blob = read_blob(everything.data)
    check_blob(blob, blob.arena_bytes)
    with pytest.raises(BundleError):
        check_blob(blob, blob.arena_bytes - 1)


def test_records_have_the_protocols_sizes():
    sizes = [kind.size for kind in (HEADER, TENSOR, LAYER, WAIST, records.GOLDEN)]
    assert sizes == [64, 12, 64, 32, 8]


@st.composite
def _layers(draw):
    """A net of one window of any kind and shape."""
    size = [draw(st.integers(1, 20)), draw(st.integers(1, 20)), draw(st.integers(1, 13))]
    kernel = draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))
    kernel = min(kernel[0], 6), min(kernel[1], 6)
    stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from([VALID, SAME]))
    net = Int8Net(draw(st.integers(0, 9)))
    x = net.input([1, *size])
    kind = draw(st.sampled_from(["conv", "depthwise", "largest", "average"]))
    if kind in ("largest", "average"):
        return net.finish(net.pooled(x, kernel, stride, padding, largest=kind == "largest"))
    act = draw(st.sampled_from([ACTS.NONE, ACTS.RELU, ACTS.RELU6]))
    depthwise = kind == "depthwise"
    channels = size[2] * draw(st.integers(1, 3)) if depthwise else draw(st.integers(1, 13))
    return net.finish(net.windowed(x, channels, kernel, stride, padding, act, depthwise=depthwise))


@settings(max_examples=150)
@given(model=_layers())
def test_windows_of_any_shape_are_the_same_in_the_firmware(firmware, model):
    made = lowered(lower_tflite(tflite_help.load(model)), "i8:b=8|none")
    blob = read_blob(made.data)
    assert firmware.check(made.data, made.plan.size_bytes) == 0
    size, arena = firmware.run(made.data, made.plan.size_bytes)
    sent = arena[blob.output[0] : blob.output[0] + size].tobytes()
    assert zlib.crc32(sent) == blob.goldens[0].crc

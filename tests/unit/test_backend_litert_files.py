"""Files that would mislead or end LiteRT: refused before the engine sees them."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from litert_help import conv_net, made, open_model, refused, writer

from waistline.backends._tflite_file import Facts, check_bytes, read_checked
from waistline.errors import BackendError, ModelError

OPS, TYPES = made.OPS, made.TYPES


@pytest.fixture
def store(tmp_path):
    return writer(tmp_path)


def test_a_file_that_would_mislead_the_engine_is_refused(store):
    def graph(change):
        return lambda model: change(model.subgraphs[0])

    def lists(field, *values):
        return graph(lambda g: setattr(g, field, list(values)))

    changes = {
        "is a weight": lists("inputs", 0, 1),
        "names tensor 99": lists("outputs", 3, 99),
        "names tensor -1": lists("outputs", 3, -1),
        "in buffer 77": graph(lambda g: setattr(g.tensors[0], "buffer", 77)),
        "its weights have": graph(lambda g: setattr(g.tensors[1], "shape", [4, 3, 3, 2])),
        "would take": graph(lambda g: setattr(g.tensors[0], "shape", [1 << 20, 1 << 20, 1, 3])),
        "state that is kept": graph(lambda g: setattr(g.tensors[0], "isVariable", True)),
        "has the shape": graph(lambda g: setattr(g.tensors[0], "shape", [1, -6, 6, 3])),
        "code that is not": graph(lambda g: setattr(g.operators[0], "opcodeIndex", 5)),
        "before it is written": graph(lambda g: setattr(g.operators[0], "inputs", [3, 1, 2])),
        "written already": graph(lambda g: setattr(g.operators[0], "outputs", [0])),
        "never written": graph(lambda g: setattr(g, "operators", [])),
        "schema version": lambda model: setattr(model, "version", 9),
        "no graph": lambda model: setattr(model, "subgraphs", []),
    }
    for words, change in changes.items():
        assert words in refused(store(made.changed(conv_net(), change))).cause


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("zeroPoint", [-65084], "zero point outside"),
        ("scale", [float("nan")], "no number"),
        ("scale", [-1.0], "negative"),
        ("scale", [1.0, 2.0], "scales"),
    ],
)
def test_scales_that_would_mislead_the_engine_are_refused(store, field, value, words):
    def change(model):
        setattr(model.subgraphs[0].tensors[0].quantization, field, value)

    assert words in refused(store(made.changed(conv_net(quantized=True), change))).cause


def _operators(**changes):
    """Change the inputs of operators of the branched model, by name."""

    def change(model):
        codes = [max(c.deprecatedBuiltinCode, c.builtinCode) for c in model.operatorCodes]
        for name, edit in changes.items():
            for operator in model.subgraphs[0].operators:
                if codes[operator.opcodeIndex] == getattr(OPS, name):
                    operator.inputs = edit(list(operator.inputs))
                    break

    return change


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("ADD", lambda reads: [reads[0], -1], "lacks input 1"),
        ("CONV_2D", lambda reads: [-1, *reads[1:]], "lacks input 0"),
        ("CONV_2D", lambda reads: [reads[0], -1, reads[2]], "lacks input 1"),
        ("FULLY_CONNECTED", lambda reads: [-1, *reads[1:]], "lacks input 0"),
        ("SOFTMAX", lambda reads: [-1], "lacks input 0"),
        ("CONCATENATION", lambda reads: [-1, *reads[1:]], "lacks input 0"),
        ("DEPTHWISE_CONV_2D", lambda reads: reads[:2], "has 2 inputs and needs 3"),
    ],
)
def test_an_operator_without_an_input_that_it_needs_is_refused(store, quantized, name, edit, words):
    data = made.changed(made.branched(quantized=quantized), _operators(**{name: edit}))
    assert words in refused(store(data)).cause
    with pytest.raises(ModelError, match="is not a valid TFLite model") as caught:
        made.load(data)
    assert words in caught.value.cause


def test_an_output_is_never_left_out(store):
    def change(model):
        model.subgraphs[0].operators[0].outputs = [-1]

    assert "names tensor -1" in refused(store(made.changed(conv_net(), change))).cause


def test_a_bias_may_be_left_out(store):
    data = made.changed(made.branched(), _operators(FULLY_CONNECTED=lambda reads: [*reads[:2], -1]))
    piece = open_model(store(data))
    piece.run([np.zeros(spec.shape, np.float32) for spec in piece.inputs])


def test_scales_per_channel_are_for_weights(store):
    def swap(model):
        graph = model.subgraphs[0]
        filters = graph.operators[0].inputs[1]
        graph.operators[-1].inputs = [filters]

    data = made.changed(made.branched(quantized=True), swap)
    assert "scale for each channel" in refused(store(data)).cause


def test_a_reshape_keeps_the_element_type(store):
    net = made.Net()
    x = net.input([1, 2], "x")
    narrow = net.tensor([1, 2], "narrow", type_=TYPES.INT8)
    net.op(OPS.RESHAPE, [x], [narrow], made.schema.ReshapeOptionsT(newShape=[1, 2]))
    assert "as another" in refused(store(net.finish(narrow))).cause


_NUMBERS = """
import random, struct, sys
from pathlib import Path
import numpy as np
from waistline.backends import _tflite_file, litert
from waistline.backends.base import BackendOptions
from waistline.errors import WaistlineError

path = Path(sys.argv[1])
data = path.read_bytes()
reader = _tflite_file._Reader(data)
graph = reader._tables(reader._u32(0), 2)[0]
count, places = len(reader._tables(graph, 0)), []
for operator in reader._tables(graph, 3):
    for field in (1, 2):
        at = reader._table(operator, field)
        places.append((at, [at + 4 + 4 * k for k in range(reader._u32(at))]))
ran = 0
for seed in range(250):
    change = random.Random(seed)
    found = bytearray(data)
    for _ in range(change.choice([1, 1, 2])):
        at, numbers = change.choice(places)
        if change.random() < 0.1:
            struct.pack_into("<I", found, at, change.randrange(len(numbers) + 1))
        else:
            value = change.choice([-1, change.randrange(count), change.randrange(count)])
            struct.pack_into("<i", found, change.choice(numbers), value)
    print(seed, flush=True)
    path.write_bytes(found)
    try:
        piece = litert.open_backend(BackendOptions(exact=seed % 2 == 0)).open(path)
        piece.run([np.zeros(spec.shape, spec.dtype) for spec in piece.inputs])
        ran += 1
    except WaistlineError:
        pass
print("ran", ran > 0)
"""


@pytest.mark.parametrize("quantized", [False, True])
def test_no_tensor_number_ends_the_process(store, quantized):
    """In a process of its own: what goes wrong here is a signal."""
    path = store(made.branched(quantized=quantized))
    done = subprocess.run(
        [sys.executable, "-c", _NUMBERS, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout[-20:], done.stderr[-500:])
    assert done.stdout.endswith("ran True\n")


def test_no_part_of_a_file_is_taken_for_the_whole():
    data = made.branched(quantized=True)
    for length in range(0, len(data), 7):
        with pytest.raises(BackendError):
            check_bytes(data[:length], Path("m.tflite"))


def test_mutated_files_are_refused_or_consistent():
    data = made.branched(quantized=True)
    change = random.Random(5)
    refused = 0
    for _ in range(400):
        mutated = bytearray(data)
        for _ in range(change.choice([1, 2, 8])):
            mutated[change.randrange(len(data))] = change.choice([0, 1, 127, 128, 255])
        try:
            facts = check_bytes(bytes(mutated), Path("m.tflite"))
        except BackendError:
            refused += 1
        else:
            assert isinstance(facts, Facts)
            assert facts.names
    assert refused > 50


def test_the_bytes_that_were_checked_are_the_ones_that_run(store):
    path = store(conv_net())
    piece = open_model(path)
    path.write_bytes(b"something else")
    piece.run([np.zeros((1, 6, 6, 3), np.float32)])
    path.unlink()
    with pytest.raises(BackendError, match="no such file"):
        read_checked(path)

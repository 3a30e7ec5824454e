import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="TFLite models are cut and run with LiteRT")

from tflite_help import (
    OPS,
    Net,
    branched,
    changed,
    equal_cuts,
    feeds_of,
    load,
    mobilenet,
    run,
    run_cut,
    schema,
    unpacked,
)

from waistline.errors import ModelError
from waistline.model import tflite_cut
from waistline.model.tflite_graph import load_tflite

MODELS = {
    "branched float": lambda: branched(),
    "branched int8": lambda: branched(quantized=True),
    "mobilenet float": lambda: mobilenet(),
    "mobilenet int8": lambda: mobilenet(quantized=True),
}


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "xnnpack"])
@pytest.mark.parametrize("name", MODELS)
def test_head_and_tail_give_the_bits_of_the_whole_at_every_frontier(name, plain):
    data = MODELS[name]()
    model = load(data)
    assert equal_cuts(model, data, plain=plain) == list(range(1, model.graph.last_x + 1))


@pytest.mark.parametrize("name", ["branched float", "branched int8"])
def test_slices_list_their_tensors_in_the_order_of_the_frontier(name, tmp_path):
    model = load(MODELS[name]())
    for frontier in model.graph.frontiers[1:-1]:
        head, tail = (load_tflite(p) for p in model.write_slices(frontier, tmp_path) if p)
        assert head.graph.outputs == tail.graph.inputs == frontier.tensors
        assert head.graph.inputs == model.graph.inputs
        assert tail.graph.outputs == model.graph.outputs
        layers = [layer.name for layer in (*head.graph.layers, *tail.graph.layers)]
        assert layers == [layer.name for layer in model.graph.layers]
        macs = [part.graph.frontiers[-1].macs_before for part in (head, tail)]
        assert macs[0] == frontier.macs_before
        assert sum(macs) == model.graph.frontiers[-1].macs_before


def test_ends_have_one_slice(tmp_path):
    model = load(branched())
    head, tail = model.write_slices(model.graph.frontiers[0], tmp_path)
    assert head is None
    assert tail is not None
    assert tail.name == "tail.tflite"
    head, tail = model.write_slices(model.graph.frontiers[-1], tmp_path)
    assert tail is None
    assert head is not None
    assert head.name == "head.tflite"


def test_equal_cuts_give_equal_bytes_and_small_heads(tmp_path):
    data = mobilenet(quantized=True)
    sizes = []
    for frontier in load(data).graph.frontiers:
        parts = tflite_cut.cut_model(load(data), frontier)
        assert parts == tflite_cut.cut_model(load(data), frontier)
        sizes.append(len(parts[0] or b""))
    assert sizes == sorted(sizes)
    assert sizes[1] < 3000
    assert sizes[-1] < len(data) * 1.1


def test_weights_are_aligned_and_buffer_zero_is_empty():
    model = load(branched())
    for part in tflite_cut.cut_model(model, model.graph.frontiers[4]):
        assert part is not None
        table = schema.Model.GetRootAs(part, 0)
        assert table.Buffers(0).DataLength() == 0
        places = [
            table.Buffers(k)._tab.Vector(table.Buffers(k)._tab.Offset(4))
            for k in range(1, table.BuffersLength())
        ]
        assert places
        assert all(place % 16 == 0 for place in places)


def test_tensors_that_pass_by_are_input_and_output():
    net = Net()
    a, b = net.input([1, 4, 4, 2], "a"), net.input([1, 4, 4, 2], "b")
    hidden = net.conv(a, 2, 1, name="hidden")
    data = net.finish(net.add(hidden, b, "sum"), hidden)
    model = load(data)
    assert model.graph.frontiers[1].names == ("b", "hidden")
    head, tail = tflite_cut.cut_model(model, model.graph.frontiers[1])
    assert head is not None
    assert tail is not None
    assert [spec.name for spec in load(head).graph.outputs] == ["b", "hidden"]
    assert [spec.name for spec in load(tail).graph.outputs] == ["sum", "hidden"]
    feeds = feeds_of(model)
    assert run(head, feeds)["b"].tobytes() == feeds["b"].tobytes()
    assert equal_cuts(model, data) == [1, 2, 3]


def test_shared_and_computed_constants_are_copied_into_both_slices():
    net = Net()
    x = net.input([1, 3])
    half = net.tensor([3, 3], type_=1, data=np.eye(3, dtype=np.float16) * 2)
    full = net.tensor([3, 3], "full")
    net.op(OPS.DEQUANTIZE, [half], [full], schema.DequantizeOptionsT())
    y = x
    for k in range(3):
        out = net.tensor([1, 3], f"y{k}")
        y = net.op(OPS.FULLY_CONNECTED, [y, full, -1], [out], schema.FullyConnectedOptionsT())
    data = net.finish(y)
    model = load(data)
    assert equal_cuts(model, data) == [1, 2, 3, 4]
    feeds = {"x": np.array([[1, 2, 3]], np.float32)}
    assert run_cut(model, model.graph.frontiers[1], feeds)["y2"].tolist() == [[8, 16, 24]]
    for part in tflite_cut.cut_model(model, model.graph.frontiers[2]):
        assert unpacked(part).subgraphs[0].operators[0].opcodeIndex == 0


def test_weights_behind_the_flatbuffer_are_brought_inside():
    """Converters put them there in files over 2 GB: a buffer then has an offset and a size."""
    data = branched()
    model = unpacked(data)
    moved = bytes(np.asarray(model.buffers[1].data))
    place = {}

    def move(model, at=1 << 20):
        model.buffers[1].data = None
        model.buffers[1].offset, model.buffers[1].size = place.get("at", at), len(moved)

    place["at"] = len(changed(data, move))
    outside = changed(data, move) + moved
    loaded = load(outside)
    feeds = feeds_of(loaded)
    whole = tflite_cut.cut_model(loaded, loaded.graph.frontiers[-1])[0]
    assert whole is not None
    assert {k: v.tobytes() for k, v in run(whole, feeds).items()} == {
        k: v.tobytes() for k, v in run(data, feeds).items()
    }
    with pytest.raises(ModelError, match="damaged"):
        load(outside[:-1])


def test_signatures_are_left_out_and_what_stays_true_is_kept():
    def describe(model):
        model.metadata = [
            schema.MetadataT(name=name, buffer=len(model.buffers))
            for name in ("min_runtime_version", "TFLITE_METADATA")
        ]
        model.buffers.append(schema.BufferT(data=np.frombuffer(b"1.5.0", np.uint8)))
        maps = schema.TensorMapT(name="x", tensorIndex=0)
        model.signatureDefs = [schema.SignatureDefT(inputs=[maps], signatureKey="main")]

    model = load(changed(branched(), describe))
    for part in tflite_cut.cut_model(model, model.graph.frontiers[3]):
        found = unpacked(part)
        assert not found.signatureDefs
        assert [item.name for item in found.metadata] == [b"min_runtime_version"]
        assert bytes(found.buffers[found.metadata[0].buffer].data) == b"1.5.0"


def test_an_incomplete_cut_names_what_it_lacks():
    model = load(branched())
    with pytest.raises(ModelError, match="lacks") as caught:
        tflite_cut.extract(model, ["thin"], ["shares"])
    assert "needed by operator" in caught.value.cause
    with pytest.raises(ModelError, match="'t1'") as caught:
        tflite_cut.extract(model, ["t1"], ["shares"])
    assert "constant" in caught.value.cause


def test_a_slice_over_two_gigabytes_is_refused(monkeypatch):
    monkeypatch.setattr("waistline.model.tflite_file.LIMIT_BYTES", 100)
    model = load(branched())
    with pytest.raises(ModelError, match="too large for a bundle"):
        tflite_cut.cut_model(model, model.graph.frontiers[3])


def test_a_folder_that_cannot_be_written(tmp_path):
    model = load(branched())
    with pytest.raises(ModelError, match="cannot write the slice"):
        model.write_slices(model.graph.frontiers[3], tmp_path / "none")

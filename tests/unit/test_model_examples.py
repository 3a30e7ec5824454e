"""The networks of ``examples/graphs.py``, small, cut at a sample of their frontiers."""

import sys
from pathlib import Path

import pytest
from model_help import assert_cuts_equal, run

from waistline.model.onnx_graph import from_proto

sys.path.append(str(Path(__file__).parents[2] / "examples"))

import graphs
import graphs_light
import graphs_net

SMALL = {
    "transformer": lambda: graphs.transformer(tokens=8, width=32),
    "tiny_yolov3": lambda: graphs.tiny_yolov3(96),
    "mobilenetv2": lambda: graphs.mobilenetv2(64),
    "light_shufflenet": lambda: graphs_light.reweighted("light_shufflenet"),
}


@pytest.mark.parametrize("name", SMALL)
def test_head_and_tail_give_the_bits_of_the_whole(name):
    proto = SMALL[name]()
    logits = graphs_light.logits_of(proto)
    if logits not in [value.name for value in proto.graph.output]:
        proto.graph.output.append(graphs_net.onnx.ValueInfoProto(name=logits))
        proto.graph.output[-1].type.tensor_type.elem_type = 1
    feeds = graphs_net.sample_input(proto, seed=1)
    whole = run(proto, feeds)
    assert 0.1 < whole[logits].std() < 10
    loaded = from_proto(proto, Path(name))
    frontiers = loaded.graph.frontiers
    assert_cuts_equal(loaded, whole, feeds, frontiers[1 :: max(1, len(frontiers) // 5)])


def test_the_shapes_that_were_published():
    loaded = from_proto(graphs.tiny_yolov3(416), Path("tiny_yolov3"))
    assert [spec.shape for spec in loaded.graph.outputs] == [(1, 255, 13, 13), (1, 255, 26, 26)]
    routes = [frontier for frontier in loaded.graph.frontiers if len(frontier.tensors) > 1]
    assert all((1, 256, 26, 26) in [t.shape for t in f.tensors] for f in routes[:5])


def test_a_graph_is_the_same_every_time_and_is_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = graphs.graph_path("transformer")
    assert first.is_relative_to(tmp_path)
    data = first.read_bytes()
    written = first.stat().st_mtime_ns
    assert graphs.graph_path("transformer").stat().st_mtime_ns == written
    first.unlink()
    assert graphs.graph_path("transformer").read_bytes() == data

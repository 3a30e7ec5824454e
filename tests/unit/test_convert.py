"""``waistline convert``: all but the converter itself, and that too where it is installed."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="converted models are checked with LiteRT")
pytest.importorskip("onnxruntime", reason="converted models are compared with onnxruntime")

from model_help import parse, stored
from tflite_help import Net, feeds_of, load, run

from waistline import toolenv
from waistline.errors import ConfigError, MissingExtra, ModelError
from waistline.model.load import load_model
from waistline.model.onnx_graph import load_onnx
from waistline.model.tflite_file import parse as parse_tflite
from waistline.task.load import load_task
from waistline_hostctl import convert as convert_module
from waistline_hostctl import convert_names, convert_worker
from waistline_hostctl.commands.convert import text
from waistline_hostctl.convert import convert

ROOT = Path(__file__).resolve().parents[2]
FASHION = ROOT / "examples" / "fashion"
RNG = np.random.default_rng(3)
KERNEL = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
BIAS = RNG.standard_normal(4).astype(np.float32)
TEXT = """g (float[1,3,8,8] x) => (float[1,4,8,8] sum, float[1,4,8,8] hidden) {
    wide = Conv <pads = [1,1,1,1]> (x, kernel, bias)
    hidden = Relu (wide)
    sum = Add (hidden, hidden)
}"""


@pytest.fixture
def source(tmp_path):
    return stored(tmp_path, parse(TEXT, kernel=KERNEL, bias=BIAS), "small.onnx")


def as_converted(*, wrong: bool = False) -> bytes:
    """What a converter would make of it: names of its own, outputs the other way round."""
    net = Net()
    x = net.input([1, 8, 8, 3], "serving_default_x:0")
    hidden = net.conv(x, 4, name="model/relu;model/conv")
    weights, bias = net.model.subgraphs[0].operators[0].inputs[1:]
    kernel = KERNEL.transpose(0, 2, 3, 1) * (2 if wrong else 1)
    for number, values in ((weights, kernel), (bias, BIAS)):
        buffer = net.model.buffers[net.graph.tensors[number].buffer]
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    total = net.add(hidden, hidden, "PartitionedCall:1")
    return net.finish(hidden, total)


def named(source: Path, data: bytes) -> bytes:
    (source.parent / "float.tflite").write_bytes(data)
    frame = RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)
    return convert_module.pack(
        convert_module._named(source.parent, load_onnx(source), [frame], int8=False)
    )


def test_names_and_order_become_those_of_the_onnx_model(source):
    graph = load(named(source, as_converted())).graph
    assert [spec.name for spec in graph.inputs] == ["x"]
    assert [spec.name for spec in graph.outputs] == ["sum", "hidden"]
    assert [layer.name for layer in graph.layers] == ["hidden", "sum"]


def test_the_int8_model_gets_the_names_of_the_float_one(source):
    net = Net(quantized=True)
    hidden = net.conv(net.input([1, 8, 8, 3], "serving_default_x:0"), 4, name="model/relu;model/c")
    extra = net.conv(hidden, 4, 1, name="sum")
    data = net.finish(hidden, net.add(extra, hidden, "PartitionedCall:1"))
    file = parse_tflite(data, "small")
    names = {"model/relu;model/c": "hidden"}
    made = convert_names.renamed(file, names, [(0, "x")], [(1, "sum"), (0, "hidden")])
    names = [layer.name for layer in load(convert_module.pack(made)).graph.layers]
    assert names[0] == "hidden"
    assert names[2] == "sum"
    assert len(set(names)) == 3  # the tensor that had an output's name before gave it up


def test_a_model_that_computes_something_else_is_refused(source):
    with pytest.raises(ModelError, match="does not compute 'sum'"):
        named(source, as_converted(wrong=True))


def test_axes_in_another_order_are_refused():
    with pytest.raises(ModelError, match="axes in another order"):
        convert_names._check_axes("y", (1, 4, 2, 3), (1, 4, 2, 3))
    convert_names._check_axes("y", (1, 2, 3, 4), (1, 4, 2, 3))
    convert_names._check_axes("y", (1, 10), (1, 10))


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((1, 3, 4, 5), (1, 4, 5, 3)),
        ((1, 3, 4), (1, 4, 3)),
        ((1, 3, 4), (1, 3, 4)),
        ((1, 2, 3, 4, 5), (1, 3, 4, 5, 2)),
        ((1, 7), (1, 7)),
    ],
)
def test_inputs_are_turned_as_the_converted_model_takes_them(shape, target):
    array = RNG.random(shape)
    assert convert_names.turned(array, target).shape == target
    assert sorted(convert_names.turned(array, target).ravel()) == sorted(array.ravel())
    with pytest.raises(ModelError, match="takes another input"):
        convert_names.turned(array, (2, *target[1:]))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A tool environment whose Python runs ``worker`` in place of the converter."""

    def install(body: str) -> None:
        worker = tmp_path / "worker.py"
        worker.write_text(f"import json, os, socket, sys\nfrom pathlib import Path\n{body}\n")
        monkeypatch.setattr(convert_module, "_WORKER", worker)
        monkeypatch.setattr(toolenv, "tool_python", lambda name: Path(sys.executable))

    return install


CONVERTS = """
request = json.loads(Path(sys.argv[1]).read_text())
print("noise")
print("@step reading")
data = Path({data!r}).read_bytes()
(Path(request["folder"]) / "float.tflite").write_bytes(data)
print("@done")
"""


def test_a_conversion_is_compared_and_kept(source, stand_in, tmp_path):
    data = tmp_path / "made.tflite"
    data.write_bytes(as_converted())
    stand_in(CONVERTS.format(data=str(data)))
    said = []
    result = convert(source, say=said.append)
    assert result.output == str(tmp_path / "small.tflite")
    assert said[0] == "reading"
    assert set(result.figures) == {"max_difference", "noise_ratio"}
    assert result.figures["max_difference"].value < 1e-4
    assert result.figures["max_difference"].evidence == "measured"
    assert (result.quantized, result.calibration_frames) == (False, 0)
    assert "next: waistline split" in text(result)
    made = load_model(result.output)
    assert made.graph.sha256 == result.sha256
    with pytest.raises(ConfigError, match="is there already"):
        convert(source)
    assert convert(source, force=True).sha256 == result.sha256


@pytest.mark.parametrize(
    ("body", "what", "cause"),
    [
        (
            "print('@unsupported FancyOp'); sys.exit(1)",
            "cannot write the operator FancyOp",
            "no rule",
        ),
        (
            "print('@failed', \"'tf.Erf' op is neither a custom op nor a flex op\"); sys.exit(1)",
            "cannot write the operator Erf",
            "TFLite has no such operator",
        ),
        ("print('@failed ValueError: no'); sys.exit(1)", "could not be", "ValueError: no"),
        (
            "sys.stderr.write('\\x1b[31mERROR:\\x1b[0m bad\\n'); sys.exit(1)",
            "could not",
            "ERROR: bad",
        ),
        ("os.kill(os.getpid(), 9)", "could not be converted", "without a word"),
        ("pass", "could not be converted", "without a word"),
        ("print('@done')", "could not be converted", "wrote no float.tflite"),
    ],
)
def test_a_converter_that_fails(source, stand_in, body, what, cause):
    stand_in(body)
    with pytest.raises(ModelError, match=re.escape(what)) as caught:
        convert(source)
    assert cause in caught.value.cause
    assert not source.with_suffix(".tflite").exists()


def test_the_converter_sees_little_of_the_environment(source, stand_in, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    stand_in("print('@failed', sorted(os.environ)); sys.exit(1)")
    with pytest.raises(ModelError) as caught:
        convert(source)
    assert "SECRET_TOKEN" not in caught.value.cause
    assert "'PATH'" in caught.value.cause


def test_what_is_missing_is_said_before_anything_runs(source, tmp_path, monkeypatch):
    monkeypatch.setenv("WAISTLINE_TOOLS", str(tmp_path / "tools"))
    with pytest.raises(MissingExtra) as caught:
        convert(source)
    assert caught.value.fix == "waistline tools install tflite"
    monkeypatch.setattr(toolenv, "tool_python", lambda name: Path(sys.executable))
    with pytest.raises(ConfigError, match="needs calibration data"):
        convert(source, int8=True)
    with pytest.raises(ConfigError, match="cannot write"):
        convert(source, tmp_path / "none" / "m.tflite")
    with pytest.raises(ModelError, match="is not an ONNX model") as refused:
        convert(FASHION / "model.tflite", tmp_path / "m.tflite")
    assert "give the ONNX model" in refused.value.cause
    integers = stored(
        tmp_path, parse("g (int64[1,3] x) => (int64[1,3] y) { y = Neg(x) }"), "i.onnx"
    )
    with pytest.raises(ModelError, match="cannot be converted"):
        convert(integers)


def test_calibration_data_is_preprocessed_as_the_task_says(tmp_path):
    task = load_task(FASHION / "task.toml")
    source = load_onnx(FASHION / "model.onnx")
    frames = convert_module._calibration(source, task, 5)
    request = json.loads(convert_module._request(tmp_path, source, task, frames).read_text())
    with np.load(request["samples"], allow_pickle=False) as arrays:
        assert arrays["image"].shape == (5, 1, 28, 28)
        assert arrays["image"].dtype == np.float32
        assert 0.5 < arrays["image"].max() <= 1.0
    samples = list(convert_worker.samples_of(Path(request["samples"]))())
    assert [sample["image"].shape for sample in samples] == [(1, 28, 28, 1)] * 5


def test_the_worker_refuses_sockets(stand_in, source):
    stand_in(
        f"sys.path.insert(0, {str(Path(convert_worker.__file__).parent)!r})\n"
        "import convert_worker\n"
        "convert_worker.stay_offline()\n"
        "try:\n    socket.create_connection(('127.0.0.1', 9))\n"
        "except OSError as error:\n    print('@failed', error); sys.exit(1)"
    )
    with pytest.raises(ModelError) as caught:
        convert(source)
    assert "without the network" in caught.value.cause


def _installed() -> str:
    """Why the real conversion cannot run here, "" if it can."""
    state = toolenv.tool_state("tflite")
    return "" if state.state == "ready" else f"waistline tools install tflite ({state.detail})"


@pytest.mark.slow
@pytest.mark.skipif(bool(_installed()), reason=_installed())
def test_the_example_is_what_the_converter_makes(tmp_path):
    task = load_task(FASHION / "task.toml")
    out = tmp_path / "model.int8.tflite"
    result = convert(FASHION / "model.onnx", out, int8=True, task=task, frames=256)
    assert result.figures["agreement"].value >= 0.96
    assert result.figures["noise_ratio"].value < 0.05
    made, shipped = load_model(out), load_model(FASHION / "model.int8.tflite")
    assert made.graph.frontiers == shipped.graph.frontiers
    feeds = feeds_of(made)
    assert run(out.read_bytes(), feeds).keys() == {"logits"}


@pytest.mark.slow
@pytest.mark.skipif(bool(_installed()), reason=_installed())
def test_the_real_converter_names_an_operator_it_does_not_know(tmp_path):
    text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) y = local.Fancy(a) }"
    path = tmp_path / "odd.onnx"
    proto = parse(text)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError):
        convert(path)
    assert not (tmp_path / "odd.tflite").exists()

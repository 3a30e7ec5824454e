"""From a .tflite file to a bundle that is verified, and the shipped one against its ONNX model."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="TFLite models are cut and run with LiteRT")
pytest.importorskip("onnxruntime", reason="converted models are compared with onnxruntime")

from tflite_help import Net, branched, run, run_cut

from waistline.backends.base import AUTO, load_backend
from waistline.bundle.cuts import list_cuts
from waistline.codec.spec import parse_spec
from waistline.errors import CodecError, ConfigError
from waistline.frame import SensorFrame
from waistline.model.load import load_model
from waistline.split import split
from waistline.stages import open_ends
from waistline.task.load import load_task
from waistline.verify import verify
from waistline_hostctl.convert_check import inputs_of, real_outputs

FASHION = Path(__file__).resolve().parents[2] / "examples" / "fashion"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.tflite"
    path.write_bytes(branched(quantized=True))
    return path


def codecs(bundle) -> dict[str, str]:
    return {item.tensor.name: item.codec for item in bundle.cut.tensors}


def test_tensors_that_are_eight_bit_already_are_sent_as_they_are(small, tmp_path):
    said: list[str] = []
    bundle = split(small, "stem,thin", tmp_path / "a.bundle", say=said.append)
    assert set(codecs(bundle).values()) == {str(parse_spec("i8|zstd:1"))}
    assert said == ["codec i8|zstd:1, the default for tensors that are 8-bit already"]
    assert verify(bundle).ok
    waist = bundle.cut.tensors[0].tensor
    assert (waist.dtype, waist.layout, waist.zero_point) == ("int8", "NHWC", -60)


@pytest.mark.parametrize("codec", ["i8|none", "i8:b=4|ctx", "i8:b=1|deflate", "i8|jpeg:80"])
def test_a_general_codec_with_i8_means_them(small, tmp_path, codec):
    bundle = split(small, "sum", tmp_path / "a.bundle", codec=codec)
    assert codecs(bundle) == {"sum": str(parse_spec(codec))}
    assert verify(bundle).ok


def test_a_codec_for_floats_finds_none(small, tmp_path):
    said: list[str] = []
    bundle = split(small, "sum", tmp_path / "a.bundle", codec="affine:b=4|none", say=said.append)
    assert codecs(bundle) == {"sum": str(parse_spec("i8|zstd:1"))}
    assert "is for float tensors, and this waist has none" in said[0]
    with pytest.raises(ConfigError, match="does not fit"):
        split(small, "sum", tmp_path / "b.bundle", codecs_by_tensor={"sum": "affine:b=4|none"})


def test_floats_and_eight_bit_tensors_in_one_waist(tmp_path):
    net = Net(quantized=True)
    x = net.input([1, 4, 4, 2])
    y = net.conv(x, 2, name="codes")
    real = net.tensor([1, 4, 4, 2], "real", type_=0)
    net.op(6, [x], [real])  # DEQUANTIZE
    total = net.tensor([1, 4, 4, 2], "total", type_=0)
    net.op(0, [real, real], [total])  # ADD
    path = tmp_path / "mixed.tflite"
    path.write_bytes(net.finish(net.add(y, y, "twice"), total))
    for codec, expected in {
        "affine:b=2|none": {"codes": "i8|zstd:1", "real": "affine:b=2|none"},
        "i8:b=4|none": {"codes": "i8:b=4|none", "real": "affine:b=8|zstd:1"},
    }.items():
        bundle = split(path, "codes,real", tmp_path / "a.bundle", codec=codec, force=True)
        assert codecs(bundle) == {name: str(parse_spec(spec)) for name, spec in expected.items()}
        assert verify(bundle).ok


def test_both_ends_give_the_whole_models_answer_at_every_cut(small, tmp_path):
    model = load_model(small)
    feeds = {"x": np.random.default_rng(0).integers(-128, 128, (1, 12, 12, 3)).astype(np.int8)}
    whole = run(small.read_bytes(), feeds, plain=False)
    for row in list_cuts(model):
        bundle = split(model, row.x, tmp_path / f"{row.x}.bundle", codec="i8|none")
        with open_ends(load_backend(AUTO, "tflite"), bundle) as (head, tail):
            waist = head.head(head.preprocess(SensorFrame(0, (feeds["x"],))))
            got = waist if bundle.tail is None else tail.tail(waist)
        names = [spec.name for spec in model.graph.outputs]
        assert [array.tobytes() for array in got] == [whole[name].tobytes() for name in names]


def test_a_frame_of_another_type_is_refused(small, tmp_path):
    bundle = split(small, "sum", tmp_path / "a.bundle")
    frame = SensorFrame(0, (np.zeros((1, 12, 12, 3), np.float32),))
    with (
        open_ends(load_backend(AUTO, "tflite"), bundle) as (head, _),
        pytest.raises(CodecError, match="does not fit"),
    ):
        head.preprocess(frame)


@pytest.mark.parametrize("name", ["model.int8.tflite", "model.tflite"])
def test_the_shipped_file_agrees_with_onnx(name):
    task = load_task(FASHION / "task.toml")
    models = [load_model(FASHION / file) for file in ("model.onnx", name)]
    slices = [load_backend(AUTO, m.graph.format).open(m.path) for m in models]
    pairs = []
    for frame in islice(task.data("report"), 250):
        answers = [
            real_outputs(m.graph.outputs, s.run(inputs_of(m.graph, task, frame)))[0]
            for m, s in zip(models, slices, strict=True)
        ]
        pairs.append([int(answer.argmax()) for answer in answers])
    for part in slices:
        part.close()
    agree = np.mean([a == b for a, b in pairs])
    assert agree >= (0.985 if "int8" in name else 1.0)


def test_the_shipped_files_bear_the_names_of_the_onnx_model():
    onnx, int8, real = (
        load_model(FASHION / name).graph
        for name in ("model.onnx", "model.int8.tflite", "model.tflite")
    )
    known = {name for layer in onnx.layers for name in layer.outputs}
    for graph in (int8, real):
        names = [layer.name for layer in graph.layers]
        assert [name for name in names if name not in known] == [
            name for name in names if name.startswith("model") and "Pad" in name
        ]
        assert [spec.name for spec in graph.outputs] == ["logits"]
    assert (int8.inputs[0].dtype, int8.outputs[0].dtype) == ("int8", "int8")
    assert [f.names for f in int8.frontiers] == [f.names for f in real.frontiers]


def test_one_task_serves_both_files(tmp_path):
    for name, layout in (("model.onnx", "NCHW"), ("model.int8.tflite", "NHWC")):
        bundle = split(
            FASHION / name, "block4_add", tmp_path / f"{layout}.bundle", task=FASHION / "task.toml"
        )
        assert bundle.manifest.preprocess.layout == layout
        assert verify(bundle).ok


@pytest.mark.parametrize("x", [1, 8, 14, 27])
def test_the_shipped_int8_file_is_cut_bit_by_bit(x):
    model = load_model(FASHION / "model.int8.tflite")
    image = np.load(FASHION / "report.npz", allow_pickle=False)["images"][x]
    feeds = {"image": (image.astype(np.int16) - 128).astype(np.int8)[None]}
    whole = run(model.path.read_bytes(), feeds)
    got = run_cut(model, model.graph.frontiers[x - 1], feeds)
    assert got["logits"].tobytes() == whole["logits"].tobytes()

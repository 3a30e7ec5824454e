"""What the board does not see: inputs that only cross the cut, and golden inputs left out of it."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("onnx", reason="cuts ONNX models")
pytest.importorskip("onnxruntime", reason="quantizes heads and runs tails")

import mcu_help
import model_help
import numpy as np
from bridge_help import host_program, needs_compiler
from mcu_help import FASHION, TASK
from onnx.reference import ReferenceEvaluator

from waistline.bench import resolve
from waistline.blob.records import read_blob
from waistline.bundle.golden import read_frame
from waistline.codec.waist import EncodedWaist
from waistline.errors import CodecError, VerificationFailed
from waistline.frame import SensorFrame
from waistline.model.load import load_model
from waistline.tensors import dequantize
from waistline.verification.ends import EndChoice
from waistline.verify import verify, verify_ends
from waistline_bridge import fit
from waistline_bridge.fit import all_limits
from waistline_bridge.golden import goldens_of
from waistline_bridge.listing import list_mcu_cuts
from waistline_bridge.sent import Sent
from waistline_bridge.split import split_mcu
from waistline_hostctl.console import Console
from waistline_hostctl.study import Request, run_study
from waistline_hostctl.study_tables import CODECS
from waistline_node.ends import BoardEnds
from waistline_node.heads.base import HeadChoice, open_head

_INDEXED = """
agraph (float[1,3,8,8] x, int64[3,4] k) => (float[1,6,8,8] d, int64[3,4] z) {
  a = Conv<pads=[1,1,1,1]>(x, w1)
  b = Relu(a)
  d = Conv<pads=[1,1,1,1]>(b, w2)
  z = Add(k, k)
}"""

_SKIPPING = """
agraph (float[1,3,8,8] x, float[1,4] v) => (float[1,6,8,8] z, float[1,4] w) {
  a = Conv<pads=[1,1,1,1]>(x, w1)
  b = Relu(a)
  c = Conv<pads=[1,1,1,1]>(x, w2)
  z = Add(c, b)
  w = Add(v, v)
}"""


def on_host():
    return {"board": "host", "firmware": str(host_program())}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """An image that the head reads, and a float vector that only crosses the cut."""
    folder = tmp_path_factory.mktemp("two")
    model, task = mcu_help.write_two_inputs(folder)
    return split_mcu(model, "v,d", folder / "m.bundle", task=task).bundle


def frames(bundle, count):
    random = np.random.default_rng(5)
    for k in range(count):
        arrays = [
            random.integers(-128, 128, spec.shape, np.int8)
            if spec.dtype == "int8"
            else random.standard_normal(spec.shape).astype(spec.numpy_dtype)
            for spec in bundle.manifest.model_inputs
        ]
        yield SensorFrame(k, tuple(arrays))


def test_a_float_input_that_only_crosses_keeps_its_own_codec(two):
    codecs = {item.tensor.name: (item.tensor.dtype, item.codec) for item in two.cut.tensors}
    assert codecs == {
        "v": ("float32", "affine:b=4,clip=mse|zstd:1"),
        "d": ("int8", "i8:b=4,clip=mse|ctx"),
    }
    assert [spec.name for spec in two.head.inputs] == ["x"]
    assert [spec.name for spec in two.head.outputs] == ["d"]
    blob = read_blob(two.read(two.head.file))
    assert (blob.inputs, len(blob.waists)) == (1, 1), "the board never sees it"
    assert verify(two).ok


@needs_compiler
def test_the_node_sends_what_the_board_made_and_what_passed_it_by(two):
    head = open_head(two, HeadChoice(options=on_host()))
    plain = open_head(two, HeadChoice("blob"))
    try:
        for frame in frames(two, 4):
            (sent, _), (wanted, _) = head.run(frame), plain.run(frame)
            assert (sent.payload, sent.raw_len) == (wanted.payload, wanted.raw_len)
            assert sent.device_s > 0
    finally:
        head.close()
        plain.close()


@needs_compiler
def test_a_board_with_such_a_bundle_verifies(two):
    ends = BoardEnds(two, EndChoice("mcu", options=on_host()), EndChoice())
    try:
        report = verify_ends(two, ends, ends)
    finally:
        ends.close()
    assert report.ok, report.reasons
    assert [check.verdict for check in report.tensors] == ["identical", "identical"]


@pytest.fixture(scope="module")
def skipping(tmp_path_factory):
    """(model, task): the head reads ``x``, which crosses as well; ``z`` is ready before ``w``."""
    folder = tmp_path_factory.mktemp("skipping")
    random = np.random.default_rng(7)
    weights = {
        name: random.standard_normal((6, 3, 3, 3)).astype(np.float32) for name in ("w1", "w2")
    }
    arrays = {
        "x": random.standard_normal((6, 3, 8, 8)).astype(np.float32),
        "v": random.uniform(-1, 1, (6, 4)).astype(np.float32),
    }
    np.savez(folder / "calibration.npz", **arrays)
    (folder / "task.toml").write_text(mcu_help.RAW_TASK)
    model = model_help.parse(_SKIPPING, **weights)
    return model_help.stored(folder, model, "skipping.onnx"), folder / "task.toml"


@needs_compiler
@pytest.mark.parametrize(
    ("cut", "waist"),
    [
        ("x,v,a", "int8 float32 int8"),
        ("x,v,b", "int8 float32 int8"),
        ("v,z", "float32 int8"),
        (6, ""),
    ],
)
def test_inputs_that_are_read_and_answers_that_are_ready_cross(skipping, cut, waist, tmp_path):
    model, task = skipping
    by_tensor = {"v": "affine:b=8,clip=minmax|none"} if waist else {}
    codec = "i8:b=8|ctx" if waist else None
    bundle = split_mcu(
        model, cut, tmp_path / "m.bundle", task=task, codec=codec, codecs_by_tensor=by_tensor
    ).bundle
    assert " ".join(item.tensor.dtype for item in bundle.cut.tensors) == waist
    ends = BoardEnds(bundle, EndChoice("mcu", options=on_host()), EndChoice())
    try:
        assert verify_ends(bundle, ends, ends).ok
    finally:
        ends.close()
    manifest = bundle.manifest
    given = zip(manifest.model_inputs, read_frame(bundle).arrays, strict=True)
    wanted = ReferenceEvaluator(str(model)).run(
        None, {spec.name: real(spec, a) for spec, a in given}
    )
    answer = bundle.answer_kind.unpack(bundle.read(manifest.golden.answer))
    for spec, found, right in zip(manifest.model_outputs, answer, wanted, strict=True):
        assert np.abs(real(spec, found) - right).max() < 0.1 * np.abs(right).max()


def real(spec, array):
    """As the float model has it."""
    values = dequantize(spec, array) if spec.scale is not None else array
    return values.transpose(0, 3, 1, 2) if spec.layout == "NHWC" else values


def test_integers_cross_as_they_are(tmp_path):
    random = np.random.default_rng(2)
    weights = {
        "w1": random.standard_normal((6, 3, 3, 3)).astype(np.float32),
        "w2": random.standard_normal((6, 6, 3, 3)).astype(np.float32),
    }
    model = model_help.stored(tmp_path, model_help.parse(_INDEXED, **weights), "indexed.onnx")
    np.savez(
        tmp_path / "calibration.npz",
        x=random.standard_normal((4, 3, 8, 8)).astype(np.float32),
        k=random.integers(0, 9, (4, 3, 4)),
    )
    task = tmp_path / "task.toml"
    task.write_text(mcu_help.RAW_TASK)
    bundle = split_mcu(model, "k,b", tmp_path / "m.bundle", task=task).bundle
    assert bundle.cut.tensors[0].codec == "raw|zstd:1"
    assert verify(bundle).ok
    whole = {row.x: row for row in list_mcu_cuts(load_model(model))}[bundle.cut.partition_point]
    assert whole.waist_bytes == 12 * 8 + 384
    assert whole.packed_bytes == 12 * 8 + 192


def test_a_study_tries_what_the_board_codes_and_leaves_the_rest_as_it_is(two, tmp_path):
    shapes = {"x": (4, 1, 8, 8, 3), "v": (4, 4)}
    random = np.random.default_rng(3)
    image = random.integers(-128, 128, shapes["x"], np.int8)
    vector = random.standard_normal(shapes["v"]).astype(np.float32)
    for name in ("calibration", "selection"):
        np.savez(tmp_path / f"{name}.npz", x=image, v=vector)
    task = tmp_path / "task.toml"
    task.write_text(mcu_help.RAW_TASK + '[data.selection]\nkind = "npz"\npath = "selection.npz"\n')
    made = run_study(
        Request(two.path, task, max_loss=1.0, frames=4, coded=1, quantizers=("i8:b=4",)),
        bench=resolve(environment={}),
        console=Console(json=True),
        runs=tmp_path / "runs",
        name="s",
    )
    rows = {row["codec"]: row for row in made.tables[CODECS].dicts()}
    assert {"i8:b=4|none", "i8:b=4|ctx"} <= rows.keys()
    assert not [name for name in rows if name.startswith("affine")]


def test_a_waist_of_the_wrong_number_of_tensors_is_refused(two):
    sent = Sent(two, two.head)
    given = dict(zip(("x", "v"), next(iter(frames(two, 1))).arrays, strict=True))
    sound = sent.codec.encode([np.zeros(sent.made[0].tensor.shape, np.int8)])
    assert sent.whole(sound, given).raw_len == two.waist_codec().raw_len
    for payload in (b"", sound.payload[:-1], sound.payload + bytes(4), b"\xff" * 9):
        with pytest.raises(CodecError, match="another waist"):
            sent.whole(EncodedWaist(payload, sound.raw_len), given)


@needs_compiler
@pytest.mark.parametrize("cut", ["stem_relu", "logits"])
def test_a_golden_input_that_takes_a_board_away_is_sent_instead(cut, tmp_path, monkeypatch):
    def split(name, **options):
        return split_mcu(FASHION / "model.onnx", cut, tmp_path / name, task=TASK, **options)

    full = split("full.bundle")
    size = len(full.lowered.data)
    assert read_blob(full.lowered.data).goldens, "it costs no board"
    room = size - 400 + fit.SEAL_BYTES
    small = dataclasses.replace(all_limits()[0], board="thimble", slot_bytes=room)
    known = (*all_limits(), small)
    monkeypatch.setattr(fit, "all_limits", lambda: known)
    said = []
    made = split("m.bundle", say=said.append)
    assert "thimble" in said[-1]
    assert read_blob(made.lowered.data).goldens == ()
    assert not {row.limits.board: row.problem for row in made.fits}["thimble"]
    assert read_blob(split("n.bundle", board="host").lowered.data).goldens, "nobody asked for it"
    (golden,) = goldens_of(read_blob(made.lowered.data), made.bundle)
    (stored,) = goldens_of(read_blob(full.lowered.data), full.bundle)
    assert (golden.stored, stored.stored) == (None, 0)
    assert golden.data == stored.data
    head = open_head(made.bundle, HeadChoice(options=on_host()))
    head.close()


@needs_compiler
def test_a_board_is_judged_by_the_golden_frame_that_is_sent(tmp_path, two, monkeypatch):
    blob = read_blob(two.read(two.head.file))
    bare = dataclasses.replace(blob, goldens=())
    (golden,) = goldens_of(bare, two)
    monkeypatch.setattr("waistline_bridge.attached.goldens_of", lambda *_: [golden])
    open_head(two, HeadChoice(options=on_host())).close()
    other = dataclasses.replace(golden, data=bytes(len(golden.data)))
    monkeypatch.setattr("waistline_bridge.attached.goldens_of", lambda *_: [other])
    with pytest.raises(VerificationFailed, match="does not reproduce") as failed:
        open_head(two, HeadChoice(options=on_host()))
    assert "codes" in failed.value.cause

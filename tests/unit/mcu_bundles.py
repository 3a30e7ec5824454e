"""Bundles with a blob for their head and a fake tail."""

from __future__ import annotations

import msgspec
import numpy as np

from waistline.backends.base import BackendOptions
from waistline.backends.fake import FakeModel, write_fake
from waistline.backends.fake import open_backend as open_fake
from waistline.blob import fixed
from waistline.blob.form import Activation, Clamp, Conv, Int8Head, Pool, Port, Rescale, Window
from waistline.blob.interpret import run_head
from waistline.bundle import golden
from waistline.bundle.schema import SCHEMA_VERSION, Cut, Golden, Manifest, Stage
from waistline.bundle.store import Bundle
from waistline.bundle.write import stored_file, write_bundle, write_stored
from waistline.codec.waist import WaistCodec
from waistline.frame import SensorFrame
from waistline.stages import TailStages, make_answer, open_slice
from waistline.task.kinds.base import load_kind
from waistline.task.spec import AnswerSpec
from waistline.tensors import TensorSpec, WaistTensor
from waistline_bridge.lower.assemble import assemble

INPUT = TensorSpec("x", "int8", (1, 8, 10, 6), "NHWC", 3, scale=0.02, zero_point=3)
WAISTS = (
    TensorSpec("a", "int8", (1, 4, 5, 8), "NHWC", 3, scale=0.05, zero_point=-4),
    TensorSpec("b", "int8", (1, 8, 10, 8), "NHWC", 3, scale=0.05, zero_point=-4),
)
OUTPUT = TensorSpec("y", "float32", (1, 10))
CODECS = ("i8:b=4|none", "i8:b=3|ctx")


def int8_head(seed=0):
    """A convolution and a pool, both of whose outputs cross the cut, the later one first."""
    random = np.random.default_rng(seed)
    weights = random.integers(-127, 128, (8, 3, 3, 6), np.int8)
    factors = [fixed.multiplier_of(float(f)) for f in random.uniform(0.0005, 0.002, 8)]
    multipliers, shifts = np.array(factors).T
    rescale = Rescale(multipliers.astype(np.int32), shifts.astype(np.int8))
    bias = random.integers(-999, 999, 8).astype(np.int32)
    pad = Window((3, 3), before=(1, 1), after=(1, 1))
    return Int8Head(
        tensors=tuple(
            Activation(spec.name, spec.shape[1:], spec.scale, spec.zero_point)
            for spec in (INPUT, WAISTS[1], WAISTS[0])
        ),
        layers=(
            Conv("conv", (0,), 1, pad, weights, bias, rescale, Clamp()),
            Pool("pool", (1,), 2, Window((2, 2), (2, 2)), True, Clamp()),
        ),
        inputs=(Port(0, INPUT),),
        outputs=(Port(2, WAISTS[0]), Port(1, WAISTS[1])),
    )


def frame_array(seed):
    return np.random.default_rng(seed).integers(-128, 128, INPUT.shape, np.int8)


def mcu_bundle(path, *, answers=False, seed=0, goldens=1):
    """A bundle for a board. ``answers``: cut at x = N, the outputs are the raw tensors."""
    head = int8_head(seed)
    frame = frame_array(99)
    codecs = ("i8:b=8|none",) * 2 if answers else CODECS
    waist = tuple(WaistTensor(spec, codec) for spec, codec in zip(WAISTS, codecs, strict=True))
    blob = assemble(head, waist, [[frame]] * goldens).data

    def build(folder):
        write_stored(folder, "head.blob", blob)
        stages = (Stage("head", stored_file(folder, "head.blob"), "blob", (INPUT,), WAISTS),)
        outputs, cut = WAISTS[::-1], Cut(3, "", ())
        if not answers:
            write_fake(folder / "tail.fake", FakeModel(WAISTS, (OUTPUT,)))
            tail = Stage("tail", stored_file(folder, "tail.fake"), "fake", WAISTS, (OUTPUT,))
            stages, outputs, cut = (*stages, tail), (OUTPUT,), Cut(2, "pool", waist)
        plain = [{"name": s.name, "dtype": s.dtype, "shape": list(s.shape)} for s in outputs]
        manifest = Manifest(
            schema_version=SCHEMA_VERSION, model_name="board", model_sha256="0" * 64,
            partition_points=3, stages=stages, cuts=(cut,), model_inputs=(INPUT,),
            model_outputs=outputs, preprocess=None,
            answer=AnswerSpec("tensors", {"outputs": plain}), opsets={},
            golden=golden.EMPTY, created_by="test",
        )  # fmt: skip
        bundle = Bundle(folder, manifest, "0" * 64)
        codes, answer = expected(bundle, frame, seed)
        made = Golden(
            frame=write_stored(folder, "golden.frame", frame.tobytes()),
            frame_tensors=(INPUT,),
            codes=write_stored(folder, "golden.codes", codes),
            answer=write_stored(folder, "golden.answer", answer),
        )
        return msgspec.structs.replace(manifest, golden=made)

    return write_bundle(path, build)


def expected(bundle, frame, seed=0):
    """(codes, answer) of a frame, by the interpreter and the fake tail."""
    values = run_head(int8_head(seed), [frame])
    manifest = bundle.manifest
    codec = bundle.waist_codec()
    if codec is None:
        kind = load_kind(manifest.answer)
        return b"", make_answer(kind, manifest.model_outputs, values[::-1], None)
    tail = TailStages(bundle, open_slice(open_fake(BackendOptions()), bundle, bundle.tail))
    codes = codec.codes(values)
    return codes, tail.postprocess(tail.tail(tail.preprocess(codec.decode_codes(codes))))


def expected_payload(bundle, frame, seed=0):
    """What DATA carries."""
    values = run_head(int8_head(seed), [frame])
    if not bundle.cut.tensors:
        return expected(bundle, frame, seed)[1]
    return WaistCodec(bundle.cut.tensors).encode(values).payload


def sensor_frame(index):
    return SensorFrame(index, (frame_array(index),), None, f"frame {index}")

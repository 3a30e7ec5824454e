"""From a head's values to a verdict: engines that may differ, codecs that may not, wrong inputs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from small_models import write_classifier, write_task

from waistline.bundle.golden import read_frame
from waistline.codec.waist import WaistCodec
from waistline.errors import LinkClosed, WireError
from waistline.frame import SensorFrame
from waistline.split import split
from waistline.tensors import TensorSpec, WaistTensor
from waistline.verification import pipe
from waistline.verification.codes import compare_codes
from waistline.verification.ends import EndChoice, HeadRun, LocalEnds
from waistline.verification.inquiry import judge, open_reference
from waistline.verification.pairs import other_kernels
from waistline.verification.pipe import Kind
from waistline.verify import verify, verify_ends

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fashion"
ONNXRUNTIME = {"engine": "onnxruntime", "precision": "as stored"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("judge")
    write_classifier(path)
    write_task(path)
    return path


@pytest.fixture
def bundle(folder, tmp_path):
    return split(
        folder / "small.onnx", "b", tmp_path / "b.bundle", codec="affine:b=8|zstd:1",
        task=folder / "task.toml",
    )  # fmt: skip


def judged(bundle, change, engine=ONNXRUNTIME, *, reference=True):
    """The one check of a head whose values are changed."""
    with LocalEnds(bundle, head=EndChoice(), tail=None) as ends:
        run = ends.run_head(read_frame(bundle))
    values = tuple(np.asarray(change(value), np.float32) for value in run.values)
    made = HeadRun(WaistCodec(bundle.cut.tensors).codes(values), values)
    golden = bundle.read(bundle.manifest.golden.codes)
    opened = open_reference(bundle) if reference else None
    (check,) = judge(bundle, made, golden, engine=engine, reference=lambda: opened)
    if opened:
        opened.close()
    return check


def less_exact(values):
    noise = np.random.default_rng(5).standard_normal(values.shape)
    return values * (1 + 0.004 * noise)


def test_16_bits_pass_where_the_engine_says_so_and_fail_where_it_does_not(bundle):
    check = judged(bundle, less_exact)
    assert (check.verdict, check.failed) == ("quantization", True)
    assert check.looks_like == "bf16"
    check = judged(bundle, less_exact, {"engine": "openvino", "precision": "bf16"})
    assert (check.verdict, check.failed) == ("reduced", False)
    assert check.cause.startswith("the engine computes in bf16")


def test_a_wrong_head_is_no_matter_of_precision(bundle):
    for engine in (ONNXRUNTIME, {"engine": "openvino", "precision": "f16"}):
        check = judged(bundle, lambda values: values[:, ::-1], engine)
        assert check.failed
        assert check.verdict == "fault"


def test_without_the_own_engine_codes_have_to_do(bundle):
    assert judged(bundle, lambda v: v * 3, reference=False).looks_like == "scaled"
    assert judged(bundle, less_exact, reference=False).verdict == "quantization"


def test_right_values_with_wrong_codes_are_a_fault_of_the_codec(bundle):
    golden = bundle.read(bundle.manifest.golden.codes)
    with LocalEnds(bundle, head=EndChoice(), tail=None) as ends:
        run = ends.run_head(read_frame(bundle))
    wrong = bytes([*golden[:-2], golden[-2] ^ 0xFF, golden[-1] ^ 0xFF])
    (check,) = judge(bundle, HeadRun(wrong, run.values), golden, engine=ONNXRUNTIME)
    assert (check.verdict, check.looks_like) == ("fault", "codec")


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """A cut of the example behind many layers."""
    return split(
        EXAMPLE / "model.onnx", 38, tmp_path_factory.mktemp("clothes") / "c.bundle",
        codec="affine:b=4|none", task=EXAMPLE / "task.toml",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda given: given[..., ::-1], "mirrored"),
        (lambda given: given[:, :, ::-1], "upside down"),
        (lambda given: given.swapaxes(2, 3), "height and width"),
        (lambda given: given * 255, "pixels 0..255"),
        (lambda given: 1 - given, "inverted"),
        (lambda given: given * 2 - 1, "-1..1"),
        (lambda given: given * 0, "all black"),
    ],
)
def test_a_mistake_in_the_input_is_found_behind_layers(clothes, mistake, says):
    class Mistaken(LocalEnds):
        def run_head(self, frame: SensorFrame) -> HeadRun:
            (given,) = self.preprocess(frame)
            return self.run_inputs([np.ascontiguousarray(mistake(given), np.float32)])

    with Mistaken(clothes, head=EndChoice(), tail=EndChoice()) as ends:
        (check,) = verify_ends(clothes, ends, ends).tensors
    assert (check.verdict, check.looks_like) == ("fault", "input")
    assert says in check.cause


def test_the_same_waist_from_another_backend_of_the_tail(bundle):
    report = verify(bundle, backend="auto", tail_backend="onnxruntime")
    assert report.ok
    assert (report.head_at.head_backend, report.tail_at.tail_backend) == ("onnxruntime",) * 2


def test_frames_are_compared_with_the_own_engine(bundle):
    frames = [read_frame(bundle)] * 3
    report = verify(bundle, frames=iter(frames))
    assert report.frames is not None
    assert (report.frames.frames, report.frames.different, report.frames.agrees) == (3, 0, 1.0)
    assert report.frames.reference.startswith("onnxruntime ")
    assert report.frames.share == 0.0
    msgspec.json.encode(report)


def test_frames_that_differ_fail(bundle):
    class Odd(LocalEnds):
        runs = 0

        def run_head(self, frame: SensorFrame) -> HeadRun:
            made = super().run_head(frame)
            self.runs += 1
            if self.runs == 1:
                return made
            values = tuple(np.ascontiguousarray(value[:, ::-1]) for value in made.values)
            return HeadRun(WaistCodec(bundle.cut.tensors).codes(values), values)

    with Odd(bundle, head=EndChoice(), tail=EndChoice()) as ends:
        report = verify_ends(bundle, ends, ends, frames=[read_frame(bundle)] * 2)
    assert report.tensors[0].verdict == "identical"
    assert "2 of 2 frames differ by more than rounding" in report.reasons


def test_frames_of_an_unquantized_waist_may_round_everywhere(folder, tmp_path):
    floats = split(folder / "small.onnx", "b", tmp_path / "f.bundle", codec="f32|zstd:1",
                   task=folder / "task.toml")  # fmt: skip

    class Near(LocalEnds):
        def run_head(self, frame: SensorFrame) -> HeadRun:
            made = super().run_head(frame)
            values = tuple(np.nextafter(value, np.float32(9)) for value in made.values)
            return HeadRun(WaistCodec(floats.cut.tensors).codes(values), values)

    with Near(floats, head=EndChoice(), tail=EndChoice()) as ends:
        report = verify_ends(floats, ends, ends, frames=[read_frame(floats)] * 2)
    assert report.frames is not None
    assert report.frames.different == report.frames.codes
    assert report.reasons == ()


INTEGERS = WaistTensor(TensorSpec("q", "int8", (4000,), scale=0.1, zero_point=3), "i8:b=8|none")


@pytest.mark.parametrize(
    ("step", "share", "others", "verdict"),
    [(0, 1, False, "identical"), (1, 4000, False, "fault"), (1, 4, True, "kernels"),
     (9, 10, True, "kernels"), (17, 4000, True, "fault"), (16, 1, True, "fault")],
)  # fmt: skip
def test_integers_are_exact_unless_other_kernels_made_them(step, share, others, verdict):
    values = (np.arange(4000) % 201 - 100).astype(np.int8)
    other = values.copy()
    other[::share] += np.int8(step)
    codec = WaistCodec([INTEGERS])
    (check,) = compare_codes(
        (INTEGERS,), codec.codes([other]), codec.codes([values]), other_kernels=others
    )
    assert check.verdict == verdict


def test_kernels_are_others_by_engine_or_by_name(bundle):
    own = {"engine": "litert", "kernels": "xnnpack"}
    assert not other_kernels(bundle, own, own)
    assert not other_kernels(bundle, {}, own)
    assert other_kernels(bundle, {**own, "kernels": "builtin"}, own)
    assert other_kernels(bundle, {"engine": "openvino"}, own)
    assert not other_kernels(bundle, ONNXRUNTIME, None)
    assert other_kernels(bundle, {"engine": "openvino"}, None)


def reader(data: bytes):
    left = memoryview(data)

    def read(size_bytes: int) -> bytes:
        nonlocal left
        if size_bytes > len(left):
            raise LinkClosed("the end")
        part, left = bytes(left[:size_bytes]), left[size_bytes:]
        return part

    return read


@given(some.binary(max_size=300))
def test_a_pipe_of_hostile_bytes_ends_as_an_error(data):
    with pytest.raises((WireError, LinkClosed)):
        pipe.read_frame(reader(data), list(Kind))


@given(some.binary(max_size=80), some.integers(0, 2**31), some.integers(1, 255))
def test_a_mutated_frame_never_arrives(payload, at, change):
    sound = bytearray(pipe.frame(Kind.CHUNK, payload))
    assert pipe.read_frame(reader(bytes(sound)), (Kind.CHUNK,)) == (Kind.CHUNK, payload)
    sound[at % len(sound)] ^= change
    with pytest.raises((WireError, LinkClosed)):
        pipe.read_frame(reader(bytes(sound)), (Kind.CHUNK,))


@given(some.lists(some.binary(max_size=40), max_size=4))
def test_chunks_come_back_as_they_went(parts):
    data = b"".join(pipe.chunks(parts))
    whole = b"".join(parts)
    assert b"".join(pipe.read_chunks(reader(data), len(whole))) == whole
    with pytest.raises((WireError, LinkClosed)):
        list(pipe.read_chunks(reader(data), len(whole) + 1))

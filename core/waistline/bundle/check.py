"""Whether a manifest can be true: names, sizes, specs, and that its stages meet at the cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

from waistline.bundle.schema import EVIDENCE, MANIFEST, Manifest, Stage, StoredFile
from waistline.codec import native
from waistline.codec.spec import IMAGE_CODERS, parse_spec
from waistline.codec.tensor_codec import open_tensor_codec
from waistline.errors import BundleError, CodecError, ConfigError
from waistline.task.kinds.base import load_kind
from waistline.task.preprocess import check_preprocess, input_shape
from waistline.task.spec import Preprocess
from waistline.tensors import MAX_TENSOR_BYTES, TensorSpec, WaistTensor, check_spec, takes_floats

FRAME = "frame"
"""Name of the waist tensor at x = 0: the sensor frame as captured."""
MAX_WAIST_TENSORS = 256
MAX_FILE_BYTES = 2 << 30
"""A slice is one protobuf message, which cannot be longer."""
_MAX_SLICES = 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_FLOAT32 = float.fromhex("0x1.fffffep+127")
_FRAME_CODERS = IMAGE_CODERS | {"none", "deflate", "zstd", "ctx"}


def check_manifest(manifest: Manifest) -> list[StoredFile]:
    """Check everything that needs no file; returns the files the bundle must hold.

    Raises:
        BundleError: something cannot be true; says what.
    """
    _need(0 < len(manifest.stages) <= _MAX_SLICES, f"{len(manifest.stages)} stages")
    _need(len(manifest.cuts) == 1, f"{len(manifest.cuts)} cuts, a node and an edge need 1")
    files = _check_names(manifest)
    _check_tensors(manifest)
    try:
        _check_cut(manifest)
        if manifest.preprocess is not None:
            _check_input(manifest, check_preprocess(manifest.preprocess))
        max_answer = load_kind(manifest.answer).max_bytes
        _need(max_answer <= MAX_TENSOR_BYTES, f"answers of {max_answer} bytes")
        _check_golden(manifest, max_answer)
    except (ConfigError, CodecError) as error:
        raise _bad(str(error)) from error
    return files


def check_frame_codec(text: str) -> str:
    """``text`` in canonical form, if it may code the sensor frame at x = 0.

    Raises:
        ConfigError: only raw with a lossless coder, png, jpeg:<q> and webp:<q> may.
    """
    spec = parse_spec(text)
    if spec.quantizer != "raw" or spec.coder not in _FRAME_CODERS:
        raise ConfigError(
            f"codec {text!r} cannot code the sensor frame",
            cause="at partition point 0 the waist is the frame as captured, uint8",
            fix="use png, jpeg:90, webp:80, webp, raw|zstd:1 or raw|none",
        )
    return str(spec)


def _check_names(manifest: Manifest) -> list[StoredFile]:
    golden = manifest.golden
    files = [stage.file for stage in manifest.stages]
    files += [golden.frame, golden.codes, golden.answer]
    for file in files:
        safe = _NAME.fullmatch(file.name) and file.name not in {MANIFEST, EVIDENCE}
        _need(bool(safe), f"{file.name[:100]!r} is not a plain file name")
        sized = 0 <= file.size_bytes <= MAX_FILE_BYTES
        _need(sized, f"{file.name} claims {file.size_bytes} bytes, the limit is {MAX_FILE_BYTES}")
        _need(bool(_SHA256.fullmatch(file.sha256)), f"the hash of {file.name} is no SHA-256")
    _need(len({file.name for file in files}) == len(files), "two parts share one file")
    return files


def _check_tensors(manifest: Manifest) -> None:
    waist = [item.tensor for item in manifest.cuts[0].tensors]
    groups = [waist, manifest.model_inputs, manifest.model_outputs, manifest.golden.frame_tensors]
    for stage in manifest.stages:
        groups += [stage.inputs, stage.outputs]
        _need(bool(stage.inputs and stage.outputs), f"the {stage.role} has no in- or output")
    for group in groups:
        _need(len(group) <= MAX_WAIST_TENSORS, f"{len(group)} tensors side by side")
        _need(len({tensor.name for tensor in group}) == len(group), "a tensor is named twice")
        for tensor in group:
            check_spec(tensor)
    _need(bool(manifest.model_inputs and manifest.model_outputs), "the model has no in- or output")
    total = sum(tensor.size_bytes for tensor in waist)
    _need(total <= MAX_TENSOR_BYTES, f"the waist has {total} bytes")


def _check_cut(manifest: Manifest) -> None:
    """Stages against the partition point, and every tensor against who makes it."""
    cut, last = manifest.cuts[0], manifest.partition_points
    x = cut.partition_point
    _need(last >= 1 and 0 <= x <= last, f"partition point {x} of {last}")
    roles = [stage.role for stage in manifest.stages]
    expected = ["tail"] if x <= 1 else ["head"] if x == last else ["head", "tail"]
    _need(roles == expected, f"stages {roles} at partition point {x} of {last}")
    for item in cut.tensors:
        _check_codec(item, frame=x == 0)
    waist = {item.tensor.name: item.tensor for item in cut.tensors}
    inputs = {tensor.name: tensor for tensor in manifest.model_inputs}
    stages = {stage.role: stage for stage in manifest.stages}
    if x == 0:
        _check_frame_waist(manifest)
        _meet("the tail", stages["tail"].inputs, inputs)
        _meet("the answer", manifest.model_outputs, _made(stages["tail"], inputs))
        return
    made = dict(inputs)
    if "head" in stages:
        _meet("the head", stages["head"].inputs, inputs)
        made = _made(stages["head"], inputs)
    if "tail" not in stages:
        _need(not waist, "a waist at the last partition point, where the answer is sent")
        _meet("the answer", manifest.model_outputs, made)
        return
    _need(bool(waist), "no waist tensor")
    _meet("the waist", tuple(waist.values()), made)
    _meet("the tail", stages["tail"].inputs, waist)
    _meet("the answer", manifest.model_outputs, _made(stages["tail"], waist))


def _made(stage: Stage, given: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
    """What is known after ``stage``: its outputs, and what it was given, which may pass by it."""
    return {**given, **{tensor.name: tensor for tensor in stage.outputs}}


def _meet(who: str, wanted: Sequence[TensorSpec], known: dict[str, TensorSpec]) -> None:
    for tensor in wanted:
        source = known.get(tensor.name)
        _need(source is not None, f"nothing makes tensor {tensor.name!r} that {who} needs")
        same = source and _held(source) == _held(tensor)
        _need(bool(same), f"{who} needs {tensor.name!r} in another type or shape than it is made")


def _held(tensor: TensorSpec) -> tuple[object, ...]:
    """What two ends that share a tensor must agree on."""
    return tensor.dtype, tensor.shape, tensor.scale, tensor.zero_point


def _check_frame_waist(manifest: Manifest) -> None:
    tensors, preprocess = manifest.cuts[0].tensors, manifest.preprocess
    if preprocess is None:
        raise _bad("the sensor frame is sent but no preprocessing is named")
    wanted = [(FRAME, "uint8", preprocess.frame_shape)]
    got = [(item.tensor.name, item.tensor.dtype, item.tensor.shape) for item in tensors]
    _need(got == wanted, f"the waist at partition point 0 is {got}, expected {wanted}")


def _check_codec(item: WaistTensor, *, frame: bool) -> None:
    name, tensor = item.tensor.name, item.tensor
    if frame:
        _need(item.codec == check_frame_codec(item.codec), f"codec {item.codec!r} not canonical")
        return
    spec = parse_spec(item.codec)
    _need(str(spec) == item.codec, f"codec {item.codec!r} of {name!r} is not in canonical form")
    _need(not spec.codes_frame, f"an image codec on tensor {name!r}")
    _need(spec.needs_calibration == (item.ranges is not None), f"ranges of {name!r} and its codec")
    if item.ranges is not None:
        count = tensor.channels if spec.per == "channel" else 1
        limits = list(zip(item.ranges.lo, item.ranges.hi, strict=False))
        lengths = {len(item.ranges.lo), len(item.ranges.hi)}
        _need(lengths == {count}, f"{len(limits)} ranges for {count} channels of {name!r}")
        sound = all(-_MAX_FLOAT32 <= lo <= hi <= _MAX_FLOAT32 for lo, hi in limits)
        _need(sound, f"a range of {name!r} is empty or not finite in float32")


def _check_input(manifest: Manifest, preprocess: Preprocess) -> None:
    shape, inputs = input_shape(preprocess), manifest.model_inputs
    fits = len(inputs) == 1 and takes_floats(inputs[0]) and inputs[0].shape == shape
    got = [(tensor.dtype, tensor.shape) for tensor in inputs]
    _need(fits, f"preprocessing makes float32 {shape}, the model takes {got}")


def _check_golden(manifest: Manifest, max_answer: int) -> None:
    """The golden files against what this cut and its codecs make of one frame."""
    golden, preprocess = manifest.golden, manifest.preprocess
    got = [(tensor.dtype, tensor.shape) for tensor in golden.frame_tensors]
    if preprocess is not None:
        wanted = [("uint8", tuple(preprocess.frame_shape))]
    else:
        wanted = [(tensor.dtype, tensor.shape) for tensor in manifest.model_inputs]
    _need(got == wanted, f"the golden frame is {got}, the bundle takes {wanted}")
    codecs = [open_tensor_codec(item, native.kernels()) for item in manifest.cuts[0].tensors]
    frame_bytes = sum(tensor.size_bytes for tensor in golden.frame_tensors)
    code_bytes = sum(codec.range_bytes + codec.size_bytes for codec in codecs)
    _need_size("its tensors have", golden.frame, frame_bytes)
    _need_size("the codecs of this cut make", golden.codes, code_bytes)
    answer_bytes = golden.answer.size_bytes
    _need(answer_bytes <= max_answer, f"the golden answer of {answer_bytes} bytes is too long")


def _need_size(who: str, file: StoredFile, size_bytes: int) -> None:
    problem = f"{file.name} has {file.size_bytes} bytes, {who} {size_bytes}"
    _need(file.size_bytes == size_bytes, f"{problem}: {MANIFEST} was changed after it was written")


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise _bad(problem)


def _bad(problem: str) -> BundleError:
    return BundleError(
        "this bundle cannot be used",
        cause=problem,
        fix="write it again with 'waistline split ... --force'",
    )

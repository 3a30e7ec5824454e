"""Synthetic mistakes on real waists of the Fashion example: each is named, and none is invented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from waistline.backends.base import load_backend
from waistline.codec.waist import WaistCodec
from waistline.model.load import load_model
from waistline.task.load import load_task
from waistline.task.preprocess import apply
from waistline.tensors import TensorSpec, WaistTensor
from waistline.verification.codes import allowed_codes, compare_codes, taken_apart
from waistline.verification.diagnosis import INEXACT, KINDS, diagnose, explained, misordered
from waistline.verification.inquiry import step_size
from waistline.verification.permuted import permutation

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fashion"
CUTS = (2, 16, 23, 39, 45)
"""Wide and narrow, rectified and not, with and without rows and columns."""


@pytest.fixture(scope="module")
def waists(tmp_path_factory):
    """By cut: the tensor's spec and its values for two frames."""
    pytest.importorskip("onnxruntime", reason="the example's head runs on onnxruntime")
    model, task = load_model(EXAMPLE / "model.onnx"), load_task(EXAMPLE / "task.toml")
    with np.load(EXAMPLE / "selection.npz", allow_pickle=False) as data:
        images = data["images"][:2].reshape(-1, 28, 28, 1)
    backend, found = load_backend("auto", "onnx"), {}
    for x in CUTS:
        frontier = next(one for one in model.graph.frontiers if one.x == x)
        head, _ = model.write_slices(frontier, tmp_path_factory.mktemp(f"x{x}"))
        slice_ = backend.open(head)
        at = [spec.name for spec in slice_.outputs].index(frontier.tensors[0].name)
        values = [slice_.run([apply(task.preprocess, image)])[at] for image in images]
        found[x] = (frontier.tensors[0], values)
    return found


def each(waists, rank: int = 0):
    for spec, frames in waists.values():
        if len(spec.shape) >= rank and (rank < 4 or min(spec.shape[2:]) > 3):
            for values in frames:
                yield spec, values


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    words = values.view(np.uint32).astype(np.uint64)
    return (((words + 0x7FFF + ((words >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


def noisy(values: np.ndarray, size: float) -> np.ndarray:
    noise = np.random.default_rng(7).standard_normal(values.shape)
    return (values + size * values.std() * noise).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda v: noisy(v, 1e-6), "rounding"),
        (lambda v: v.astype(np.float16).astype(np.float32), "f16"),
        (lambda v: noisy(v, 3e-4), "f16"),
        (as_bfloat16, "bf16"),
        (lambda v: noisy(v, 4e-3), "bf16"),
        (lambda v: v * 255, "scaled"),
        (lambda v: (v - 0.5 * v.std()) / 0.7, "scaled"),
        (lambda v: np.zeros_like(v), "constant"),
        (lambda v: np.where(v == v.max(), np.float32(np.nan), v), "nonfinite"),
        (lambda v: np.random.default_rng(9).standard_normal(v.shape), "unrelated"),
    ],
    ids=["float32", "f16", "f16 errors", "bf16", "bf16 errors", "255", "affine", "dead", "nan",
         "other"],
)  # fmt: skip
def test_what_every_waist_can_suffer_is_named(waists, change, kind):
    for spec, values in each(waists):
        found = diagnose(spec, np.asarray(change(values), np.float32), values)
        assert found.kind == kind, (spec.name, found)
        assert KINDS[kind] in found.text


def swapped(values: np.ndarray) -> np.ndarray:
    strongest = np.argsort(values.std(axis=(0, 2, 3)))[-2:]
    other = values.copy()
    other[:, strongest] = values[:, strongest[::-1]]
    return other


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (lambda v: v.transpose(0, 2, 3, 1).reshape(v.shape), "layout", "NHWC"),
        (lambda v: v.swapaxes(2, 3), "layout", "height and width"),
        (lambda v: v[..., ::-1], "moved", "mirroring"),
        (lambda v: v[:, :, ::-1], "moved", "upside down"),
        (lambda v: np.roll(v, 1, 3), "moved", "1 column"),
        (lambda v: np.roll(v, 1, 1), "channels", "in other places"),
        (swapped, "channels", "2 of"),
    ],
)
def test_what_images_can_suffer_is_named(waists, change, kind, says):
    for spec, values in each(waists, rank=4):
        found = diagnose(spec, np.ascontiguousarray(change(values)), values)
        assert found.kind == kind, (spec.name, found)
        assert says in found.seen


def test_another_frames_waist_is_no_other_layout(waists):
    for spec, (one, other) in waists.values():
        assert diagnose(spec, one, other).kind in {"unrelated", "different"}


def test_two_wrong_values_are_a_local_fault(waists):
    for spec, values in each(waists):
        if values.size < 100:
            continue
        other = values.copy()
        other.flat[[3, values.size // 2]] += 3 * values.std()
        assert diagnose(spec, other, values).kind == "local"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_alone_tell_less_exact_from_wrong(waists, bits):
    """Where the engine of the golden codes is not at hand."""
    for spec, values in each(waists, rank=4):
        less = as_bfloat16(noisy(values, 4e-3))
        mirrored = np.ascontiguousarray(values[..., ::-1])
        for made, expected in ((less, INEXACT), (mirrored, {"moved"}), (255 * values, {"scaled"})):
            check, found = from_codes(spec, f"affine:b={bits}|none", made, values)
            assert not check.failed or found.kind in expected, (spec.name, found)
        assert check.failed


def from_codes(spec, codec, made, expected):
    waist = WaistTensor(spec, codec)
    both = WaistCodec([waist])
    here, there = both.codes([made]), both.codes([expected])
    (check,) = compare_codes((waist,), here, there)
    (one,), (other,) = (taken_apart((waist,), codes) for codes in (here, there))
    found = diagnose(spec, one.values, other.values, step=step_size(other))
    return check, found


def test_bytes_read_with_the_other_sign_are_named():
    spec = TensorSpec("q", "int8", (1, 4, 8, 8), "NCHW", 1, 0.1, -20)
    q = np.random.default_rng(1).integers(-128, 128, spec.shape)
    real = 0.1 * (q + 20.0)
    wrong = 0.1 * ((q ^ -128) + 20.0)
    assert diagnose(spec, wrong, real).kind == "signedness"


def test_waist_tensors_in_another_order_are_named(waists):
    spec, (one, other) = waists[16]
    assert misordered([other, one], [one, other]) == [1, 0]
    assert misordered([one, other], [one, other]) is None
    assert misordered([one, one], [one, other]) is None
    assert spec.shape == one.shape


def test_a_permutation_is_found_through_dead_and_equal_channels():
    random = np.random.default_rng(2)
    there = random.standard_normal((12, 40))
    there[3] = 0.0
    there[7] = there[8]
    order = random.permutation(12)
    here = there[order]
    found = permutation(here, there)
    assert found is not None
    assert explained(here[found], there) == 1.0
    assert permutation(there, there) is None
    assert permutation(random.standard_normal((12, 40)), there) is None


@pytest.mark.parametrize(("count", "allowed"), [(1, 1), (26, 1), (999, 1), (2000, 2), (50176, 50)])
def test_small_waists_may_round_one_code_as_well(count, allowed):
    assert allowed_codes(count) == allowed


@pytest.mark.parametrize(("changed", "verdict"), [(1, "rounding"), (2, "quantization")])
def test_one_step_in_a_small_waist(changed, verdict):
    spec = TensorSpec("w", "float32", (100,))
    values = np.r_[0.0, 15.0, np.arange(98) % 13].astype(np.float32)
    other = values.copy()
    other[10 : 10 + changed] += 1
    check, _ = from_codes(spec, "affine:b=4|none", other, values)
    assert (check.verdict, check.allowed) == (verdict, "1 of 100 codes by 1")

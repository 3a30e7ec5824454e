"""The shipped example keeps its promises: layers an MCU can run, sizes, splits that do not leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fashion"
MCU_OPERATORS = {"Conv", "Relu", "Add", "GlobalAveragePool", "Flatten", "Gemm"}
MCU_FLASH_BYTES, MCU_RAM_BYTES = 256 << 10, 128 << 10
FIRMWARE_BYTES = 16 << 10


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(EXAMPLE / "model.onnx")


def sample(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(EXAMPLE / f"{name}.npz", allow_pickle=False) as file:
        return file["images"], file["labels"]


def test_model_is_small_checked_and_of_an_opset_that_old_engines_read(model):
    onnx.checker.check_model(model, full_check=True)
    assert (EXAMPLE / "model.onnx").stat().st_size <= 400_000
    assert model.opset_import[0].version <= 13


def test_names_are_sensible(model):
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["logits"]
    assert all([node.name] == list(node.output) for node in model.graph.node)


def test_every_head_fits_a_microcontroller_in_int8(model):
    assert {node.op_type for node in model.graph.node} <= MCU_OPERATORS
    weights = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    # int8 weights, int32 biases, a multiplier and a shift per bias; two blob slots.
    blob_bytes = sum(n * (12 if name.endswith("bias") else 1) for name, n in weights.items())
    assert FIRMWARE_BYTES + 2 * blob_bytes <= MCU_FLASH_BYTES
    assert largest_live_bytes(model, set(weights)) <= MCU_RAM_BYTES // 2


def largest_live_bytes(model: onnx.ModelProto, weights: set[str]) -> int:
    """Largest set of live tensors while one node runs, one byte an element."""
    graph = model.graph
    sizes = {
        value.name: int(np.prod([axis.dim_value for axis in value.type.tensor_type.shape.dim]))
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    last_reader = {name: index for index, node in enumerate(graph.node) for name in node.input}
    live, largest = {"image"}, 0
    for index, node in enumerate(graph.node):
        live |= set(node.output)
        largest = max(largest, sum(sizes[name] for name in live))
        live = {name for name in live if last_reader.get(name, index) > index}
        assert live.isdisjoint(weights)
    return largest


@pytest.mark.parametrize(
    ("name", "count"), [("calibration", 256), ("selection", 1000), ("report", 1000)]
)
def test_samples_are_balanced_images(name, count):
    images, labels = sample(name)
    assert (images.shape, images.dtype) == ((count, 28, 28, 1), np.uint8)
    assert np.ptp(np.bincount(labels, minlength=10)) <= 1


def test_samples_share_no_image():
    rows = np.concatenate([sample(name)[0] for name in ("calibration", "selection", "report")])
    assert len(np.unique(rows.reshape(len(rows), -1), axis=0)) == len(rows)

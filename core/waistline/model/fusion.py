"""Which tensors lie inside a group of layers that engines usually run as one kernel.

A cut there is correct but makes head + tail slower than the whole model, and changes the last bits
with optimisations on. The table is the common ground of ONNX Runtime, OpenVINO and TFLite; an
engine need not do all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from waistline.model.graph import Layer

_ACTIVATIONS = (
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Clip",
    "Sigmoid",
    "Tanh",
    "HardSigmoid",
    "HardSwish",
    "Elu",
)


def _table() -> frozenset[tuple[str, str]]:
    """(group so far, operator that joins it)."""
    pairs = {("MatMul", "Add"), ("Pad", "Conv"), ("Sigmoid", "Mul"), ("HardSigmoid", "Mul")}
    pairs |= {("Div", "Erf"), ("Mul", "Erf"), ("Erf", "Add"), ("Erf+Add", "Mul")}
    pairs |= {(f"{first}+Erf", "Add") for first in ("Div", "Mul")}
    pairs |= {(f"{first}+Erf+Add", "Mul") for first in ("Div", "Mul")}
    pairs |= {(f"{first}+Erf+Add+Mul", "Mul") for first in ("Div", "Mul")}
    producers = ["Gemm", "MatMul+Add"]
    for conv in ("Conv", "Pad+Conv", "ConvTranspose"):
        normed = f"{conv}+BatchNormalization"
        pairs |= {(conv, "BatchNormalization"), (conv, "Add"), (normed, "Add")}
        producers += [conv, normed, f"{conv}+Add", f"{normed}+Add"]
    pairs |= {(producer, act) for producer in producers for act in _ACTIVATIONS}
    return frozenset(pairs | _tflite_pairs())


def _tflite_pairs() -> set[tuple[str, str]]:
    """What XNNPACK's own pass joins; converters have folded most activations before.

    A PAD that is left alone is not even delegated (runtimes without it copy the tensor).
    """
    convs = ("CONV_2D", "DEPTHWISE_CONV_2D")
    pairs = {("PAD", conv) for conv in convs}
    producers = {*convs, *(f"PAD+{conv}" for conv in convs), "FULLY_CONNECTED", "ADD", "MUL"}
    acts = ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")
    return pairs | {(producer, act) for producer in producers for act in acts}


_FUSES = _table()


def broken_by_cutting(layers: Sequence[Layer], outputs: Iterable[str]) -> dict[str, str]:
    """Tensor name to the group a cut at it breaks, such as ``Conv+Relu``; others are left out.

    A tensor with several readers is materialised anyway, so no group runs through it. One pass.
    """
    readers = Counter(name for layer in layers for name in layer.inputs)
    readers.update(outputs)
    group: dict[str, str] = {}
    maker: dict[str, Layer] = {}
    broken: dict[str, str] = {}
    for layer in layers:
        joined = layer.operator
        for name in layer.inputs:
            if name not in maker or not _alone(name, layer, readers, maker[name]):
                continue
            if (group[name], layer.operator) in _FUSES:
                joined = f"{group[name]}+{layer.operator}"
                broken[name] = joined
                break
        broken.update(_int8_groups(layer, maker, readers))
        for name in layer.outputs:
            maker[name] = layer
            group[name] = joined
    return broken


def _alone(name: str, reader: Layer, readers: Counter[str], made_by: Layer) -> bool:
    if readers[name] != 1:
        return False
    if reader.operator == "Mul" and made_by.operator in {"Sigmoid", "HardSigmoid"}:
        return made_by.inputs[0] in reader.inputs  # x * sigmoid(x), not any gate
    return True


def _int8_groups(layer: Layer, maker: dict[str, Layer], readers: Counter[str]) -> dict[str, str]:
    """``DequantizeLinear -> operator -> QuantizeLinear`` runs as one int8 kernel."""
    found = {}
    for name in layer.inputs:
        made_by = maker.get(name)
        if made_by is None or readers[name] != 1:
            continue
        pair = (made_by.operator, layer.operator)
        if pair[1] == "QuantizeLinear":
            sources = [maker[source].operator for source in made_by.inputs if source in maker]
        else:
            sources = [made_by.operator]
        if "DequantizeLinear" in sources:
            found[name] = "+".join(pair)
    return found

"""Which numbers an operator of a .tflite file may name; needs no third-party package.

A tensor number of -1 means "left out". Only some inputs may be: kernels read all others without
asking, and LiteRT ends the process where one of them is -1.
Source: the operands that TensorFlow Lite's ``tfl_ops.td`` allows to be none, and its kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

ABSENT = -1

_LSTM = frozenset({1, 5, 9, 10, 11, 12, 16, 17, 20, 21, 22, 23})
"""Input gate, peepholes, projection, layer normalization."""
_BOTH_LSTM = frozenset(
    {1, 5, 9, 10, 11, 12, 16, 17, 18, 22, 26, 27, 28, 29, 33, 34, *range(39, 48)}
)
"""The same both ways, and the auxiliary input with its weights."""

OPTIONAL_INPUTS: dict[int, frozenset[int]] = {
    3: frozenset({2}),  # CONV_2D: bias
    4: frozenset({2}),  # DEPTHWISE_CONV_2D: bias
    9: frozenset({2}),  # FULLY_CONNECTED: bias
    16: _LSTM,  # LSTM
    27: frozenset({3}),  # SVDF: bias
    44: _LSTM,  # UNIDIRECTIONAL_SEQUENCE_LSTM
    46: frozenset({9, 10, 11}),  # BIDIRECTIONAL_SEQUENCE_RNN: auxiliary input and weights
    52: _BOTH_LSTM,  # BIDIRECTIONAL_SEQUENCE_LSTM
    67: frozenset({3}),  # TRANSPOSE_CONV: bias
    132: frozenset({2}),  # CONV_3D: bias
    141: frozenset({3}),  # CONV_3D_TRANSPOSE: bias
}
"""Places in the list of inputs that may be -1, by number of the operator in the schema."""

_FEWEST_INPUTS = {4: 3}
"""DEPTHWISE_CONV_2D reads its bias even where the list ends before it."""
_SAME_TYPE = frozenset({22, 43, 70})
"""RESHAPE, SQUEEZE and EXPAND_DIMS copy bytes, whatever the type of what they write."""
_PER_CHANNEL: dict[int, tuple[int, ...]] = {
    3: (1, 2), 4: (1, 2), 6: (0,), 7: (1,), 9: (1, 2), 67: (1, 3), 126: (0, 1), 132: (1, 2),
    141: (1, 3),
}  # fmt: skip
"""Where a scale per channel is understood: filters, biases, tables; DEQUANTIZE, BATCH_MATMUL."""


def number_problem(
    operator: int,
    inputs: Sequence[int],
    outputs: Sequence[int],
    intermediates: Sequence[int],
    tensors: int,
) -> str:
    """What is wrong with the tensors that an operator names, "" if nothing.

    Args:
        operator: its number in the schema.
        inputs: tensor numbers as the file has them.
        outputs: likewise.
        intermediates: likewise.
        tensors: how many the graph has.
    """
    optional = OPTIONAL_INPUTS.get(operator, frozenset())
    for place, number in enumerate(inputs):
        if number == ABSENT and place not in optional:
            return f"lacks input {place}, which it needs"
    if len(inputs) < _FEWEST_INPUTS.get(operator, 0):
        return f"has {len(inputs)} inputs and needs {_FEWEST_INPUTS[operator]}"
    given = [number for number in inputs if number != ABSENT]
    for number in (*given, *outputs, *intermediates):
        if not 0 <= number < tensors:
            return f"names tensor {number} of {tensors}"
    return ""


def kind_problem(
    operator: int, inputs: Sequence[int], outputs: Sequence[int], kinds: Sequence[tuple[int, bool]]
) -> str:
    """What is wrong with the elements of tensors that exist, "" if nothing.

    Kernels check most of it; this is what LiteRT 2.3 was seen to end the process for.

    Args:
        operator: its number in the schema.
        inputs: as `number_problem` found them sound.
        outputs: likewise.
        kinds: element type, and whether it has a scale for each channel, of every tensor.
    """
    for place, number in enumerate(inputs):
        if number != ABSENT and kinds[number][1] and place not in _PER_CHANNEL.get(operator, ()):
            return f"reads tensor {number}, which has a scale for each channel, as input {place}"
    if operator in _SAME_TYPE and len({kinds[n][0] for n in (*inputs[:1], *outputs)}) > 1:
        return "reads elements of one type and writes them as another"
    return ""

"""The firmware's kernels against tflite-micro: random layers of every kind, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
pytest.importorskip("flatbuffers", reason="needs flatbuffers")
from firmware_kernels import CC
from oracle_help import Micro, missing, python_with
from tflm_help import (
    KINDS,
    add,
    concat,
    conv,
    dense,
    depthwise,
    differing,
    mean,
    pad,
    pool,
)

OUTPUTS = 1_000_000
"""At least so many of convolutions, and of all other kinds together."""

pytestmark = [
    pytest.mark.skipif(CC is None, reason="needs a C compiler (cc)"),
    pytest.mark.skipif(not python_with("tflite_micro"), reason=missing("tflite_micro")),
]


@pytest.fixture(scope="module")
def oracle():
    with Micro() as opened:
        yield opened


@pytest.mark.parametrize("maker", KINDS)
def test_a_few_layers_of_each_kind(oracle, maker):
    compared, different, guilty = differing(oracle, np.random.default_rng(3), [maker], 20_000)
    assert not different, f"{different} of {compared}: {guilty}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "makers",
    [
        pytest.param([conv], id="conv"),
        pytest.param([depthwise], id="depthwise"),
        pytest.param([dense, pool, mean, add, pad, concat], id="others"),
    ],
)
def test_a_million_outputs(oracle, makers):
    compared, different, guilty = differing(oracle, np.random.default_rng(4), makers, OUTPUTS)
    print(f"{compared} outputs, {different} differ")
    assert compared >= OUTPUTS
    assert not different, f"{different} of {compared}: {guilty}"

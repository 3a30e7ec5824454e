"""The kernels as a Cortex-M carries them out, against those of this machine, in QEMU."""

from __future__ import annotations

import firmware_nets as nets
import numpy as np
import pytest
from firmware_kernels import CC

pytestmark = [
    pytest.mark.skipif(CC is None, reason="needs a C compiler (cc)"),
    pytest.mark.skipif(nets.GCC is None, reason="needs arm-none-eabi-gcc"),
    pytest.mark.skipif(nets.QEMU is None, reason="needs qemu-system-arm"),
]


def _random_net(seed: int) -> nets.Net:
    """Odd widths, odd channels, both ways to round, all remainders of the loops in assembly."""
    random = np.random.default_rng(seed)
    net = nets.Net((17, 15, 3), seed=seed)
    for _ in range(14):
        kernel = tuple(int(n) for n in random.choice([1, 1, 2, 3, 4], 2))
        small = net.shape[0] * net.shape[1] < 30
        kind = random.random()
        net.clamp = (-128, 127) if random.random() < 0.7 else (-90, 100)
        if kind < 0.45:
            net.conv(
                int(random.integers(1, 40)), kernel, 1 if small else int(random.integers(1, 3))
            )
        elif kind < 0.9:
            net.depthwise(1 if small else int(random.choice([1, 1, 2])))
        elif not small:
            net.pool(str(random.choice(["max_pool", "average_pool"])), (1, 2))
    net.dense(int(random.integers(1, 30)))
    return net


@pytest.mark.parametrize("core", nets.MACHINES)
def test_random_layers_give_the_same_bits(tmp_path, core):
    program = nets.build(tmp_path, core)
    codes = set()
    for seed in range(12):
        net = _random_net(seed)
        for layer, (_, found), wanted in zip(
            net.layers,
            nets.emulate(program, core, net, tmp_path),
            net.outputs("portable"),
            strict=True,
        ):
            assert np.array_equal(found, wanted), f"{seed}: {layer.name}, output {wanted.size}"
            codes |= set(wanted.tolist())
    assert len(codes) > 150


LIMITS = {"MobileNetV1-0.25 96x96": 16.0, "DS-CNN 49x10": 5.2, "Tiny-YOLO-like 96x96": 40.0}


@pytest.mark.parametrize("name", nets.NETS)
def test_networks_stay_within_their_instructions_on_m4(tmp_path, name):
    net = nets.NETS[name]()
    layers = nets.emulate(nets.build(tmp_path, "m4"), "m4", net, tmp_path, *nets.COUNTED)
    for (_, found), wanted in zip(layers, net.outputs("portable"), strict=True):
        assert np.array_equal(found, wanted)
    assert sum(count for count, _ in layers) / 1e6 < LIMITS[name]

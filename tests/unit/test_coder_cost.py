"""What coding costs a Cortex-M: the table, and its formula against counts in QEMU."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import pytest

from waistline.errors import ConfigError
from waistline_bridge import coder_cost
from waistline_bridge.boards import DEFAULT
from waistline_bridge.coder_cost import PROCESSORS, coding_cost, processor_of
from waistline_bridge.fit import all_limits

CORES = ("m3", "m4", "m33", "m55")
TOLERANCE = 0.1
"""Of the formula on tensors that it was not fitted on."""


def cost(core="m4", coder="ctx", bits=4, elements=1568, rows=98, sent_bytes=300):
    return coding_cost(core, coder, bits, elements=elements, rows=rows, sent_bytes=sent_bytes)


def test_the_table_has_every_coder_and_width_and_says_how_it_was_made():
    table = coder_cost.table()
    assert {(line.core, line.coder, line.bits, line.unit) for line in table.lines} == {
        (core, coder, bits, unit)
        for core in CORES
        for coder in ("none", "ctx")
        for bits in range(1, 9)
        for unit in ("instructions", "cycles")
    }
    assert len(table.lines) == len(CORES) * 2 * 8 * 2  # none twice
    assert "mcu_coder_table.py --write" in table.made_by
    assert "gcc" in table.compiler
    assert "QEMU" in table.emulator
    assert "-O2" in table.flags["SPEED"]
    assert "icount" in table.instructions
    assert "wait states" in table.cycles
    assert len(table.tensors) >= 10


def test_the_formula_grows_with_all_it_looks_at_and_fits_its_own_tensors():
    for line in coder_cost.table().lines:
        assert line.worst <= TOLERANCE
        assert min(line.fixed, line.element, line.root, line.row, line.byte) >= 0
        assert line.element > 1
        if line.coder == "none":
            assert (line.root, line.row, line.byte) == (0, 0, 0)


def test_a_tensor_that_the_context_coder_gives_up_costs_both_ways():
    packed = 1568 * 4 // 8
    plain = cost(coder="none", sent_bytes=packed)
    below, given_up = cost(sent_bytes=packed - 1), cost(sent_bytes=packed)
    assert given_up.instructions - below.instructions == pytest.approx(plain.instructions, rel=0.01)
    assert given_up.cycles > below.cycles + 0.9 * plain.cycles
    assert cost(sent_bytes=packed + 9) == given_up


def test_cycles_are_no_fewer_than_instructions_and_costs_add():
    for core in CORES:
        for bits in range(1, 9):
            one = cost(core, "ctx", bits)
            assert one.cycles > one.instructions > cost(core, "none", bits).instructions
    both = cost() + cost(coder="none")
    assert both.instructions == cost().instructions + cost(coder="none").instructions
    assert math.isfinite(both.cycles)


@pytest.mark.parametrize(
    "wrong", [{"bits": 0}, {"bits": 9}, {"coder": "zstd"}, {"core": "m7"}], ids=str
)
def test_what_the_firmware_does_not_have_has_no_cost(wrong):
    with pytest.raises(ConfigError, match="nothing is known about the cost"):
        cost(**wrong)


def test_processors_are_those_of_the_firmwares_boards():
    folder = Path(__file__).parents[2] / "firmware_bridge/firmware"
    makefile = (folder / "Makefile").read_text()
    boards = {path.parent.name for path in folder.glob("boards/*/board.ld")}
    assert {one.board for one in PROCESSORS} == boards
    assert boards <= {limits.board for limits in all_limits()}
    for one in PROCESSORS:
        cpu = re.search(rf"^CPU_{one.board} +:= (.*)$", makefile, re.MULTILINE)[1]
        if cpu.startswith("$("):
            cpu = re.search(rf"^{cpu[2:-1]} +:= (.*)$", makefile, re.MULTILINE)[1]
        assert f"-mcpu=cortex-{one.core}" in cpu.split()
        text = (folder / "boards" / one.board / "board.c").read_text()
        assert float(re.search(r"#define CLOCK_HZ (\d+)u", text)[1]) == one.clock_hz
    assert processor_of(DEFAULT).name == "Cortex-M4"


def test_an_unknown_board_is_refused_with_those_there_are():
    for name in ("host", "arduino-uno", ""):
        with pytest.raises(ConfigError, match="nothing is known about the processor") as caught:
            processor_of(name)
        assert "nucleo-f446re" in caught.value.cause


@pytest.fixture(scope="module")
def steps():
    pytest.importorskip("onnxruntime", reason="quantizes the example's head")
    import coder_steps

    found = coder_steps.example(1)
    tensors = [found[name] for name in coder_steps.OTHERS]
    flat = coder_steps.flattened(found["block4_dw_relu"], 1000)
    return [
        step for one in (*tensors, flat, coder_steps.noise()) for step in coder_steps.steps_of(one)
    ]


@pytest.mark.parametrize("core", CORES)
def test_tensors_that_were_not_fitted_cost_what_the_formula_says(tmp_path, steps, core):
    import coder_steps
    import firmware_nets as nets

    if nets.GCC is None or nets.QEMU is None:
        pytest.skip("needs arm-none-eabi-gcc and qemu-system-arm")
    program = nets.build(tmp_path, core)
    sizes = [step.room for step in steps]
    made = nets.run_image(program, core, coder_steps.image(steps), sizes, tmp_path, *nets.COUNTED)
    stored = 0
    for step, (count, out) in zip(steps, made, strict=True):
        (size,) = struct.unpack_from("<I", out)
        assert out[4 : 4 + size] == step.payload
        said = coding_cost(
            core, coder_steps.CODERS[step.coder], step.bits,
            elements=step.elements, rows=step.rows, sent_bytes=size,
        )  # fmt: skip
        error = said.instructions / count - 1
        assert abs(error) < TOLERANCE, (step.planes, step.bits, step.coder, error)
        stored += bool(step.coder) and size == step.packed
    assert stored >= 4

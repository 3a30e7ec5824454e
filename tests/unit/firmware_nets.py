"""Three networks with random weights, for the kernels on the host and on an emulated Cortex-M."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from firmware_kernels import ROOT, SOURCES, Conv, Dense, Depthwise, Pool, Weighted, library, simple

from waistline.blob import fixed, pack

GCC = shutil.which("arm-none-eabi-gcc")
QEMU = shutil.which("qemu-system-arm")
MACHINES = {"m4": ("mps2-an386", "cortex-m4"), "m3": ("mps2-an385", "cortex-m3")}
V8M = {"m33": ("mps2-an505", "cortex-m33"), "m55": ("mps3-an547", "cortex-m55")}
"""For steps without pointers: their nets lie elsewhere than `BASE`."""
CORES = MACHINES | V8M
PLACES = {
    "m33": (0x10000000, 0x38000000, 0x80000000),
    "m55": (0x00000000, 0x31000000, 0x60000000),
}
"""Where code, data and net lie, where it is not as kernels.ld has it."""
BASE = 0x21000000
KINDS = ["conv", "depthwise", "dense", "max_pool", "average_pool"]
CODE = 10
"""The kind of a step that codes a waist, in tests/firmware/kernels.c."""
IN_ZERO = -128
TICK_HZ = {"m4": 25e6, "m3": 25e6, "m33": 20e6, "m55": 32e6}
"""SysTick of these boards; -icount shift=5 makes an instruction `INSTRUCTION_S`."""
INSTRUCTION_S = 32e-9


@dataclass
class Layer:
    name: str
    kind: str
    macs: int
    parameters: ctypes.Structure
    out_size: int
    weighted: Weighted | None = None

    def run(self, path: str, x: np.ndarray) -> np.ndarray:
        if self.weighted is not None:
            return self.weighted.run(path, x)
        return simple(path, "pool", self.parameters, self.out_size, x, name=self.kind)

    @property
    def scratch(self) -> int:
        if self.weighted is None:
            return 0
        call = getattr(library("portable"), f"wl_{self.weighted.kind}_scratch_bytes")
        return int(call(ctypes.byref(self.parameters)))


@dataclass
class Net:
    """Layers one after the other; every output's codes spread over the type."""

    shape: tuple[int, int, int]
    layers: list[Layer] = field(default_factory=list)
    seed: int = 7
    clamp: tuple[int, int] = (-128, 127)
    """Of the layers with weights that follow; a narrower one takes the long way of rounding."""

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.input = self.random.integers(-128, 128, self.shape).astype(np.int8)

    def _records(self, weights: np.ndarray, *, even: bool) -> bytes:
        """Weights (out, ...). Inputs are taken as uniform over the type."""
        count, depth = weights.shape[0], weights[0].size
        span = 74 * 148 * np.sqrt(depth)
        factors = 40 / span * np.exp(self.random.uniform(-0.5, 0.5, count))
        pairs = [fixed.multiplier_of(float(f)) for f in factors]
        bias = pack.folded_bias(self.random.integers(-999, 999, count), weights, IN_ZERO)
        middle = 128 * weights.reshape(count, -1).sum(1)  # so that the mean of all is no bias
        return pack.pack_records(bias - middle, *np.array(pairs).T, even=even)

    def _same(self, kernel: tuple[int, int], stride: int) -> tuple[tuple[int, int], list[int]]:
        """TensorFlow's SAME: output rows and columns, padding before."""
        out = (-(-self.shape[0] // stride), -(-self.shape[1] // stride))
        pads = [max((out[k] - 1) * stride + kernel[k] - self.shape[k], 0) // 2 for k in range(2)]
        return out, pads

    def conv(self, channels: int, kernel: tuple[int, int] = (3, 3), stride: int = 1) -> None:
        (out, pads), c = self._same(kernel, stride), self.shape[2]
        weights = self.random.integers(-127, 128, (channels, *kernel, c))
        p = Conv(*self.shape, *out, channels, *kernel, stride, stride, *pads)
        p.in_zero, p.out_zero, p.act_min, p.act_max = IN_ZERO, IN_ZERO, *self.clamp
        size, macs = out[0] * out[1] * channels, out[0] * out[1] * weights.size
        packed, records = pack.pack_conv(weights), self._records(weights, even=True)
        word = "pw" if kernel == (1, 1) else f"conv {kernel[0]}x{kernel[1]} s{stride}"
        name = f"{word} {c}>{channels}"
        layer = Weighted("conv2d", p, packed, records, size)
        self.layers.append(Layer(name, "conv", macs, p, size, layer))
        self.shape = (*out, channels)

    def depthwise(self, stride: int = 1) -> None:
        (out, pads), c = self._same((3, 3), stride), self.shape[2]
        weights = self.random.integers(-127, 128, (3, 3, c))
        p = Depthwise(*self.shape, *out, 1, 3, 3, stride, stride, *pads)
        p.in_zero, p.out_zero, p.act_min, p.act_max = IN_ZERO, IN_ZERO, *self.clamp
        size = out[0] * out[1] * c
        records = self._records(weights.transpose(2, 0, 1), even=False)
        layer = Weighted("depthwise", p, pack.pack_depthwise(weights), records, size)
        self.layers.append(Layer(f"dw 3x3 s{stride} {c}", "depthwise", 9 * size, p, size, layer))
        self.shape = (*out, c)

    def pool(self, kind: str, kernel: tuple[int, int]) -> None:
        h, w, c = self.shape
        out = (h // kernel[0], w // kernel[1])
        p = Pool(h, w, c, *out, *kernel, *kernel, 0, 0, -128, 127)
        size = out[0] * out[1] * c
        macs = size * kernel[0] * kernel[1]
        self.layers.append(Layer(f"{kind.replace('_', ' ')} {c}", kind, macs, p, size))
        self.shape = (*out, c)

    def dense(self, units: int) -> None:
        inputs = int(np.prod(self.shape))
        weights = self.random.integers(-127, 128, (units, inputs))
        p = Dense(inputs, units, IN_ZERO, *self.clamp)
        packed, records = pack.pack_conv(weights), self._records(weights, even=True)
        layer = Weighted("dense", p, packed, records, units)
        self.layers.append(Layer(f"fc {inputs}>{units}", "dense", weights.size, p, units, layer))
        self.shape = (1, 1, units)

    def outputs(self, path: str) -> Iterator[np.ndarray]:
        x = self.input
        for layer in self.layers:
            x = layer.run(path, x)
            yield x


def mobilenet(layers: int | None = None) -> Net:
    """MobileNetV1-0.25, 96 x 96 x 3, 2 classes (Howard et al., arXiv:1704.04861)."""
    net = Net((96, 96, 3))
    net.conv(8, stride=2)
    plan = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2)]
    for channels, stride in [*plan, (256, 1)]:
        net.depthwise(stride)
        net.conv(channels, (1, 1))
    net.pool("average_pool", net.shape[:2])
    net.dense(2)
    del net.layers[layers or len(net.layers) :]
    return net


def ds_cnn() -> Net:
    """Keyword spotting, 49 x 10, 64 channels, 12 classes (Zhang et al., arXiv:1711.07128)."""
    net = Net((49, 10, 1))
    net.conv(64, (10, 4), 2)
    for _ in range(4):
        net.depthwise()
        net.conv(64, (1, 1))
    net.pool("average_pool", net.shape[:2])
    net.dense(12)
    return net


def tiny_yolo() -> Net:
    """The first three convolutions of a Tiny-YOLO, each with a pool; 96 x 96 x 3."""
    net = Net((96, 96, 3))
    for channels in (16, 32, 64):
        net.conv(channels)
        net.pool("max_pool", (2, 2))
    return net


NETS = {
    "MobileNetV1-0.25 96x96": mobilenet,
    "DS-CNN 49x10": ds_cnn,
    "Tiny-YOLO-like 96x96": tiny_yolo,
}


def _parameters(layer: Layer, weights: int, records: int) -> bytes:
    """The structure as a 32-bit machine lays it out; pointers are addresses."""
    p, raw = layer.parameters, bytearray(layer.parameters)
    if layer.weighted is None:
        return bytes(raw)
    end = -(-(type(p).act_max.offset + 1) // 4) * 4
    return bytes(raw[:end]) + struct.pack("<2I", weights, records)


def image(net: Net) -> bytes:
    """What `tests/firmware/kernels.c` reads; the tensors lie behind, the input is part of it."""
    data = bytearray(4 + 28 * len(net.layers))

    def put(content: bytes) -> int:
        data.extend(bytes(-len(data) % 8))
        data.extend(content)
        return len(data) - len(content)

    steps = []
    for layer in net.layers:
        where = (
            [put(layer.weighted.weights), put(layer.weighted.records)] if layer.weighted else [0, 0]
        )
        steps.append(put(_parameters(layer, BASE + where[0], BASE + where[1])))
    source = put(net.input.tobytes())
    at = -(-len(data) // 8) * 8
    struct.pack_into("<I", data, 0, len(net.layers))
    for number, layer in enumerate(net.layers):
        scratch = at + -(-layer.out_size // 8) * 8
        numbers = (KINDS.index(layer.kind), steps[number], source, 0, at, layer.out_size, scratch)
        struct.pack_into("<7I", data, 4 + 28 * number, *numbers)
        source, at = at, scratch + -(-layer.scratch // 8) * 8
    return bytes(data)


def make_variable(name: str) -> list[str]:
    """What the firmware's Makefile builds with."""
    command = ["make", "-s", "-C", str(SOURCES[0].parents[1]), f"print-{name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def build(folder: Path, core: str) -> Path:
    """The measuring firmware for a core of CORES; its kernels as the boards have them."""
    assert GCC is not None
    target = folder / f"kernels-{core}.elf"
    here = ROOT / "tests/firmware"
    machine = [GCC, f"-mcpu={CORES[core][1]}", "-mthumb", f"-I{SOURCES[0].parent}"]
    machine += ["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-ffunction-sections"]
    machine += ["-DWAIST_SMALL", "-ffp-contract=off", f"-I{ROOT / 'core/c'}"]
    places = PLACES.get(core)
    machine += [f"-DNET_AT={places[2]:#x}u"] if places else []
    fast = {Path(path).name for path in make_variable("FAST")}
    codec = [Path(path) for path in make_variable("SOURCES") if Path(path).name.startswith("waist")]
    sources = [*SOURCES, SOURCES[0].with_name("wl_frame.c"), *codec]
    kinds = {
        "SPEED": [path for path in sources if path.name in fast],
        "SIZE": [path for path in sources if path.name not in fast] + [here / "kernels.c"],
    }
    objects = []
    for kind, files in kinds.items():
        within = folder / f"{core}-{kind}"
        within.mkdir(exist_ok=True)
        _run([*machine, *make_variable(kind), "-c", *map(str, files)], within)
        objects += [str(within / f"{path.stem}.o") for path in files]
    link = ["-nostdlib", "-Wl,--gc-sections", "-T", str(here / "kernels.ld"), *objects, "-lgcc"]
    if places:
        link += [f"-Wl,--defsym=F_AT={places[0]:#x}", f"-Wl,--defsym=R_AT={places[1]:#x}"]
    _run([*machine, *link, "-o", str(target)], folder)
    return target


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def emulate(program: Path, core: str, net: Net, folder: Path, *options: str) -> list[tuple]:
    """(instructions, output) of each layer, and the traces `options` ask for."""
    sizes = [layer.out_size for layer in net.layers]
    found = run_image(program, core, image(net), sizes, folder, *options)
    return [(count, np.frombuffer(out, np.int8)) for count, out in found]


def run_image(
    program: Path, core: str, net: bytes, sizes: list[int], folder: Path, *options: str
) -> list[tuple[float, bytes]]:
    """(instructions, output) of each step of an image; ``sizes``: bytes of the outputs."""
    assert QEMU is not None
    (folder / "net.bin").write_bytes(net)
    command = [QEMU, "-M", CORES[core][0], "-kernel", str(program), "-display", "none"]
    command += ["-monitor", "none", "-serial", "none", "-nodefaults", *options]
    command += ["-semihosting-config", "enable=on,target=native"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    found, data = [], (folder / "out.bin").read_bytes()
    for size in sizes:
        (ticks,) = struct.unpack_from("<I", data)
        count = ticks / TICK_HZ[core] / INSTRUCTION_S
        found.append((count, data[4 : 4 + size]))
        data = data[4 + size :]
    return found


COUNTED = ("-icount", "shift=5,sleep=off")

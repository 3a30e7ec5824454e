"""The firmware's kernels against NumPy: every kind, shape, clamp and shift, both paths."""

from __future__ import annotations

import subprocess
from ctypes import byref
from pathlib import Path

import numpy as np
import pytest
from firmware_kernels import (
    CC,
    PATHS,
    SOURCES,
    STRICT,
    Add,
    Area,
    Concat,
    Conv,
    Dense,
    Depthwise,
    Mean,
    Pad,
    Pool,
    Weighted,
    library,
    records_of,
    simple,
)

from waistline.blob import fixed, pack

pytestmark = pytest.mark.skipif(CC is None, reason="needs a C compiler (cc)")
both = pytest.mark.parametrize("path", PATHS)


def _window(x, y, out, kernel, stride, pad, value):
    """Elements (rows, columns, channels) of one window; `value` outside."""
    rows = np.arange(kernel[0]) + y * stride[0] - pad[0]
    columns = np.arange(kernel[1]) + out * stride[1] - pad[1]
    picked = np.full((*kernel, x.shape[2]), value, np.int64)
    inside = np.ix_((rows >= 0) & (rows < x.shape[0]), (columns >= 0) & (columns < x.shape[1]))
    real = np.ix_(
        rows[(rows >= 0) & (rows < x.shape[0])],
        columns[(columns >= 0) & (columns < x.shape[1])],
    )
    picked[inside] = x[real]
    counted = np.zeros(kernel, bool)
    counted[inside] = True
    return picked, counted


def _windows(x, shape, kernel, stride, pad, value=0):
    """(out_h, out_w, rows, columns, channels), and which are in the input."""
    both = [
        [_window(x, y, c, kernel, stride, pad, value) for c in range(shape[1])]
        for y in range(shape[0])
    ]
    return (
        np.array([[picked for picked, _ in row] for row in both]),
        np.array([[counted for _, counted in row] for row in both]),
    )


def _finish(acc, multipliers, shifts, zero, low, high):
    return np.clip(fixed.scaled(acc, multipliers, shifts) + zero, low, high).astype(np.int8)


def _scales(random, count, span, *, short):
    """Multipliers and shifts that spread sums of +-span over the type, more or less."""
    factor = 90 / span * np.exp(random.uniform(-1.5, 1.0, count))
    if not short:  # factors of 1 and more, which shift to the left, and tiny ones
        factor = np.where(random.random(count) < 0.3, random.uniform(0.5, 6, count), factor)
        factor = np.where(random.random(count) < 0.1, factor * 2.0**-20, factor)
    pairs = [fixed.multiplier_of(float(f)) for f in factor]
    return (np.array(v, np.int64) for v in zip(*pairs, strict=True))


def _clamp(random, kind):
    if kind == 0:
        return -128, 127
    low = int(random.integers(-128, 60))
    return (low, 127) if kind == 1 else (low, int(random.integers(low, 128)))


def _geometry(random, size, pool=False):
    """Kernel, stride, padding and output along one direction."""
    kernel = int(random.integers(1, min(6, size + 2)))
    stride = int(random.integers(1, 4))
    pad = int(random.integers(0, kernel))
    most = (size + pad - 1) // stride + 1
    return kernel, stride, pad, int(random.integers(1, most + 1))


def _conv(random, **fixed_sizes):
    """A random layer, its input, and what must come out."""
    short = bool(random.integers(2))
    in_h, in_w = (int(v) for v in random.integers(1, 12, 2))
    in_c = int(random.choice([1, 2, 3, 4, 5, 8, 12, 16, 20, 35]))
    out_c = int(random.choice([1, 2, 3, 4, 7, 8, 16, 17]))
    (kh, sh, top, out_h), (kw, sw, left, out_w) = (_geometry(random, n) for n in (in_h, in_w))
    given = {"kh": kh, "kw": kw, "sh": sh, "sw": sw, "top": top, "left": left}
    if fixed_sizes:
        in_h, in_w, in_c, out_c = fixed_sizes["sizes"]
        given |= fixed_sizes["given"]
        kh, kw, sh, sw, top, left = given.values()
        out_h, out_w = -(-in_h // sh), -(-in_w // sw)
    depth = kh * kw * in_c
    weights = random.integers(-128, 128, (out_c, kh, kw, in_c))
    bias = random.integers(-(1 << 12), 1 << 12, out_c)
    span = 74 * 74 * np.sqrt(depth)
    multipliers, shifts = _scales(random, out_c, span, short=short)
    in_zero, out_zero = (int(v) for v in random.integers(-128, 128, 2))
    low, high = _clamp(random, int(random.integers(3)) if not short else int(random.random() < 0.2))
    x = random.integers(-128, 128, (in_h, in_w, in_c))
    p = Conv(in_h, in_w, in_c, out_h, out_w, out_c, kh, kw, sh, sw, top, left)
    p.in_zero, p.out_zero, p.act_min, p.act_max = in_zero, out_zero, low, high
    records = pack.pack_records(
        pack.folded_bias(bias, weights, in_zero), multipliers, shifts, even=True
    )
    layer = Weighted("conv2d", p, pack.pack_conv(weights), records, out_h * out_w * out_c)
    seen, _ = _windows(x, (out_h, out_w), (kh, kw), (sh, sw), (top, left), in_zero)
    acc = (seen.reshape(out_h * out_w, depth) - in_zero) @ weights.reshape(out_c, depth).T + bias
    return layer, x, _finish(acc, multipliers, shifts, out_zero, low, high).ravel()


def _depthwise(random, **fixed_sizes):
    short = bool(random.integers(2))
    in_h, in_w = (int(v) for v in random.integers(1, 14, 2))
    in_c, multiplier = int(random.integers(1, 14)), int(random.choice([1, 1, 1, 2, 3]))
    (kh, sh, top, out_h), (kw, sw, left, out_w) = (_geometry(random, n) for n in (in_h, in_w))
    if random.random() < 0.5 or fixed_sizes:
        kh = kw = 3
        top, left = (int(v) for v in random.integers(0, 3, 2))
        sh, sw = (int(v) for v in random.integers(1, 3, 2))
        out_h, out_w = (in_h + top - 1) // sh + 1, (in_w + left - 1) // sw + 1
    if fixed_sizes:
        (in_h, in_w, in_c), sh, top, multiplier = *fixed_sizes["sizes"], 1
        sw, left = sh, top
        out_h, out_w = -(-in_h // sh), -(-in_w // sw)
    channels = in_c * multiplier
    weights = random.integers(-128, 128, (kh, kw, channels))
    bias = random.integers(-(1 << 12), 1 << 12, channels)
    multipliers, shifts = _scales(random, channels, 74 * 74 * np.sqrt(kh * kw), short=short)
    in_zero, out_zero = (int(v) for v in random.integers(-128, 128, 2))
    low, high = _clamp(random, int(random.integers(3)) if not short else int(random.random() < 0.2))
    x = random.integers(-128, 128, (in_h, in_w, in_c))
    p = Depthwise(in_h, in_w, in_c, out_h, out_w, multiplier, kh, kw, sh, sw, top, left)
    p.in_zero, p.out_zero, p.act_min, p.act_max = in_zero, out_zero, low, high
    folded = pack.folded_bias(bias, weights.transpose(2, 0, 1), in_zero)
    records = pack.pack_records(folded, multipliers, shifts, even=False)
    layer = Weighted(
        "depthwise", p, pack.pack_depthwise(weights), records, out_h * out_w * channels
    )
    seen, _ = _windows(x, (out_h, out_w), (kh, kw), (sh, sw), (top, left), in_zero)
    acc = (np.repeat(seen - in_zero, multiplier, -1) * weights).sum((2, 3)) + bias
    return layer, x, _finish(acc, multipliers, shifts, out_zero, low, high).ravel()


def _dense(random, **_):
    short = bool(random.integers(2))
    inputs, outputs = int(random.integers(1, 300)), int(random.integers(1, 40))
    weights = random.integers(-128, 128, (outputs, inputs))
    bias = random.integers(-(1 << 12), 1 << 12, outputs)
    multipliers, shifts = _scales(random, outputs, 74 * 74 * np.sqrt(inputs), short=short)
    in_zero, out_zero = (int(v) for v in random.integers(-128, 128, 2))
    low, high = _clamp(random, int(random.integers(3)) if not short else 0)
    x = random.integers(-128, 128, inputs)
    p = Dense(inputs, outputs, out_zero, low, high)
    records = pack.pack_records(
        pack.folded_bias(bias, weights, in_zero), multipliers, shifts, even=True
    )
    layer = Weighted("dense", p, pack.pack_conv(weights), records, outputs)
    acc = weights @ (x - in_zero) + bias
    return layer, x, _finish(acc, multipliers, shifts, out_zero, low, high)


@both
@pytest.mark.parametrize("make", [_conv, _depthwise, _dense])
def test_random_layers_with_weights(path, make):
    random = np.random.default_rng(41)
    codes = set()
    for number in range(120):
        layer, x, wanted = make(random)
        found = layer.run(path, x, skew=number % 4)
        assert np.array_equal(found, wanted), f"{number}: {found.size} outputs of {layer.kind}"
        codes |= set(wanted.tolist())
    assert len(codes) > 150


SHAPES = [
    ((20, 20, 3, 8), {"kh": 3, "kw": 3, "sh": 2, "sw": 2, "top": 0, "left": 0}),
    ((25, 5, 1, 16), {"kh": 10, "kw": 4, "sh": 2, "sw": 2, "top": 4, "left": 1}),
    ((9, 7, 64, 65), {"kh": 1, "kw": 1, "sh": 1, "sw": 1, "top": 0, "left": 0}),
    ((7, 6, 32, 30), {"kh": 3, "kw": 3, "sh": 1, "sw": 1, "top": 1, "left": 1}),
    ((5, 5, 260, 9), {"kh": 1, "kw": 1, "sh": 2, "sw": 2, "top": 0, "left": 0}),
]


@both
@pytest.mark.parametrize(("sizes", "given"), SHAPES)
def test_convolutions_of_real_networks(path, sizes, given):
    layer, x, wanted = _conv(np.random.default_rng(5), sizes=sizes, given=given)
    assert np.array_equal(layer.run(path, x), wanted)


@both
@pytest.mark.parametrize(
    "sizes", [((48, 48, 8), 1, 1), ((25, 5, 64), 1, 1), ((12, 12, 33), 2, 0), ((3, 3, 16), 1, 1)]
)
def test_depthwise_layers_of_real_networks(path, sizes):
    for seed in range(2):
        layer, x, wanted = _depthwise(np.random.default_rng(seed), sizes=sizes)
        assert np.array_equal(layer.run(path, x), wanted)


def _pool(random):
    in_h, in_w = (int(v) for v in random.integers(1, 12, 2))
    in_c = int(random.integers(1, 21))
    (kh, sh, top, out_h), (kw, sw, left, out_w) = (_geometry(random, n) for n in (in_h, in_w))
    low, high = _clamp(random, int(random.integers(3)))
    x = random.integers(-128, 128, (in_h, in_w, in_c))
    p = Pool(in_h, in_w, in_c, out_h, out_w, kh, kw, sh, sw, top, left, low, high)
    return p, x, _windows(x, (out_h, out_w), (kh, kw), (sh, sw), (top, left))


@both
def test_pools(path):
    random = np.random.default_rng(43)
    for _ in range(120):
        p, x, (seen, counted) = _pool(random)
        size = p.out_h * p.out_w * p.in_c
        mask = counted[..., None]
        best = np.where(mask, seen, -128).max((2, 3))
        wanted = np.clip(best, p.act_min, p.act_max).ravel()
        assert np.array_equal(simple(path, "pool", p, size, x, name="max_pool"), wanted)
        count = np.broadcast_to(mask, seen.shape).sum((2, 3))
        total = np.where(mask, seen, 0).sum((2, 3))
        mean = np.sign(total) * ((abs(total) + count // 2) // count)
        wanted = np.clip(mean, p.act_min, p.act_max).ravel()
        assert np.array_equal(simple(path, "pool", p, size, x, name="average_pool"), wanted)


@both
def test_means(path):
    random = np.random.default_rng(44)
    for _ in range(100):
        pixels, channels = (int(v) for v in random.integers(1, 70, 2))
        zero, out_zero = (int(v) for v in random.integers(-128, 128, 2))
        low, high = _clamp(random, int(random.integers(3)))
        multiplier, shift = fixed.multiplier_of(float(random.uniform(0.2, 3)) / pixels)
        x = random.integers(-128, 128, (pixels, channels))
        records = records_of(-zero * pixels, multiplier, shift)
        p = Mean(pixels, channels, out_zero, low, high, records)
        acc = x.sum(0) - zero * pixels
        wanted = _finish(acc, np.int64(multiplier), np.int64(shift), out_zero, low, high)
        assert np.array_equal(simple(path, "mean", p, channels, x), wanted)


@both
def test_additions(path):
    random = np.random.default_rng(45)
    for _ in range(100):
        count = int(random.integers(1, 500))
        scales = np.exp(random.uniform(-3, 0, 3))
        twice = 2 * max(scales[:2])
        factors = [scales[0] / twice, scales[1] / twice, twice / (2**20 * scales[2])]
        multipliers, shifts = zip(*(fixed.multiplier_of(float(f)) for f in factors), strict=True)
        zeros = [int(v) for v in random.integers(-128, 128, 3)]
        low, high = _clamp(random, int(random.integers(3)))
        first, second = random.integers(-128, 128, (2, count))
        p = Add(count, low, high, records_of(zeros, multipliers, shifts))
        terms = [
            fixed.scaled((x - zeros[k]) << 20, np.int64(multipliers[k]), np.int64(shifts[k]))
            for k, x in enumerate((first, second))
        ]
        wanted = _finish(
            terms[0] + terms[1],
            np.int64(multipliers[2]),
            np.int64(shifts[2]),
            zeros[2],
            low,
            high,
        )
        assert np.array_equal(simple(path, "add", p, count, first, second), wanted)


@both
def test_padding(path):
    random = np.random.default_rng(46)
    for _ in range(60):
        sizes, before, after = random.integers(1, 9, 3), *random.integers(0, 4, (2, 3))
        x = random.integers(-128, 128, sizes)
        value = int(random.integers(-128, 128))
        wanted = np.pad(x, list(zip(before, after, strict=True)), constant_values=value)
        numbers = [int(v) for v in (*x.shape, *wanted.shape, *before)]
        found = simple(path, "pad", Pad(*numbers, value), wanted.size, x)
        assert np.array_equal(found, wanted.ravel())


@both
def test_concatenation_touches_its_own_channels_only(path):
    random = np.random.default_rng(47)
    for _ in range(30):
        pixels = int(random.integers(1, 30))
        parts = [
            random.integers(-128, 128, (pixels, int(c))).astype(np.int8)
            for c in random.integers(1, 12, 3)
        ]
        whole = np.concatenate(parts, 1)
        out, offset = Area(whole.size, 3), 0
        for part in parts:
            into = Area(part.size, 1)
            into.bytes[:] = part.view(np.uint8).ravel()
            p = Concat(pixels, part.shape[1], whole.shape[1], offset)
            assert library(path).wl_concat_valid(byref(p)) == 1
            library(path).wl_concat(byref(p), into.address, out.address)
            offset += part.shape[1]
        out.check()
        assert np.array_equal(out.bytes.view(np.int8), whole.ravel())
        p = Concat(pixels, parts[0].shape[1], whole.shape[1], whole.shape[1])
        assert library(path).wl_concat_valid(byref(p)) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"in_c": 0},
        {"out_h": 0},
        {"out_w": 5},  # its last window would lie outside
        {"stride_h": 0},
        {"kernel_w": 0},
        {"pad_left": 3},  # as wide as the kernel
        {"in_c": 5000},  # more products than a sum holds
        {"act_min": 5, "act_max": 4},
    ],
)
def test_what_cannot_run_is_not_valid(change):
    p = Conv(4, 4, 8, 4, 4, 8, 3, 3, 1, 1, 1, 1, 0, 0, -128, 127)
    nn = library("portable")
    assert nn.wl_conv2d_valid(byref(p)) == 1
    for name, value in change.items():
        setattr(p, name, value)
    if change == {"out_w": 5}:
        p.pad_left = 0
    assert nn.wl_conv2d_valid(byref(p)) == 0


@pytest.mark.parametrize("path", PATHS)
def test_undefined_behaviour_under_sanitizers(path, tmp_path):
    """The same layers in a process of its own, with the sanitizers' libraries loaded first."""
    program = tmp_path / "edges"
    source = Path(__file__).with_name("firmware_kernels_edges.c")
    flags = [*STRICT, *PATHS[path], "-g", "-O1", "-fsanitize=address,undefined"]
    flags += ["-fno-sanitize-recover=all", f"-I{SOURCES[0].parent}"]
    command = [CC, *flags, *map(str, SOURCES), str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "cannot find" in done.stderr and "san" in done.stderr:
        pytest.skip("the compiler has no sanitizer libraries")
    assert done.returncode == 0, done.stderr
    done = subprocess.run([program, "3000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 1000

"""The C sources against the golden vectors, as firmware and the sanitizers compile them."""

from __future__ import annotations

import base64
import shutil
import struct
import subprocess
from pathlib import Path

import codec_golden
import pytest

from waistline.codec.spec import parse_spec

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "core/c").glob("*.c"))
KINDS = {"affine": 0, "q1": 1, "q1h": 2, "q2": 3, "q2m": 4, "i8": 5}
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
SANITIZE = [
    "-O1",
    "-g",
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
]
CC = shutil.which("cc")

pytestmark = pytest.mark.skipif(CC is None, reason="needs a C compiler (cc)")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "codec.bin"
    with path.open("wb") as file:
        for case, array, waist in codec_golden.cases():
            spec = parse_spec(waist.codec)
            if spec.quantizer in KINDS and not (spec.quantizer == "i8" and spec.bits == 8):
                file.write(_record(case, array, waist, spec))
    return path


def _record(case, array, waist, spec):
    outer, channels, inner = codec_golden.grid_shape(waist)
    codes = base64.b64decode(case["codes"])
    kind = KINDS[spec.quantizer]
    count = {True: 2 * channels, False: 2}[kind < 3] if kind < 5 else 0
    ranges = codes[: 4 * count] if spec.has_frame_ranges else b""
    packed = codes[len(ranges) :]
    if case["ranges"] and kind < 5:
        ranges = b"".join(base64.b64decode(case["ranges"][end]) for end in ("lo", "hi"))
    head = (kind, spec.bits, bool(case["ranges"]), outer, channels, inner, count)
    tables = b"".join(base64.b64decode(case.get(name, "")) for name in ("table", "inverse"))
    decoded = base64.b64decode(case["decoded"])
    return struct.pack("<7I", *head) + array.tobytes() + ranges + packed + decoded + tables


def _build(tmp_path, *flags):
    program = tmp_path / "vectors"
    source = Path(__file__).with_name("codec_vectors.c")
    command = [CC, *STRICT, *flags, f"-I{ROOT / 'core/c'}", *SOURCES, source, "-o", program]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if "cannot find" in done.stderr and "san" in done.stderr:
        pytest.skip("the compiler has no sanitizer libraries")
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["-O3"], id="wheel"),
        pytest.param([*SANITIZE], id="sanitized"),
        pytest.param(
            [*SANITIZE, "-DWAIST_BLOCK=64", "-DWAIST_LITTLE_ENDIAN=0"], id="blocks-portable"
        ),
        pytest.param([*SANITIZE, "-DWAIST_SMALL"], id="small"),
    ],
)
def test_golden_vectors(records, tmp_path, flags):
    program = _build(tmp_path, *flags)
    done = subprocess.run([program, records], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 400


def test_sources_are_freestanding(tmp_path):
    """No header but those every compiler has, no call into a library."""
    objects = []
    for source in SOURCES:
        target = tmp_path / f"{source.stem}.o"
        subprocess.run(
            [CC, *STRICT, "-O2", "-ffreestanding", "-c", source, "-o", target], check=True
        )
        objects.append(target)
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm (binutils)")
    whole = subprocess.run([nm, *objects], capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-2:] for line in whole.splitlines() if line.split()[1:]]
    defined = {name for kind, name in symbols if kind in "TtRrBbDd"}
    undefined = {name for kind, name in symbols if kind == "U"}
    # These four a compiler may call by itself, freestanding or not; every firmware has them.
    compiler = {
        "memcpy",
        "memset",
        "memmove",
        "memcmp",
        "__stack_chk_fail",
        "_GLOBAL_OFFSET_TABLE_",
    }
    assert undefined <= defined | compiler
    assert not {name for kind, name in symbols if kind in "BbDd"}, "writable static data"


def test_records_cover_every_kind_and_width(records):
    heads = set()
    for _, _, waist in codec_golden.cases():
        spec = parse_spec(waist.codec)
        heads.add((spec.quantizer, spec.bits, spec.per))
    for bits in range(1, 9):
        assert {(rule, bits, "tensor") for rule in ("affine", "q1", "q1h", "i8")} <= heads
        assert ("affine", bits, "channel") in heads

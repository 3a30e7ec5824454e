"""The context coder in C, as firmware and the sanitizers compile it, on honest and hostile data."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from pathlib import Path

import pytest
from test_c_codec import CC, ROOT, SANITIZE, SOURCES, STRICT

VECTORS = Path(__file__).parents[1] / "vectors" / "codec_ctx.json"

pytestmark = pytest.mark.skipif(CC is None, reason="needs a C compiler (cc)")


def _record(case):
    packed, stream = (base64.b64decode(case[name]) for name in ("packed", "stream"))
    sizes = (*case["planes"], case["bits"], len(packed), len(stream))
    return struct.pack("<7I", *sizes) + packed + stream


@pytest.mark.parametrize(
    "flags", [pytest.param(["-O3"], id="wheel"), pytest.param(SANITIZE, id="sanitized")]
)
def test_streams_of_the_vectors_and_hostile_ones(tmp_path, flags):
    program, records = tmp_path / "streams", tmp_path / "records"
    source = Path(__file__).with_name("ctx_streams.c")
    command = [CC, *STRICT, *flags, f"-I{ROOT / 'core/c'}", *SOURCES, source, "-o", program]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if "cannot find" in done.stderr and "san" in done.stderr:
        pytest.skip("the compiler has no sanitizer libraries")
    assert done.returncode == 0, done.stderr
    cases = json.loads(VECTORS.read_text())["cases"]
    records.write_bytes(b"".join(_record(case) for case in cases))
    done = subprocess.run([program, records], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{len(cases)} records")

"""Which codecs a study tries: quantizers, widths and coders that fit the waist."""

from __future__ import annotations

import pytest

from waistline.codec.spec import parse_spec
from waistline.errors import ConfigError
from waistline.tensors import TensorSpec
from waistline_hostctl import study_grid

FLOAT = TensorSpec("b", "float32", (1, 4, 8, 8), "NCHW", 1)


def test_the_default_grid_is_every_quantizer_at_every_width():
    found = study_grid.grid([FLOAT], at_frame=False, calibrated=True)
    names = {(item.spec.quantizer, item.spec.bits) for item in found}
    for bits in range(1, 9):
        assert {("affine", bits), ("q1", bits), ("q1h", bits)} <= names
        limits = {(item.spec.clip, item.spec.per) for item in found
                  if item.spec.quantizer == "affine" and item.spec.bits == bits}  # fmt: skip
        clips = (None, "minmax", "mse", "p99.9")
        assert limits == {(clip, per) for clip in clips for per in ("tensor", "channel")}
    assert {("q2", 1), ("q2m", 1), ("f16", None), ("f32", None)} <= names
    for item in found:
        assert {"none", "deflate", "zstd:1", "zstd:3"} <= set(item.lossless)
        assert ("ctx" in item.lossless) == (item.spec.bits is not None)
        assert not item.lossy or item.spec.bits == 8
        assert all(str(parse_spec(codec)) == codec for codec in item.codecs())
    assert any(item.lossy for item in found)


def test_the_grid_of_other_waists():
    q = TensorSpec("q", "int8", (1, 8, 8, 4), "NHWC", 3)
    found = study_grid.grid([q], at_frame=False, calibrated=True)
    assert {item.spec.quantizer for item in found} == {"i8"}
    assert {item.spec.bits for item in found} == set(range(1, 9))
    assert [item.quantizer for item in found if item.spec.bits == 8] == ["i8:b=8"]
    number = TensorSpec("n", "int64", (3,))
    (only,) = study_grid.grid([number], at_frame=False, calibrated=True)
    assert (only.quantizer, only.lossy) == ("raw", ())
    assert "ctx" not in only.lossless
    frame = TensorSpec("frame", "uint8", (8, 8, 1), "any", 2)
    (only,) = study_grid.grid([frame], at_frame=True, calibrated=False)
    assert {"png", "webp", "ctx"} <= set(only.lossless)
    assert {"jpeg:75", "webp:75"} <= set(only.lossy)
    flat = TensorSpec("v", "float32", (1, 100), "NC")
    found = study_grid.grid([flat], at_frame=False, calibrated=True)
    assert not any("channel" in item.quantizer for item in found)
    found = study_grid.grid([FLOAT], at_frame=False, calibrated=False)
    assert not any(item.spec.clip for item in found)


def test_filters_thin_the_grid_out_or_add_to_it():
    def codecs(**filters):
        found = study_grid.grid([FLOAT], at_frame=False, calibrated=True, **filters)
        return {codec for item in found for codec in item.codecs()}

    assert codecs(quantizers=["q2"], coders=["ctx"]) == {"q2|ctx"}
    assert codecs(quantizers=["affine:b=3,clip=p99"], coders=["zstd:7"]) == {
        "affine:b=3,clip=p99|zstd:7"
    }
    assert codecs(quantizers=["q1:b=8"], coders=["jpeg"]) == {
        f"q1:b=8|jpeg:{quality}" for quality in (50, 75, 90, 95)
    }
    assert codecs(quantizers=["q1"], coders=["jpeg:33"]) == {"q1:b=8|jpeg:33"}


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"quantizers": ["q9"]}, "q9"),
        ({"coders": ["brotli"]}, "no codec is left"),
        ({"quantizers": ["q2"], "coders": ["jpeg"]}, "no codec is left"),
        ({"quantizers": ["affine:b=9"]}, "1 to 8"),
    ],
)
def test_filters_that_leave_nothing_are_refused(filters, says):
    with pytest.raises(ConfigError, match=says):
        study_grid.grid([FLOAT], at_frame=False, calibrated=True, **filters)

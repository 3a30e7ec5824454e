from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from waistline.errors import CodecError, ConfigError
from waistline.task.preprocess import Geometry, apply, check_preprocess, input_shape
from waistline.task.spec import Preprocess

RANDOM = np.random.default_rng(3)
COLOR = RANDOM.integers(0, 256, (30, 50, 3), np.uint8)
GRAY = RANDOM.integers(0, 256, (30, 50, 1), np.uint8)


def test_scale_then_mean_and_std_then_layout():
    spec = Preprocess((30, 50, 3), (30, 50), scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2))
    got = apply(spec, COLOR)
    expected = (COLOR / 255 - [0.1, 0.2, 0.3]) / [0.5, 1, 2]
    assert got.dtype == np.float32
    assert got.shape == input_shape(spec) == (1, 3, 30, 50)
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got[0], expected.transpose(2, 0, 1), atol=1e-6)


def test_nhwc_keeps_channels_last():
    spec = Preprocess((30, 50, 3), (30, 50), scale=1.0, layout="NHWC")
    np.testing.assert_array_equal(apply(spec, COLOR)[0], COLOR)


def test_gray_is_pillows_luma():
    spec = Preprocess((30, 50, 3), (30, 50), color="gray", scale=1.0)
    expected = np.asarray(Image.fromarray(COLOR).convert("L"))
    np.testing.assert_array_equal(apply(spec, COLOR)[0, 0], expected)


def test_rgb_repeats_grey():
    spec = Preprocess((30, 50, 1), (30, 50), color="rgb", scale=1.0)
    got = apply(spec, GRAY)
    assert got.shape == (1, 3, 30, 50)
    for channel in got[0]:
        np.testing.assert_array_equal(channel, GRAY[:, :, 0])


@pytest.mark.parametrize("frame", [COLOR, GRAY])
def test_stretch_is_pillows_bilinear(frame):
    spec = Preprocess(frame.shape, (12, 16), resize="stretch", scale=1.0, layout="NHWC")
    image = Image.fromarray(frame.squeeze()).resize((16, 12), Image.Resampling.BILINEAR)
    expected = np.asarray(image).reshape(12, 16, -1)
    np.testing.assert_array_equal(apply(spec, frame)[0], expected)


def test_letterbox_centres_and_pads():
    spec = Preprocess((30, 50, 3), (20, 20), resize="letterbox", scale=1.0, layout="NHWC")
    got = apply(spec, COLOR)[0]
    image = np.asarray(Image.fromarray(COLOR).resize((20, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(got[4:16], image)
    assert (got[:4] == 114).all()
    assert (got[16:] == 114).all()


sides = st.integers(1, 900)


@given(frame=st.tuples(sides, sides), size=st.tuples(sides, sides))
def test_letterbox_geometry_maps_the_frames_corners_onto_themselves(frame, size):
    spec = Preprocess((*frame, 3), size, resize="letterbox")
    where = Geometry.of(spec)
    assert where.left >= 0
    assert where.top >= 0
    assert where.left + where.width <= size[1]
    assert where.top + where.height <= size[0]
    assert where.width == size[1] or where.height == size[0]
    inside = [where.left, where.top, where.left + where.width, where.top + where.height]
    corners = where.to_frame(np.array([inside], float))
    np.testing.assert_allclose(corners, [[0, 0, frame[1], frame[0]]], rtol=1e-12)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((30, 51, 3), np.uint8),
        np.zeros((30, 50), np.uint8),
        np.zeros((30, 50, 4), np.uint8),
        np.zeros((30, 50, 3), np.float32),
    ],
)
def test_a_frame_of_another_size_or_mode_is_refused(frame):
    with pytest.raises(CodecError) as caught:
        apply(Preprocess((30, 50, 3), (30, 50)), frame)
    assert str(frame.shape) in caught.value.cause
    assert caught.value.fix


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"frame_shape": (8, 8, 2)}, "frame_shape"),
        ({"frame_shape": (0, 8, 3)}, "frame_shape"),
        ({"frame_shape": (1 << 20, 1 << 20, 3)}, "too large"),
        ({"size": (1 << 20, 1 << 20), "resize": "stretch"}, "too large"),
        ({"size": (9, 8)}, "resize = none"),
        ({"size": (0, 8), "resize": "stretch"}, "empty"),
        ({"mean": (0.0, 0.0)}, "mean"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": 1e300}, "scale"),
        ({"mean": (-1e39,)}, "mean"),
        ({"std": (1e-50,)}, "std holds 0"),
        ({"pad_value": 256}, "pad_value"),
    ],
)
def test_preprocessing_that_cannot_be_computed_is_refused(change, fact):
    given_values = {"frame_shape": (8, 8, 3), "size": (8, 8), **change}
    with pytest.raises(ConfigError, match=fact):
        check_preprocess(Preprocess(**given_values))


def test_pillow_is_not_imported_when_nothing_is_resized():
    code = (
        "import sys, numpy as np\n"
        "from waistline.task.preprocess import apply\n"
        "from waistline.task.spec import Preprocess\n"
        "apply(Preprocess((8, 8, 3), (8, 8), color='gray'), np.zeros((8, 8, 3), np.uint8))\n"
        "sys.exit(int('PIL' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

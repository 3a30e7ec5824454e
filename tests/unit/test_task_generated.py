"""Data that a function of the task's own makes from seeds, and the loading of such functions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from waistline.errors import ConfigError
from waistline.task.boxes import Boxes
from waistline.task.data import generated
from waistline.task.data.base import DataContext
from waistline.task.entry import load_entry
from waistline.tensors import TensorSpec

SHAPE = (4, 6, 3)
MAKER = """
import numpy as np
from beside_the_maker import LEVEL

def frame(seed, shape):
    return np.full(shape, LEVEL + seed, np.uint8), seed % 3

def bare(seed, shape):
    return np.zeros(shape, np.uint8), None

def boxed(seed, shape):
    return np.zeros(shape, np.uint8), (np.array([[0, 1, 2, 3]]) * seed, np.array([1]))

def small(seed, shape):
    return np.zeros((2, 2, 3), np.uint8), 0

def unboxed(seed, shape):
    return np.zeros(shape, np.uint8), (np.zeros((2, 4)), np.zeros(1, int), 5)

CANVAS = np.zeros((4, 6, 4), np.uint8)
CORNERS = np.zeros((1, 4))

def reused(seed, shape):
    CANVAS[...] = seed
    CORNERS[...] = seed
    return CANVAS[..., :3], (CORNERS, np.array([1]))

def counted(seed, shape):
    return np.zeros(shape, np.uint8), np.int64(seed)

def fails(seed, shape):
    raise KeyError("flour")

number = 5
"""


@pytest.fixture
def maker(tmp_path) -> Path:
    (tmp_path / "maker.py").write_text(MAKER)
    (tmp_path / "beside_the_maker.py").write_text("LEVEL = 100\n")
    yield tmp_path
    sys.modules.pop("beside_the_maker", None)


def open_data(folder: Path, function: str = "frame", **options):
    given = {"source": f"maker.py:{function}", "seed": 7, "count": 3, **options}
    return generated.open_data(given, DataContext(folder, "[data.test]", SHAPE))


def test_frames_count_their_seeds_up_and_may_be_made_again(maker):
    data = open_data(maker)
    assert (len(data), data.labelled) == (3, True)
    for _ in range(2):
        frames = list(data)
        assert [frame.arrays[0].max() for frame in frames] == [107, 108, 109]
        assert [frame.label for frame in frames] == [1, 2, 0]
        assert [frame.name for frame in frames] == ["seed 7", "seed 8", "seed 9"]
        assert [frame.index for frame in frames] == [0, 1, 2]


def test_labels_may_be_boxes_or_missing(maker):
    label = next(iter(open_data(maker, "boxed"))).label
    assert isinstance(label, Boxes)
    np.testing.assert_array_equal(label.corners, [[0, 7, 14, 21]])
    assert not open_data(maker, "bare").labelled


def test_a_label_may_be_a_number_of_numpy(maker):
    labels = [frame.label for frame in open_data(maker, "counted")]
    assert labels == [7, 8, 9]
    assert all(type(label) is int for label in labels)


def test_a_function_may_use_its_arrays_again(maker):
    frames = list(open_data(maker, "reused"))
    assert [frame.arrays[0].max() for frame in frames] == [7, 8, 9]
    assert [frame.label.corners.max() for frame in frames] == [7, 8, 9]


@pytest.mark.parametrize(
    ("function", "cause"),
    [("small", r"\(2, 2, 3\)"), ("unboxed", "unpack"), ("fails", "flour")],
)
def test_frames_that_cannot_be_used_are_refused_before_any_is_asked_for(maker, function, cause):
    with pytest.raises(ConfigError, match=r"gives no frame") as caught:
        open_data(maker, function)
    assert caught.match("seed 7")
    assert caught.match(cause)


@pytest.mark.parametrize("options", [{"count": 0}, {"seed": -1}, {"source": "maker.py"}])
def test_options_that_name_no_frames_are_refused(maker, options):
    with pytest.raises(ConfigError, match=r"\[data.test\]"):
        open_data(maker, **options)


def test_frames_must_be_images(maker):
    context = DataContext(maker, inputs=(TensorSpec("x", "float32", (1, 2)),))
    with pytest.raises(ConfigError, match="preprocess"):
        generated.open_data({"source": "maker.py:frame", "count": 1}, context)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("none.py:frame", "no such Python file"),
        ("maker.py:flour", "no function 'flour'"),
        ("maker.py:number", "no function 'number'"),
    ],
)
def test_entries_that_are_not_there_are_named(maker, text, cause):
    with pytest.raises(ConfigError, match=cause):
        load_entry(text, maker, "source")


def test_a_file_that_does_not_import_says_why_and_leaves_the_path_alone(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    before = list(sys.path)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        load_entry("broken.py:frame", tmp_path, "metric")
    assert sys.path == before
    assert not any("_broken_" in name for name in sys.modules)


def test_frames_within_the_room_are_made_once_and_cannot_be_changed(maker, monkeypatch):
    monkeypatch.setattr(generated, "KEPT_BYTES", 3 * 4 * 6 * 3)
    data = open_data(maker, count=5)
    first, again = list(data), list(data)
    kept = [one is other for one, other in zip(first, again, strict=True)]
    assert kept == [True, True, True, False, False]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.arrays[0], other.arrays[0])
    with pytest.raises(ValueError, match="read-only"):
        first[0].arrays[0][0] = 1

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_models import write_task

from waistline.errors import ConfigError
from waistline.task.kinds.classify import Ranking
from waistline.task.load import load_task

GOOD = """
kind = "classify"
[preprocess]
frame_shape = [8, 8, 1]
size = [8, 8]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "task.toml"
    path.write_text(text)
    return path


def test_a_whole_task_file(tmp_path):
    task = load_task(write_task(tmp_path, frames=5))
    assert task.kind == "classify"
    assert task.preprocess is not None
    assert task.preprocess.frame_shape == (8, 8, 1)
    assert task.answer.options["top_k"] == 2
    data = task.data("calibration")
    assert len(data) == 5
    assert data.labelled
    frames = list(data)
    assert [frame.index for frame in frames] == list(range(5))
    assert frames[0].arrays[0].shape == (8, 8, 1)
    right = [(Ranking((frame.label,), (1.0,)), frame.label) for frame in frames]
    figure = task.open_metric().score(right)
    assert (figure.value, figure.unit, figure.n) == (1.0, "1", 5)


def test_agreement_is_the_metric_where_none_is_named(tmp_path):
    task = load_task(write(tmp_path, GOOD))
    assert task.metric == "agreement"
    assert not task.open_metric().needs_labels


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("colour = 1" + GOOD, "colour"),
        (GOOD + "blur = 3", "blur"),
        (GOOD + "[answer]\ntop = 3", "top"),
        (GOOD + "[data.training]\nkind = 'npz'", "training"),
        (GOOD + "[answer]\ntop_k = 'three'", "top_k"),
        (GOOD.replace("[8, 8]", "[9, 8]"), "resize"),
        (GOOD.replace("classify", "clasify"), "clasify"),
        ("kind = ", "Invalid value"),
        ("kind = " + "[" * 5000, "recursion"),
        ("kind = 'classify' #" + " " * (1 << 20), "over 1048576 bytes"),
        ("[preprocess]\nframe_shape=[8,8,1]\nsize=[8,8]", "kind"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, fact):
    with pytest.raises(ConfigError) as caught:
        load_task(write(tmp_path, text))
    assert fact in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (GOOD + "[answer]\ntop = 3", "task.toml [answer]: "),
        (GOOD + "[answer]\ntop_k = 0", "task.toml [answer]: "),
        ("kind = 'detect'\n[answer]\nclasses = []\nheads = []", "task.toml [answer]: "),
        (GOOD.replace("[8, 8]", "[9, 8]"), "task.toml [preprocess]: "),
        (GOOD.replace("classify", "clasify"), "task.toml, kind: "),
    ],
)
def test_what_a_module_refuses_is_said_with_file_and_section(tmp_path, text, place):
    with pytest.raises(ConfigError) as caught:
        load_task(write(tmp_path, text))
    assert caught.value.what.startswith(str(tmp_path / place))
    assert caught.value.lines()[2].startswith("fix:")


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_task(tmp_path / "none.toml")
    (tmp_path / "task.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be used"):
        load_task(tmp_path / "task.toml")


def test_missing_data_says_what_the_task_has(tmp_path):
    task = load_task(write_task(tmp_path))
    assert not task.has_data("report")
    with pytest.raises(ConfigError, match="calibration, selection") as caught:
        task.data("report")
    assert "[data.report]" in caught.value.fix


@pytest.mark.parametrize(
    ("table", "fact"),
    [
        ("path = 'x.npz'", "no kind"),
        ("kind = 'npz'", "path"),
        ("kind = 'npz'\npath = 'x.npz'\nshuffle = true", "shuffle"),
        ("kind = 'npz'\npath = 'x.npz'", "x.npz"),
        ("kind = 'tarball'\npath = 'x.tar'", "tarball"),
    ],
)
def test_data_that_cannot_be_opened(tmp_path, table, fact):
    task = load_task(write(tmp_path, f"{GOOD}[data.test]\n{table}"))
    with pytest.raises(ConfigError, match=fact):
        task.data("test")


def test_a_metric_of_ones_own_is_a_function_beside_the_task_file(tmp_path):
    (tmp_path / "score.py").write_text(
        "def distance(answer, label):\n    return abs(answer.classes[0] - label)\n"
    )
    task = load_task(write(tmp_path, "metric = 'score.py:distance'" + GOOD))
    pairs = [(Ranking((3,), (1.0,)), 1), (Ranking((1,), (1.0,)), 1)]
    figure = task.open_metric().score(pairs)
    assert figure.value == 1.0
    assert figure.standard_uncertainty == pytest.approx(np.std([2, 0], ddof=1) / np.sqrt(2))


def test_a_metric_of_ones_own_may_hold_a_dataclass(tmp_path):
    (tmp_path / "score.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Weight:\n    value: float = 0.5\n"
        "def weighted(answer, label):\n    return Weight().value\n"
    )
    task = load_task(write(tmp_path, "metric = 'score.py:weighted'" + GOOD))
    assert task.open_metric().score([(Ranking((3,), (1.0,)), 1)]).value == 0.5


@pytest.mark.parametrize(
    ("code", "fact"), [("def f(:", "SyntaxError"), ("import no_such_thing", "no_such_thing")]
)
def test_a_metric_of_ones_own_that_does_not_load(tmp_path, code, fact):
    (tmp_path / "score.py").write_text(code)
    task = load_task(write(tmp_path, "metric = 'score.py:f'" + GOOD))
    with pytest.raises(ConfigError, match=fact):
        task.open_metric()


def test_a_metric_of_ones_own_that_gives_no_number(tmp_path):
    (tmp_path / "score.py").write_text("def f(answer, label):\n    return float('nan')\n")
    task = load_task(write(tmp_path, "metric = 'score.py:f'" + GOOD))
    with pytest.raises(ConfigError, match="gave NaN"):
        task.open_metric().score([(Ranking((3,), (1.0,)), 1)])


@pytest.mark.parametrize("metric", ["none.py:distance", "score.py:missing", "best1", "map50"])
def test_a_metric_that_is_not_there_or_does_not_fit(tmp_path, metric):
    (tmp_path / "score.py").write_text("")
    task = load_task(write(tmp_path, f"metric = '{metric}'" + GOOD))
    with pytest.raises(ConfigError):
        task.open_metric()

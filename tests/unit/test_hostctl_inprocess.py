"""What is computed beside the stream: the uncut answers and other code widths."""

import pytest
from PIL import Image
from small_models import write_classifier, write_task

from waistline.backends.base import BackendOptions
from waistline.backends.onnxruntime import open_backend
from waistline.bundle.cuts import FRAME_CODECS
from waistline.bundle.store import Bundle
from waistline.errors import ConfigError
from waistline.split import split
from waistline.stages import open_ends
from waistline.task.load import Task, load_task
from waistline_hostctl.inprocess import BITS, describe_frames, frames_of, look_at, study_bits
from waistline_hostctl.raw import FLOAT_BITS, StudyRow
from waistline_hostctl.run_link import settings_of

ENGINE = "onnxruntime"


@pytest.fixture
def task(tmp_path) -> Task:
    return load_task(write_task(tmp_path))


@pytest.fixture
def bundle(tmp_path, task) -> Bundle:
    return split(write_classifier(tmp_path), "b", tmp_path / "b.bundle", task=task)


def test_class_folders_get_their_numbers_and_a_remark(tmp_path) -> None:
    path = write_task(tmp_path)
    lines = [line for line in path.read_text().splitlines() if "classes" not in line]
    path.write_text("\n".join(lines))
    bundle = split(write_classifier(tmp_path), "b", tmp_path / "b.bundle", task=path)
    for name in ("cat", "ant"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    for name in ("cat/1.png", "ant/1.png", "ant/2.png"):
        Image.new("L", (8, 8)).save(tmp_path / "pictures" / name)
    source = str(tmp_path / "pictures")
    (remark,) = look_at(bundle, source)
    assert "ant = 0, cat = 1" in remark
    found = list(describe_frames(bundle, frames_of(bundle, source, None), backend=ENGINE))
    labels = [row.input.label for row in found]
    assert labels == ["0", "0", "1"]
    settings = settings_of(bundle, labels, "", [])
    assert settings.metric == "top1"
    with pytest.raises(ConfigError):
        look_at(bundle, str(tmp_path / "nowhere"))


def study(bundle: Bundle, calibration, frames) -> dict[tuple[int, int], StudyRow]:
    rows = study_bits(bundle, calibration, frames, backend=ENGINE, limit=3)
    return {(row.bits, row.index): row for row in rows}


def test_the_width_of_the_bundle_codes_as_the_bundle_does(bundle, task) -> None:
    found = study(bundle, task.data("calibration"), task.data("selection"))
    assert set(found) == {(bits, index) for bits in (*BITS, FLOAT_BITS) for index in range(3)}
    with open_ends(open_backend(BackendOptions()), bundle) as (head, tail):
        for index, frame in zip(range(3), task.data("selection"), strict=False):
            sent = head.encode(head.head(head.preprocess(frame)))
            decoded = tail.decode(sent.payload, sent.raw_len)
            row = found[4, index]
            assert row.payload_bytes == len(sent.payload)
            assert row.answer == tail.postprocess(tail.tail(tail.preprocess(decoded)))
            assert row.label == str(frame.label)
            assert found[FLOAT_BITS, index].payload_bytes == 4 * 8 * 8 * 4


def test_each_width_has_limits_of_its_own(bundle, task) -> None:
    """The limits of least squared error at 2 bits are not those at 8."""
    found = study(bundle, task.data("calibration"), task.data("selection"))
    sizes = [found[bits, 0].payload_bytes for bits in BITS]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] < found[FLOAT_BITS, 0].payload_bytes


def test_without_calibration_data_each_frame_gives_its_own_limits(bundle, task) -> None:
    found = study(bundle, None, task.data("selection"))
    assert {row.answer for row in found.values()} - {b""}
    assert len(found) == 3 * (len(BITS) + 1)


@pytest.mark.parametrize("cut", [0, 1, 4, 7])
def test_both_ends_joined_without_a_codec_answer_as_the_uncut_model(tmp_path, task, cut) -> None:
    model = write_classifier(tmp_path)
    bundle = split(model, cut, tmp_path / "x.bundle", task=task)

    def rows(model):
        frames = frames_of(bundle, str(tmp_path / "selection.npz"), 4)
        found = describe_frames(bundle, frames, backend=ENGINE, model=model)
        return list(found)

    joined, whole = rows(None), rows(model)
    kind = bundle.answer_kind
    assert [row.input.index for row in joined] == [0, 1, 2, 3]
    for one, other in zip(joined, whole, strict=True):
        answers = [kind.unpack(row.input.answer) for row in (one, other)]
        assert kind.agrees(*answers) == 1.0
        sizes = {row.codec: row.payload_bytes for row in one.pictures}
        assert sizes == {row.codec: row.payload_bytes for row in other.pictures}
        assert list(sizes) == list(FRAME_CODECS)
        assert sizes["raw|none"] >= 64
        lossless = [row for row in one.pictures if row.codec in {"raw|none", "png"}]
        assert {row.answer for row in lossless} == {one.input.answer}


def test_only_the_first_frames_are_coded_as_pictures(tmp_path, bundle, task) -> None:
    frames = frames_of(bundle, str(tmp_path / "selection.npz"), 4)
    found = list(describe_frames(bundle, frames, backend=ENGINE, pictured=2))
    assert [len(row.pictures) > 0 for row in found] == [True, True, False, False]

import zipfile

import numpy as np
import pytest
from PIL import Image

from waistline.errors import ConfigError
from waistline.task.data.base import DataContext
from waistline.task.data.folder import open_data
from waistline.tensors import TensorSpec
from waistline_node.sources.base import SourceOptions, UnreadableFrame, open_source

GREY = SourceOptions((TensorSpec("frame", "uint8", (4, 6, 1)),), image=True)
COLOUR = SourceOptions((TensorSpec("frame", "uint8", (4, 6, 3)),), image=True)
PAIR = SourceOptions(
    (TensorSpec("a", "float32", (1, 2, 3)), TensorSpec("b", "int64", (1, 5))), image=False
)
SINGLE = SourceOptions((TensorSpec("x", "float32", (1, 2)),), image=False)


def frames(source):
    found = []
    while (frame := source.read()) is not None:
        found.append(frame)
    source.close()
    return found


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def picture(path, size=(6, 4), mode="L", value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)


def test_npz_images_and_labels(tmp_path):
    images = np.arange(3 * 24, dtype=np.uint8).reshape(3, 4, 6)
    text = save(tmp_path / "a.npz", images=images, labels=np.array([2, 0, 1]), more=np.zeros(9))
    found = frames(open_source(text, GREY))
    assert [frame.index for frame in found] == [0, 1, 2]
    assert [frame.label for frame in found] == [2, 0, 1]
    assert found[1].name == "a.npz[1]"
    np.testing.assert_array_equal(found[1].arrays[0], images[1][..., np.newaxis])
    assert not open_source(text, GREY).live


def test_npz_without_the_key_takes_the_first_array(tmp_path):
    images = np.zeros((2, 4, 6, 3), np.uint8)
    text = save(tmp_path / "a.npz", pictures=images, labels=np.array([1, 2]))
    assert len(frames(open_source(text, COLOUR))) == 2


def test_npz_model_inputs_by_name(tmp_path):
    a = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3)
    b = np.arange(20, dtype=np.int64).reshape(4, 5)
    found = frames(open_source(save(tmp_path / "a.npz", b=b, a=a), PAIR))
    assert [array.shape for array in found[3].arrays] == [(1, 2, 3), (1, 5)]
    np.testing.assert_array_equal(found[3].arrays[0], a[3])
    np.testing.assert_array_equal(found[3].arrays[1][0], b[3])


def test_npz_single_input_under_any_name(tmp_path):
    text = save(tmp_path / "a.npz", data=np.zeros((7, 2), np.float32))
    assert len(frames(open_source(text, SINGLE))) == 7


@pytest.mark.parametrize(
    ("options", "arrays", "words"),
    [
        (GREY, {"images": np.zeros((2, 4, 7), np.uint8)}, ["(2, 4, 7)", "uint8 (N, 4, 6, 1)"]),
        (GREY, {"images": np.zeros((2, 4, 6), np.float32)}, ["float32"]),
        (GREY, {"images": np.zeros((2, 4, 6, 3), np.uint8)}, ["(2, 4, 6, 3)"]),
        (GREY, {"images": np.zeros((0, 4, 6), np.uint8)}, ["no frame"]),
        (GREY, {"images": np.zeros((2, 4, 6), np.uint8), "labels": np.zeros(3)}, ["labels (3,)"]),
        (
            GREY,
            {"images": np.zeros((2, 4, 6), np.uint8), "labels": np.zeros((2, 2))},
            ["labels (2, 2)"],
        ),
        (GREY, {"images": np.array(7, np.uint8)}, ["()"]),
        (GREY, {"labels": np.zeros(3)}, ["no array 'images'"]),
        (PAIR, {"a": np.zeros((1, 1, 2, 3), np.float32)}, ["no array 'b'"]),
        (
            PAIR,
            {"a": np.zeros((1, 1, 2, 3), np.float32), "b": np.zeros((2, 5), np.int64)},
            ["a (1, 1, 2, 3)", "b (2, 1, 5)"],
        ),
    ],
)
def test_npz_that_does_not_fit_is_refused_before_the_stream(tmp_path, options, arrays, words):
    with pytest.raises(ConfigError) as caught:
        open_source(save(tmp_path / "a.npz", **arrays), options)
    text = "\n".join(caught.value.lines())
    assert all(word in text for word in words), text


def test_npz_that_is_hostile_is_refused(tmp_path):
    objects = tmp_path / "objects.npz"
    np.savez(objects, images=np.array([{"a": 1}, None], dtype=object))
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"PK\x03\x04" + bytes(200))
    huge = tmp_path / "huge.npz"
    header = b"\x93NUMPY\x01\x00v\x00" + (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 4, 6), }".ljust(117)
        + b"\n"
    )
    with zipfile.ZipFile(huge, "w") as archive:
        archive.writestr("images.npy", header)
    for path in (objects, damaged, huge):
        with pytest.raises(ConfigError):
            open_source(str(path), GREY)


def test_count_and_loop(tmp_path):
    text = save(tmp_path / "a.npz", images=np.zeros((3, 4, 6), np.uint8), labels=np.arange(3))

    def labels(**more):
        options = SourceOptions(GREY.frame, True, **more)
        return [frame.label for frame in frames(open_source(text, options))]

    assert labels(count=2) == [0, 1]
    assert labels(count=9) == [0, 1, 2]
    assert labels(count=5, loop=True) == [0, 1, 2, 0, 1]
    endless = open_source(text, SourceOptions(GREY.frame, True, loop=True))
    assert endless.total is None
    assert [endless.read().index for _ in range(4)] == [0, 1, 2, 3]


def test_folder_in_the_order_of_names_with_subfolders_as_labels(tmp_path):
    picture(tmp_path / "b.png", value=2)
    picture(tmp_path / "a.JPG", value=1)
    picture(tmp_path / "cats" / "z.jpeg", value=3)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    found = frames(open_source(str(tmp_path), GREY))
    assert [(f.name, f.label) for f in found] == [
        ("a.JPG", None), ("b.png", None), ("cats/z.jpeg", "cats"),
    ]  # fmt: skip
    assert found[1].arrays[0].shape == (4, 6, 1)
    assert int(found[1].arrays[0][0, 0, 0]) == 2


def test_class_folders_are_numbered_as_in_the_data_of_a_task(tmp_path):
    for name in ("boot/1.png", "bag/1.png", "bag/2.png"):
        picture(tmp_path / name)

    def opened(classes):
        source = open_source(str(tmp_path), SourceOptions(GREY.frame, True, classes=classes))
        return [frame.label for frame in frames(source)], source.remarks

    for classes, numbers in ((), [0, 0, 1]), (("coat", "boot", "bag"), [2, 2, 1]):
        labels, remarks = opened(classes)
        context = DataContext(tmp_path, frame_shape=(4, 6, 1), classes=classes)
        assert labels == numbers == [f.label for f in open_data({"path": "."}, context)]
        assert remarks == () if classes else "bag = 0, boot = 1" in remarks[0]
    labels, remarks = opened(("boot", "coat"))
    assert labels == ["bag", "bag", 0]
    assert "'bag' is no class" in remarks[0]
    assert opened(None) == (["bag", "bag", "boot"], ())


def test_folder_of_colour_images(tmp_path):
    picture(tmp_path / "a.png", mode="RGB")
    (frame,) = frames(open_source(str(tmp_path), COLOUR))
    assert frame.arrays[0].shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("size", "mode", "word"), [((6, 5), "L", "6x5"), ((6, 4), "RGB", "RGB")], ids=["size", "mode"]
)
def test_folder_whose_first_image_does_not_fit_is_refused(tmp_path, size, mode, word):
    picture(tmp_path / "a.png", size, mode)
    with pytest.raises(ConfigError) as caught:
        open_source(str(tmp_path), GREY)
    assert word in caught.value.cause
    assert "a.png" in caught.value.what


def test_a_bad_image_in_the_middle_is_one_bad_frame(tmp_path):
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    picture(tmp_path / "b.png", (9, 9))
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    source = open_source(str(tmp_path), GREY)
    assert source.read().name == "a.png"
    for index, name in ((1, "b.png"), (2, "c.png")):
        with pytest.raises(UnreadableFrame) as caught:
            source.read()
        assert (caught.value.index, caught.value.name) == (index, name)
        assert caught.value.cause
    assert source.read().index == 3
    assert source.read() is None


def test_an_image_removed_after_the_start_is_one_bad_frame(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    source = open_source(str(tmp_path), GREY)
    (tmp_path / "a.png").unlink()
    with pytest.raises(UnreadableFrame, match=r"a\.png"):
        source.read()
    assert source.read().name == "b.png"


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(ConfigError) as caught:
        open_source(str(tmp_path), GREY)
    assert "holds no image" in caught.value.what
    assert ".png" in caught.value.cause


def test_a_folder_needs_a_task(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(ConfigError) as caught:
        open_source(str(tmp_path), SINGLE)
    assert "--task" in caught.value.fix


@pytest.mark.parametrize("name", ["absent", "absent.npz", "text.txt", "camera:0"])
def test_what_is_no_source_is_refused(tmp_path, name):
    (tmp_path / "text.txt").touch()
    with pytest.raises(ConfigError) as caught:
        open_source(str(tmp_path / name), GREY)
    assert "folder, npz" in caught.value.fix


def test_the_kind_can_be_named(tmp_path):
    path = tmp_path / "frames.bin"
    with path.open("wb") as file:
        np.savez(file, images=np.zeros((2, 4, 6), np.uint8))
    assert len(frames(open_source(f"npz:{path}", GREY))) == 2


def test_npz_boxes_are_the_labels_of_images(tmp_path):
    path = save(
        tmp_path / "boxes.npz",
        images=np.zeros((3, 4, 6), np.uint8),
        boxes=np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2]], np.float32),
        box_classes=np.array([1, 0, 2]),
        box_images=np.array([0, 2, 2]),
    )
    found = [frame.label for frame in frames(open_source(path, GREY))]
    assert [len(boxes) for boxes in found] == [1, 0, 2]
    assert found[2].classes.tolist() == [0, 2]


def test_npz_boxes_that_do_not_fit_their_images_are_refused(tmp_path):
    path = save(
        tmp_path / "boxes.npz",
        images=np.zeros((3, 4, 6), np.uint8),
        boxes=np.zeros((1, 4), np.float32),
        box_classes=np.array([1]),
        box_images=np.array([3]),
    )
    with pytest.raises(ConfigError, match="boxes"):
        open_source(path, GREY)

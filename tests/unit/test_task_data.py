from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from waistline.errors import ConfigError
from waistline.task.data import folder, idx, npz
from waistline.task.data.base import DataContext

RANDOM = np.random.default_rng(11)
IMAGES = RANDOM.integers(0, 256, (6, 4, 5, 1), np.uint8)
LABELS = np.arange(6) % 3


def context(path: Path, shape=(4, 5, 1), classes=()) -> DataContext:
    return DataContext(path, "[data.test]", shape, classes)


def save_npz(path: Path, **arrays) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path


def open_npz(path: Path, **options):
    return npz.open_data({"path": "data.npz", **options}, context(path))


def test_npz_with_and_without_labels(tmp_path):
    data = open_npz(save_npz(tmp_path, images=IMAGES, labels=LABELS))
    assert (len(data), data.labelled) == (6, True)
    for frame, image, label in zip(data, IMAGES, LABELS, strict=True):
        np.testing.assert_array_equal(frame.arrays[0], image)
        assert frame.label == label
        assert type(frame.label) is int
    data = open_npz(save_npz(tmp_path, x=IMAGES[..., 0]), images="x")
    assert not data.labelled
    assert next(iter(data)).arrays[0].shape == (4, 5, 1)


def test_npz_with_boxes(tmp_path):
    arrays = {
        "boxes": np.array([[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 1, 1]], np.float32),
        "box_classes": np.array([0, 1, 0]),
        "box_images": np.array([0, 0, 4]),
    }
    data = open_npz(save_npz(tmp_path, images=IMAGES, **arrays))
    counts = [len(frame.label) for frame in data]
    assert counts == [2, 0, 0, 0, 1, 0]
    arrays["box_images"] = np.array([0, 0, 6])
    with pytest.raises(ConfigError, match="no image"):
        open_npz(save_npz(tmp_path, images=IMAGES, **arrays))


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": IMAGES[:, :3]},
        {"images": IMAGES.astype(np.float32)},
        {"images": IMAGES[:0]},
        {"images": IMAGES, "labels": LABELS[:5]},
        {"images": IMAGES, "labels": LABELS / 2},
        {"pictures": IMAGES},
        {"images": np.array([{"a": 1}], dtype=object)},
    ],
)
def test_npz_that_does_not_fit_names_the_file(tmp_path, arrays):
    with pytest.raises(ConfigError, match=r"data\.npz"):
        open_npz(save_npz(tmp_path, **arrays))


def member(header: dict, data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


def archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path / "data.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an array",
        member({"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 4, 5)}),
        member({"descr": "|u1", "fortran_order": False, "shape": (6, 4, 5)}, b"short"),
        member({"descr": "|u1", "fortran_order": False, "shape": (-6, 4, 5)}, bytes(120)),
        member({"descr": "|u1", "fortran_order": False, "shape": (-6, -4, 5)}, bytes(120)),
        b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000,
        member({"descr": "|u1", "fortran_order": False, "shape": (1, 4, 5)}, bytes(21)),
        member({"descr": "|O", "fortran_order": False, "shape": (6,)}, b"\x80\x04N."),
        b"\x93NUMPY\x01\x00\x10\x00{'descr': exit()}",
    ],
)
def test_a_hostile_npz_is_refused_before_its_size_is_believed(tmp_path, content):
    with pytest.raises(ConfigError, match=r"data\.npz"):
        open_npz(archive(tmp_path, content))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_compressed_as_numpy_never_does(tmp_path, method):
    """An LZMA header of five bytes can ask for a dictionary of 4 GB."""
    with zipfile.ZipFile(tmp_path / "data.npz", "w", method) as file:
        file.writestr("images.npy", b"anything")
    with pytest.raises(ConfigError, match=f"compression method {method}"):
        open_npz(tmp_path)


@pytest.mark.parametrize(
    ("place", "value"), [(6, 0xF0), (8, 0x08)], ids=["version of zip", "name not UTF-8"]
)
def test_npz_with_a_hostile_directory(tmp_path, place, value):
    data = bytearray((archive(tmp_path, b"x") / "data.npz").read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + place + (1 if place == 8 else 0)] = value
    data[entry + 46] = 0xFF
    (tmp_path / "data.npz").write_bytes(data)
    with pytest.raises(ConfigError, match="cannot be read"):
        open_npz(tmp_path)


def test_npz_that_is_no_archive(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"PK nothing")
    with pytest.raises(ConfigError, match="cannot be read"):
        open_npz(tmp_path)


def test_npz_with_a_broken_stream(tmp_path):
    save_npz(tmp_path, images=IMAGES)
    path = tmp_path / "data.npz"
    damaged = bytearray(path.read_bytes())
    damaged[150] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match="images"):
        open_npz(tmp_path)


def save_image(path: Path, shape=(4, 5), mode="L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    Image.fromarray(RANDOM.integers(0, 256, (*shape, *depth), np.uint8)).save(path)


def open_folder(path: Path, shape=(4, 5, 1), classes=()):
    return folder.open_data({"path": "."}, context(path, shape, classes))


def test_folder_in_the_order_of_names(tmp_path):
    for name in ("b.png", "a.png", "c.jpg", ".hidden.png", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            save_image(tmp_path / name)
    data = open_folder(tmp_path)
    assert [frame.name for frame in data] == ["a.png", "b.png", "c.jpg"]
    assert len(data) == 3
    assert not data.labelled
    assert next(iter(data)).arrays[0].shape == (4, 5, 1)


def test_folder_of_class_folders(tmp_path):
    for name in ("boot/1.png", "bag/1.png", "bag/2.png"):
        save_image(tmp_path / name, mode="RGB")
    assert [frame.label for frame in open_folder(tmp_path, (4, 5, 3))] == [0, 0, 1]
    named = open_folder(tmp_path, (4, 5, 3), ("coat", "boot", "bag"))
    assert [frame.label for frame in named] == [2, 2, 1]
    with pytest.raises(ConfigError, match="boot"):
        open_folder(tmp_path, (4, 5, 3), ("coat", "bag"))
    save_image(tmp_path / ".thumbnails" / "1.png", mode="RGB")
    assert len(open_folder(tmp_path, (4, 5, 3), ("coat", "boot", "bag"))) == 3
    save_image(tmp_path / "loose.png")
    with pytest.raises(ConfigError, match="beside"):
        open_folder(tmp_path)


def test_an_empty_or_missing_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"no \.png"):
        open_folder(tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        folder.open_data({"path": "none"}, context(tmp_path))


@pytest.mark.parametrize(
    ("shape", "mode"), [((4, 6), "L"), ((5, 4), "L"), ((4, 5), "RGB"), ((4, 5), "RGBA")]
)
def test_an_image_of_another_size_or_mode_is_named(tmp_path, shape, mode):
    save_image(tmp_path / "good.png")
    save_image(tmp_path / "wrong.png", shape, mode)
    with pytest.raises(ConfigError, match=r"wrong\.png") as caught:
        list(open_folder(tmp_path))
    assert f"{shape[1]}x{shape[0]} of mode {mode}" in caught.value.cause


@pytest.mark.parametrize("shape", [None, (4, 5, 1)])
def test_a_decompression_bomb_is_refused_from_its_header(tmp_path, shape):
    """A PNG that announces 60000 x 60000 pixels in 200 bytes."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(ConfigError, match=r"bomb\.png"):
        folder.read_image(tmp_path / "bomb.png", shape)


def test_damaged_and_disguised_images(tmp_path):
    save_image(tmp_path / "cut.png", (40, 50))
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "gif.png").write_bytes(b"GIF89a" + bytes(40))
    (tmp_path / "none.png").write_bytes(b"")
    for name in ("cut.png", "gif.png", "none.png"):
        with pytest.raises(ConfigError, match=name):
            folder.read_image(tmp_path / name)


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(struct.pack(">I", axis) for axis in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def test_idx_plain_and_compressed(tmp_path):
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx_bytes(IMAGES[..., 0])))
    (tmp_path / "labels").write_bytes(idx_bytes(LABELS.astype(np.uint8)))
    options = {"images": "images.gz", "labels": "labels"}
    data = idx.open_data(options, context(tmp_path))
    assert [frame.label for frame in data] == LABELS.tolist()
    np.testing.assert_array_equal(data.arrays[0], IMAGES)
    part = idx.open_data({**options, "skip": 1, "limit": 2}, context(tmp_path))
    assert [frame.label for frame in part] == [1, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x0d\x03",
        bytes([0, 0, 8, 3]) + b"\xff" * 12,
        idx_bytes(IMAGES[..., 0])[:-1],
        idx_bytes(IMAGES[..., 0]) + b"\x00",
        gzip.compress(idx_bytes(IMAGES[..., 0]))[:-20],
        b"\x1f\x8b nothing",
    ],
)
def test_a_damaged_idx_file(tmp_path, content):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(ConfigError, match="images"):
        idx.open_data({"images": "images"}, context(tmp_path))


def test_a_missing_idx_file_says_what_to_install(tmp_path):
    with pytest.raises(ConfigError) as caught:
        idx.open_data({"images": "none.gz"}, context(tmp_path))
    assert "apt install dataset-fashion-mnist" in caught.value.fix

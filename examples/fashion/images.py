"""Fashion-MNIST: read the Debian package's files, make the splits, write the shipped samples.

The training files give 256 calibration and 1,000 selection images, which are kept out of training;
the test files give 1,000 report images. Each sample holds the same number of every class, as far
as ten divides it, and is drawn with a fixed seed.

    python examples/fashion/images.py              # write calibration, selection and report .npz
    python examples/fashion/images.py --png DIR    # export the report images for a folder source
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from waistline.task.data.idx import read_idx

HERE = Path(__file__).resolve().parent
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where ``apt install dataset-fashion-mnist`` puts the four files."""
SEED = 20_170_825
CALIBRATION, SELECTION, REPORT = 256, 1000, 1000
CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
"""As in task.toml; the first is T-shirt/top upstream, which no folder can be called."""


def read_files(which: str, folder: Path = DEBIAN) -> tuple[np.ndarray, np.ndarray]:
    """``train`` or ``t10k``: uint8 (n, 28, 28) images and uint8 (n,) labels."""
    images = read_idx(folder / f"{which}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{which}-labels-idx1-ubyte.gz")
    return images, labels


def balanced(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``count`` images drawn at random, the classes taking turns."""
    classes = np.unique(labels)
    rounds = -(-count // len(classes))
    columns = [rng.permutation(np.flatnonzero(labels == c))[:rounds] for c in classes]
    return np.stack(columns, axis=1).reshape(-1)[:count]


def split_training(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Disjoint indices (train, calibration, selection) into the 60,000 training images."""
    rng = np.random.default_rng(SEED)
    held = balanced(labels, CALIBRATION + SELECTION, rng)
    calibration, selection = held[:CALIBRATION], held[CALIBRATION:]
    kept = np.setdiff1d(np.arange(len(labels)), held)
    return kept, rng.permutation(calibration), rng.permutation(selection)


def write_samples(folder: Path, out: Path) -> None:
    """``calibration.npz``, ``selection.npz`` and ``report.npz``: images (n, 28, 28, 1), labels."""
    images, labels = read_files("train", folder)
    _, calibration, selection = split_training(labels)
    test_images, test_labels = read_files("t10k", folder)
    rng = np.random.default_rng(SEED)
    report = rng.permutation(balanced(test_labels, REPORT, rng))
    for name, pictures, classes in (
        ("calibration", images[calibration], labels[calibration]),
        ("selection", images[selection], labels[selection]),
        ("report", test_images[report], test_labels[report]),
    ):
        np.savez_compressed(out / f"{name}.npz", images=pictures[..., None], labels=classes)


def write_pngs(sample: Path, out: Path) -> int:
    """One PNG an image, in a folder per class, as ``kind = "folder"`` of a task reads them."""
    from PIL import Image

    with np.load(sample, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = out / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{index:05d}.png", optimize=True)
    return len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder with the IDX files")
    parser.add_argument("--png", type=Path, help="export a sample as PNG files into this folder")
    parser.add_argument("--sample", type=Path, default=HERE / "report.npz", help="for --png")
    options = parser.parse_args()
    if options.png:
        print(f"{write_pngs(options.sample, options.png)} images in {options.png}")
    else:
        write_samples(options.data, HERE)


if __name__ == "__main__":
    main()

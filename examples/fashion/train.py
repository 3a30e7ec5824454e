"""Train the example network on Fashion-MNIST and write ``model.onnx``.

    pip install 'waistline[train]' && sudo apt install dataset-fashion-mnist
    python examples/fashion/train.py

Plain float training: AdamW, one-cycle rate, random flips and shifts of one pixel. Nothing in
it knows of cuts or codecs: no quantization, no noise on activations. The last weights are kept;
no image outside the training split is looked at before the final figure. One thread and fixed
seeds: the same torch on the same kind of CPU gives the same file.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from images import DEBIAN, read_files, split_training
from net import Net, to_onnx
from torch import nn

HERE = Path(__file__).resolve().parent
SHIFT = 1
"""Largest shift in pixels, each way."""


def keep_memory() -> None:
    """Have glibc reuse freed blocks; page faults of fresh ones took half of the training time."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes


def batch_of(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Flip and shift each image by itself: uint8 (n, 28, 28) -> float32 (n, 1, 28, 28) in 0..1."""
    count, size = len(images), images.shape[-1]
    padded = nn.functional.pad(images, (SHIFT,) * 4)
    steps = torch.arange(size)
    offsets = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), generator=rng)
    flip = torch.rand(count, 1, generator=rng) < 0.5
    columns = torch.where(flip, steps.flip(0), steps) + offsets[0]
    rows = steps + offsets[1]
    picked = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked[:, None].float().div_(255).contiguous(memory_format=torch.channels_last)


def accuracy(net: Net, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of uint8 (n, 28, 28) ``images`` whose largest logit is the label."""
    net.eval()
    with torch.inference_mode():
        hits = [
            (net(part[:, None].float() / 255).argmax(1) == truth).sum().item()
            for part, truth in zip(images.split(500), labels.split(500), strict=True)
        ]
    return sum(hits) / len(images)


def train(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    seed: int,
    batch: int = 128,
    peak_rate: float = 6e-3,
    weight_decay: float = 0.02,
) -> Net:
    """A network trained on uint8 (n, 28, 28) ``images`` and int64 (n,) ``labels``."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = Net().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak_rate, weight_decay=weight_decay)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        losses = []
        order = torch.randperm(len(images), generator=rng)
        for picked in order[: len(images) // batch * batch].split(batch):
            logits = net(batch_of(images[picked], rng))
            loss = nn.functional.cross_entropy(logits, labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.3f}, ", end="")
        print(f"{time.process_time():.0f} CPU-s", flush=True)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder with the IDX files")
    parser.add_argument("--out", type=Path, default=HERE / "model.onnx")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels = (torch.tensor(array) for array in read_files("train", options.data))
    labels = labels.long()
    kept, _, selection = (torch.tensor(rows) for rows in split_training(labels.numpy()))
    net = train(images[kept], labels[kept], epochs=options.epochs, seed=options.seed)
    print(f"selection: {accuracy(net, images[selection], labels[selection]):.4f}")
    onnx.save(to_onnx(net.eval()), options.out)
    test_images, test_labels = (torch.tensor(a) for a in read_files("t10k", options.data))
    print(f"test: {accuracy(net, test_images, test_labels.long()):.4f}")
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Train the example detector on generated frames and write ``model.onnx``.

    pip install 'waistline[train]'
    python examples/biscuits/train.py

Plain training: AdamW, one-cycle rate, bfloat16 autocast, channels last, flips and transposes,
brightness. Nothing in it knows of cuts or codecs. The last weights are kept; selection frames are
looked at on the way, report frames never. Fixed seeds: the same torch with as many threads on the
same kind of CPU gives the same file. The anchors it prints stand in ``task.toml``.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

# Threads that wait by spinning quintuple the CPU time where other work wants the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import onnx
import torch
from conveyor import SEEDS, frame
from loss import find_anchors, loss_of, targets_of
from net import IMAGE, Net, to_onnx

from waistline.task.boxes import Boxes, truth
from waistline.task.load import load_task

HERE = Path(__file__).resolve().parent
TASK = HERE / "task.toml"
Set = tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]
"""Images uint8 (n, 3, H, W), channels last; boxes (m, 4) and classes (m,) of each."""


def keep_memory() -> None:
    """Have glibc reuse freed blocks; page faults of fresh ones took half of the training time."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes


def _fast_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16; where it only pretends to, it is 10 times slower."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def render_set(seed: int, count: int) -> Set:
    """``count`` frames, seeds counting up from ``seed``."""
    images = torch.empty(count, IMAGE, IMAGE, 3, dtype=torch.uint8)
    corners, classes = [], []
    for index in range(count):
        image, (boxes, labels) = frame(seed + index, (IMAGE, IMAGE, 3))
        images[index] = torch.from_numpy(image)
        corners.append(torch.from_numpy(boxes))
        classes.append(torch.from_numpy(labels))
    return images.permute(0, 3, 1, 2), corners, classes


def batch_of(
    data: Set, picked: torch.Tensor, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch, turned and lit at random: images (n, 3, H, W) in 0..1, targets as `targets_of`."""
    images, corners, classes = data
    flip_x, flip_y, swap = (torch.rand(3, generator=rng) < 0.5).tolist()
    batch = images[picked].float().div_(255.0)
    boxes = [corners[index].clone() for index in picked.tolist()]
    if flip_x:
        batch = batch.flip(3)
        boxes = [
            torch.stack([IMAGE - b[:, 2], b[:, 1], IMAGE - b[:, 0], b[:, 3]], 1) for b in boxes
        ]
    if flip_y:
        batch = batch.flip(2)
        boxes = [
            torch.stack([b[:, 0], IMAGE - b[:, 3], b[:, 2], IMAGE - b[:, 1]], 1) for b in boxes
        ]
    if swap:
        batch = batch.transpose(2, 3)
        boxes = [b[:, [1, 0, 3, 2]] for b in boxes]
    gain = 1.0 + 0.12 * torch.randn(len(batch), 1, 1, 1, generator=rng)
    cast = 1.0 + 0.03 * torch.randn(len(batch), 3, 1, 1, generator=rng)
    batch = (batch * gain * cast).clamp_(0.0, 1.0)
    labels = [classes[index] for index in picked.tolist()]
    return batch.contiguous(memory_format=torch.channels_last), targets_of(boxes, labels)


def score(net: Net, data: Set, anchors: Sequence[torch.Tensor]) -> float:
    """mAP50 by the task's own postprocessing and metric, with the anchors of this run."""
    task = load_task(TASK)
    options = dict(task.answer.options)
    options["heads"] = [
        {"output": place, "stride": head["stride"], "anchors": anchors[place].tolist()}
        for place, head in enumerate(options["heads"])
    ]
    from waistline.task.kinds.detect import open_kind

    kind = open_kind(options)
    pairs: list[tuple[Boxes, Boxes]] = []
    net.eval()
    with torch.inference_mode():
        for start in range(0, len(data[0]), 50):
            outputs = net(data[0][start : start + 50].float().div_(255.0))
            arrays = [output.float().numpy() for output in outputs]
            for offset in range(len(arrays[0])):
                found = kind.postprocess([a[offset : offset + 1] for a in arrays], None)
                where = start + offset
                pairs.append((found, truth(data[1][where].numpy(), data[2][where].numpy())))
    return task.open_metric(kind).score(pairs).value


def train(
    data: Set,
    held: Set,
    anchors: Sequence[torch.Tensor],
    *,
    epochs: int,
    seed: int,
    batch: int = 16,
    peak_rate: float = 4e-3,
    weight_decay: float = 0.02,
    bfloat16: bool = False,
) -> Net:
    """A network trained on ``data``, its mAP50 on ``held`` printed on the way."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = Net().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak_rate, weight_decay=weight_decay)
    count = len(data[0])
    steps = epochs * (count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_rate, total_steps=steps, pct_start=0.15
    )
    for epoch in range(epochs):
        net.train()
        losses = []
        order = torch.randperm(count, generator=rng)
        for picked in order[: count // batch * batch].split(batch):
            images, targets = batch_of(data, picked, rng)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                outputs = net(images)
            loss = loss_of(outputs, targets, anchors)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        reached = score(net, held, anchors)
        spent = f"{time.process_time():.0f} CPU-s"
        print(
            f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.3f}, {spent}, mAP50 {reached:.4f}",
            flush=True,
        )
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "model.onnx")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--frames", type=int, default=5000, help="to train on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=_fast_bfloat16())
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    data = render_set(SEEDS["train"], options.frames)
    held = render_set(SEEDS["selection"], 200)
    print(f"{options.frames} + 200 frames: {time.process_time():.0f} CPU-s", flush=True)
    sizes = torch.cat([b[:, 2:] - b[:, :2] for b in data[1]]).numpy()
    anchors = find_anchors(sizes, np.random.default_rng(options.seed))
    print(f"anchors: {[each.int().tolist() for each in anchors]}", flush=True)
    net = train(
        data, held, anchors, epochs=options.epochs, seed=options.seed, bfloat16=options.bf16
    )
    onnx.save(to_onnx(net.eval()), options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

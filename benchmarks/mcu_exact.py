"""Whether the firmware computes what tflite-micro does, and sends what the host's codec does.

    make oracles && python benchmarks/mcu_exact.py [--outputs N] [--json FILE]

Without tflite-micro random layers are not made, the vectors stored in tests/vectors stand in for
them, and boards are held against the NumPy interpreter; the page says so. Needs cc,
arm-none-eabi-gcc and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import mcu_models
import mcu_tools
import numpy as np
import tflite_help
from lower_help import Firmware, lowered, random_inputs
from oracle_help import Micro, missing, python_with
from tflm_help import KINDS, differing

from waistline.blob.interpret import every_tensor, run_head
from waistline.blob.records import read_blob
from waistline.codec.waist import WaistCodec
from waistline_bridge.client import Client
from waistline_bridge.lower.assemble import assemble
from waistline_bridge.lower.tflite import lower_tflite
from waistline_bridge.messages import Area

OUTPUTS = 1_200_000
VECTORS = mcu_tools.ROOT / "tests" / "vectors" / "mcu_layers.json"
WAIST = "block3_pw_relu"
CODECS = ("raw|none", "raw|ctx", *(f"i8:b={b}|{c}" for b in range(1, 9) for c in ("none", "ctx")))


def random_layers(outputs: int) -> list[dict[str, Any]]:
    random, rows = np.random.default_rng(20_260), []
    with Micro() as oracle:
        for kind in KINDS:
            mcu_tools.note(f"  {kind.__name__} ...")
            compared, different, _ = differing(oracle, random, [kind], outputs // len(KINDS))
            rows.append({"kind": kind.__name__, "compared": compared, "different": different})
    return rows


def stored_layers(folder: Path) -> list[dict[str, Any]]:
    """tests/vectors/mcu_layers.json: what tflite-micro gave once, by the firmware's interpreter."""
    firmware, rows = Firmware(folder), []

    def array(text: str) -> np.ndarray:
        return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.int8)

    for case in json.loads(VECTORS.read_text())["cases"]:
        head = lower_tflite(tflite_help.load(array(case["model"]).tobytes()))
        ports = zip(case["inputs"], head.inputs, strict=True)
        frame = [array(text).reshape(port.spec.shape) for text, port in ports]
        waist = lowered(head, "i8:b=8|none").waist
        made = assemble(head, waist, [frame])
        blob = read_blob(made.data)
        _, arena = firmware.run(made.data, made.plan.size_bytes)
        different = compared = 0
        for record, text in zip(blob.waists, case["outputs"], strict=True):
            tensor, wanted = blob.tensors[record.tensor], array(text)
            found = arena[tensor.offset : tensor.offset + tensor.size_bytes].view(np.int8)
            compared, different = compared + wanted.size, different + int((found != wanted).sum())
        rows.append({"kind": case["name"], "compared": compared, "different": different})
    return rows


def networks(boards: dict[str, Path]) -> list[dict[str, Any]]:
    """Every tensor of every network on every board."""
    rows = []
    for name, make in mcu_models.MODELS.items():
        model = make()
        head = lower_tflite(tflite_help.load(model))
        frame = random_inputs(head)
        wanted = {head.tensors[k].name: tensor for k, tensor in every_tensor(head, frame)}
        if python_with("tflite_micro"):
            micro = mcu_models.micro_tensors(model, frame)
            wanted = {key: micro.get(key, tensor) for key, tensor in wanted.items()}
        made = lowered(head, "i8:b=8|none")
        row: dict[str, Any] = {"network": name, "layers": len(head.layers), "different": {}}
        for board, elf in boards.items():
            mcu_tools.note(f"  {name} on {board} ...")
            with mcu_tools.device(board, elf) as client:
                row["compared"], row["different"][board] = _tensors(client, made, frame, wanted)
        rows.append(row)
    return rows


def _tensors(client: Client, made: Any, frame: list[np.ndarray], wanted: Any) -> tuple[int, int]:
    blob, head = read_blob(made.data), made.head
    client.load_blob(made.data)
    data = b"".join(array.tobytes() for array in frame)
    compared = different = 0
    for k, (record, layer) in enumerate(zip(blob.layers, head.layers, strict=True)):
        if k == 0 or not client.head().keeps_input:
            client.load_input(data)
        client.infer(layers=k + 1)
        tensor = blob.tensors[record.output]
        found = np.frombuffer(client.read(Area.ARENA, tensor.offset, tensor.size_bytes), np.int8)
        right = wanted[head.tensors[layer.output].name].reshape(-1)
        compared, different = compared + right.size, different + int((found != right).sum())
    return compared, different


def waists(boards: dict[str, Path]) -> dict[str, int]:
    """Codecs whose bytes from a board are not the host's, by board."""
    head = lower_tflite(tflite_help.load(mcu_models.example_head(WAIST)))
    tensors = run_head(head, random_inputs(head))
    found = dict.fromkeys(boards, 0)
    made = {codec: lowered(head, codec) for codec in CODECS}
    for board, elf in boards.items():
        mcu_tools.note(f"  codecs on {board} ...")
        with mcu_tools.device(board, elf) as client:
            for codec in CODECS:
                client.load_blob(made[codec].data)
                sent = client.infer(golden=0).output
                found[board] += sent != WaistCodec(made[codec].waist).encode(tensors).payload
    return found


def measure(chosen: argparse.Namespace) -> tuple[str, dict[str, Any], bool]:
    mcu_tools.need("cc", "make", "arm-none-eabi-gcc", "qemu-system-arm")
    oracle = python_with("tflite_micro")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        layers = random_layers(chosen.outputs) if oracle else stored_layers(folder)
        boards = mcu_tools.firmware(folder, mcu_tools.BOARDS)
        nets, codecs = networks(boards), waists(boards)
    figures = {"oracle": bool(oracle), "layers": layers, "networks": nets, "codecs": codecs}
    compared = sum(row["compared"] for row in layers)
    wrong = sum(row["different"] for row in layers)
    fine = wrong == 0 and not any(codecs.values())
    fine = fine and not any(count for row in nets for count in row["different"].values())
    return report(figures, compared, wrong), figures, fine


def report(figures: dict[str, Any], compared: int, wrong: int) -> str:
    by = "tflite-micro" if figures["oracle"] else "the NumPy interpreter"
    enough = figures["oracle"] and compared >= 1_000_000
    kinds = [(row["kind"], f"{row['compared']:,}", row["different"]) for row in figures["layers"]]
    boards = list(figures["codecs"])
    nets = [
        [row["network"], row["layers"], f"{row['compared']:,}", *row["different"].values(),
         mcu_tools.verdict(figures["oracle"] and not any(row["different"].values()))]
        for row in figures["networks"]
    ]  # fmt: skip
    codecs = [(board, len(CODECS), count, mcu_tools.verdict(count == 0))
              for board, count in figures["codecs"].items()]  # fmt: skip
    lines = ["## Firmware against tflite-micro, bit for bit\n"]
    if figures["oracle"]:
        lines.append(
            f"Random layers of every kind (shapes, strides, paddings, clamps, zero points, shifts "
            f"to both sides), by the kernels built for this machine, portable and DSP path each. "
            f"Goal: 0 of >= 1,000,000 outputs differ. Of {compared:,}, {wrong} differ: "
            f"{mcu_tools.verdict(enough and wrong == 0)}.\n"
        )
    else:
        lines.append(
            f"There is {missing('tflite_micro')}: below are the vectors that it gave once "
            f"(tests/vectors/mcu_layers.json), by the firmware built for this machine; boards are "
            f"held against the NumPy interpreter. **The goal is not judged.**\n"
        )
    lines += [mcu_tools.table(("layer", "outputs", "differ"), kinds), ""]
    lines += [
        f"Every tensor of whole networks in QEMU (the firmware of `make firmware`, over its serial "
        f"line), values that differ from {by}, random weights but for the example; goal: 0.\n",
        mcu_tools.table(("network", "layers", "values", *boards, ""), nets),
        "",
        f"Waist of the example behind `{WAIST}` as the firmware sends it, against the host's "
        f"codec: b = 1..8 and the bytes as they are, each with `none` and `ctx`; goal: 0 differ.\n",
        mcu_tools.table(("board", "codecs", "differ", ""), codecs),
    ]
    return "\n".join(lines)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--outputs", type=int, default=OUTPUTS, help="of random layers, in all")


if __name__ == "__main__":
    sys.exit(mcu_tools.main(__doc__, measure, _options))

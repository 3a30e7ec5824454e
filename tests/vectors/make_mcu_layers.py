"""Write mcu_layers.json: small int8 models and what tflite-micro makes of them.

make oracles && python tests/vectors/make_mcu_layers.py
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "unit"))

import tflite_help  # noqa: E402
from lower_help import random_inputs  # noqa: E402
from lower_nets import NETS  # noqa: E402
from oracle_help import Micro, missing, python_with  # noqa: E402

from waistline_bridge.lower.tflite import lower_tflite  # noqa: E402

CHOSEN = (
    "conv same strided",
    "depthwise multiplied",
    "average",
    "mean",
    "mean upwards",
    "add",
    "quantize",
    "relu",
    "concat of six",
    "dense",
    "dense per channel",
    "everything",
)


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _case(micro: Micro, name: str) -> dict[str, object]:
    model = NETS[name]()
    head = lower_tflite(tflite_help.load(model))
    inputs = random_inputs(head)
    outputs = micro(model, inputs, len(head.outputs))
    return {
        "name": name,
        "model": _text(model),
        "inputs": [_text(array.tobytes()) for array in inputs],
        "outputs": [_text(array.tobytes()) for array in outputs],
    }


def main() -> None:
    if not python_with("tflite_micro"):
        sys.exit(missing("tflite_micro"))
    with Micro() as micro:
        cases = [_case(micro, name) for name in CHOSEN]
    path = HERE / "mcu_layers.json"
    path.write_text(json.dumps({"by": "tflite-micro", "cases": cases}, indent=1) + "\n")
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

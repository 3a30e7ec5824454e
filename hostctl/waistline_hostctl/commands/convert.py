"""Convert an ONNX model to TFLite, float or int8, and compare the two."""

from __future__ import annotations

from pathlib import Path

import click

from waistline_hostctl import models
from waistline_hostctl.console import size
from waistline_hostctl.convert import DEFAULT_FRAMES, ConvertResult, convert
from waistline_hostctl.options import App, common


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--to", "format_", type=click.Choice(["tflite"]), required=True, help="The format.")
@click.option("--int8", is_flag=True, help="Quantize everything, inputs and outputs included.")
@click.option("--task", metavar="FILE", help="Calibration data (default: task.toml beside).")
@click.option("--no-task", is_flag=True, help="Do not use the task.toml beside the model.")
@click.option("--frames", type=click.IntRange(min=1), default=DEFAULT_FRAMES, show_default=True,
              metavar="N", help="Calibration frames.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Default: MODEL.tflite or MODEL.int8.tflite.")
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@common
def command(
    app: App,
    model: Path,
    format_: str,
    int8: bool,
    task: str | None,
    no_task: bool,
    frames: int,
    output: str | None,
    force: bool,
) -> None:
    """Convert an ONNX model to TFLite, float or int8, and compare the two.

    \b
    waistline tools install tflite
    waistline convert model.onnx --to tflite --int8
    """  # noqa: D301
    del format_
    result = convert(
        model,
        output,
        int8=int8,
        task=None if no_task else models.find_task(model, task, app.console.note),
        frames=frames,
        force=force,
        say=app.console.note,
    )
    app.console.say(text(result))
    app.console.emit(result)


def text(result: ConvertResult) -> str:
    """The figures, and what to do next."""
    kind = f"int8, {result.calibration_frames} calibration frames" if result.quantized else "float"
    lines = [f"{result.output}  {size(result.size_bytes)}, {kind}"]
    for name, figure in result.figures.items():
        value = f"{100 * figure.value:.2f} %" if name == "agreement" else f"{figure.value:.3g}"
        spread = figure.standard_uncertainty
        if name == "agreement" and spread is not None:
            value += f" (standard uncertainty {100 * spread:.2f})"
        label = name.replace("_", " ")
        lines.append(f"  {label:15}{value}  {figure.evidence}, n = {figure.n}: {figure.source}")
    lines.append(f"next: waistline split {result.output} --list")
    return "\n".join(lines)

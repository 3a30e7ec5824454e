"""Check that a device reproduces a bundle's golden codes and answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from waistline_hostctl.board_flags import board_options
from waistline_hostctl.mcu_open import BoardChoice, parse_options
from waistline_hostctl.options import App, Number, common
from waistline_hostctl.services import ending_on_sigterm
from waistline_hostctl.verify_text import text
from waistline_hostctl.verifying import TIMEOUT_S, verify_device

EPILOG = """\b
Without --via both ends run here; --backend mcu (or --board, --port) runs the head on a
microcontroller that hangs on the device. COMMAND leads to the device and starts the far side there:
  --via 'ssh -T pi python3 -m waistline_node.probe'
  --via 'docker exec -i box python3 -m waistline_node.probe'
  --via 'adb exec-out python3 -m waistline_node.probe'
Exit code 5 when the device does not reproduce the bundle."""


@click.command(epilog=EPILOG)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--backend", metavar="NAME", help="Engine (default: of the node in the bench file).")
@click.option("--head-backend", metavar="NAME", help="Engine of the head, where they differ.")
@click.option("--tail-backend", metavar="NAME", help="Engine of the tail, where they differ.")
@click.option("--backend-option", "options", multiple=True, metavar="KEY=VALUE",
              help="The engine's own option; of the head where they differ.")  # fmt: skip
@click.option("--threads", type=click.IntRange(0), metavar="N", help="Inside one run; 0: engine's.")
@click.option("--via", metavar="COMMAND", help="A program whose input and output lead to a device.")
@click.option("--via-bundle", metavar="PATH", help="Where the bundle lies on the device already.")
@click.option("--ends", type=click.Choice(["head", "tail", "both"]),
              help="What runs on the device behind --via (default head).")  # fmt: skip
@click.option("--timeout-s", type=Number(0, min_open=True), default=TIMEOUT_S, metavar="S",
              help="Longest silence of the device (60).")  # fmt: skip
@click.option("--source", metavar="DIR|FILE", help="More frames, compared with the own engine's.")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="Of --source (default 100).")
@board_options
@common
def command(
    app: App, bundle: Path, wanted: BoardChoice, options: tuple[str, ...], **chosen: Any
) -> None:
    """Check that a device reproduces a bundle's golden codes and answer."""
    with ending_on_sigterm():
        result = verify_device(
            bundle,
            backend_options=parse_options(options, "--backend-option", "precision=f32"),
            **chosen,
            **wanted.named(),
            bench=app.bench(),
            console=app.console,
        )
    app.console.say(text(result, via=bool(chosen["via"])))
    app.console.emit(result)
    if not result.ok:
        click.get_current_context().exit(5)

"""Write firmware into a microcontroller and see that it is there."""

from __future__ import annotations

from pathlib import Path

import click

from waistline.errors import ConfigError
from waistline_hostctl.options import App, common

_ADDRESS_END = 1 << 32


@click.command(epilog="Exit code 3: nothing to write to; 4: port or tool; 5: verification failed.")
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option("--board", metavar="NAME", default="", help="Firmware of this board, as built.")
@click.option("--via", "method", metavar="METHOD", default="",
              help="How: a method that --list shows.")  # fmt: skip
@click.option(
    "--list", "only_list", is_flag=True, help="Methods, what they were tried on, devices."
)
@click.option("--target", metavar="CHIP", default="", help="Chip, where the device does not say.")
@click.option("--port", metavar="DEVICE", default="", help="Serial port: a path or an id.")
@click.option("--drive", metavar="FOLDER", default="", help="Where a UF2 bootloader is mounted.")
@click.option("--probe", metavar="ID", default="", help="Debug probe.")
@click.option("--address", metavar="N", help="Where a BIN goes, such as 0x08000000.")
@click.option("--option", "pairs", multiple=True, metavar="KEY=VALUE",
              help="The method's own option, such as baud=115200 (repeatable).")  # fmt: skip
@click.option("--dry-run", is_flag=True,
              help="Show the exact commands and write nothing; a port, or a probe with its "
              "chip, need not be there.")  # fmt: skip
@click.option("--no-verify", is_flag=True, help="Do not compare afterwards.")
@common
def command(
    app: App,
    image: Path | None,
    board: str,
    method: str,
    only_list: bool,
    target: str,
    port: str,
    drive: str,
    probe: str,
    address: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    no_verify: bool,
) -> None:
    """Write firmware (ELF, BIN, Intel HEX, UF2) into a microcontroller and see that it is there.

    \b
    waistline flash --list                                  ways, and the devices they find
    waistline flash --board qemu-mps2-an386                 emulated: started and greeted
    waistline flash --board nucleo-f446re --via pyocd       as waistline mcu build left it
    waistline flash app.elf --drive /media/me/RPI-RP2       a board that is a USB drive
    """  # noqa: D301
    from waistline_hostctl import flash_text, flash_work
    from waistline_hostctl.mcu_open import parse_options
    from waistline_hostctl.services import ending_on_sigterm

    if only_list:
        listed = flash_work.flash_methods(
            method,
            board=board,
            target=target,
            port=port,
            drive=drive,
            probe=probe,
            bench=app.bench(),
        )
        app.console.say(flash_text.list_text(listed))
        app.console.emit(listed)
        return
    with ending_on_sigterm():
        result = flash_work.flash_mcu(
            image,
            via=method,
            board=board,
            target=target,
            port=port,
            drive=drive,
            probe=probe,
            address=_address(address),
            options=parse_options(pairs, "--option", "baud=115200"),
            dry_run=dry_run,
            verify=not no_verify,
            bench=app.bench(),
            console=app.console,
        )
    app.console.say(flash_text.text(result))
    app.console.emit(result)


def _address(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < _ADDRESS_END:
        raise ConfigError(
            f"--address {text} cannot be used",
            cause="it is not a number from 0 to 0xffffffff",
            fix="write it like 0x08000000",
        )
    return value

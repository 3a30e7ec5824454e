"""The marker pin of a board while it is measured, so that a trace shows where its head ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from waistline.errors import ConfigError
from waistline_bridge.messages import Feature, Mark
from waistline_hostctl.mcu_open import Device

MODES = tuple(mode.name.lower() for mode in Mark)
_MOST_US = 0xFFFF


@dataclass(frozen=True, slots=True)
class Marking:
    """What MARK is to say; `waistline_bridge.client.Client.mark`."""

    mode: Mark
    settle_us: int

    @property
    def name(self) -> str:
        return self.mode.name.lower()


def marking(mark: str | None, settle_s: float | None) -> Marking | None:
    """What was asked for; None: leave the pin as it is.

    Raises:
        ConfigError: no such mode, or a time that does not go with it.
    """
    if mark is None and settle_s is None:
        return None
    if mark is None or (mark == "off" and settle_s):
        raise ConfigError(
            "--settle says how long the marker pin waits at its edges",
            cause="without --mark, or with --mark off, it has none",
            fix="add --mark head or --mark layers",
        )
    if mark not in MODES:
        raise ConfigError(
            f"the marker pin has no mode {mark!r}", fix=f"choose one of {', '.join(MODES)}"
        )
    mode, settle_us = Mark[mark.upper()], 1e6 * (settle_s or 0.0)
    if not 0 <= settle_us <= _MOST_US or abs(settle_us - round(settle_us)) > 1e-6:
        raise ConfigError(
            f"the marker pin cannot settle for {settle_us:g} us",
            cause=f"a board counts whole microseconds, {_MOST_US} at most",
            fix="give --settle as 20us, for instance",
        )
    if mode == Mark.PULSES and not settle_us:
        raise ConfigError(
            "pulses of no length show nothing",
            cause="--mark pulses without --settle",
            fix="let each last three samples of the meter or more, such as --settle 30us",
        )
    return Marking(mode, round(settle_us))


def set_mark(device: Device, wanted: Marking, note: Callable[[str], None]) -> None:
    """Let the board mark its runs from now on, until it is reset or told otherwise.

    Raises:
        ConfigError: it is a real one without such a pin.
        LinkError, BridgeError: the device.
    """
    if wanted.mode != Mark.OFF and Feature.MARKER not in device.client.info.features:
        if not device.emulated:
            raise ConfigError(
                f"{device.name} has no marker pin",
                cause="its firmware says so: no MARKER among its features",
                fix="leave --mark out, or capture with waistline trace markers --code",
            )
        note(f"{device.name} has no marker pin; it only waits as if it had one")
    device.client.mark(wanted.mode, wanted.settle_us)

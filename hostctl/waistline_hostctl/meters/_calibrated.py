"""Meters as ``bench.toml`` describes them: found by their section, corrected by their calibration.

The correction is made where samples are decoded, so a trace holds corrected values; the calibration
goes into its run.json, whence every figure takes its uncertainty (`waistline.trace.accuracy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.instrument import Calibration, MeterBench, calibration_from
from waistline.trace.accuracy import SETTING
from waistline.trace.base import SIGNALS, Block, Floats

if TYPE_CHECKING:
    from waistline_hostctl.meters.base import Decoder, Meter, MeterChoice, MeterInfo, Part

_SUPPLY_APART = 0.1
"""A measured supply further from the one the meter was told than this is another supply."""


def choice_of(entry: MeterBench, choice: MeterChoice) -> MeterChoice:
    """The choice with what the bench adds to it; what the user said holds."""
    kind = entry.kind or choice.name
    port = choice.port or entry.port or entry.id.removeprefix(f"{kind}:") or None
    options = dict(entry.options)
    if entry.shunt_ohm is not None:
        options["shunt"] = repr(entry.shunt_ohm)
    return replace(choice, name=kind, port=port, options=options | dict(choice.options))


class CalibratedMeter:
    """A meter whose samples come corrected.

    Raises:
        ConfigError: the calibration is of another instrument, or of another supply.
    """

    def __init__(self, meter: Meter, name: str, entry: MeterBench) -> None:
        self._meter = meter
        self._calibration = entry.calibration()
        info = meter.info
        if entry.id not in ("", info.id, info.id.removeprefix(f"{info.name}:")):
            raise ConfigError(
                f"[meter.{name}] is the calibration of another instrument",
                cause=f"it is for {entry.id}, this is {info.id}",
                fix="give this one a section of its own, with its id",
            )
        supply_v = self._supply(name, info)
        stored = msgspec.to_builtins(self._calibration)
        signals = info.signals
        names = {signal.name for signal in signals}
        if self._calibration.burden_ohm and not names & {"voltage", "power"}:
            if supply_v is None:
                raise ConfigError(
                    f"[meter.{name}] has a burden_ohm, but no supply_v",
                    cause="what a burden takes follows from the voltage before it",
                    fix=f"write supply_v = 3.3 in [meter.{name}]",
                )
            rest = (one for one in signals if one.name != "current")
            signals = (SIGNALS["current"], SIGNALS["power"], *rest)
        self.info = replace(
            info,
            signals=signals,
            supply_v=supply_v,
            details={**info.details, SETTING: stored, "bench_section": name},
        )

    def _supply(self, name: str, info: MeterInfo) -> float | None:
        ours, told = self._calibration.supply_v, info.supply_v
        if ours is None or told is None:
            return told if ours is None else ours
        if abs(ours - told) > _SUPPLY_APART * told:
            raise ConfigError(
                f"[meter.{name}] has a supply of {ours:g} V, the meter was told {told:g} V",
                cause="a measured supply differs by a few per cent at most",
                fix="correct supply_v, or the voltage of --meter-option",
            )
        return ours

    def settings(self) -> dict[str, object]:
        return {
            **self._meter.settings(),
            SETTING: self.info.details[SETTING],
            "bench_supply_v": self.info.supply_v,
        }

    def close(self) -> None:
        self._meter.close()


def calibrated(decoder: Decoder, settings: Mapping[str, object]) -> Decoder:
    """The decoder, correcting what it gives where ``settings`` hold a calibration that does."""
    stored = settings.get(SETTING)
    if stored is None:
        return decoder
    calibration = calibration_from(stored)
    supply: Any = settings.get("bench_supply_v")
    return CalibratedDecoder(decoder, calibration, supply) if calibration.corrects else decoder


class CalibratedDecoder:
    """Corrects the blocks of another decoder."""

    def __init__(self, decoder: Decoder, calibration: Calibration, supply_v: float | None) -> None:
        self._decoder = decoder
        self._calibration = calibration
        self._supply_v = supply_v

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        return self._corrected(self._decoder.feed(raw, host_ns))

    def skip(self, size_bytes: int, host_ns: int) -> list[Part]:
        return self._corrected(self._decoder.skip(size_bytes, host_ns))

    def finish(self, host_ns: int) -> list[Part]:
        return self._corrected(self._decoder.finish(host_ns))

    def ledger(self) -> dict[str, object]:
        return self._decoder.ledger()

    def _corrected(self, parts: list[Part]) -> list[Part]:
        return [self._block(part) if isinstance(part, Block) else part for part in parts]

    def _block(self, block: Block) -> Block:
        known = self._calibration
        current = _line(block.current_a, known.current_gain, known.current_offset_a)
        voltage = _line(block.voltage_v, known.voltage_gain, known.voltage_offset_v)
        power = block.power_w
        if power is not None and current is not None and voltage is not None:
            power = current * voltage
        elif power is not None:
            power = power * np.float32(known.current_gain * known.voltage_gain)
        elif known.burden_ohm and current is not None and voltage is None and self._supply_v:
            burden = np.float32(known.burden_ohm)
            power = (np.float32(self._supply_v) - burden * current) * current
        return replace(block, current_a=current, voltage_v=voltage, power_w=power)


def _line(values: Floats | None, gain: float, offset: float) -> Floats | None:
    if values is None or (gain, offset) == (1.0, 0.0):
        return values
    line: Floats = values * np.float32(gain) + np.float32(offset)
    return line

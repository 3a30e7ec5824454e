"""Nordic Power Profiler Kit II: 100,000 currents and eight logic bits a second, by serial port.

Options: ``mode`` (``source``: it supplies the device; ``ampere``: it sits in the supply line),
``voltage`` (of that supply, 0.8 to 5.0 volts; asked for in both modes, since power needs it),
``power`` (``on`` or ``keep``: whether to switch the device on). Written from the wire format; no
one has tried it on the real instrument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS
from waistline_hostctl.meters._ledger import Ledger
from waistline_hostctl.meters._losses import Resolver
from waistline_hostctl.meters._options import check_options, number, word
from waistline_hostctl.meters._ppk2_calibration import MAX_BYTES, Calibration, parse
from waistline_hostctl.meters._ppk2_filter import SpikeFilter
from waistline_hostctl.meters._ppk2_words import MODULO, Jump, Words
from waistline_hostctl.meters._queue import Queue
from waistline_hostctl.meters._serial import Port, SerialReader, find_usb, identity_of, tell
from waistline_hostctl.meters.base import Found, MeterChoice, MeterInfo, Part, choose_port

RATE_HZ = 100_000.0
UNTRIED = True
_USB = {(0x1915, 0xC00A): "Nordic Power Profiler Kit II"}
_BAUD = 115200
_LOW_V, _HIGH_V = 0.8, 5.0
_START, _STOP, _METADATA = b"\x06", b"\x07", b"\x19"
_MODES = {"ampere": b"\x11\x01", "source": b"\x11\x02"}
_ON = b"\x0c\x01"
_CODE = np.uint32(0x1FFFF)
_BLOCK = 1 << 16
_OPTIONS = ("mode", "voltage", "power")


def find() -> list[Found]:
    """Instruments that are plugged in."""
    return find_usb(_USB, untried=UNTRIED)


def open_meter(choice: MeterChoice) -> Ppk2:
    """Identify the instrument, read its calibration, set mode and voltage.

    Raises:
        ConfigError: an option that does not exist or fit, or no single instrument.
        MeterError: it cannot be opened or does not answer.
    """
    check_options(choice, _OPTIONS)
    mode = word(choice, "mode", "ampere", tuple(_MODES))
    power = word(choice, "power", "on", ("on", "keep"))
    if "voltage" not in choice.options:
        raise ConfigError(
            "the PPK2 needs the supply voltage",
            cause=f"a number of volts from {_LOW_V} to {_HIGH_V}, by which current becomes power",
            fix="use --meter-option voltage=3.3",
        )
    voltage_v = number(choice, "voltage", 3.3, _LOW_V, _HIGH_V)
    found = find()
    path = choose_port(choice, found, "PPK2")
    return Ppk2(path, mode, voltage_v, switch_on=power == "on", found=found)


def regulator_command(voltage_v: float) -> bytes:
    """The command that sets the supply voltage."""
    code = round(voltage_v * 1000) - 800 + 32
    return bytes((0x0D, 3 + code // 256, code % 256))


class Settings(msgspec.Struct, frozen=True):
    """What reader and decoder need to know; ``setup`` is sent before sampling starts, in hex."""

    path: str
    setup: tuple[str, ...]
    supply_v: float
    calibration: dict[str, float]


def reader_from(settings: Mapping[str, object]) -> SerialReader:
    """The reader of an instrument that was set up."""
    known = msgspec.convert(settings, Settings)
    begin = (*(bytes.fromhex(command) for command in known.setup), _START)
    return SerialReader(known.path, _BAUD, begin, _STOP)


def decoder_from(settings: Mapping[str, object]) -> Ppk2Decoder:
    """The decoder of an instrument that has told its calibration."""
    known = msgspec.convert(settings, Settings)
    return Ppk2Decoder(Calibration(known.calibration), known.supply_v)


class Ppk2:
    """An instrument that has told its calibration."""

    def __init__(
        self, path: str, mode: str, voltage_v: float, *, switch_on: bool, found: list[Found]
    ) -> None:
        self._path = path
        self._voltage_v = voltage_v
        self._setup = (_MODES[mode], regulator_command(voltage_v)) + ((_ON,) if switch_on else ())
        self._calibration = self._identify()
        identity, evidence = identity_of(path, found)
        self.info = MeterInfo(
            name="ppk2",
            id=f"ppk2:{identity}",
            rate_hz=RATE_HZ,
            signals=(SIGNALS["current"], *(SIGNALS[f"d{bit}"] for bit in range(8))),
            evidence=evidence,
            untried=UNTRIED and evidence is Evidence.METERED,
            ledger="counter",
            counter_modulo=MODULO,
            supply_v=voltage_v,
            details={"mode": mode, "calibration": dict(self._calibration.values)},
        )

    def _identify(self) -> Calibration:
        port = Port(self._path, _BAUD)
        try:
            port.send(_STOP)
            port.drain(0.05, 0.5, most=1 << 22)
            port.send(_METADATA)
            text = port.drain(0.5, 2.0, until=b"END", most=4 * MAX_BYTES)
            if b"END" not in text:
                raise MeterError(
                    f"what is at {self._path} does not answer like a PPK2",
                    cause=f"asked for its calibration, it sent {len(text)} bytes without an END",
                    fix="check the port (waistline devices), or unplug it and plug it in again",
                )
            # A device is not switched on by an instrument that cannot be understood.
            calibration = parse(text)
            for command in self._setup:
                port.send(command)
            return calibration
        finally:
            port.close()

    def settings(self) -> dict[str, object]:
        """As `Settings`."""
        setup = tuple(command.hex() for command in self._setup)
        values = dict(self._calibration.values)
        known = Settings(self._path, setup, self._voltage_v, values)
        return msgspec.structs.asdict(known)

    def close(self) -> None:
        """Stop sampling; the device stays on."""
        tell(self._path, _BAUD, _STOP)


class Ppk2Decoder:
    """Words to currents and logic bits, with ids that count lost samples too."""

    def __init__(self, calibration: Calibration, supply_v: float) -> None:
        table = calibration.table(supply_v)
        self._table = table.astype(np.float32)
        self._filter = SpikeFilter(table)
        self._words = Words()
        self._ledger = Ledger("counter")
        self._resolver = Resolver(RATE_HZ, MODULO, self._ledger)
        self._queue = Queue()

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        self._take(self._words.feed(raw))
        if len(raw):
            self._resolver.arrived(host_ns)
        return self._queue.parts(self._resolver.take())

    def skip(self, size_bytes: int, host_ns: int) -> list[Part]:
        self._take(self._words.skip(size_bytes))
        return self._queue.parts(self._resolver.take())

    def finish(self, host_ns: int) -> list[Part]:
        self._take(self._words.finish())
        self._resolver.finish()
        return self._queue.parts(self._resolver.take())

    def ledger(self) -> dict[str, object]:
        account = replace(
            self._ledger, resyncs=self._words.resyncs, resync_bytes=self._words.resync_bytes
        )
        return account.as_dict()

    def _take(self, found: list[np.ndarray | Jump]) -> None:
        for one in found:
            if not isinstance(one, Jump):
                for start in range(0, len(one), _BLOCK):
                    self._queue.put(*self._decode(one[start : start + _BLOCK]))
                self._resolver.received(len(one))
            elif one.exact:
                self._resolver.lost(one.missing, one.kind)
            else:
                if one.spoiled:
                    blank = np.full(one.spoiled, np.nan, np.float32)
                    self._queue.put(blank, np.zeros(one.spoiled, np.uint8))
                    self._resolver.received(one.spoiled)
                self._resolver.step(one.missing, one.kind, one.repeats, one.copied, one.spoiled)

    def _decode(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = words & _CODE
        amps = self._table[codes]
        self._filter.apply(codes, amps)
        return amps, (words >> np.uint32(24)).astype(np.uint8)

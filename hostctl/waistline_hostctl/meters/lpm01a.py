"""ST X-NUCLEO-LPM01A: up to 100,000 currents a second of a supply of 1.8 to 3.3 volts.

Options: ``voltage`` (3.3), ``rate`` (one of `RATES_HZ`), ``format`` (``binary``, or ``ascii`` up to
20 kHz). It numbers no samples: losses are counted by the host's clock, those below 32 samples not
at all, and any makes the capture fail. It gives up to 50 mA, 10 mA of them quickly changing: a
microcontroller's supply. Written from its documented format; no one has tried it on the real board.

Its binary time stamps are not counted by: whether their milliseconds come from the converter's
clock, and to which sample one belongs while a buffer is under way, is not documented. A step of
one is 100 samples at the highest rate: they could show no loss that the host's clock does not. They
mark where samples begin, and slips (`_lpm01a_stream`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS
from waistline_hostctl.meters._ledger import Ledger
from waistline_hostctl.meters._losses import Resolver
from waistline_hostctl.meters._lpm01a_stream import Binary, Form, Text
from waistline_hostctl.meters._options import check_options, number, word
from waistline_hostctl.meters._queue import Queue
from waistline_hostctl.meters._serial import Port, SerialReader, find_usb, identity_of, tell
from waistline_hostctl.meters.base import Found, MeterChoice, MeterInfo, Part, choose_port

RATES_HZ = (100_000, 50_000, 20_000, 10_000, 5000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)
UNTRIED = True
_USB = {(0x0483, 0x5740): "ST virtual COM port (an LPM01A, or another board with ST's USB ids)"}
_BAUD = 3_686_400
_LOW_V, _HIGH_V = 1.8, 3.3
_TEXT_HZ = 20_000
_START, _STOP = b"start\n", b"stop\n"
_OPTIONS = ("voltage", "rate", "format")


def find() -> list[Found]:
    """Boards that are plugged in; their USB ids are those of many ST boards."""
    return find_usb(_USB, untried=UNTRIED)


def open_meter(choice: MeterChoice) -> Lpm01a:
    """Take control of the board and set it up.

    Raises:
        ConfigError: an option that does not exist or fit, or no single board.
        MeterError: it cannot be opened or refuses a command.
    """
    check_options(choice, _OPTIONS)
    voltage_v = number(choice, "voltage", 3.3, _LOW_V, _HIGH_V)
    rate_hz = number(choice, "rate", RATES_HZ[0], RATES_HZ[-1], RATES_HZ[0])
    form = word(choice, "format", "binary", ("binary", "ascii"))
    if rate_hz not in RATES_HZ or (form == "ascii" and rate_hz > _TEXT_HZ):
        raise ConfigError(
            f"the LPM01A cannot send {rate_hz:g} samples a second as {form}",
            cause=f"it has {', '.join(map(str, RATES_HZ))} Hz, as ascii up to {_TEXT_HZ}",
            fix="use --meter-option rate=100000",
        )
    found = find()
    return Lpm01a(choose_port(choice, found, "LPM01A"), int(rate_hz), voltage_v, form, found)


class Settings(msgspec.Struct, frozen=True):
    """What reader and decoder need to know."""

    path: str
    rate_hz: float
    form: str


def reader_from(settings: Mapping[str, object]) -> SerialReader:
    """The reader of a board that was set up."""
    return SerialReader(msgspec.convert(settings, Settings).path, _BAUD, (_START,), _STOP)


def decoder_from(settings: Mapping[str, object]) -> Lpm01aDecoder:
    """The decoder of a board that was set up."""
    known = msgspec.convert(settings, Settings)
    return Lpm01aDecoder(known.rate_hz, known.form)


class Lpm01a:
    """A board under the host's control."""

    def __init__(
        self, path: str, rate_hz: int, voltage_v: float, form: str, found: list[Found]
    ) -> None:
        self._path = path
        self._form = form
        short = f"{rate_hz // 1000}k" if rate_hz >= 1000 else str(rate_hz)
        self._setup = (
            "htc",
            f"volt {round(voltage_v * 1000)}m",
            f"freq {short}",
            f"format {'bin_hexa' if form == 'binary' else 'ascii_dec'}",
            "acqmode dyn",
            "acqtime 0",
            "trigsrc sw",
        )
        self._control()
        identity, evidence = identity_of(path, found)
        self.info = MeterInfo(
            name="lpm01a",
            id=f"lpm01a:{identity}",
            rate_hz=float(rate_hz),
            signals=(SIGNALS["current"],),
            evidence=evidence,
            untried=UNTRIED and evidence is Evidence.METERED,
            ledger="host-time",
            supply_v=voltage_v,
            details={"format": form},
            sample_bytes=2 if form == "binary" else 9,
        )

    def _control(self) -> None:
        port = Port(self._path, _BAUD)
        try:
            port.send(_STOP)
            port.drain(0.1, 1.0, most=1 << 22)
            for command in self._setup:
                port.send(command.encode() + b"\n")
                answer = port.drain(0.5, 2.0, until=b"\n")
                if b"ack " + command.split()[0].encode() not in answer:
                    raise MeterError(
                        f"the LPM01A at {self._path} refuses {command!r}",
                        cause=f"it said {answer[:80]!r}" if answer else "it said nothing",
                        fix="check the port; press the board's reset, and try again",
                    )
        finally:
            port.close()

    def settings(self) -> dict[str, object]:
        """As `Settings`."""
        return msgspec.structs.asdict(Settings(self._path, self.info.rate_hz, self._form))

    def close(self) -> None:
        """Stop, and give control back to the board's own keys."""
        tell(self._path, _BAUD, _STOP + b"hrc\n")


class Lpm01aDecoder:
    """Bytes to currents; ids count what time says was lost."""

    def __init__(self, rate_hz: float, form: str) -> None:
        self._form: Form = Binary() if form == "binary" else Text()
        self._bytes = 2 if form == "binary" else 9
        self._ledger = Ledger("host-time")
        self._resolver = Resolver(rate_hz, None, self._ledger)
        self._queue = Queue()

    def feed(self, raw: bytes | memoryview, host_ns: int) -> list[Part]:
        amps = self._form.feed(raw)
        if len(amps):
            self._queue.put(amps, None)
            self._resolver.received(len(amps))
            self._resolver.arrived(host_ns)
        return self._queue.parts(self._resolver.take())

    def skip(self, size_bytes: int, host_ns: int) -> list[Part]:
        # Messages may be among them, so this is close but not exact; time tells the rest.
        self._resolver.lost(-(-size_bytes // self._bytes), "ring")
        return self._queue.parts(self._resolver.take())

    def finish(self, host_ns: int) -> list[Part]:
        self._resolver.finish()
        return self._queue.parts(self._resolver.take())

    def ledger(self) -> dict[str, object]:
        # A slip lies somewhere since the time stamp before: what came since cannot be trusted.
        slips = self._form.slips
        account = replace(self._ledger, resyncs=slips, unknown=self._ledger.unknown + slips)
        return account.as_dict()

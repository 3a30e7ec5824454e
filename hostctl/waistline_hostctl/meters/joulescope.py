"""Joulescope JS110, JS220 and JS320 through their maker's driver, pyjoulescope_driver.

Options: ``rate`` (of current, voltage and power in hertz; by default 2000000 for a JS110, else
1000000) and ``bits`` (general-purpose inputs kept as D0, D1, ..; 1). Losses are known to the sample
from the driver's sample ids. Written from the driver's own interface; no one has tried it on the
real instrument.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pyjoulescope_driver

from waistline.errors import ConfigError, MeterError
from waistline.evidence import Evidence
from waistline.trace.base import FLOAT_SIGNALS, SIGNALS
from waistline_hostctl.meters._lanes import HEAD, MOST_BYTES, LaneDecoder, message
from waistline_hostctl.meters._options import check_options
from waistline_hostctl.meters.base import (
    Found,
    MeterChoice,
    MeterInfo,
    choose_port,
    gone,
)

UNTRIED = True
_OPTIONS = ("rate", "bits")
_TOPICS = {"current": "s/i", "voltage": "s/v", "power": "s/p"}
_MODELS = {"js110": (2_000_000, 2), "js220": (1_000_000, 4), "js320": (1_000_000, 4)}
"""Default rate in hertz, and general-purpose inputs."""
_RATES = (*(m * 10**e for e in range(6) for m in (1, 2, 5)), 1_000_000, 2_000_000)
_HELD_BYTES = 64 << 20
_REMOVED = "@/!remove"


class Settings(msgspec.Struct, frozen=True):
    """What reader and decoder need to know."""

    path: str
    rate_hz: int
    bits: int


def find() -> list[Found]:
    """Instruments that are plugged in; ids are model and serial number."""
    with _driver() as driver:
        paths = sorted(str(path) for path in driver.device_paths())
    return [
        Found(f"{model}:{serial}", path, f"Joulescope {model.upper()}", UNTRIED)
        for path in paths
        for model, serial in [_model(path)]
    ]


def open_meter(choice: MeterChoice) -> Joulescope:
    """Find the instrument and check the options; the reader sets it up.

    Raises:
        ConfigError: an option that does not exist or fit, or no single instrument.
        MeterError: the driver does not start.
    """
    check_options(choice, _OPTIONS)
    found = find()
    if not found:
        raise ConfigError(
            "no Joulescope is plugged in",
            cause="its driver lists no instrument",
            fix="plug it in; where it is, let users reach it: "
            "https://github.com/jetperch/joulescope_driver (99-joulescope.rules)",
        )
    path = choose_port(choice, found, "Joulescope")
    rate_hz, inputs = _MODELS.get(_model(path)[0], _MODELS["js220"])
    return Joulescope(
        Settings(
            path,
            _number(choice, "rate", rate_hz, [rate for rate in _RATES if rate <= 2 * rate_hz]),
            _number(choice, "bits", 1, range(inputs + 1)),
        )
    )


def _number(choice: MeterChoice, name: str, default: int, allowed: Any) -> int:
    text = choice.options.get(name, str(default))
    if text in map(str, allowed):
        return int(text)
    raise ConfigError(
        f"a Joulescope has no {name}={text}",
        cause=f"it has {', '.join(str(one) for one in allowed)}",
        fix=f"use --meter-option {name}={default}",
    )


def _model(path: str) -> tuple[str, str]:
    """(model, serial number) of a path such as ``u/js220/000415``."""
    parts = path.split("/")
    return parts[-2] if len(parts) > 1 else "js220", parts[-1]


@contextlib.contextmanager
def _driver() -> Iterator[Any]:
    """The driver while it is needed; its errors in our words."""
    try:
        driver = pyjoulescope_driver.Driver()
    except (RuntimeError, OSError, TimeoutError) as error:
        raise _failed("the Joulescope driver does not start", error) from error
    try:
        yield driver
    except (RuntimeError, OSError, TimeoutError, ValueError) as error:
        raise _failed("the Joulescope driver failed", error) from error
    finally:
        driver.finalize()


def _failed(what: str, error: Exception) -> MeterError:
    return MeterError(
        what,
        cause=str(error) or type(error).__name__,
        fix="close the program that has it open (Joulescope UI), or unplug it and plug it in again",
    )


def reader_from(settings: Mapping[str, object]) -> JoulescopeReader:
    """The reader of an instrument that was found."""
    return JoulescopeReader(msgspec.convert(settings, Settings))


def decoder_from(settings: Mapping[str, object]) -> LaneDecoder:
    """The decoder of its messages."""
    known = msgspec.convert(settings, Settings)
    return LaneDecoder(tuple(FLOAT_SIGNALS), range(known.bits), known.rate_hz)


class Joulescope:
    """An instrument that is plugged in."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        model, serial = _model(settings.path)
        names = (*FLOAT_SIGNALS, *(f"d{bit}" for bit in range(settings.bits)))
        self.info = MeterInfo(
            name="joulescope",
            id=f"joulescope:{model}:{serial}",
            rate_hz=settings.rate_hz,
            signals=tuple(SIGNALS[name] for name in names),
            evidence=Evidence.METERED,
            untried=UNTRIED,
            ledger="counter",
            details={
                "model": model,
                "driver": str(getattr(pyjoulescope_driver, "__version__", "")),
            },
            # Bits of a slow rate come at the instrument's own.
            sample_bytes=4 * len(FLOAT_SIGNALS) + 4 * settings.bits,
        )

    def settings(self) -> dict[str, object]:
        """As `Settings`."""
        return msgspec.structs.asdict(self._settings)

    def close(self) -> None:
        """The reader has closed it."""


class JoulescopeReader:
    """The driver's messages in the order in which they came."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._lock = threading.Lock()
        self._rest = b""
        self._failure = ""

    def start(self) -> None:
        known, model = self._settings, _model(self._settings.path)[0]
        with contextlib.ExitStack() as stack:
            driver = stack.enter_context(_driver())
            driver.open(known.path, mode="defaults")
            stack.callback(self._quietly, driver.close, known.path)
            driver.publish(f"{known.path}/h/fs", known.rate_hz)
            key, volts = ("select", "15 V") if model == "js110" else ("mode", "auto")
            driver.publish(f"{known.path}/s/i/range/{key}", "auto")
            driver.publish(f"{known.path}/s/v/range/{key}", volts)
            topics = [_TOPICS[name] for name in FLOAT_SIGNALS]
            topics += [f"s/gpi/{bit}" for bit in range(known.bits)]
            driver.subscribe(_REMOVED, ["pub"], self._removed)
            for lane, topic in enumerate(topics):
                driver.subscribe(f"{known.path}/{topic}/!data", ["pub"], self._taker(lane))
            for topic in topics:
                driver.publish(f"{known.path}/{topic}/ctrl", 1)
                stack.callback(self._quietly, driver.publish, f"{known.path}/{topic}/ctrl", 0)
            self._stack = stack.pop_all()

    @staticmethod
    def _quietly(what: Callable[..., object], *values: object) -> None:
        with contextlib.suppress(RuntimeError, OSError, TimeoutError, ValueError):
            what(*values)

    def _removed(self, topic: str, value: object) -> None:
        if value == self._settings.path:
            self._failure = "the driver says that it was unplugged"

    def _taker(self, lane: int) -> Callable[[str, Mapping[str, Any]], None]:
        """What the driver's thread calls with each message of a signal."""
        rate_hz = self._settings.rate_hz

        def take(topic: str, value: Mapping[str, Any]) -> None:
            decimate, data = int(value["decimate_factor"]), value["data"]
            if data is None or not len(data):
                return
            if lane < len(FLOAT_SIGNALS) and value["sample_rate"] != rate_hz * decimate:
                got = value["sample_rate"] / decimate
                self._failure = f"it samples at {got:g} Hz, not at {rate_hz} Hz as it was told"
                return
            self._put(message(lane, decimate, int(value["sample_id"]), data))

        return take

    def _put(self, one: bytes) -> None:
        with self._lock:
            # What nobody fetches in time is lost; the next id tells.
            if len(one) <= HEAD.size + MOST_BYTES and self._held + len(one) <= _HELD_BYTES:
                self._waiting.append(one)
                self._held += len(one)

    def fileno(self) -> int:
        return -1

    def read_into(self, buffer: memoryview) -> int:
        at = 0
        while at < len(buffer):
            if not self._rest:
                with self._lock:
                    if not self._waiting:
                        break
                    self._rest = self._waiting.popleft()
                    self._held -= len(self._rest)
            count = min(len(buffer) - at, len(self._rest))
            buffer[at : at + count] = self._rest[:count]
            self._rest = self._rest[count:]
            at += count
        if not at and self._failure:
            raise gone(self._settings.path, self._failure)
        return at

    def stop(self) -> None:
        self._stack.close()

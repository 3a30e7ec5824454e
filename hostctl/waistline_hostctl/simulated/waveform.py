"""Waveforms by name: what an emulated instrument plays.

``constant:AMPERES``, ``device:FILE.json`` (`device.DeviceSpec`), ``file:FILE.csv`` (two columns,
seconds and amperes).
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from waistline.errors import ConfigError
from waistline_hostctl.simulated import device
from waistline_hostctl.simulated.device import Device, Samples

_MAX_BYTES = 64 << 20


class Waveform(Protocol):
    """Samples of something that runs from time 0 on; asking twice gives the same."""

    def samples(self, first: int, count: int) -> Samples:
        """Samples ``first`` .. ``first + count`` at the rate it was opened with."""


class Constant:
    """One current at one voltage."""

    def __init__(self, current_a: float, supply_v: float) -> None:
        self._current_a, self._supply_v = current_a, supply_v

    def samples(self, first: int, count: int) -> Samples:
        """The same, ``count`` times."""
        current, voltage = np.float32(self._current_a), np.float32(self._supply_v)
        return Samples(
            np.full(count, current),
            np.full(count, voltage),
            np.full(count, current * voltage),
            np.zeros(count, np.uint8),
        )


class Table:
    """A recorded current, repeated: linear between the file's points, integrated over a sample.

    Args:
        times_s: float64 (n,), rising, from 0.
        current_a: float64 (n,), at those times; the last point is the first one's next turn.
        rate_hz: of the meter.
        supply_v: at the meter.
    """

    def __init__(
        self,
        times_s: NDArray[np.float64],
        current_a: NDArray[np.float64],
        rate_hz: float,
        supply_v: float,
    ) -> None:
        self.period_s = float(times_s[-1])
        self._times_s, self._current_a = times_s, current_a
        mean = (current_a[1:] + current_a[:-1]) / 2
        self._charge_c = np.concatenate([[0.0], np.cumsum(mean * np.diff(times_s))])
        self._rate_hz, self._supply_v = rate_hz, supply_v

    def charge_c(self, until_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Charge from time 0 to each time, exact."""
        whole = np.floor(until_s / self.period_s)
        inside = until_s - whole * self.period_s
        last = len(self._times_s) - 2
        at = np.clip(np.searchsorted(self._times_s, inside, side="right") - 1, 0, last)
        since = inside - self._times_s[at]
        slope = np.diff(self._current_a)[at] / np.diff(self._times_s)[at]
        part = since * (self._current_a[at] + slope * since / 2)
        charge: NDArray[np.float64] = whole * self._charge_c[-1] + self._charge_c[at] + part
        return charge

    def samples(self, first: int, count: int) -> Samples:
        """Mean over each sample's interval."""
        edges = np.arange(first, first + count + 1) / self._rate_hz
        current = (np.diff(self.charge_c(edges)) * self._rate_hz).astype(np.float32)
        return Samples(
            current,
            np.full(count, np.float32(self._supply_v)),
            current * np.float32(self._supply_v),
            np.zeros(count, np.uint8),
        )


def open_waveform(text: str, rate_hz: float, supply_v: float = 3.3) -> Waveform:
    """Open a waveform by its name.

    Raises:
        ConfigError: there is none of that name, or its file cannot be used.
    """
    kind, _, rest = text.partition(":")
    if kind == "device":
        return Device(device.read(Path(rest)), rate_hz)
    if kind == "file":
        return read_table(Path(rest), rate_hz, supply_v)
    if kind == "constant":
        try:
            current_a = float(rest)
        except ValueError:
            current_a = math.nan
        if math.isfinite(current_a):
            return Constant(current_a, supply_v)
    raise ConfigError(
        f"there is no waveform {text!r}",
        cause="there are constant:AMPERES, device:FILE.json and file:FILE.csv",
        fix="try constant:0.01",
    )


def read_table(path: Path, rate_hz: float, supply_v: float) -> Table:
    """Read a waveform of two columns, seconds and amperes, after one line of names.

    Raises:
        ConfigError: it cannot be read, or its times do not rise from 0.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"over {_MAX_BYTES} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError) as error:
        raise _bad(path, str(error)) from error
    if rows.shape[1:] != (2,) or len(rows) < 2 or not np.isfinite(rows).all():
        raise _bad(path, f"it has the shape {rows.shape}, or holds what is no number")
    times_s = rows[:, 0]
    if times_s[0] != 0 or (np.diff(times_s) <= 0).any():
        raise _bad(path, "its times do not rise from 0")
    return Table(times_s.copy(), rows[:, 1].copy(), rate_hz, supply_v)


def _bad(path: Path, cause: str) -> ConfigError:
    return ConfigError(
        f"cannot use the waveform {path}",
        cause=cause,
        fix="two columns are wanted, time_s and current_a, with times that rise from 0",
    )

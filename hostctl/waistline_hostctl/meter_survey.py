"""Meters for ``waistline devices`` and ``doctor``: their libraries and what is plugged in.

They are looked for in a process of its own: an instrument's library may crash or hang.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import msgspec

from waistline.bench import Bench
from waistline_hostctl import meter_list
from waistline_hostctl.far_process import exit_text
from waistline_hostctl.mcu_survey import UNTRIED
from waistline_hostctl.meter_list import MeterListResult, MeterRow
from waistline_hostctl.results import Device, Finding, decode, encode

METERS = "meters"
_TIMEOUT_S = 30.0
_THERE = {"ok", "nothing plugged in"}


def rows(timeout_s: float = _TIMEOUT_S) -> tuple[MeterRow, ...]:
    """Every meter; one ``failed`` row in the place of all where looking for them fails."""
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise OSError(exit_text(done.returncode))
        result: MeterListResult = decode(done.stdout, MeterListResult)
        return result.meters
    except subprocess.TimeoutExpired:
        problem = f"no answer within {timeout_s:g} s"
    except (OSError, msgspec.MsgspecError) as error:
        problem = str(error)
    return (MeterRow("meters", "failed", detail=problem, fix="waistline meter list"),)


def devices(found: tuple[MeterRow, ...]) -> Iterator[Device]:
    """A device an instrument that is plugged in, and one a meter of which none is."""
    for row in found:
        tried = "yes" if row.name in meter_list.ALWAYS else UNTRIED
        for one in row.instruments:
            yield Device(
                id=f"--meter {row.name} --port {one.id}",
                name=row.name,
                kind="meter",
                state="present",
                tried=UNTRIED if one.untried else "yes",
                detail=f"{one.text}, now {one.path}",
            )
        if not row.instruments:
            state = "usable" if row.state == "ok" else row.state
            yield Device(
                id=f"--meter {row.name}",
                name=row.name,
                kind="meter",
                state=state,
                tried=tried,
                detail=row.detail,
                fix=row.fix,
            )


def findings(found: tuple[MeterRow, ...]) -> Iterator[Finding]:
    """For ``waistline doctor``: which can be used, what is plugged in, what is in the way."""
    usable = [row.name for row in found if row.state in _THERE]
    missing = [row.name for row in found if row.state == "missing extra"]
    if usable:
        text = ", ".join(usable)
        if missing:
            text += f"; without their extras: {', '.join(missing)}"
        yield Finding("meters", "ok", text, "", METERS, "ok")
    for row in found:
        if row.state not in {*_THERE, "missing extra"}:
            yield Finding(f"meter {row.name}", "warn", row.detail, row.fix, METERS, row.state)
    plugged = [f"{one.text} ({one.id})" for row in found for one in row.instruments]
    level = "ok" if plugged else "info"
    about = ", ".join(plugged) or "none is plugged in"
    yield Finding("instruments", level, about, "", METERS, "ok")


if __name__ == "__main__":
    sys.stdout.write(encode(meter_list.meters(Bench())))

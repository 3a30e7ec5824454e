"""The real libraries of meters have what our files and their stand-ins say; where installed."""

import enum
import inspect
import subprocess
import sys
from pathlib import Path

import joulescope_stand_in
import pytest
import uldaq_stand_in
from meter_libraries import (
    CHECKS,
    JOULESCOPE_CALLS,
    ULDAQ_CALLS,
    ULDAQ_VALUES,
    installed,
    uldaq_faults,
)


@pytest.mark.parametrize("extra", sorted(CHECKS))
def test_a_library_is_as_it_is_used(extra: str) -> None:
    if installed(CHECKS[extra][0]) is None:
        pytest.skip(f"needs the extra {extra}; the check of extras alone runs it")
    script = Path(__file__).with_name("meter_libraries.py")
    done = subprocess.run([sys.executable, script, extra], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_stand_ins_have_the_values_that_are_checked() -> None:
    for kind, names in ULDAQ_VALUES.items():
        members = getattr(uldaq_stand_in, kind)
        assert issubclass(members, enum.IntEnum)
        for member in members:
            assert names.get(member.name, member.value) == member.value
    for name, wanted in JOULESCOPE_CALLS.items():
        has = inspect.signature(getattr(joulescope_stand_in.Driver, name)).parameters
        assert len(has) - 1 == len(wanted)


def test_a_library_that_has_changed_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from .ul_enums import Range\n")
    (tmp_path / "ul_enums.py").write_text("class Range:\n    BIP10VOLTS = 6,\n")
    faults = uldaq_faults(tmp_path)
    assert "Range.BIP10VOLTS is 6, not 5" in faults
    assert any(fault.startswith("ai_device.AiDevice.a_in_scan takes None") for fault in faults)
    assert len(faults) > len(ULDAQ_CALLS)

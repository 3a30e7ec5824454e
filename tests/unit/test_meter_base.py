"""Every meter: found by its file, listed without being picked, refused in three parts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from waistline import plugins
from waistline.errors import ConfigError, MissingExtra
from waistline_hostctl.meters import base, ppk2
from waistline_hostctl.meters.base import MeterChoice

METERS = plugins.names(base.PACKAGE)


def _usb(path, serial_number, *, vid=0x1915, pid=0xC00A, interface=None):
    details = {"vid": vid, "pid": pid, "serial_number": serial_number, "location": "1-2:1.1"}
    return SimpleNamespace(device=path, interface=interface, **details)


def test_the_instruments_of_this_room_are_there():
    assert {"ppk2", "lpm01a"} <= set(METERS)


@pytest.mark.parametrize("name", METERS)
def test_a_meter_says_what_is_plugged_in(name):
    try:
        found = base.find(name)
    except MissingExtra as error:
        pytest.skip(str(error))
    assert found == sorted(found, key=lambda one: one.path)


@pytest.mark.parametrize("name", METERS)
def test_an_option_that_no_meter_has_is_refused(name):
    try:
        with pytest.raises(ConfigError) as caught:
            base.open_meter(MeterChoice(name, "/dev/null", {"no-such-option": "1"}))
    except MissingExtra as error:
        pytest.skip(str(error))
    assert "no-such-option" in caught.value.what


def test_an_unknown_meter_is_refused():
    with pytest.raises(ConfigError) as caught:
        base.open_meter(MeterChoice("ppk3"))
    assert "ppk2" in caught.value.fix


def test_instruments_are_found_by_their_usb_ids(monkeypatch):
    ports = [
        _usb("/dev/ttyACM4", "ABC"),
        _usb("/dev/ttyACM0", "XYZ"),
        _usb("/dev/ttyUSB0", "ABC", vid=0x0403),
        _usb("/dev/ttyS0", None, vid=None, pid=None),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    found = ppk2.find()
    assert [(one.id, one.path) for one in found] == [
        ("1915:c00a:XYZ", "/dev/ttyACM0"),
        ("1915:c00a:ABC", "/dev/ttyACM4"),
    ]
    assert all(one.untried for one in found)
    with pytest.raises(ConfigError) as caught:
        ppk2.open_meter(MeterChoice("ppk2", None, {"voltage": "3.3"}))
    assert "1915:c00a:ABC" in caught.value.cause


def test_two_ports_of_one_instrument_have_ids_of_their_own(monkeypatch):
    ports = [_usb("/dev/ttyACM0", "A"), _usb("/dev/ttyACM1", "A", interface="second")]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    assert [one.id for one in ppk2.find()] == ["1915:c00a:A:ttyACM0", "1915:c00a:A:ttyACM1"]


def test_nothing_plugged_in_says_so(monkeypatch):
    monkeypatch.setattr(list_ports, "comports", list)
    with pytest.raises(ConfigError) as caught:
        ppk2.open_meter(MeterChoice("ppk2", None, {"voltage": "3.3"}))
    assert caught.value.what == "no PPK2 is plugged in"

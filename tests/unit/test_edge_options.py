from __future__ import annotations

from pathlib import Path

import pytest

from waistline.errors import ConfigError
from waistline_edge.options import EdgeOptions, parse, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9571", ("127.0.0.1", 9571)),
        (":9571", ("127.0.0.1", 9571)),
        ("10.0.0.1:0", ("10.0.0.1", 0)),
        ("[::1]:9571", ("::1", 9571)),
        ("localhost:9571", ("localhost", 9571)),
    ],
)
def test_addresses_without_a_host_stay_on_this_machine(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "here", "host:", "host:70000", "host:-1", "host:²", "::1:x"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="not HOST:PORT"):
        parse_address(text)


def test_every_flag_reaches_its_option():
    line = (
        "a.bundle b.bundle --listen tcp://127.0.0.1:1 --backend fake --backend-option delay_ms=5 "
        "--backend-option function=noise --workers 3 --threads 2 --queue 7 --max-in-flight 5 "
        "--max-connections 9 --metrics 0.0.0.0:1 --insecure -v"
    )
    found = parse(line.split())
    assert found.bundles == (Path("a.bundle"), Path("b.bundle"))
    assert found.verbose
    assert found.options == EdgeOptions(
        listen="tcp://127.0.0.1:1",
        backend="fake",
        backend_options={"delay_ms": "5", "function": "noise"},
        workers=3,
        threads=2,
        queue_limit=7,
        max_in_flight=5,
        max_connections=9,
        metrics=("0.0.0.0", 1),
        insecure=True,
    )


def test_metrics_for_other_machines_must_be_meant():
    with pytest.raises(ConfigError, match="other machines"):
        EdgeOptions(metrics=("192.0.2.1", 9571))


@pytest.mark.parametrize(
    ("setting", "flag"),
    [({"queue_limit": 0}, "--queue 0"), ({"max_connections": 0}, "--max-connections 0")],
)
def test_a_setting_that_is_too_small_names_its_flag(setting, flag):
    with pytest.raises(ConfigError, match=flag):
        EdgeOptions(**setting)

"""Shared by all tests: hypothesis profiles, and skipping what this machine cannot run."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("fuzz", parent=settings.get_profile("default"), max_examples=20_000)
settings.load_profile(os.environ.get("WAISTLINE_HYPOTHESIS", "default"))

# What a script runs in the background ignores interrupts, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench", help="bench.toml that says what hardware is on the desk")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from waistline.codec import native

    reasons = {}
    if not native.available():
        reasons["native"] = f"needs the compiled codec: {native.reason()}"
    if not config.getoption("--bench"):
        reasons["hil"] = "needs hardware: pytest --bench bench.toml"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))

"""The protocol table and the energy formula built on it."""

from __future__ import annotations

import csv
from importlib import resources

import pytest

from waistline.errors import ConfigError
from waistline.evidence import Evidence
from waistline.links._energy import radio_energy_j
from waistline.links._profiles import profile, profiles
from waistline.links.base import LOCAL

TABLE = resources.files("waistline.links").joinpath("protocols.csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(TABLE.splitlines()))


def test_ids_are_unique_and_plain():
    assert len(profiles()) == len(ROWS) == 29
    assert all(row["id"] == row["id"].lower() and " " not in row["id"] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_each_figure_of_a_row_has_a_source(row):
    found = profile(row["id"])
    assert row["source"]
    assert row["confidence"]
    for name in ("rtt", "jitter", "rate_up", "rate_down"):
        assert row[f"{name}_source"]
        assert row[f"{name}_source"] in found.source
    assert found.rate_up_bps > 0
    assert found.rate_down_bps > 0
    assert found.rtt_s > 0
    assert 0 <= found.jitter_s < found.rtt_s
    assert found.evidence is Evidence.PUBLISHED


def test_a_rate_that_the_source_states_is_taken_as_it_is():
    for row in ROWS:
        if row["app_throughput_up_bps"]:
            assert float(row["rate_up_bps"]) == float(row["app_throughput_up_bps"])
        else:
            assert "assumption" in row["rate_up_source"] or "AN1200.13" in row["rate_up_source"]


def test_milliwatts_become_watts():
    lte = profile("lte-cat1")
    assert (lte.tx_power_w, lte.rx_power_w) == (2.318, 0.1178)
    assert lte.sleep_power_w == pytest.approx(0.00494)
    assert (lte.setup_s, lte.tail_power_w) == (None, None)


def test_a_linear_power_model_is_taken_at_its_own_rate():
    phone = profile("lte-phone-2012")
    assert phone.tx_power_w == pytest.approx((438.39 * 5.64 + 1288.04) / 1e3)
    assert phone.rx_power_w == pytest.approx((51.97 * 12.74 + 1288.04) / 1e3)
    assert (phone.tail_s, phone.tail_power_w) == (11.576, 1.06)


def test_an_unknown_id_names_near_ones():
    with pytest.raises(ConfigError, match="no link profile 'lte-cat-1'") as caught:
        profile("lte-cat-1")
    assert "lte-cat1" in caught.value.fix
    with pytest.raises(ConfigError):
        profile("")


@pytest.mark.parametrize(
    "name", ["wifi-g-esp32", "wifi-n-esp32", "gprs-4up-1down", "hspa-lisa-u2", "lte-cat1"]
)
def test_energy_agrees_with_the_tables_own_derivation(name):
    (row,) = (row for row in ROWS if row["id"] == name)
    per_byte_j = radio_energy_j(profile(name), 1e5, 0).value / 1e5
    assert per_byte_j * 1e6 == pytest.approx(float(row["derived_uJ_per_byte_up"]), rel=0.02)


def test_energy_counts_both_directions_and_says_what_it_is():
    figure = radio_energy_j(profile("lte-cat1"), 1000, 50)
    assert figure.value == pytest.approx(2.318 * 8000 / 5.031e6 + 0.1178 * 400 / 10e6)
    assert (figure.unit, figure.evidence) == ("J", Evidence.MODELLED)
    assert "lte-cat1" in figure.source
    assert "ideal transfer" in figure.source
    assert "transmit power taken" in radio_energy_j(profile("gprs-4up-1down"), 1, 1).source


@pytest.mark.parametrize("link", [LOCAL, profile("uart-115200")])
def test_a_link_without_radio_figures_has_no_energy(link):
    with pytest.raises(ConfigError, match="has no radio energy"):
        radio_energy_j(link, 1, 1)

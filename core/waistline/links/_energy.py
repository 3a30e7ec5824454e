"""Radio energy of one exchange by the simplest published formula."""

from __future__ import annotations

from waistline.errors import ConfigError
from waistline.evidence import Evidence, Figure
from waistline.links.base import LinkProfile


def radio_energy_j(profile: LinkProfile, up_bytes: float, down_bytes: float) -> Figure:
    """Transmit power x sending time + receive power x receiving time, in joules.

    An ideal transfer: no set-up, no tail, no waiting, no retransmission, and the radio's power
    alone. Real radios spend more, LTE a hundred times more; where a row's throughput includes
    waiting (LoRa, NB-IoT), this formula charges the wait at transmit power and comes out too high.

    Args:
        profile: a row of the protocol table.
        up_bytes: payload the node sends per frame.
        down_bytes: payload the node receives per frame.

    Raises:
        ConfigError: the profile lacks a rate or the transmit power.
    """
    if not profile.tx_power_w or profile.rate_up_bps <= 0 or profile.rate_down_bps <= 0:
        raise ConfigError(
            f"link profile {profile.id!r} has no radio energy",
            cause="its transmit power or a rate is not known",
            fix="use a profile of a radio, such as lte-cat1 or wifi-n-esp32",
        )
    note = ""
    rx_power_w = profile.rx_power_w
    if rx_power_w is None:
        # An upper bound: these amplifiers draw more when sending than when receiving.
        rx_power_w = profile.tx_power_w
        note = ", receive power unknown: transmit power taken"
    up_j = profile.tx_power_w * up_bytes * 8 / profile.rate_up_bps
    down_j = rx_power_w * down_bytes * 8 / profile.rate_down_bps
    return Figure(
        value=up_j + down_j,
        unit="J",
        evidence=Evidence.MODELLED,
        source=f"ideal transfer over {profile.id} of protocols.csv"
        f" (power x bytes / throughput{note}; confidence {profile.confidence})",
    )

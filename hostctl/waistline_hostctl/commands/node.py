"""Run the head of a bundle on frames and send the waist to an edge."""

from __future__ import annotations

from waistline_hostctl import services
from waistline_hostctl.passing import pass_on

command = pass_on(
    services.NODE, "Run the head of a bundle on frames and send the waist to an edge."
)

"""Run the tails of bundles for the nodes that connect."""

from __future__ import annotations

from waistline_hostctl import services
from waistline_hostctl.passing import pass_on

command = pass_on(services.EDGE, "Run the tails of bundles for the nodes that connect.")

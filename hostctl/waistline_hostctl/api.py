"""The Python API behind the command line, beside ``waistline.split``, ``load_bundle``, ``verify``.

from waistline_hostctl import api
run = api.run_pair("model.bundle", source="images/", link="wifi-n-esp32")
print(run.figures["latency_p50_waist_s"].value)

Each function is what its command calls. Where a command prints a result with ``--json``, the
function returns that object, and ``encode`` writes it down the same way.
"""

from __future__ import annotations

from waistline_bridge.split import McuSplit, split_mcu
from waistline_hostctl.capturing import capture
from waistline_hostctl.devices import devices
from waistline_hostctl.doctor import examine
from waistline_hostctl.flash_results import FlashListResult, FlashResult
from waistline_hostctl.flash_work import flash_mcu, flash_methods
from waistline_hostctl.mcu_build import build as build_mcu
from waistline_hostctl.mcu_results import (
    McuBenchResult,
    McuBuildResult,
    McuInfoResult,
    McuLoadResult,
)
from waistline_hostctl.mcu_work import ask_mcu, bench_mcu, load_mcu
from waistline_hostctl.recording import Rendered, report_again
from waistline_hostctl.results import VerifyResult, encode
from waistline_hostctl.running import RADIOS, Run, run_pair
from waistline_hostctl.tracing import trace_energy, trace_info
from waistline_hostctl.verifying import verify_device

__all__ = [
    "RADIOS",
    "FlashListResult",
    "FlashResult",
    "McuBenchResult",
    "McuBuildResult",
    "McuInfoResult",
    "McuLoadResult",
    "McuSplit",
    "Rendered",
    "Run",
    "VerifyResult",
    "ask_mcu",
    "bench_mcu",
    "build_mcu",
    "capture",
    "devices",
    "encode",
    "examine",
    "flash_mcu",
    "flash_methods",
    "load_mcu",
    "report_again",
    "run_pair",
    "split_mcu",
    "trace_energy",
    "trace_info",
    "verify_device",
]

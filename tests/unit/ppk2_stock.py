"""Run by another Python, that has the package ppk2-api: what it makes of an instrument at a port.

python ppk2_stock.py PORT SAMPLES RAW_FILE SAMPLES_FILE
"""

import sys
import time
from pathlib import Path

import numpy as np
from ppk2_api.ppk2_api import PPK2_API

port, wanted, raw_file, samples_file = sys.argv[1:]
meter = PPK2_API(port, timeout=1, write_timeout=1, exclusive=True)
meter.get_modifiers()
meter.use_source_meter()
meter.set_source_voltage(3300)
meter.toggle_DUT_power("ON")
meter.start_measuring()
raw = b""
while len(raw) < 4 * int(wanted):
    raw += meter.get_data()
    time.sleep(0.001)
meter.stop_measuring()
samples, logic = [], []
for start in range(0, len(raw) - 4095, 4096):
    some, bits = meter.get_samples(raw[start : start + 4096])
    samples += some
    logic += bits
Path(raw_file).write_bytes(raw)
np.save(samples_file, np.array(samples) * 1e-6)

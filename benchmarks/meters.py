"""Instruments: how fast samples are decoded, and whether losses are counted.

    python benchmarks/meters.py [--sequences N] [--json FILE]

*Decode*: million samples a second of the PPK2's decoder, and the ratio to reading the same bytes
once (a sum over them), in one run. *Losses*: sequences of random faults (drops of 1 to 5000
samples, whole turns of the counter, copies, stalls, drift, late reads) through the decoder with an
injected clock; every id it gives is compared with the truth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from waistline_hostctl.emulators.ppk2 import Instrument
from waistline_hostctl.meters._ppk2_calibration import parse
from waistline_hostctl.meters.ppk2 import Ppk2Decoder
from waistline_hostctl.simulated.device import Device, DeviceSpec
from waistline_hostctl.simulated.load import Burst, Layer, Load, Ripple
from waistline_hostctl.simulated.network import Rc
from waistline_hostctl.simulated.waveform import Constant

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))
from meter_help import RATE_HZ, Fault, faulty_ids, ramp_words, reads

from waistline.trace.base import Gap

SAMPLES = 2_000_000
CHUNK_BYTES = 1 << 18
SWITCHES = {"none": 0, "every 1000 samples": 1000, "every 20 samples": 20}
TARGET_MSPS = 20.0
REPEATS = 5


def decoder() -> Ppk2Decoder:
    return Ppk2Decoder(parse(Instrument(Constant(0.0, 3.3)).metadata()), 3.3)


def decode_speed(switch: int) -> dict[str, float]:
    """Medians over repeats; reading and decoding take turns."""
    raw = ramp_words(np.arange(SAMPLES), switch=switch)
    decoding, reading = [], []
    for _ in range(REPEATS):
        start = time.process_time()
        np.frombuffer(raw, np.uint64).sum()
        reading.append(time.process_time() - start)
        one = decoder()
        start = time.process_time()
        for at in range(0, len(raw), CHUNK_BYTES):
            chunk = raw[at : at + CHUNK_BYTES]
            one.feed(chunk, (at + len(chunk)) // 4 * 10_000)
        one.finish(SAMPLES * 10_000)
        decoding.append(time.process_time() - start)
    spent = statistics.median(decoding)
    return {"msps": SAMPLES / spent / 1e6, "times_reading": spent / statistics.median(reading)}


def random_faults(rng: np.random.Generator, length: int) -> list[Fault]:
    kinds = (
        lambda: int(rng.integers(1, 64)),
        lambda: int(rng.integers(1, 5000)),
        lambda: 64 * int(rng.integers(1, 50)),
        lambda: -int(rng.integers(1, 200)),
    )
    return [
        Fault(int(rng.integers(30_000, length - 25_000)), kinds[rng.integers(4)]())
        for _ in range(rng.integers(0, 5))
    ]


def sequence(seed: int) -> dict[str, int]:
    """One sequence through the whole decoder; ids are compared by the noise on the samples."""
    rng = np.random.default_rng(seed)
    length = int(rng.uniform(1.0, 2.0) * RATE_HZ)
    faults = random_faults(rng, length)
    ids = faulty_ids(length, faults)
    jitter_s = float(rng.choice([10e-6, 50e-6, 150e-6]))
    stalls, ppm = int(rng.integers(0, 3)), float(rng.uniform(-100, 100))
    raw, one = ramp_words(ids, seed), decoder()
    true = one._table[np.frombuffer(ramp_words(np.arange(length + 1), seed), "<u4") & 0x1FFFF]
    parts, before = [], 0
    for received, host_ns in reads(ids, rng, jitter_s=jitter_s, stalls=stalls, ppm=ppm):
        parts += one.feed(raw[4 * before : 4 * received], host_ns)
        before = received
    parts += one.finish(host_ns)
    account: Any = one.ledger()
    wrong, known = 0, account["start_dropped"] == 0
    for part in parts:
        if isinstance(part, Gap):
            known = known and part.resolved
        elif known:
            wrong += not np.array_equal(part.current_a, true[part.first : part.first + len(part)])
    lost = sum(account["lost"].values()) - account["repeated"]
    off = lost != sum(fault.count for fault in faults) and not account["unknown"]
    return {
        "faults": len(faults),
        "wrong": int(wrong > 0 and account["closes"]),
        "miscounted": int(off and account["start_dropped"] == 0 and account["closes"]),
        "unknown": int(account["unknown"]),
        "taken_back": int(account["contradictions"] > 0),
    }


def losses(count: int) -> dict[str, int]:
    rows = [sequence(seed) for seed in range(count)]
    return {key: sum(row[key] for row in rows) for key in rows[0]} | {"sequences": count}


def simulate_speed() -> float:
    """Share of a core that the simulated device takes at 2 MSPS with noise."""
    load = Load(
        period_s=0.05,
        idle_w=0.2,
        layers=(Layer("conv", 0.01, 1.0, 0.1), Layer("dense", 0.0005, 2.0)),
        ripples=(Ripple(1000, 0.01),),
        bursts=(Burst("radio", 0.045, 0.002, 0.8),),
    )
    there = Device(DeviceSpec(load=load, supply=Rc(5e-6), noise_w=0.01), 2e6)
    start = time.process_time()
    for first in range(0, 10_000_000, 100_000):
        there.samples(first, 100_000)
    return (time.process_time() - start) / 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sequences", type=int, default=10_000, help="of faults; 1,000 take a minute"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print("## Instruments\n\n| range changes | Msamples/s | times reading the bytes | target |")
    print("| --- | --- | --- | --- |")
    speeds = {}
    for name, switch in SWITCHES.items():
        speeds[name] = row = decode_speed(switch)
        target = ""
        if switch == 1000:
            target = f"{TARGET_MSPS:g}: {'held' if row['msps'] >= TARGET_MSPS else 'missed'}"
        print(f"| {name} | {row['msps']:.1f} | {row['times_reading']:.1f} | {target} |", flush=True)
    share = simulate_speed()
    print(f"\nThe simulated device takes {share:.1%} of a core at 2 Msamples/s.")
    counted = losses(options.sequences)
    missed = counted["wrong"] + counted["miscounted"]
    print(
        f"\nOf {counted['sequences']} sequences with {counted['faults']} faults: "
        f"{counted['wrong']} wrong, {counted['miscounted']} miscounted, "
        f"{counted['unknown']} holes unknown, {counted['taken_back']} accounts taken back "
        f"({'held' if not missed and counted['unknown'] * 100 <= counted['faults'] else 'missed'}: "
        "none wrong, at most 1 % unknown)."
    )
    if options.json:
        figures = {"decode": speeds, "simulate_core": share, "losses": counted}
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

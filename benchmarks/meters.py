"""Instruments: how fast samples are decoded, and whether losses are counted.

    python benchmarks/meters.py [--sequences N] [--first SEED] [--losses-only] [--json FILE]

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
from collections import Counter
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
from meter_help import RATE_HZ, faulty_ids, hidden, ramp_words, random_faults, reads

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


def sequence(seed: int) -> dict[str, int]:
    """One sequence through the whole decoder; ids are compared by the noise on the samples.

    An account that does not close makes the capture fail: what it says is not believed.
    """
    rng = np.random.default_rng(seed)
    length = int(rng.uniform(1.0, 2.0) * RATE_HZ)
    faults = random_faults(rng, length)
    if hidden(faults):
        return {"hidden": 1}
    ids = faulty_ids(length, faults)
    jitter_s = float(rng.choice([10e-6, 50e-6, 150e-6]))
    stalls, ppm = int(rng.integers(0, 3)), float(rng.uniform(-100, 100))
    raw, one = ramp_words(ids, seed), decoder()
    parts, before = [], 0
    for received, host_ns in reads(ids, rng, jitter_s=jitter_s, stalls=stalls, ppm=ppm):
        parts += one.feed(raw[4 * before : 4 * received], host_ns)
        before = received
    parts += one.finish(host_ns)
    account: Any = one.ledger()
    start = account["start_dropped"]
    # The trace begins with the first sample that was kept; of unknown holes none is the place.
    begun = int(ids[start]) if start < len(ids) else length
    off = misplaced_samples(one, parts, begun, length, seed)
    lost = sum(account["lost"].values()) - account["repeated"]
    dropped = begun - start
    missed = lost + dropped != sum(fault.count for fault in faults)
    believed = account["closes"] and not account["unknown"]
    return {
        "sequences": 1,
        "faults": len(faults),
        "as_injected": int(believed and not off and not missed),
        "wrong": int(believed and off > 0),
        "miscounted": int(believed and missed),
        "unknown": int(account["unknown"]),
        "taken_back": int(account["contradictions"] > 0),
        "late_start": int(start > 0),
    }


def misplaced_samples(
    one: Ppk2Decoder, parts: list[Any], begun: int, length: int, seed: int
) -> int:
    """Samples that do not have the value of their id, up to the first unknown hole."""
    words = np.frombuffer(ramp_words(np.arange(length + 1), seed), "<u4")
    true = one._table[words & 0x1FFFF][begun:]
    wrong = 0
    for part in parts:
        if isinstance(part, Gap) and not part.resolved:
            return wrong
        if not isinstance(part, Gap):
            here = true[part.first : part.first + len(part)]
            wrong += len(part) if len(here) < len(part) else int((part.current_a != here).sum())
    return wrong


def losses(count: int, first: int = 0) -> dict[str, int]:
    """Sums over ``count`` sequences from seed ``first`` on; a line of progress each thousand."""
    total: Counter[str] = Counter(sequences=0, hidden=0)
    for seed in range(first, first + count):
        row = sequence(seed)
        total.update(row)
        if row.get("wrong") or row.get("miscounted"):
            print(f"seed {seed}: {row}", file=sys.stderr, flush=True)
        if (seed - first) % 1000 == 999:
            print(f"{seed - first + 1} sequences", file=sys.stderr, flush=True)
    return dict(total)


def losses_text(counted: dict[str, int]) -> str:
    """What came of them, and whether the figures hold."""
    wrong = counted["wrong"] + counted["miscounted"]
    held = not wrong and counted["unknown"] * 100 <= counted["faults"]
    return (
        f"Of {counted['sequences']:,} sequences with {counted['faults']:,} faults: "
        f"{counted['as_injected']:,} counted as injected, {counted['wrong']} wrong, "
        f"{counted['miscounted']} miscounted, {counted['unknown']} holes unknown, "
        f"{counted['taken_back']} accounts taken back, which fail the capture "
        f"({counted['late_start']:,} began late, after a loss or a stall; {counted['hidden']} with "
        "whole turns lost and given back within 0.2 s were left out: nothing shows them). "
        f"None wrong, at most 1 % unknown: {'held' if held else 'missed'}."
    )


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
    parser.add_argument("--first", type=int, default=0, help="seed of the first sequence")
    parser.add_argument("--losses-only", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.losses_only:
        print(losses_text(losses(options.sequences, options.first)))
        return
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
    counted = losses(options.sequences, options.first)
    print("\n" + losses_text(counted))
    if options.json:
        figures = {"decode": speeds, "simulate_core": share, "losses": counted}
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

"""``waistline mcu bench``: what each layer of a head costs on a device, and each frame on the line.

Ticks of a real device are time. Those of QEMU are instructions where ``-icount`` is on, else they
follow the host's clock and say nothing; those of the host board are time of this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from waistline.blob import records
from waistline.blob.records import Blob, LayerRecord
from waistline.errors import BadFrame, ConfigError, MeterError
from waistline.evidence import BYTE, Evidence, Figure, mean
from waistline_bridge.boards.qemu import NS_PER_INSTRUCTION
from waistline_bridge.golden import Golden, goldens_of
from waistline_bridge.messages import Feature
from waistline_bridge.split import HEAD_LAYERS
from waistline_hostctl.mcu_load import HeadFile
from waistline_hostctl.mcu_open import Device
from waistline_hostctl.mcu_results import LayerCost, McuBenchResult, UartTime

BAUDS = (115_200, 460_800, 921_600, 2_000_000)
_BITS_PER_BYTE = 10
"""8N1: start, eight, stop."""
_SOURCE = "waistline mcu bench"
_OPERATORS = {
    records.CONV: "conv", records.DEPTHWISE: "depthwise", records.DENSE: "dense",
    records.MAX_POOL: "max pool", records.AVERAGE_POOL: "average pool", records.ADD: "add",
    records.CONCAT: "concat", records.PAD: "pad", records.MEAN: "mean", records.LOOKUP: "lookup",
}  # fmt: skip
_WINDOWED = (records.CONV, records.DEPTHWISE, records.MAX_POOL, records.AVERAGE_POOL)


@dataclass(frozen=True, slots=True)
class Ticks:
    """What the device's counter is worth.

    Attributes:
        meaning: for people.
        unit: of a cost: ``instruction`` or ``s``; "" where ticks are none.
        factor: from ticks to it.
        cycles: a tick is a processor cycle.
        evidence: of a cost.
    """

    meaning: str
    unit: str = ""
    factor: float = 0.0
    cycles: bool = False
    evidence: Evidence = Evidence.EMULATED


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame as the host saw it: s, and bytes on the line."""

    upload_s: float
    infer_s: float
    up_bytes: int
    down_bytes: int
    output_bytes: int


def check_icount(icount: bool, port: str, board: str) -> None:
    """Refuse to count instructions where nobody can.

    Raises:
        ConfigError: on a port, or on the host board.
    """
    if icount and port:
        raise ConfigError(
            "--icount goes with --board",
            cause=f"what is at {port} runs already, and cannot be asked how it was started",
            fix="waistline mcu bench ... --board NAME --icount",
        )
    if icount and not board.startswith("qemu-"):
        raise ConfigError(
            f"board {board} cannot count instructions",
            cause="icount is QEMU's",
            fix="choose a board that begins with qemu- (waistline mcu info lists them)",
        )


def tick_worth(device: Device, icount: bool) -> Ticks:
    """What a tick of this device is worth."""
    info = device.client.info
    tick_s = 1.0 / max(info.tick_hz, 1)
    if not device.emulated:
        cycles = Feature.CYCLES in info.features
        source = "processor cycles (DWT)" if cycles else f"{info.tick_source}, real time"
        return Ticks(source, "s", tick_s, cycles, Evidence.MEASURED)
    if icount:
        meaning = f"instructions = ticks x {1e9 * tick_s:g} ns / {NS_PER_INSTRUCTION} ns (icount)"
        return Ticks(meaning, "instruction", 1e9 * tick_s / NS_PER_INSTRUCTION)
    if info.cpuid == 0:
        return Ticks("time of this machine's processor, not of a microcontroller")
    return Ticks("no measure: without icount QEMU's ticks follow the host's clock")


def measure(
    device: Device,
    head: HeadFile,
    *,
    icount: bool,
    repeat: int,
    frames: int,
    progress: Callable[[int], None] = lambda done: None,
) -> McuBenchResult:
    """Run the active head ``repeat`` times for its ticks, and ``frames`` times with its input.

    Raises:
        MeterError: with icount, repetitions differ.
        BadFrame: the device says things that cannot be.
        LinkError, BridgeError: the device.
    """
    worth = tick_worth(device, icount)
    first = (*goldens_of(head.blob, head.bundle), _zeros(head.blob))[0]
    runs: list[list[int]] = []
    for number in range(repeat):
        progress(number)
        first.run(device.client, head.blob.output[1])
        runs.append(_ticks(device, head.blob))
    if icount and any(run != runs[0] for run in runs):
        raise MeterError(
            "the same head took another number of instructions",
            cause=f"totals {', '.join(str(sum(run)) for run in runs)} ticks",
            fix="report this with 'waistline doctor --json'",
        )
    seen = []
    for number in range(frames):
        progress(repeat + number)
        seen.append(_frame(device, first.data, head.blob.output[1]))
    info = device.client.info
    return McuBenchResult(
        board=info.board,
        line=device.line.name,
        emulated=device.emulated,
        icount=icount,
        tick_source=info.tick_source,
        tick_hz=info.tick_hz,
        tick_meaning=worth.meaning,
        blob=str(head.path),
        id=head.blob.id.hex(),
        bundle_id=head.bundle_id,
        repeat=repeat,
        frames=frames,
        layers=_layers(head, runs, worth),
        figures={**_totals(runs, worth), **_line(device, head.blob, seen)},
        uart=_uart(seen),
    )


def _ticks(device: Device, blob: Blob) -> list[int]:
    found = device.client.ticks()
    if len(found) != len(blob.layers) + 1:
        raise BadFrame(
            f"{device.name} counted the ticks of another head",
            cause=f"{len(found) - 1} layers, the blob has {len(blob.layers)}",
            fix="load it again: waistline mcu load ... --force",
        )
    return found


def _zeros(blob: Blob) -> Golden:
    """Without a golden input. Only the coder ``ctx`` takes longer for one input than another."""
    return Golden(bytes(blob.input_bytes), None, lambda made: "")


def _frame(device: Device, data: bytes, limit_bytes: int) -> _Frame:
    up, down = device.line.sent_bytes, device.line.received_bytes
    began = time.perf_counter()
    device.client.load_input(data)
    loaded = time.perf_counter()
    output = device.client.infer(limit_bytes=limit_bytes).output
    done = time.perf_counter()
    return _Frame(
        loaded - began,
        done - loaded,
        device.line.sent_bytes - up,
        device.line.received_bytes - down,
        len(output),
    )


def _layers(head: HeadFile, runs: list[list[int]], worth: Ticks) -> tuple[LayerCost, ...]:
    blob = head.blob
    names = layer_names(head)
    least = [min(column) for column in zip(*runs, strict=True)]
    most = [max(column) for column in zip(*runs, strict=True)]
    whole = sum(least) or 1
    rows = []
    for k, ticks in enumerate(least):
        coding = k == len(blob.layers)
        record = None if coding else blob.layers[k]
        out = None if record is None else blob.tensors[record.output].shape
        rows.append(
            LayerCost(
                name=names[k] if k < len(names) else "",
                operator=_coding(blob) if record is None else operator(record),
                shape="x".join(map(str, out)) if out else "",
                macs=0 if record is None else macs(blob, record),
                ticks=ticks,
                most_ticks=most[k],
                share=ticks / whole,
                cost=_cost([run[k] for run in runs], worth),
                cycles=ticks if worth.cycles else None,
            )
        )
    return tuple(rows)


def _cost(ticks: list[int], worth: Ticks) -> Figure | None:
    if not worth.unit:
        return None
    middle, spread = mean([count * worth.factor for count in ticks])
    return Figure(middle, worth.unit, worth.evidence, _SOURCE, spread, len(ticks))


def _totals(runs: list[list[int]], worth: Ticks) -> dict[str, Figure]:
    total = _cost([sum(run) for run in runs], worth)
    return {} if total is None else {"total": total}


def layer_names(head: HeadFile) -> list[str]:
    """Of the head's layers, as the bundle has them from the model; [] where it does not."""
    if head.bundle is None:
        return []
    found = head.bundle.read_evidence().get(HEAD_LAYERS)
    if not isinstance(found, list) or len(found) != len(head.blob.layers):
        return []
    return [name if isinstance(name, str) else "" for name in found]


def operator(record: LayerRecord) -> str:
    """Such as ``conv 3x3/2``: kernel and, where it is not 1, stride."""
    name = _OPERATORS.get(record.op, f"operator {record.op}")
    if record.op not in _WINDOWED:
        return name
    high, wide = record.stride
    step = "" if record.stride == (1, 1) else f"/{high}" if high == wide else f"/{high}x{wide}"
    return f"{name} {record.kernel[0]}x{record.kernel[1]}{step}"


def _coding(blob: Blob) -> str:
    kinds = {f"{waist.bits} bit|{records.CODERS[waist.coder]}" for waist in blob.waists}
    return f"coding {', '.join(sorted(kinds))}"


def macs(blob: Blob, record: LayerRecord) -> int:
    """Multiplications with accumulation; taps in the padding count, as is usual."""
    out, source = blob.tensors[record.output], blob.tensors[record.inputs[0]]
    taps = record.kernel[0] * record.kernel[1]
    if record.op == records.CONV:
        return out.size_bytes * taps * source.channels
    if record.op == records.DEPTHWISE:
        return out.size_bytes * taps
    if record.op == records.DENSE:
        return out.size_bytes * source.size_bytes
    return 0


def _line(device: Device, blob: Blob, seen: list[_Frame]) -> dict[str, Figure]:
    def over(pick: Callable[[_Frame], float], unit: str) -> Figure:
        middle, spread = mean([pick(frame) for frame in seen])
        return Figure(middle, unit, device.grade(unit), _SOURCE, spread, len(seen))

    return {
        "input_bytes": Figure(blob.input_bytes, BYTE, device.grade(BYTE), _SOURCE),
        "waist_bytes": over(lambda frame: frame.output_bytes, BYTE),
        "line_up_bytes": over(lambda frame: frame.up_bytes, BYTE),
        "line_down_bytes": over(lambda frame: frame.down_bytes, BYTE),
        "upload_duration": over(lambda frame: frame.upload_s, "s"),
        "infer_duration": over(lambda frame: frame.infer_s, "s"),
        "frame_duration": over(lambda frame: frame.upload_s + frame.infer_s, "s"),
    }


def _uart(seen: list[_Frame]) -> tuple[UartTime, ...]:
    up_bytes, _ = mean([frame.up_bytes for frame in seen])
    down_bytes, _ = mean([frame.down_bytes for frame in seen])

    def taken(size_bytes: float, baud: int) -> Figure:
        source = f"{size_bytes:.0f} counted bytes x {_BITS_PER_BYTE} bit (8N1) / baud"
        return Figure(size_bytes * _BITS_PER_BYTE / baud, "s", Evidence.MODELLED, source)

    return tuple(UartTime(baud=baud, up=taken(up_bytes, baud), down=taken(down_bytes, baud))
                 for baud in BAUDS)  # fmt: skip

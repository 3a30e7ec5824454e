"""What ``waistline mcu`` prints with ``--json``."""

from __future__ import annotations

import msgspec

from waistline.evidence import Evidence, Figure
from waistline_hostctl.results import Device, Result


class BuiltBoard(msgspec.Struct, frozen=True, kw_only=True):
    """Firmware of one board; bytes.

    Attributes:
        file: what a board is started or flashed with.
        code_bytes, data_bytes, zeroed_bytes: as the linker counts: read-only, initialized, zeroed
            or reserved (arena, stack, buffers, slots in RAM).
        firmware_limit_bytes: of flash that code and data may take; None: the board is a program of
            this machine, which has no limits.
        flash_bytes, ram_bytes: of the part.
        problem: what it exceeds; "" where it fits.
    """

    board: str
    file: str
    code_bytes: int
    data_bytes: int
    zeroed_bytes: int
    firmware_limit_bytes: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    problem: str = ""

    @property
    def image_bytes(self) -> int:
        """In flash: initialized data is copied from there."""
        return self.code_bytes + self.data_bytes

    @property
    def memory_bytes(self) -> int:
        return self.data_bytes + self.zeroed_bytes


class McuBuildResult(Result, frozen=True, kw_only=True, tag="mcu build"):
    """Firmware was built."""

    sources: str
    folder: str
    compiler: str
    baud: int | None
    boards: tuple[BuiltBoard, ...]


class McuReady(Result, frozen=True, kw_only=True, tag="mcu emulate"):
    """A board runs; ``port`` is what ``--port`` takes."""

    board: str
    port: str
    icount: bool
    pid: int
    evidence: Evidence = Evidence.EMULATED


class McuHead(msgspec.Struct, frozen=True, kw_only=True):
    """The active head of a device; bytes. ``output_bytes`` is the most that it can have."""

    id: str
    crc: str
    sequence: int
    blob_bytes: int
    layers: int
    waists: int
    goldens: int
    input_bytes: int
    output_bytes: int
    packed_bytes: int
    arena_bytes: int
    keeps_input: bool


class McuDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device by its own word; bytes.

    Attributes:
        line: device path or address.
        core: by its CPUID, such as ``Cortex-M4 r0p1``.
        tick_source: ``DWT`` (processor cycles) or ``SysTick or clock``.
        slots_keep: heads survive power loss.
        stack_free_bytes: never used so far; None: not known.
        build: CRC-32 of the firmware's sources.
    """

    board: str
    line: str
    emulated: bool
    protocol: int
    blob_version: int
    kernels: int
    build: str
    core: str
    cpuid: str
    features: tuple[str, ...]
    tick_source: str
    tick_hz: int
    max_payload_bytes: int
    arena_bytes: int
    slot_bytes: int
    slots_keep: bool
    stack_free_bytes: int | None
    round_trip: Figure
    head: McuHead | None


class McuInfoResult(Result, frozen=True, kw_only=True, tag="mcu info"):
    """A device, or what there is to choose from."""

    device: McuDevice | None = None
    choices: tuple[Device, ...] = ()


class McuLoadResult(Result, frozen=True, kw_only=True, tag="mcu load"):
    """A head is on a device.

    Attributes:
        id: of the head.
        bundle_id: of the bundle it came from; "" for a blob's file.
        already: it was the active head before.
        goldens: golden inputs that gave the expected output there.
        arena_bytes, blob_bytes: of the head; ``.._left_bytes``: what it leaves of the device's.
        ends: the board was started for this command, and its head ends with it.
        figures: ``upload_duration`` (s), ``upload_bytes`` (on the line, both ways), of a transfer.
    """

    board: str
    line: str
    emulated: bool
    blob: str
    id: str
    bundle_id: str = ""
    crc: str
    sequence: int
    already: bool
    blob_bytes: int
    blob_left_bytes: int
    arena_bytes: int
    arena_left_bytes: int
    goldens: int
    resent: int
    ends: bool
    figures: dict[str, Figure]


class LayerCost(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of the head, or the coding of the waist as the last.

    Attributes:
        name: of the layer in the model; "" where not known.
        operator: such as ``conv 3x3/2``.
        shape: of its output, ``HxWxC``.
        macs: multiplications with accumulation; 0 for operators without.
        ticks: of the device's counter, the least of all repetitions.
        most_ticks: the most.
        share: of the ticks of all layers and coding.
        cost: instructions (QEMU with icount), or s on a real device; None: ticks are no measure.
        cycles: of the processor, where ticks are.
    """

    name: str
    operator: str
    shape: str
    macs: int
    ticks: int
    most_ticks: int
    share: float
    cost: Figure | None = None
    cycles: int | None = None


class UartTime(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame's bytes take on a serial line, each way after the other."""

    baud: int
    up: Figure
    down: Figure


class McuBenchResult(Result, frozen=True, kw_only=True, tag="mcu bench"):
    """A head was run on a device.

    Attributes:
        id: of the head.
        bundle_id: of the bundle it came from; "" for a blob's file.
        tick_meaning: what the device's ticks are worth.
        figures: ``total`` (instructions or s), ``input_bytes``, ``waist_bytes``,
            ``line_up_bytes``, ``line_down_bytes`` (of one frame, with framing), ``frame_duration``,
            ``upload_duration``, ``infer_duration`` (s, host's clock).
        mark: what the marker pin was told to do; "" where it was told nothing.
        settle_us: it waited at each edge.
    """

    board: str
    line: str
    emulated: bool
    icount: bool
    tick_source: str
    tick_hz: int
    tick_meaning: str
    blob: str
    id: str
    bundle_id: str = ""
    repeat: int
    frames: int
    layers: tuple[LayerCost, ...]
    figures: dict[str, Figure]
    uart: tuple[UartTime, ...]
    mark: str = ""
    settle_us: int = 0

"""``waistline mcu info``: a device by its own word, or what there is to choose from."""

from __future__ import annotations

from waistline.evidence import Figure, mean
from waistline_bridge.client import Client
from waistline_bridge.messages import DeviceInfo, Feature
from waistline_hostctl.console import si
from waistline_hostctl.mcu_open import Device, place
from waistline_hostctl.mcu_results import McuDevice, McuHead
from waistline_hostctl.mcu_survey import no_port
from waistline_hostctl.results import Device as Choice

_PINGS = 5
THIS_MACHINE = "this machine's processor"
_ARM = 0x41
_CORES = {
    0xC20: "Cortex-M0", 0xC60: "Cortex-M0+", 0xC21: "Cortex-M1", 0xC23: "Cortex-M3",
    0xC24: "Cortex-M4", 0xC27: "Cortex-M7", 0xD20: "Cortex-M23", 0xD21: "Cortex-M33",
    0xD22: "Cortex-M55", 0xD23: "Cortex-M85", 0xD24: "Cortex-M52",
}  # fmt: skip
"""Part numbers of CPUID, from Arm's technical reference manuals."""
_TRAITS = (
    (Feature.FPU, "FPU"), (Feature.DSP, "DSP"), (Feature.MVE, "MVE"),
    (Feature.MARKER, "marker pin"),
)  # fmt: skip


def core(cpuid: int) -> str:
    """The processor by its CPUID, such as ``Cortex-M4 r0p1``."""
    if cpuid == 0:
        return THIS_MACHINE
    part = cpuid >> 4 & 0xFFF
    if cpuid >> 24 != _ARM or part not in _CORES:
        return f"unknown processor, CPUID {cpuid:08x}"
    return f"{_CORES[part]} r{cpuid >> 20 & 0xF}p{cpuid & 0xF}"


def ask(device: Device) -> McuDevice:
    """Everything that INFO says, and how long a PING takes."""
    client = device.client
    middle, spread = mean([client.ping() for _ in range(_PINGS)])
    info = client.refresh()
    return McuDevice(
        board=info.board,
        line=device.line.name,
        emulated=device.emulated,
        protocol=info.protocol,
        blob_version=info.blob_version,
        kernels=info.kernels,
        build=f"{info.build:08x}",
        core=core(info.cpuid),
        cpuid=f"{info.cpuid:08x}",
        features=tuple(name for flag, name in _TRAITS if flag in info.features),
        tick_source=info.tick_source,
        tick_hz=info.tick_hz,
        max_payload_bytes=info.max_payload,
        arena_bytes=info.arena_bytes,
        slot_bytes=info.slot_bytes,
        slots_keep=Feature.KEEPS in info.features,
        stack_free_bytes=info.stack_free,
        round_trip=Figure(middle, "s", device.grade("s"), "PING", spread, _PINGS),
        head=_head(client, info),
    )


def _head(client: Client, info: DeviceInfo) -> McuHead | None:
    head = client.head()
    if head is None:
        return None
    return McuHead(
        id=head.id,
        crc=f"{info.active_crc:08x}",
        sequence=info.sequence,
        blob_bytes=info.active_bytes,
        layers=head.layers,
        waists=head.waists,
        goldens=head.goldens,
        input_bytes=head.input_bytes,
        output_bytes=head.output_bytes,
        packed_bytes=head.raw_len,
        arena_bytes=head.arena_bytes,
        keeps_input=head.keeps_input,
    )


def device_text(device: McuDevice) -> str:
    """Label and fact, a line each."""
    keep = "survive power loss" if device.slots_keep else "in RAM, lost with power"
    free = "free bytes not known"
    if device.stack_free_bytes is not None:
        free = f"{device.stack_free_bytes} B never used so far"
    version = f"protocol {device.protocol}, blob {device.blob_version}.{device.kernels}"
    rows = [
        ("board", place(device.board, device.line, emulated=device.emulated)),
        ("firmware", f"build {device.build}, {version}"),
        ("core", ", ".join((device.core, *device.features))),
        ("ticks", tick_text(device)),
        ("arena", f"{device.arena_bytes} B"),
        ("slots", f"2, each for a blob of {device.slot_bytes} B, {keep}"),
        ("stack", free),
        ("line", f"payloads up to {device.max_payload_bytes} B, PING {_trip(device.round_trip)}"),
        ("head", _head_text(device.head)),
    ]
    return "\n".join(f"{label:<10}{fact}" for label, fact in rows)


def _trip(figure: Figure) -> str:
    return f"{si(figure.value, 's')} ({figure.evidence}, n={figure.n})"


def tick_text(device: McuDevice) -> str:
    """What a tick is, and what it is worth."""
    rate = f"{si(device.tick_hz, 'Hz')}"
    if device.tick_source == "DWT":
        return f"DWT, processor cycles at {rate}"
    if device.core == THIS_MACHINE:
        return f"clock of this machine, {rate}"
    if device.emulated:
        return f"SysTick, {rate}: follows the host's clock unless icount is on"
    return f"{device.tick_source}, {rate}"


def _head_text(head: McuHead | None) -> str:
    if head is None:
        return "none: waistline mcu load NAME.bundle"
    indent = "\n" + " " * 10
    return indent.join(
        (
            f"{head.id}, blob {head.blob_bytes} B, CRC {head.crc}, commit {head.sequence}",
            f"{head.layers} layers, input {head.input_bytes} B, waist {head.packed_bytes} B packed"
            f" in {head.waists} {'tensor' if head.waists == 1 else 'tensors'}",
            f"arena {head.arena_bytes} B, {head.goldens} golden "
            f"{'input' if head.goldens == 1 else 'inputs'}, input "
            f"{'kept' if head.keeps_input else 'overwritten'} by a run",
        )
    )


def choices_text(choices: tuple[Choice, ...]) -> str:
    """Emulated boards, then ports, each with what is to be pasted."""
    boards = [choice for choice in choices if choice.kind == "board"]
    ports = [choice for choice in choices if choice.kind == "serial"]
    lines = ["emulated boards", *_choice_rows(boards), ""]
    lines += ["serial ports" if ports else no_port(), *_choice_rows(ports)]
    return "\n".join([*lines, "", "ask one of them: waistline mcu info --board NAME, or --port ID"])


def _choice_rows(found: list[Choice]) -> list[str]:
    name = max((len(row.id) for row in found), default=0)
    state = max((len(row.state) for row in found), default=0)
    rows = [(f"  {row.id.ljust(name)}  {row.state.ljust(state)}", _about(row)) for row in found]
    return [f"{start}  {about}".rstrip() for start, about in rows]


def _about(row: Choice) -> str:
    """What is to be done, else what it is."""
    if row.kind == "board":
        return row.detail if row.fix else ""
    return row.fix or f"{row.name}, {row.detail}"

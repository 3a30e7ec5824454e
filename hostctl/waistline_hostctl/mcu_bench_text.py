"""The tables of ``waistline mcu bench``."""

from __future__ import annotations

from waistline.evidence import Figure
from waistline_hostctl.console import grid, si
from waistline_hostctl.mcu_load import ID_DIGITS
from waistline_hostctl.mcu_open import place
from waistline_hostctl.mcu_results import LayerCost, McuBenchResult, UartTime

_NAME = 32


def text(result: McuBenchResult) -> str:
    """Layers, their sum, what ticks are worth, the line."""
    lines = [
        place(result.board, result.line, emulated=result.emulated),
        *_measured(result),
        "",
        grid(_headings(result), [_row(result, k) for k in range(len(result.layers))], indent=0),
        "",
        *_sum(result),
        *_marked(result),
        "",
        *_frame(result),
    ]
    return "\n".join(lines)


def _measured(result: McuBenchResult) -> list[str]:
    if not result.bundle_id:
        return [f"head      {result.id} ({result.blob}), {_times(result.repeat, 'run')}"]
    return [
        f"bundle    {result.bundle_id[:ID_DIGITS]} ({result.blob})",
        f"head      {result.id}, {_times(result.repeat, 'run')}",
    ]


def _unit(result: McuBenchResult) -> str:
    total = result.figures.get("total")
    return total.unit if total else ""


def _headings(result: McuBenchResult) -> list[str]:
    cost = {"instruction": ["instructions", "per MAC"], "s": ["ms"], "": []}[_unit(result)]
    if any(layer.cycles is not None for layer in result.layers):
        cost = ["cycles", "per MAC", *cost]
    else:
        cost = ["ticks", *cost]
    return ["#", *_named(result, "layer"), "operator", "output", "MACs", *cost, "share %"]


def _named(result: McuBenchResult, name: str) -> list[str]:
    known = any(layer.name for layer in result.layers)
    return [name if len(name) <= _NAME else name[: _NAME - 2] + ".."] if known else []


def _row(result: McuBenchResult, number: int) -> list[str]:
    layer = result.layers[number]
    coding = number == len(result.layers) - 1
    cost = [str(layer.ticks)]
    if layer.cycles is not None:
        cost.append(_per_mac(layer.cycles, layer))
    if _unit(result) == "instruction":
        count = layer.cost.value if layer.cost else 0.0
        cost += [f"{count:.0f}", _per_mac(count, layer)]
    elif _unit(result) == "s":
        cost.append(f"{1e3 * layer.cost.value:.3f}" if layer.cost else "-")
    return [
        "-" if coding else str(number),
        *_named(result, layer.name),
        layer.operator,
        layer.shape or "-",
        str(layer.macs) if layer.macs else "-",
        *cost,
        f"{100 * layer.share:.1f}",
    ]


def _per_mac(count: float, layer: LayerCost) -> str:
    return f"{count / layer.macs:.2f}" if layer.macs else "-"


def _sum(result: McuBenchResult) -> list[str]:
    ticks = sum(layer.ticks for layer in result.layers)
    macs = sum(layer.macs for layer in result.layers)
    lines = [f"whole     {macs} MACs, {ticks} ticks at {si(result.tick_hz, 'Hz')}"]
    total = result.figures.get("total")
    if total is not None and total.unit == "instruction":
        lines[0] += f", {total.value:.0f} instructions ({total.evidence})"
        counts = [layer.cost.value for layer in result.layers[:-1] if layer.cost]
        if macs:
            lines.append(f"          of layers alone {sum(counts) / macs:.2f} per MAC")
    elif total is not None:
        lines[0] += f", {_duration(total)}"
    return [*lines, f"ticks     {result.tick_meaning}"]


def _marked(result: McuBenchResult) -> list[str]:
    """What the pin does, and how a trace of it is read."""
    if result.mark in {"", "off"}:
        return ["marker    off"] if result.mark else []
    mode, runs = result.mark, _times(result.repeat + result.frames, "run")
    wait = f", {result.settle_us} us at each edge" if result.settle_us else ""
    settle = f" --settle {result.settle_us}us" if result.settle_us else ""
    return [
        f"marker    {mode}{wait}, in these {runs}; until a reset, or --mark off",
        f"          waistline trace markers TRACE --bit N --mark {mode}{settle} --ticks FILE",
        "          (FILE: what this command prints with --json)",
    ]


def _frame(result: McuBenchResult) -> list[str]:
    value = {name: figure.value for name, figure in result.figures.items()}
    headings = ("baud", "up ms", "down ms", "both ms", "frames/s, line alone")
    return [
        f"frame     {_duration(result.figures['frame_duration'])} by the host's clock"
        f"{', of an emulator' if result.emulated else ''}",
        f"          upload {si(value['upload_duration'], 's')}, run and waist "
        f"{si(value['infer_duration'], 's')}",
        f"bytes     input {value['input_bytes']:.0f}, waist {value['waist_bytes']:.0f}; "
        f"with framing {value['line_up_bytes']:.0f} up, {value['line_down_bytes']:.0f} down",
        "",
        "these bytes on a UART (modelled: 8N1, one direction after the other)",
        grid(headings, [_uart_row(row) for row in result.uart]),
    ]


def _uart_row(row: UartTime) -> tuple[str, ...]:
    both_s = row.up.value + row.down.value
    times = (f"{1e3 * value_s:.1f}" for value_s in (row.up.value, row.down.value, both_s))
    return (str(row.baud), *times, f"{1 / both_s:.1f}")


def _duration(figure: Figure) -> str:
    spread = ""
    if figure.standard_uncertainty is not None:
        spread = f" ± {si(figure.standard_uncertainty, 's')}"
    return f"{si(figure.value, 's')}{spread} ({figure.evidence}, n={figure.n})"


def _times(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

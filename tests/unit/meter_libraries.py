"""What our files use of the libraries of meters, beside what these really are.

    python tests/unit/meter_libraries.py mccdaq joulescope

exits with what is missing. The stand-ins of the tests are written from the same interface; this
looks whether the installed packages have it. Nothing needs an instrument, nor libuldaq.so: its
Python part is read, not imported.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from pathlib import Path

ULDAQ_VALUES = {
    "InterfaceType": {"USB": 1, "ETHERNET": 4},
    "ScanStatus": {"IDLE": 0, "RUNNING": 1},
    "AiInputMode": {"DIFFERENTIAL": 1, "SINGLE_ENDED": 2},
    "Range": {"BIP10VOLTS": 5, "BIP5VOLTS": 6, "BIP2VOLTS": 9, "BIP1VOLTS": 11},
    "ScanOption": {"CONTINUOUS": 8},
    "AInScanFlag": {"DEFAULT": 0},
    "ULError": {"OVERRUN": 18, "ADC_OVERRUN": 27, "NET_BUFFER_OVERRUN": 108},
}
ULDAQ_CALLS = {
    "ai_device.AiDevice.a_in_scan": (
        "self", "low_channel", "high_channel", "input_mode", "analog_range",
        "samples_per_channel", "rate", "options", "flags", "data",
    ),
    "ai_device.AiDevice.get_scan_status": ("self",),
    "ai_device.AiDevice.scan_stop": ("self",),
    "ai_device.AiDevice.get_info": ("self",),
    "ai_info.AiInfo.get_max_scan_rate": ("self",),
    "ai_info.AiInfo.get_max_throughput": ("self",),
    "daq_device.DaqDevice.__init__": ("self", "daq_device_descriptor"),
    "daq_device.DaqDevice.get_ai_device": ("self",),
    "daq_device.DaqDevice.connect": ("self", "connection_code"),
    "daq_device.DaqDevice.disconnect": ("self",),
    "daq_device.DaqDevice.release": ("self",),
    "daq_device_discovery.get_daq_device_inventory": ("interface_type", "number_of_devices"),
    "buffer_management.create_float_buffer": ("number_of_channels", "samples_per_channel"),
    "ul_structs.TransferStatus.current_total_count": ("self",),
    "ul_structs.DaqDeviceDescriptor.unique_id": ("self",),
    "ul_structs.DaqDeviceDescriptor.product_name": ("self",),
    "ul_exception.ULException.__init__": ("self", "error_code"),
}  # fmt: skip
JOULESCOPE_CALLS = {
    "device_paths": (), "open": ("device_prefix", "mode"), "close": ("device_prefix",),
    "publish": ("topic", "value"), "subscribe": ("topic", "flags", "fn"), "finalize": (),
}  # fmt: skip
JOULESCOPE_TOPICS = (
    "h/fs", "s/i/range/select", "s/v/range/select", "s/i/range/mode", "s/v/range/mode",
    "s/i/!data", "s/v/!data", "s/p/!data", "s/i/ctrl", "s/v/ctrl", "s/p/ctrl",
    "s/gpi/0/!data", "s/gpi/3/!data", "s/gpi/0/ctrl", "s/gpi/3/ctrl", "@/!remove",
)  # fmt: skip
JOULESCOPE_FIELDS = ("sample_id", "sample_rate", "decimate_factor", "data")


def installed(name: str) -> Path | None:
    """Folder of a package, without importing it."""
    found = importlib.util.find_spec(name)
    return None if found is None or found.origin is None else Path(found.origin).parent


def uldaq_faults(folder: Path) -> list[str]:
    """What uldaq lacks, or has otherwise."""
    values, calls = {}, {}
    for file in folder.glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                calls[f"{file.stem}.{node.name}"] = _parameters(node)
            elif isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.FunctionDef):
                        if any(isinstance(one, ast.Attribute) for one in item.decorator_list):
                            continue  # the setter of a property
                        calls[f"{file.stem}.{node.name}.{item.name}"] = _parameters(item)
                    elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
                        values[node.name, item.targets[0].id] = _number(item.value)
    exported = (folder / "__init__.py").read_text(encoding="utf-8")
    faults = [
        f"{kind}.{name} is {values.get((kind, name))}, not {value}"
        for kind, names in ULDAQ_VALUES.items()
        for name, value in names.items()
        if values.get((kind, name)) != value
    ]
    faults += [
        f"{name} takes {calls.get(name)}, not {wanted}"
        for name, wanted in ULDAQ_CALLS.items()
        if calls.get(name) != wanted
    ]
    used = [*ULDAQ_VALUES, "DaqDevice", "get_daq_device_inventory", "create_float_buffer"]
    return faults + [
        f"uldaq does not export {name}"
        for name in (*used, "ULException")
        if name not in exported and "import *" not in exported
    ]


def joulescope_faults(folder: Path) -> list[str]:
    """What pyjoulescope_driver lacks, or has otherwise; its native part is looked into for text."""
    import pyjoulescope_driver

    faults = []
    for name, wanted in JOULESCOPE_CALLS.items():
        call = getattr(pyjoulescope_driver.Driver, name, None)
        if call is None:
            faults.append(f"Driver has no {name}")
            continue
        has = [one for one in inspect.signature(call).parameters if one != "self"]
        if tuple(has[: len(wanted)]) != wanted or set(has[len(wanted) :]) - {"timeout"}:
            faults.append(f"Driver.{name} takes {has}, not {wanted}")
    files = [*folder.glob("*.so"), *folder.glob("*.py"), *folder.glob("entry_points/*.py")]
    text = b"\n".join(file.read_bytes() for file in files)
    wanted_text = (*JOULESCOPE_TOPICS, *JOULESCOPE_FIELDS)
    faults += [f"{one} is nowhere in it" for one in wanted_text if one.encode() not in text]
    driver = pyjoulescope_driver.Driver()
    try:
        if not isinstance(driver.device_paths(), list):
            faults.append("Driver.device_paths() gives no list")
    finally:
        driver.finalize()
    return faults


def _parameters(node: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(one.arg for one in node.args.args)


def _number(node: ast.expr) -> int | None:
    """Of ``8``, ``8,`` (which an IntEnum takes for 8) and ``1 << 3``."""
    if isinstance(node, ast.Tuple):
        node = node.elts[0]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift):
        left, right = _number(node.left), _number(node.right)
        return None if left is None or right is None else left << right
    known = isinstance(node, ast.Constant) and isinstance(node.value, int)
    return int(node.value) if known else None  # type: ignore[attr-defined]


CHECKS = {
    "mccdaq": ("uldaq", uldaq_faults),
    "joulescope": ("pyjoulescope_driver", joulescope_faults),
}


def main() -> int:
    faults = []
    for extra in sys.argv[1:]:
        package, check = CHECKS[extra]
        folder = installed(package)
        faults += [f"{package} is not installed"] if folder is None else check(folder)
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())

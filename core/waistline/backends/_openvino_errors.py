"""What OpenVINO's messages mean: foreign text in, a `BackendError` of one line each out.

Works on text alone, so that it can be tested without the engine. The engine wraps the useful line
in lines that name its own source files; the patterns were read off OpenVINO 2021.4 to 2026.4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from waistline.errors import BackendError

_NO_RULE = re.compile(r"No conversion rule found for operations: (?P<ops>.+)")
_OLD_NO_RULE = re.compile(
    r"(?:OpenVINO|nGraph) does not support the following ONNX operations: (?P<ops>.+)"
)
_FAILED = re.compile(r"Conversion is failed for: (?P<ops>.+)")
_LIBRARY = re.compile(r'Cannot load library "[^"]*?(?P<plugin>[^/"]+)": (?P<why>[^\n]+)')
_UNKNOWN_DEVICE = re.compile(r'Device with "(?P<device>[^"]*)" name is not registered')
_PLACE = re.compile(r"^(Exception from|Check '.*' failed at|.*\bat) \S+\.(cpp|hpp):\d+:?\s*")
_NOISE = re.compile(
    r"^(FrontEnd API failed with \w+:?|Summary:|While validating .*|\[ GENERAL_ERROR \]"
    r"|(\w+ model|Model) wasn't fully converted\.?.*|-- .* with a message:)\s*"
)


def check_file(path: Path) -> None:
    """Refuse what is no file, before an engine words it in its own way.

    Raises:
        BackendError: a folder, or nothing, is at ``path``.
    """
    if not path.is_file():
        raise BackendError(
            f"{path} cannot be opened",
            cause="it is a folder" if path.exists() else "there is no such file",
            fix="check the path, or write the bundle again with 'waistline split'",
        )


def cannot_read(path: Path, kind: str, message: str, engine: str) -> BackendError:
    """The error for a file that the engine's reader of ``kind`` refused."""
    for pattern in (_NO_RULE, _OLD_NO_RULE):
        if match := pattern.search(message):
            operators = match["ops"].strip()
            return BackendError(
                f"{path} cannot be run: {engine} has no operator {operators}",
                cause="the model uses it",
                fix="use another backend, or export the model without this operator",
            )
    if match := _FAILED.search(message):
        return BackendError(
            f"operator {match['ops'].strip()} of {path} cannot be run",
            cause=useful_line(message),
            fix="use another backend, or check the model with 'waistline split MODEL --list'",
        )
    return BackendError(
        f"{path} is not {'an ONNX' if kind == 'onnx' else 'a TFLite'} model that {engine} reads",
        cause=useful_line(message),
        fix="write the bundle again with 'waistline split'",
    )


def cannot_compile(
    path: Path, device: str, message: str, engine: str, known: Sequence[str]
) -> BackendError:
    """The error for a slice that a device refused, or for a device that is not there.

    Args:
        path: the slice.
        device: as asked for.
        message: the engine's.
        engine: name and version.
        known: devices that the engine found on this machine.
    """
    found = f"found: {', '.join(known) or 'none'}"
    fix = f"use device={known[0]}" if known else "check the engine's installation"
    if match := _UNKNOWN_DEVICE.search(message):
        name = match["device"]
        return BackendError(f"{engine} has no device {name}", cause=found, fix=fix)
    if library := missing_library(message):
        return BackendError(
            f"device {device} of {engine} cannot be used",
            cause=f"a library is missing: {library}; {found}",
            fix=f"install the device's driver, or {fix}",
        )
    if not any(name.split(".")[0] in device for name in known):
        return BackendError(
            f"{engine} finds no device {device}",
            cause=f"{useful_line(message)}; {found}",
            fix=fix,
        )
    return BackendError(
        f"{engine} cannot compile {path} for {device}",
        cause=useful_line(message),
        fix="use another backend, or check the model with 'waistline split MODEL --list'",
    )


def failed_run(path: Path, message: str) -> BackendError:
    """The error for a run that started and failed; ``path`` is the slice."""
    return BackendError(
        f"openvino failed while running {path.name}",
        cause=useful_line(message),
        fix="'waistline verify' runs the bundle on its golden frame",
    )


def missing_library(message: str) -> str:
    """What the loader said of a library that a device needs; "" if the message is another."""
    match = _LIBRARY.search(message)
    return match["why"].strip().rpartition("/")[2][:300] if match else ""


def useful_line(message: str) -> str:
    """The line of the engine's message that says what is wrong, at most 300 characters."""
    rows = [_NOISE.sub("", _PLACE.sub("", row.strip())).strip() for row in message.splitlines()]
    told = [row for row in rows if row]
    return (told[0] if told else " ".join(message.split()) or "it gave no reason")[:300]

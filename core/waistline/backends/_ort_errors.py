"""What onnxruntime's messages mean: foreign text in, a `BackendError` naming operator and node out.

Works on text alone, so that it can be tested without the engine. The patterns were read off
onnxruntime 1.20 to 1.31; a message that fits none of them is passed on as the cause.
"""

from __future__ import annotations

import re
from pathlib import Path

from waistline.errors import BackendError

_NO_SCHEMA = re.compile(
    r'In Node, \("(?P<node>[^"]*)", (?P<op>[^,]+),.*'
    r"No Op registered for \S+ with domain_version of (?P<opset>\d+)",
    re.DOTALL,
)
_NO_FUNCTION = re.compile(r"Fatal error: (?P<op>\S+?)\(-?\d+\) is not a registered function/op")
_NO_KERNEL = re.compile(
    r"Could not find an implementation for (?P<op>[\w.:]+)\((?P<opset>\d+)\) node"
    r" with name '(?P<node>[^']*)'"
)
_BAD_TYPE = re.compile(
    r"Type Error: Type '(?P<type>[^']+)' of input parameter \((?P<tensor>[^)]*)\)"
    r" of operator \((?P<op>[^)]*)\) in node \((?P<node>[^)]*)\)"
)
_OPSET = re.compile(r"Opset (?P<opset>\d+) is under development")
_IR = re.compile(
    r"Unsupported model IR version: (?P<ir>\d+), max supported IR version: (?P<most>\d+)"
)
_RUN = re.compile(
    r"while running (?P<op>\S+) node\. Name:'(?P<node>[^']*)' Status Message: (?P<why>.*)",
    re.DOTALL,
)
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?")


def cannot_open(path: Path, message: str, version: str) -> BackendError:
    """The error for a slice that onnxruntime refused to load."""
    engine = f"onnxruntime {version}"
    for pattern, lacks in (
        (_NO_SCHEMA, "knows no such operator"),
        (_NO_FUNCTION, "knows no such operator"),
        (_NO_KERNEL, "has no CPU implementation of it for this opset and element type"),
        (_BAD_TYPE, "does not take it with this element type"),
    ):
        if match := pattern.search(message):
            return _operator(path, match.groupdict(), f"{engine} {lacks}")
    if match := _OPSET.search(message):
        return BackendError(
            f"{path} cannot be run: its opset {match['opset']} is newer than {engine}",
            cause="the model was exported for a later version of ONNX",
            fix="upgrade onnxruntime, or export the model again with a lower opset",
        )
    if match := _IR.search(message):
        return BackendError(
            f"{path} cannot be run: its IR version {match['ir']} is newer than {engine}",
            cause=f"this engine reads IR versions up to {match['most']}",
            fix="upgrade onnxruntime, or export the model again with an older onnx",
        )
    if "Protobuf parsing failed" in message or "No graph was found" in message:
        return BackendError(
            f"{path} is not an ONNX model",
            cause=f"{engine} cannot parse it: the file is truncated, damaged or of another format",
            fix="write the bundle again with 'waistline split'",
        )
    return BackendError(
        f"{engine} cannot open {path}",
        cause=_one_line(message),
        fix="check the model with 'waistline split MODEL --list'",
    )


def failed_run(path: Path, message: str) -> BackendError:
    """The error for a run that started and failed; ``path`` is the slice."""
    if match := _RUN.search(message):
        return BackendError(
            f"{_name(match.groupdict())} of {path.name} failed",
            cause=_one_line(match["why"]),
            fix="check the input's values; 'waistline verify' runs the bundle on its golden frame",
        )
    return BackendError(
        f"onnxruntime failed while running {path.name}",
        cause=_one_line(message),
        fix="'waistline verify' runs the bundle on its golden frame",
    )


def _operator(path: Path, found: dict[str, str], reason: str) -> BackendError:
    details = []
    if "opset" in found:
        details.append(f"opset {found['opset']}")
    if "type" in found:
        details.append(f"{found['type']} at input {found['tensor']!r}")
    return BackendError(
        f"{_name(found)} of {path.name} cannot be run",
        cause=reason + (f" ({', '.join(details)})" if details else ""),
        fix="upgrade onnxruntime, or export the model without this operator",
    )


def _name(found: dict[str, str]) -> str:
    node = found.get("node", "")
    return f"operator {found['op']}" + (f", node {node!r}," if node else ",")


def _one_line(message: str) -> str:
    return " ".join(_PREFIX.sub("", message).split())[:300]

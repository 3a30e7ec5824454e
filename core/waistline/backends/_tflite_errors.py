"""What the TFLite engines' messages mean: foreign text in, a `BackendError` of one line each out.

Works on text alone, so that it can be tested without an engine. The patterns were read off
tflite-runtime 2.14 and LiteRT 2.3.
"""

from __future__ import annotations

import re
from pathlib import Path

from waistline.errors import BackendError

EDGE_TPU = "edgetpu-custom-op"
"""The one operator into which edgetpu_compiler puts what the Edge TPU computes."""

_CUSTOM = re.compile(r"Encountered unresolved custom op: (?P<op>[^\s.]+)")
_FLEX = re.compile(r"Select TensorFlow op\(s\), included in the given model")
_NODE = re.compile(r"Node number (?P<node>\d+) \((?P<op>[^)]*)\) failed to (?P<step>\w+)")
_VERSION = re.compile(r"Didn't find op for builtin opcode '(?P<op>\w+)' version '(?P<version>\d+)'")
_PLACE = re.compile(r"\S*/[\w./-]+\.(cc|h)(:\d+)? ?")


def cannot_open(path: Path, message: str, engine: str) -> BackendError:
    """The error for a slice that the engine refused."""
    node = _NODE.search(message)
    if match := _CUSTOM.search(message):
        return custom_operator(path, match["op"], engine)
    if _FLEX.search(message):
        name = f"operator {node['op']}" if node else "an operator"
        return BackendError(
            f"{name} of {path} cannot be run",
            cause=f"it is one of TensorFlow's own (Flex), which {engine} does not have",
            fix="convert the model with built-in TFLite operators only",
        )
    if match := _VERSION.search(message):
        return BackendError(
            f"operator {match['op']} of {path} cannot be run",
            cause=f"the model uses its version {match['version']}, newer than {engine} knows",
            fix="upgrade the runtime, or convert the model with an older converter",
        )
    if node and "XNNPack" in node["op"]:
        return BackendError(
            f"the XNNPACK kernels of {engine} cannot run {path}",
            cause=_one_line(_NODE.sub("", message)),
            fix="give the backend kernels=builtin, which also names the operator if it fails",
        )
    if node:
        return BackendError(
            f"operator {node['op']} (node {node['node']}) of {path} cannot be run",
            cause=f"{engine}: {_one_line(_NODE.sub('', message))}",
            fix="check the model with 'waistline split MODEL --list', or convert it again",
        )
    return BackendError(
        f"{engine} cannot open {path}",
        cause=_one_line(message),
        fix="write the bundle again with 'waistline split'",
    )


def custom_operator(path: Path, operator: str, engine: str) -> BackendError:
    """The error for an operator that the engine would have to be given."""
    if operator == EDGE_TPU:
        return BackendError(
            f"{path} was compiled for the Edge TPU",
            cause=f"its operator {EDGE_TPU} runs on the device only, not with {engine}",
            fix="use --backend coral, or give the model as it was before edgetpu_compiler",
        )
    return BackendError(
        f"custom operator {operator} of {path} cannot be run",
        cause=f"{engine} does not have it",
        fix="convert the model without custom operators",
    )


def failed_run(path: Path, message: str, engine: str) -> BackendError:
    """The error for a run that started and failed; ``path`` is the slice."""
    node = _NODE.search(message)
    name = f"operator {node['op']} (node {node['node']}) of {path.name}" if node else path.name
    return BackendError(
        f"{name} failed while running",
        cause=f"{engine}: {_one_line(_NODE.sub('', message))}",
        fix="check the input's values; 'waistline verify' runs the bundle on its golden frame",
    )


def _one_line(message: str) -> str:
    return " ".join(_PLACE.sub("", message).split()).rstrip(".")[:300] or "it gave no reason"

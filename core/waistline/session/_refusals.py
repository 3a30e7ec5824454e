"""What an edge's ERROR about a whole connection means to a node."""

from __future__ import annotations

from waistline.errors import ConfigError, LinkError, VersionMismatch, WaistlineError
from waistline.session.bodies import Fault, Hello
from waistline.wire import MAJOR


def refusal(fault: Fault, hello: Hello) -> tuple[WaistlineError, bool]:
    """The error to show, and whether it is final: trying again cannot help."""
    if fault.kind == "bundle":
        held = ", ".join(bundle[:12] for bundle in fault.bundles) or "none"
        return VersionMismatch(
            f"the edge does not hold bundle {hello.bundle[:12]}",
            cause=f"it holds {held}; {fault.message}".rstrip("; "),
            fix="start the edge with the bundle this node runs: waistline edge NAME.bundle",
        ), True
    if fault.kind == "version":
        return VersionMismatch(
            "the edge speaks another version of the protocol",
            cause=f"{fault.message}; this node speaks {MAJOR}.{hello.minor_max}",
            fix="install the same release of waistline on both machines",
        ), True
    if fault.kind == "superseded":
        return ConfigError(
            f"another node has joined as {hello.node_id!r}",
            cause=fault.message,
            fix="give each node its own --node-id, or leave the flag out",
        ), True
    if fault.kind == "policy":
        return ConfigError(
            f"the edge refuses the queue policy {hello.policy!r}",
            cause=fault.message,
            fix="use the policy 'live'",
        ), True
    return LinkError(f"the edge ended the connection ({fault.kind})", cause=fault.message), False

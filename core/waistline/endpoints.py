"""Endpoints: from a string such as ``tcp://127.0.0.1:7571`` to a link or a listening server.

The scheme names the link module (`waistline.links`). Bytes that strangers could read are refused
unless the caller insists.
"""

from __future__ import annotations

from types import ModuleType
from typing import cast

from waistline import plugins
from waistline.errors import ConfigError
from waistline.links.base import Endpoint, Link, OnClient, Server, parse_endpoint

LINKS = "waistline.links"


def connect(endpoint: str, deadline_s: float, *, insecure: bool = False) -> Link:
    """Connect, blocking at most ``deadline_s``.

    Raises:
        ConfigError: not an endpoint, one that cannot be connected to, or plaintext over a network.
        LinkError: the other side cannot be reached.
    """
    module, parsed = _open(endpoint, insecure=insecure, verb="connect")
    return cast(Link, module.connect(parsed, deadline_s))


def check(endpoint: str, *, insecure: bool = False) -> None:
    """Whether `connect` may ever succeed with ``endpoint``; nobody is contacted.

    Raises:
        ConfigError: not an endpoint, one that cannot be connected to, or plaintext over a network.
    """
    module, parsed = _open(endpoint, insecure=insecure, verb="connect")
    if hasattr(module, "check"):
        module.check(parsed)


async def serve(endpoint: str, on_client: OnClient, *, insecure: bool = False) -> Server:
    """Listen in the running event loop; ``on_client`` gets each connection's streams.

    Raises:
        ConfigError: not an endpoint, one that cannot be listened at, or plaintext over a network.
        LinkError: the address is taken.
    """
    module, parsed = _open(endpoint, insecure=insecure, verb="serve")
    return cast(Server, await module.serve(parsed, on_client))


def _open(text: str, *, insecure: bool, verb: str) -> tuple[ModuleType, Endpoint]:
    endpoint = parse_endpoint(text)
    if endpoint.scheme == "tls":
        raise ConfigError(
            "tls:// is not available yet",
            cause="this version of Waistline has no encrypted link",
            fix=f"use tcp://{endpoint.host}:{endpoint.port} through a VPN or an SSH tunnel",
        )
    module = plugins.load(LINKS, endpoint.scheme)
    if not hasattr(module, verb):
        raise ConfigError(
            f"{endpoint.scheme}: cannot be used here",
            cause=f"this kind of link has no {verb}()",
            fix=f"use {endpoint.inner or 'tcp://HOST:PORT'} on this side",
        )
    if not insecure and module.exposed(endpoint):
        raise ConfigError(
            f"{text} sends plain bytes over a network",
            cause="it is neither encrypted nor confined to this machine",
            fix="add --insecure if everybody on that network may read and change them",
        )
    return module, endpoint

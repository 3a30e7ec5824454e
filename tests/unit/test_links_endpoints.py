"""Endpoint strings, and which of them may be used."""

from __future__ import annotations

import asyncio

import pytest

from waistline import endpoints
from waistline.errors import ConfigError, LinkError
from waistline.links.base import parse_endpoint


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tcp://127.0.0.1:7571", ("tcp", "", "127.0.0.1", 7571, "", {})),
        ("tcp://[::1]:7571", ("tcp", "", "::1", 7571, "", {})),
        ("tcp://Edge.local", ("tcp", "", "Edge.local", 0, "", {})),
        ("memory://", ("memory", "", "", 0, "", {})),
        ("memory://Some-Name", ("memory", "", "Some-Name", 0, "", {})),
        (
            "serial:///dev/ttyACM0?baud=921600",
            ("serial", "", "", 0, "/dev/ttyACM0", {"baud": "921600"}),
        ),
        (
            "ble://AA:BB:CC:DD:EE:FF?psm=0x80",
            ("ble", "", "AA:BB:CC:DD:EE:FF", 0, "", {"psm": "0x80"}),
        ),
        (
            "modem:///dev/ttyUSB2?apn=a.b&host=1.2.3.4",
            ("modem", "", "", 0, "/dev/ttyUSB2", {"apn": "a.b", "host": "1.2.3.4"}),
        ),
        (
            "paced:tcp://h:1?profile=lte-cat1",
            ("paced", "tcp://h:1", "", 0, "", {"profile": "lte-cat1"}),
        ),
    ],
)
def test_endpoints_that_parse(text, parts):
    got = parse_endpoint(text)
    assert (got.scheme, got.inner, got.host, got.port, got.path, got.options) == parts
    assert got.text == text


@pytest.mark.parametrize(
    "text",
    ["", "x", "127.0.0.1:7571", "tcp:h:1", "//h:1", "tcp://h:70000", "tcp://h:-1", "tcp://h:p",
     "tcp://a:b:c", "tcp://::1:80", "tcp://u@h:1", "tcp://h:1?quick", "paced:", "TCP://h:1"],
)  # fmt: skip
def test_endpoints_that_do_not(text):
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(text)
    assert "tcp://" in caught.value.fix


def test_an_address_alone_gets_its_scheme_offered():
    for text in ("localhost:7571", "127.0.0.1:7571", "[::1]:7571"):
        with pytest.raises(ConfigError) as caught:
            parse_endpoint(text)
        assert caught.value.fix == f"write tcp://{text}"


UNUSABLE = [
    "localhost:7571", "tcp://127.0.0.1", "tcp://127.0.0.1:1/x", "tcp://localhost:1?a=b",
    "tcp://192.0.2.1:7571", "tls://127.0.0.1:7571", "quic://127.0.0.1:1",
    "paced:tcp://192.0.2.1:7571?profile=lte-cat1", "paced:tcp://127.0.0.1:1?profile=lte-cat9",
    "paced:tcp://127.0.0.1?profile=lte-cat1", "paced:quic://127.0.0.1:1?profile=lte-cat1",
    "paced:tcp://127.0.0.1:1?rate=3", "paced:", "",
]  # fmt: skip


@pytest.mark.parametrize("text", UNUSABLE)
def test_what_connect_refuses_is_refused_without_connecting(text):
    with pytest.raises(ConfigError) as early:
        endpoints.check(text)
    with pytest.raises(ConfigError) as late:
        endpoints.connect(text, 1.0)
    assert early.value.lines() == late.value.lines()


@pytest.mark.parametrize(
    "text", ["tcp://127.0.0.1:1", "memory://nobody", "paced:tcp://localhost:1?profile=lte-cat1"]
)
def test_an_endpoint_at_which_nobody_listens_yet_is_none_to_refuse(text):
    endpoints.check(text)
    endpoints.check("tcp://192.0.2.1:7571", insecure=True)


def serve(text, **flags):
    async def nobody(reader, writer) -> None:
        raise AssertionError("nobody connects")

    async def run() -> None:
        server = await endpoints.serve(text, nobody, **flags)
        await server.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "text",
    ["tcp://192.0.2.1:7571", "tcp://edge.invalid:7571", "tcp://[2001:db8::1]:7571",
     "paced:tcp://192.0.2.1:7571?profile=lte-cat1"],
)  # fmt: skip
def test_plain_bytes_over_a_network_are_refused(text):
    with pytest.raises(ConfigError, match="plain bytes over a network") as caught:
        endpoints.connect(text, 1.0)
    assert "--insecure" in caught.value.fix


@pytest.mark.parametrize("text", ["tcp://0.0.0.0:0", "tcp://:0"])
def test_listening_to_everybody_needs_insisting(text):
    with pytest.raises(ConfigError, match="plain bytes"):
        serve(text)
    serve(text, insecure=True)


def test_tls_has_its_place():
    with pytest.raises(ConfigError, match="tls:// is not available yet"):
        endpoints.connect("tls://127.0.0.1:7571", 1.0)


def test_an_unknown_scheme_lists_the_known():
    with pytest.raises(ConfigError, match="there is no link named 'quic'") as caught:
        endpoints.connect("quic://127.0.0.1:1", 1.0)
    assert "tcp" in caught.value.cause


def test_a_paced_link_cannot_be_listened_at():
    with pytest.raises(ConfigError, match="paced: cannot be used here"):
        serve("paced:tcp://127.0.0.1:0?profile=lte-cat1")


@pytest.mark.parametrize(
    "text", ["tcp://127.0.0.1", "tcp://127.0.0.1:1/x", "tcp://localhost:1?a=b"]
)
def test_a_tcp_endpoint_with_parts_missing_or_too_many(text):
    with pytest.raises(ConfigError):
        endpoints.connect(text, 1.0)


def test_an_unknown_host_is_a_link_error():
    """A label of 64 letters is in no name service, so nobody has to be asked."""
    with pytest.raises(LinkError, match="is not known here"):
        endpoints.connect(f"tcp://{'x' * 64}:1", 5.0, insecure=True)


def test_an_address_of_another_machine_cannot_be_listened_at():
    with pytest.raises(ConfigError, match="cannot listen"):
        serve("tcp://192.0.2.1:0", insecure=True)

"""For half a minute with a real engine: no socket but its own, no file at all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from edge_rig import Client, EdgeProcess, frame_payload

from waistline.frame import OutcomeKind

WATCHED_S = 30.0
"""The engine's telemetry was seen to ask DNS about 9 s after a session was made."""


def _sockets(pid):
    """(protocol, local port) of every internet socket that the process holds."""
    mine = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # closed while we looked
            continue
        if target.startswith("socket:["):
            mine.add(target[8:-1])
    found = set()
    for protocol in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        table = Path(f"/proc/{pid}/net/{protocol}")
        for row in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = row.split()
            if fields[9] in mine:
                found.add((protocol, int(fields[1].rpartition(":")[2], 16)))
    return found


def test_the_edge_opens_no_socket_and_writes_no_file_but_its_own(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from waistline.split import split

    value = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["h"], "relu"),
        onnx.helper.make_node("Softmax", ["h"], ["y"], "softmax"),
    ]
    graph = onnx.helper.make_graph(nodes, "m", [value("x", 1, (1, 16))], [value("y", 1, (1, 16))])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "m.onnx")
    bundle = split(tmp_path / "m.onnx", "h", tmp_path / "m.bundle", codec="affine:b=8|none")
    home = tmp_path / "home"
    home.mkdir()
    places = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    env = {**dict.fromkeys(places, str(home)), "PYTHONDONTWRITEBYTECODE": "1"}
    before = sorted(path.name for path in bundle.path.iterdir())
    settings = {"backend": "onnxruntime", "log": tmp_path / "log", "cwd": home, "env": env}
    with EdgeProcess(bundle.path, **settings) as edge:
        pid, port = edge.process.pid, edge.address[1]
        seen, until = set(), time.monotonic() + WATCHED_S
        with Client(edge.endpoint, bundle).join() as client:
            for seed in range(20):
                assert client.ask(*frame_payload(bundle, seed)).kind is OutcomeKind.REMOTE
            while time.monotonic() < until:
                seen |= _sockets(pid)
                next_look = time.monotonic() + 0.05
                client.pump(lambda until=next_look: time.monotonic() > until)
        code, _ = edge.stop()
    assert code == 0
    assert seen == {("tcp", port)}
    assert list(home.rglob("*")) == []
    assert sorted(path.name for path in bundle.path.iterdir()) == before

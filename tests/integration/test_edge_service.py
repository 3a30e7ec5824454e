"""The edge as users and service managers meet it: one real process, real sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from edge_rig import WAIT_S, Client, EdgeProcess, LocalTail, fake_bundle, frame_payload
from prometheus_client.parser import text_string_to_metric_families

from waistline.errors import VersionMismatch
from waistline.frame import OutcomeKind

LOOPBACK = "tcp://127.0.0.1:0"


def _run(*arguments, code="", env=None):
    """Start an edge that is expected to end by itself."""
    start = ["-c", code] if code else ["-m", "waistline_edge"]
    return subprocess.run(
        [sys.executable, *start, *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env={**os.environ, **(env or {})},
    )


def _three_lines(done, exit_code):
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    rows = done.stderr.splitlines()
    assert [row.partition(":")[0] for row in rows] == ["error", "cause", "fix"], done.stderr
    return dict(row.partition(": ")[::2] for row in rows)


def _scrape(edge):
    with urllib.request.urlopen(edge.ready["metrics"], timeout=WAIT_S) as reply:
        text = reply.read().decode()
    return {
        (sample.name, sample.labels.get("outcome") or sample.labels.get("stage")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_two_bundles_and_several_nodes_are_served_at_once(tmp_path):
    first = fake_bundle(tmp_path / "a.bundle", codec="affine:b=8|zstd:1")
    second = fake_bundle(tmp_path / "b.bundle", codec="q1:b=4|deflate", function="noise")
    expected = {first.id: LocalTail(first), second.id: LocalTail(second, "noise")}
    with EdgeProcess(first.path, second.path, log=tmp_path / "log") as edge:
        assert set(edge.ready["bundles"]) == {first.id, second.id}
        clients = []
        for index in range(6):
            bundle = (first, second)[index % 2]
            client = Client(edge.endpoint, bundle, node_id=f"n{index}", session_id=index)
            clients.append((bundle, client.join()))
        for seed in range(4):
            for bundle, client in clients:
                frame = frame_payload(bundle, seed)
                outcome = client.ask(*frame)
                assert outcome.kind is OutcomeKind.REMOTE
                assert outcome.answer == expected[bundle.id].answer(*frame)
                assert outcome.edge.residence_s > 0
        for _, client in clients:
            client.close()
        code, summary = edge.stop()
    assert code == 0
    assert summary["frames"] == {"remote": 24}
    assert summary["connections"] == 6


def test_a_node_with_another_bundle_is_refused_by_name(tmp_path):
    mine = fake_bundle(tmp_path / "a.bundle")
    other = fake_bundle(tmp_path / "b.bundle", name="other")
    with EdgeProcess(mine.path, log=tmp_path / "log") as edge:
        with Client(edge.endpoint, other).join() as client:
            assert isinstance(client.refused, VersionMismatch)
            assert mine.id[:12] in client.refused.cause
            assert not client.session.ready
        with Client(edge.endpoint, mine).join() as client:
            assert client.ask(*frame_payload(mine, 1)).kind is OutcomeKind.REMOTE
        code, summary = edge.stop()
    assert code == 0
    assert summary["rejects"] == {"mismatch": 1}


def test_an_overloaded_edge_says_busy_and_answers_what_it_took(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle", delay_ms=20)
    options = ("--queue", "2", "--workers", "1")
    with EdgeProcess(bundle.path, *options, log=tmp_path / "log") as edge:
        with Client(edge.endpoint, bundle, max_in_flight=16).join() as client:
            for seed in range(30):
                client.submit(*frame_payload(bundle, seed))
            client.pump(lambda: len(client.outcomes) == 30)
        _, summary = edge.stop()
    ends = {(outcome.kind, outcome.reason) for outcome in client.outcomes.values()}
    assert ends == {(OutcomeKind.REMOTE, ""), (OutcomeKind.DROPPED, "busy")}
    assert sum(summary["frames"].values()) == 30


def test_a_failing_tail_ends_its_frame_as_backend_error(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle", codec="f32|none", function="refuse")
    with EdgeProcess(bundle.path, log=tmp_path / "log") as edge:
        with Client(edge.endpoint, bundle).join() as client:
            ends = [client.ask(*frame_payload(bundle, seed)) for seed in range(12)]
        edge.stop()
    kinds = {(outcome.kind, outcome.reason) for outcome in ends}
    assert kinds == {(OutcomeKind.REMOTE, ""), (OutcomeKind.ERROR, "backend")}
    assert all("refused its input" in each.detail for each in ends if each.reason)


def test_peers_that_do_not_leave_do_not_disturb_the_end(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle")
    with EdgeProcess(bundle.path, "--metrics", "0", log=tmp_path / "log") as edge:
        port = int(edge.ready["metrics"].rpartition(":")[2].partition("/")[0])
        with (
            Client(edge.endpoint, bundle).join(),
            socket.create_connection(edge.address),
            socket.create_connection(("127.0.0.1", port)),
        ):
            _scrape(edge)
            code, _ = edge.stop()
    assert code == 0
    assert "Traceback" not in edge.log


def test_metrics_are_served_and_add_up(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle")
    with EdgeProcess(bundle.path, "--metrics", "127.0.0.1:0", log=tmp_path / "log") as edge:
        with Client(edge.endpoint, bundle).join() as client:
            for seed in range(7):
                client.ask(*frame_payload(bundle, seed))
            client.ask(b"\x00" * 8, bundle.waist_codec().raw_len)
            samples = _scrape(edge)
        edge.stop()
    assert samples["waistline_edge_frames_total", "remote"] == 7
    assert samples["waistline_edge_frames_total", "codec"] == 1
    assert samples["waistline_edge_nodes", None] == 1
    assert samples["waistline_edge_stage_seconds_count", "tail"] == 7
    assert samples["waistline_edge_received_bytes_total", None] > 0


def test_sigterm_finishes_what_is_queued_says_bye_and_exits_0(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle", delay_ms=100)
    with EdgeProcess(bundle.path, "--workers", "1", log=tmp_path / "log") as edge:
        with Client(edge.endpoint, bundle).join() as client:
            for seed in range(4):
                client.submit(*frame_payload(bundle, seed))
            client.pump(lambda: client.outcomes)
            edge.process.send_signal(signal.SIGTERM)
            client.until_closed()
            assert [o.kind for o in client.outcomes.values()] == [OutcomeKind.REMOTE] * 4
        assert edge.process.wait(WAIT_S) == 0
        assert json.loads(edge.line())["frames"] == {"remote": 4}
        assert "Traceback" not in edge.log


def test_sigterm_does_not_wait_for_a_tail_that_hangs(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle", delay_ms=50_000)
    with (
        EdgeProcess(bundle.path, "--metrics", "0", log=tmp_path / "log") as edge,
        Client(edge.endpoint, bundle).join() as client,
    ):
        client.submit(*frame_payload(bundle, 1))
        client.pump(lambda: _scrape(edge)["waistline_edge_in_flight", None] == 1)
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(WAIT_S / 2) == 0


def test_ctrl_c_ends_with_130(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle")
    with EdgeProcess(bundle.path, log=tmp_path / "log") as edge:
        code, summary = edge.stop(signal.SIGINT)
    assert code == 130
    assert summary["summary"] == "waistline-edge"


def test_a_node_goes_on_with_the_next_edge(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle")
    with EdgeProcess(bundle.path, log=tmp_path / "log") as edge:
        client = Client(edge.endpoint, bundle, budget_s=WAIT_S).join()
        assert client.ask(*frame_payload(bundle, 1)).kind is OutcomeKind.REMOTE
        edge.process.kill()
        edge.process.wait(WAIT_S)
        client.until_closed()
        seq = client.submit(*frame_payload(bundle, 2))
        client.close()
    with EdgeProcess(bundle.path, log=tmp_path / "log2") as edge:
        client.endpoint = edge.endpoint
        client.connect()
        client.pump(lambda: seq in client.outcomes)
        assert client.outcomes[seq].kind is OutcomeKind.REMOTE
        client.close()
        edge.stop()


def test_a_port_in_use_is_exit_4_with_the_fix(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        rows = _three_lines(_run(bundle.path, "--backend", "fake", "--listen", where), 4)
        assert "another process" in rows["cause"]
        metrics = where.removeprefix("tcp://")
        listen = ("--backend", "fake", "--listen", LOOPBACK, "--metrics", metrics)
        rows = _three_lines(_run(bundle.path, *listen), 4)
        assert "--metrics" in rows["fix"]


def test_a_bundle_that_cannot_be_read_is_exit_2(tmp_path):
    _three_lines(_run(tmp_path / "nothing.bundle", "--listen", LOOPBACK), 2)
    edited = fake_bundle(tmp_path / "a.bundle").path / "tail.fake"
    edited.write_bytes(edited.read_bytes().replace(b"cycle", b"noise"))
    rows = _three_lines(_run(tmp_path / "a.bundle", "--listen", LOOPBACK), 2)
    assert "edited" in rows["error"]


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (("--backend", "onnx"), "no backend named"),
        (("--backend", "fake", "--workers", "0"), "--workers 0"),
        (("--backend", "fake", "--queue", "0"), "--queue 0"),
        (("--backend", "fake", "--metrics", "here"), "not HOST:PORT"),
        (("--backend", "fake", "--metrics", "0.0.0.0:0"), "other machines"),
        (("--backend", "fake", "--backend-option", "delay"), "KEY=VALUE"),
        (("--backend", "fake", "--listen", "tcp://0.0.0.0:0"), "plain bytes"),
        (("--backend", "fake", "--listen", "nowhere"), "not an endpoint"),
        (("--backend", "onnxruntime"), "cannot open"),
    ],
)
def test_settings_that_cannot_be_used_are_exit_2(tmp_path, flags, fact):
    bundle = fake_bundle(tmp_path / "a.bundle")
    done = _run(bundle.path, "--listen", LOOPBACK, *flags)
    assert done.returncode == 2, done.stderr
    rows = done.stderr.splitlines()
    assert fact in rows[0]
    assert len(rows) <= 3


def test_metrics_without_their_package_name_the_extra(tmp_path):
    bundle = fake_bundle(tmp_path / "a.bundle")
    code = (
        "import sys; sys.modules['prometheus_client'] = None;"
        "from waistline_edge.service import main; sys.exit(main())"
    )
    flags = ("--backend", "fake", "--listen", LOOPBACK, "--metrics", "0")
    rows = _three_lines(_run(bundle.path, *flags, code=code), 3)
    assert "waistline[edge]" in rows["fix"]


def test_a_real_model_is_served(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from waistline.backends.base import BackendOptions
    from waistline.backends.onnxruntime import open_backend
    from waistline.split import split
    from waistline.stages import TailStages, open_slice

    node = onnx.helper.make_node
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("Relu", ["x"], ["h"], "relu"), node("Softmax", ["h"], ["y"], "softmax")],
        "tiny",
        [value("x", 1, (1, 16))],
        [value("y", 1, (1, 16))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "tiny.onnx")
    bundle = split(tmp_path / "tiny.onnx", "h", tmp_path / "tiny.bundle", codec="affine:b=8|none")
    last = split(tmp_path / "tiny.onnx", "y", tmp_path / "last.bundle")
    backend = open_backend(BackendOptions())
    stages = TailStages(bundle, open_slice(backend, bundle, bundle.tail))
    frame = frame_payload(bundle, 1)
    expected = stages.postprocess(stages.tail(stages.decode(*frame)))
    log = tmp_path / "log"
    with EdgeProcess(bundle.path, last.path, backend="onnxruntime", log=log) as edge:
        with Client(edge.endpoint, bundle).join() as client:
            assert client.ask(*frame).answer == expected
        with Client(edge.endpoint, last).join() as client:
            acknowledged = client.ask(expected, len(expected))
            assert acknowledged.kind is OutcomeKind.REMOTE
            assert acknowledged.answer == b""
            assert client.ask(expected[:-1], len(expected) - 1).reason == "codec"
        edge.stop()


def test_the_service_file_names_a_command_that_exists(tmp_path):
    from pathlib import Path

    unit = (Path(__file__).parents[2] / "edge" / "waistline-edge.service").read_text()
    command = next(row for row in unit.splitlines() if row.startswith("ExecStart="))
    flags = [word for word in command.split() if word.startswith("--")]
    done = _run("--help")
    assert "-m waistline_edge" in command
    assert all(flag in done.stdout for flag in flags)
    if shutil.which("systemd-analyze"):
        text = unit.replace("/opt/waistline/bin/python", sys.executable)
        path = tmp_path / "waistline-edge.service"
        path.write_text(text)
        checked = subprocess.run(
            ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=WAIT_S
        )
        assert "waistline-edge.service:" not in checked.stderr

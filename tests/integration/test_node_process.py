"""The node as a process, against the edge as a process."""

import signal
import socket

import numpy as np
import pytest
from edge_rig import INPUT, EdgeProcess, LocalTail, fake_bundle
from node_rig import WAIT_S, NodeProcess
from PIL import Image

from waistline.backends.base import BackendOptions
from waistline.backends.fake import open_backend
from waistline.frame import SensorFrame
from waistline.stages import HeadStages, open_slice
from waistline_node.records import read_records
from waistline_node.summary import STAGES


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("bundle") / "fake.bundle")


@pytest.fixture
def frames(tmp_path):
    """60 frames of the fake bundle's input, as a file."""
    arrays = np.random.default_rng(5).standard_normal((60, *INPUT.shape)).astype(np.float32)
    np.savez(tmp_path / "frames.npz", x=arrays, labels=np.arange(60))
    return tmp_path / "frames.npz"


def expected_answers(bundle, path):
    backend = open_backend(BackendOptions())
    head = HeadStages(bundle, open_slice(backend, bundle, bundle.head))
    tail = LocalTail(bundle)
    for index, array in enumerate(np.load(path)["x"]):
        encoded = head.encode(head.head(head.preprocess(SensorFrame(index, (array,)))))
        yield tail.answer(encoded.payload, encoded.raw_len)


def one_outcome_each(path, count):
    records = list(read_records(path))
    assert sorted(record.index for record in records) == list(range(count))
    return records


@pytest.mark.parametrize("mode", [[], ["--sequential"]], ids=["pipelined", "sequential"])
def test_frames_go_in_and_the_right_answers_come_out(bundle, frames, tmp_path, mode):
    records = tmp_path / "r.csv"
    with EdgeProcess(bundle.path) as edge:
        arguments = (bundle.path, "--source", frames, "--edge", edge.endpoint)
        with NodeProcess(*arguments, "--records", records, *mode) as node:
            code, ready, summary = node.end()
        assert edge.stop()[1]["frames"] == {"remote": 60}
    assert code == 0, node.errors
    assert (ready["bundle"], ready["frames"]) == (bundle.id, 60)
    assert ready["head"]["engine"] == "fake"
    assert summary["outcomes"] == {"remote": 60, "local": 0, "dropped": 0, "error": 0}
    assert summary["unrecorded"] == 0
    rows = {record.index: record for record in one_outcome_each(records, 60)}
    answers = list(expected_answers(bundle, frames))
    assert [rows[index].answer for index in range(60)] == answers
    assert [rows[index].label for index in range(60)] == [str(index) for index in range(60)]
    for row in rows.values():
        assert sum(getattr(row, stage) for stage in STAGES) == pytest.approx(row.latency_s)


def test_an_edge_killed_and_restarted_costs_no_frame(bundle, frames, tmp_path):
    records = tmp_path / "r.csv"
    slow = ("--backend-option", "delay_ms=5")
    edge = EdgeProcess(bundle.path, *slow)
    try:
        with NodeProcess(
            *(bundle.path, "--source", frames, "--loop", "--count", 400, "--edge", edge.endpoint),
            *("--records", records, "--budget-s", WAIT_S),
        ) as node:
            for kills in (1, 2):
                node.until_said("connected to edge", kills)
                size = records.stat().st_size
                node.until(lambda size=size: records.stat().st_size > size + 1000, "more records")
                edge.process.kill()
                node.until_said("waiting for the edge", kills)
                edge.__exit__()
                edge = EdgeProcess(bundle.path, *slow, listen=edge.endpoint)
            code, _, summary = node.end()
    finally:
        edge.__exit__()
    assert code == 0, node.errors
    assert summary["outcomes"]["remote"] == 400
    assert summary["connections"] == 3
    one_outcome_each(records, 400)


def test_a_node_waits_for_an_edge_that_is_not_there_yet(bundle, frames, tmp_path):
    with EdgeProcess(bundle.path) as first:
        endpoint = first.endpoint
        first.stop()
    with NodeProcess(bundle.path, "--source", frames, "--edge", endpoint) as node:
        node.until_said("waiting for the edge")
        with EdgeProcess(bundle.path, listen=endpoint):
            code, _, summary = node.end()
    assert code == 0
    assert summary["outcomes"]["remote"] == 60
    assert "nothing listens at" in node.errors


def test_another_bundle_is_refused_in_three_lines(bundle, frames, tmp_path):
    other = fake_bundle(tmp_path / "other.bundle", name="other")
    with (
        EdgeProcess(other.path) as edge,
        NodeProcess(bundle.path, "--source", frames, "--edge", edge.endpoint) as node,
    ):
        code, _, summary = node.end()
    assert code == 4
    assert f"the edge does not hold bundle {bundle.id[:12]}" in node.errors
    assert other.id[:12] in node.errors
    assert "fix:" in node.errors
    assert "Traceback" not in node.errors
    assert summary["outcomes"]["remote"] == 0


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_every_frame_and_the_process(bundle, frames, tmp_path, number, wanted):
    records = tmp_path / "r.csv"
    with EdgeProcess(bundle.path) as edge:
        with NodeProcess(
            *(bundle.path, "--source", frames, "--loop", "--edge", edge.endpoint),
            *("--records", records, "--rate", 200),
        ) as node:
            node.until(lambda: records.exists() and records.stat().st_size > 5000)
            node.send(number)
            code, _, summary = node.end()
        edge.stop()
    assert code == wanted, node.errors
    assert summary["signals"] == [number.name]
    assert sum(summary["outcomes"].values()) == summary["frames"]
    one_outcome_each(records, summary["frames"])
    assert "Traceback" not in node.errors


def test_a_signal_while_the_edge_is_down(bundle, frames, tmp_path):
    with EdgeProcess(bundle.path) as edge:
        endpoint = edge.endpoint
        edge.stop()
    with NodeProcess(bundle.path, "--source", frames, "--edge", endpoint) as node:
        node.until_said("waiting for the edge")
        node.send()
        code, _, summary = node.end()
    assert code == 0
    assert summary["outcomes"]["dropped"] == summary["frames"]


def test_nan_and_infinity_end_their_own_frames(bundle, tmp_path):
    arrays = np.full((6, *INPUT.shape), -1, np.float32)
    arrays[1, 0, 0] = np.nan
    arrays[2, 0, 1] = np.inf
    np.savez(tmp_path / "frames.npz", x=arrays)
    records = tmp_path / "r.csv"
    with (
        EdgeProcess(bundle.path) as edge,
        NodeProcess(
            *(bundle.path, "--source", tmp_path / "frames.npz", "--edge", edge.endpoint),
            *("--records", records),
            env={"PYTHONWARNINGS": "error"},
        ) as node,
    ):
        code, _, _ = node.end()
    rows = {record.index: record for record in one_outcome_each(records, 6)}
    assert code == 0, node.errors
    assert [rows[index].reason for index in range(6)] == [
        "", "nonfinite", "nonfinite", "", "", "",
    ]  # fmt: skip


def test_no_answer_at_all_is_an_error(bundle, tmp_path):
    np.savez(tmp_path / "frames.npz", x=np.full((3, *INPUT.shape), np.nan, np.float32))
    with EdgeProcess(bundle.path) as edge:
        source = tmp_path / "frames.npz"
        with NodeProcess(bundle.path, "--source", source, "--edge", edge.endpoint) as node:
            code, _, summary = node.end()
    assert code == 5
    assert summary["reasons"] == {"error(nonfinite)": 3}
    assert "none of 3 frames was answered" in node.errors


REFUSED = {
    "no bundle": (2, ["absent.bundle", "--source", "frames.npz"], "is not a bundle"),
    "no source": (2, ["BUNDLE", "--source", "absent.npz"], "absent.npz"),
    "empty folder": (2, ["BUNDLE", "--source", "empty"], "fix:"),
    "wrong size": (2, ["BUNDLE", "--source", "wrong.npz"], "does not fit the model"),
    "unknown backend": (2, ["BUNDLE", "--source", "frames.npz", "--backend", "nope"], "'nope'"),
    "unknown option": (
        2,
        ["BUNDLE", "--source", "frames.npz", "--backend-option", "speed=9"],
        "no option 'speed'",
    ),
    "wrong backend": (
        2,
        ["BUNDLE", "--source", "frames.npz", "--backend", "onnxruntime"],
        "cannot open the bundle's head",
    ),
    "failing engine": (
        3,
        ["BUNDLE", "--source", "frames.npz", "--backend-option", "function=refuse"],
        "refused its input",
    ),
    "records exist": (
        2,
        ["BUNDLE", "--source", "frames.npz", "--records", "frames.npz"],
        "frames.npz exists",
    ),
    "node id": (2, ["BUNDLE", "--source", "frames.npz", "--node-id", "a b"], "node id"),
    "processor": (2, ["BUNDLE", "--source", "frames.npz", "--pin", "4096"], "processor 4096"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_before_the_stream(bundle, frames, tmp_path, case):
    code, arguments, words = case
    if "onnxruntime" in arguments:
        pytest.importorskip("onnxruntime")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "wrong.npz", x=np.zeros((4, 1, 9), np.float32))
    words_for = {"BUNDLE": str(bundle.path)}
    real = [words_for.get(word, word) for word in arguments]
    backend = None if "--backend" in real else "fake"
    with NodeProcess(
        *real, "--edge", "tcp://127.0.0.1:9", backend=backend, wrap=("-c", _IN % str(tmp_path))
    ) as node:
        got, ready, _ = node.end()
    assert got == code, node.errors
    assert ready is None
    assert words in node.errors
    assert node.errors.startswith("error: ")
    assert len(node.err) <= 3


_IN = """
import os, sys
os.chdir(%r)
from waistline_node.service import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("tcp://192.0.2.1:7571", "--insecure"),
        ("localhost:7571", "write tcp://localhost:7571"),
        ("paced:tcp://127.0.0.1:1?profile=pigeon", "pigeon"),
        ("carrier-pigeon://loft", "carrier-pigeon"),
        ("tls://192.0.2.1:1", "not available yet"),
    ],
)
def test_an_edge_that_cannot_be_reached_by_design_is_refused(bundle, frames, endpoint, words):
    with NodeProcess(bundle.path, "--source", frames, "--edge", endpoint) as node:
        code, ready, summary = node.end()
    assert code == 2, node.errors
    assert ready is None
    assert summary is None
    assert words in node.errors
    assert len(node.err) <= 3


def test_images_that_do_not_fit_are_refused_by_name(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "first.png")
    bundle = _fashion(tmp_path)
    with NodeProcess(
        *(bundle.path, "--source", tmp_path / "images", "--edge", "tcp://127.0.0.1:9"),
        backend="onnxruntime",
    ) as node:
        code, _, _ = node.end()
    assert code == 2
    assert "first.png" in node.errors
    assert "9x9 of mode RGB" in node.errors


def _fashion(tmp_path):
    pytest.importorskip("onnx")
    from pathlib import Path

    from waistline.split import split

    folder = Path(__file__).resolve().parents[2] / "examples" / "fashion"
    return split(
        folder / "model.onnx", 5, tmp_path / "f.bundle", task=folder / "task.toml",
        codec="affine:b=4|zstd:1",
    )  # fmt: skip


@pytest.mark.parametrize("cut", [0, 1, "last"])
def test_a_node_without_head_or_tail_streams_images(tmp_path, cut):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from pathlib import Path

    from waistline.model.load import load_model
    from waistline.split import split

    folder = Path(__file__).resolve().parents[2] / "examples" / "fashion"
    model = load_model(folder / "model.onnx")
    x = model.graph.last_x if cut == "last" else cut
    bundle = split(model, x, tmp_path / "f.bundle", task=folder / "task.toml")
    (tmp_path / "images").mkdir()
    for index, image in enumerate(np.load(folder / "report.npz")["images"][:5]):
        Image.fromarray(image.reshape(28, 28)).save(tmp_path / "images" / f"{index}.png")
    records = tmp_path / "r.csv"
    with (
        EdgeProcess(bundle.path, backend="onnxruntime") as edge,
        NodeProcess(
            *(bundle.path, "--source", tmp_path / "images", "--edge", edge.endpoint),
            *("--records", records),
            backend="onnxruntime",
        ) as node,
    ):
        code, _, summary = node.end()
    assert code == 0, node.errors
    assert summary["outcomes"]["remote"] == 5
    for record in one_outcome_each(records, 5):
        assert bundle.answer_kind.describe(bundle.answer_kind.unpack(record.answer))


def test_a_full_disk_ends_the_run_and_says_what_is_safe(bundle, frames, tmp_path):
    records = tmp_path / "r.csv"
    full = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000));"
        "from waistline_node.service import main; sys.exit(main())"
    )
    with (
        EdgeProcess(bundle.path) as edge,
        NodeProcess(
            *(bundle.path, "--source", frames, "--loop", "--edge", edge.endpoint),
            *("--records", records),
            wrap=("-c", full),
        ) as node,
    ):
        code, _, summary = node.end()
    assert code == 2
    assert "records cannot be written" in node.errors
    kept = list(read_records(records))
    assert kept
    assert summary["unrecorded"] == summary["frames"] - len(kept) > 0
    assert sum(summary["outcomes"].values()) == summary["frames"]
    assert "Traceback" not in node.errors


def test_whoever_stops_reading_gets_no_traceback(bundle, frames):
    with EdgeProcess(bundle.path) as edge, NodeProcess(
        bundle.path, "--source", frames, "--edge", edge.endpoint,
        wrap=("-c", "import os, sys; r, w = os.pipe(); os.dup2(w, 1); os.close(w); os.close(r);"
              "from waistline_node.service import main; sys.exit(main())"),
    ) as node:  # fmt: skip
        code, _, _ = node.end()
    assert code == 1
    assert "Traceback" not in node.errors
    assert "BrokenPipe" not in node.errors


def test_a_service_manager_is_told(bundle, frames, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT_S)
        with (
            EdgeProcess(bundle.path) as edge,
            NodeProcess(
                *(bundle.path, "--source", frames, "--edge", edge.endpoint),
                env={"NOTIFY_SOCKET": str(tmp_path / "notify")},
            ) as node,
        ):
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"STOPPING=1"
            assert node.end()[0] == 0

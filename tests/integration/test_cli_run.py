"""The main job from the command line: a network of one's own, then the example."""

import errno
import json
import os
import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cli_rig import cli, interrupt, result, start, tiny_frames, tiny_model, working_in
from click.testing import CliRunner

from waistline.errors import ConfigError
from waistline.files import sha256_file
from waistline.run import load_run, read_table
from waistline_hostctl import recording
from waistline_hostctl.results import (
    CutsResult,
    DemoResult,
    ReportResult,
    RunResult,
    SplitResult,
    VerifyResult,
)
from waistline_hostctl.verbs import group


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its bundle and frames."""
    folder = tmp_path_factory.mktemp("home")
    tiny_model(folder / "tiny.onnx")
    tiny_frames(folder / "frames.npz", 12)
    done = cli("split", "tiny.onnx", "--cut", "relu1", "-o", "tiny.bundle", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = result(done, SplitResult)
    assert found.waist == ("relu1",)
    assert found.float_bytes == 4 * 64 * 4
    return folder


def test_cuts_are_listed_with_their_bytes(home: Path) -> None:
    found = result(cli("split", "tiny.onnx", "--list", "--json", cwd=home), CutsResult)
    assert [row.x for row in found.cuts] == list(range(1, found.last_x + 1))
    assert found.cuts[0].size_bytes == 256
    table = cli("split", "tiny.onnx", "--list", cwd=home).stdout
    assert re.search(r"^ *3 .* 1024 B +128 B .* relu1$", table, re.MULTILINE)
    assert max(map(len, table.splitlines())) <= 100


def test_a_bundle_is_verified(home: Path) -> None:
    found = result(cli("verify", "tiny.bundle", "--json", cwd=home), VerifyResult)
    assert found.ok
    assert found.report.answer_identical


def test_run_writes_a_whole_folder_and_recomputes_it(home: Path) -> None:
    done = cli(
        "run", "tiny.bundle", "--source", "frames.npz", "--link", "wifi-n-esp32", "--json", cwd=home
    )
    assert done.returncode == 0, done.stderr
    found = result(done, RunResult)
    assert found.outcomes == {"remote": 12}
    assert found.figures["agreement"].n == 12
    assert found.figures["latency_p50_waist_s"].evidence == "emulated"
    folder = home / found.folder
    record = load_run(folder)
    assert record.bench.bench.link.profile == "wifi-n-esp32"
    assert record.bench.origins["link.profile"] == "flag"
    assert record.inputs["frames.npz"]
    assert record.seeds["link jitter"] == 1
    assert record.codec in {"c", "numpy"}
    frames = read_table(folder, "frames")
    assert frames.column("index") == list(range(12))
    stages = [name for name in (row.name for row in frames.columns) if name.endswith("_s")]
    for row in frames.dicts():
        parts = sum(row[name] for name in stages if name not in {"latency_s", "started_s"})
        assert row["latency_s"] == pytest.approx(parts, rel=0.05, abs=1e-3)
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    report = (folder / "report.html").read_bytes()
    again = cli("report", folder, "--recompute", "--json", cwd=home)
    assert result(again, ReportResult).changed == ()
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before
    assert (folder / "report.html").read_bytes() == report
    assert load_run(folder).figures == record.figures


def test_run_without_a_source_sends_the_golden_frame(home: Path) -> None:
    done = cli("run", "tiny.bundle", "--count", "5", "--overlap", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    found = result(done, RunResult)
    assert found.outcomes == {"remote": 5}
    assert found.figures["latency_p50_waist_s"].evidence == "measured"


def test_an_edited_raw_table_is_not_recomputed(home: Path) -> None:
    done = cli("run", "tiny.bundle", "--count", "3", "--name", "edited", "--json", cwd=home)
    folder = home / result(done, RunResult).folder
    table = folder / "frames.csv"
    table.write_text(table.read_text().replace("remote", "local"))
    again = cli("report", folder, "--recompute", cwd=home)
    assert again.returncode == 2
    assert "edited after the run" in again.stderr


def test_an_edited_computed_table_is_shown_only_when_computed_again(home: Path) -> None:
    done = cli("run", "tiny.bundle", "--count", "3", "--name", "shaded", "--json", cwd=home)
    folder = home / result(done, RunResult).folder
    table = folder / "latency.csv"
    before = table.read_text()
    table.write_text(before.replace("transit", "magic"))
    again = cli("report", folder, cwd=home)
    assert again.returncode == 2
    assert "--recompute" in again.stderr
    assert cli("report", folder, "--recompute", cwd=home).returncode == 0
    assert table.read_text() == before


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("frames", ",waist,", ",strange,"), ("latency", "transit", "magic"), ("frames", "=", "?")],
)
def test_tables_edited_with_their_hashes_are_refused_or_computed_again(
    home: Path, name: str, old: str, new: str, recompute: bool
) -> None:
    folder = home / "runs" / f"forged-{name}-{ord(new[0])}-{recompute}"
    done = cli("run", "tiny.bundle", "--count", "3", "--name", folder.name, "--json", cwd=home)
    folder = home / result(done, RunResult).folder
    table, record = folder / f"{name}.csv", folder / "run.json"
    hashes = [sha256_file(table)]
    table.write_text(table.read_text().replace(old, new))
    hashes.append(sha256_file(table))
    record.write_text(record.read_text().replace(*hashes))
    with suppress(ConfigError):
        recording.report_again(folder, recompute=recompute)


def test_the_environment_and_the_bench_file_are_heard(home: Path, tmp_path: Path) -> None:
    bench = tmp_path / "desk.toml"
    bench.write_text('[link]\nprofile = "no-such-profile"\n')
    asked = ("run", home / "tiny.bundle", "--count", "2", "--json")
    refused = cli(*asked, cwd=tmp_path, env={"WAISTLINE_BENCH": str(bench)})
    assert refused.returncode == 2
    assert "no link profile 'no-such-profile'" in refused.stderr
    environment = {"WAISTLINE_BENCH": str(bench), "WAISTLINE_LINK_PROFILE": "wifi-n-esp32"}
    done = cli(*asked, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    record = load_run(tmp_path / result(done, RunResult).folder)
    assert record.bench.origins["link.profile"] == "environment"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["split", "tiny.onnx", "--cut", "relu9", "-o", "x.bundle"], 2, "relu"),
        (["split", "tiny.onnx", "--cut", "99", "-o", "x.bundle"], 2, "99"),
        (["split", "tiny.onnx", "--cut", "relu1", "-o", "tiny.bundle"], 2, "--force"),
        (["split", "tiny.onnx", "--cut", "relu1", "-o", "x.bundle", "--codec", "q9"], 2, "q9"),
        (["run", "tiny.bundle", "--source", "empty"], 2, "empty"),
        (["run", "tiny.bundle", "--source", "nowhere.npz"], 2, "nowhere.npz"),
        (["run", "tiny.bundle", "--link", "wifi"], 2, "wifi-n-esp32"),
        (["run", "tiny.onnx"], 2, "is not a bundle"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    home: Path, arguments: list[str], code: int, said: str
) -> None:
    (home / "empty").mkdir(exist_ok=True)
    before = sorted((home / "runs").glob("*")) if (home / "runs").exists() else []
    done = cli(*arguments, cwd=home)
    assert done.returncode == code
    assert said in done.stderr
    assert not (home / "x.bundle").exists()
    assert (sorted((home / "runs").glob("*")) if (home / "runs").exists() else []) == before


def test_symbolic_shapes_ask_for_shape(home: Path) -> None:
    tiny_model(home / "open.onnx", batch="n")
    refused = cli("split", "open.onnx", "--list", cwd=home)
    assert refused.returncode == 2
    assert "--shape image=" in refused.stderr
    done = cli("split", "open.onnx", "--list", "--shape", "image=1,1,8,8", "--json", cwd=home)
    assert result(done, CutsResult).cuts[0].size_bytes == 256


def test_an_edited_bundle_is_refused(home: Path) -> None:
    cli("split", "tiny.onnx", "--cut", "relu2", "-o", "edited.bundle", cwd=home)
    head = home / "edited.bundle" / "head.onnx"
    data = bytearray(head.read_bytes())
    data[-1] ^= 1
    head.write_bytes(data)
    done = cli("run", "edited.bundle", cwd=home)
    assert done.returncode == 2
    assert "edited after" in done.stderr


def test_edge_and_node_verbs_are_the_services(home: Path) -> None:
    edge = start("edge", "tiny.bundle", "--listen", "tcp://127.0.0.1:0", cwd=home)
    try:
        assert edge.stdout is not None
        ready = json.loads(edge.stdout.readline())
        done = cli(
            "node", "tiny.bundle", "--source", "frames.npz", "--edge", ready["endpoint"], cwd=home
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["outcomes"]["remote"] == 12
    finally:
        code, out, _ = interrupt(edge)
    assert code == 0
    assert json.loads(out.splitlines()[-1])["summary"] == "waistline-edge"


def test_a_port_in_use_is_a_link_error(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = cli("edge", "tiny.bundle", "--listen", address, cwd=home)
    assert done.returncode == 4
    assert address.rpartition(":")[2] in done.stderr


def test_disk_full_while_writing_a_run_claims_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up after the frames were streamed and some tables written."""
    written: list[str] = []

    def fsync(handle: int) -> None:
        written.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        if "latency.csv" in written[-1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(home)
    monkeypatch.setattr("waistline.files.os.fsync", fsync)
    done = CliRunner().invoke(group, ["run", "tiny.bundle", "--count", "3", "--name", "full"])
    assert done.exit_code == 2
    assert "No space left" in done.stderr
    (folder,) = (home / "runs").glob("*-full")
    assert not (folder / "run.json").exists()
    assert not (folder / "latency.csv").exists()
    assert not list(folder.glob(".*"))
    with pytest.raises(ConfigError, match="not a finished run"):
        recording.report_again(folder, recompute=True)


def test_an_interrupted_run_leaves_no_process_and_no_folder(home: Path) -> None:
    process = start(
        "run", "tiny.bundle", "--count", "100000", "--name", "stopped", "--rate", "5", cwd=home
    )
    logs: list[Path] = []
    while process.poll() is None and not logs:
        time.sleep(0.05)
        logs = [path for path in (home / "runs").glob("*-stopped/node-*.log") if path.read_text()]
    code, _, err = interrupt(process, signal.SIGINT)
    assert code == 130, err
    assert not list((home / "runs").glob("*-stopped"))
    assert not list(working_in(home))


def test_a_terminated_run_ends_its_services(home: Path) -> None:
    process = start("run", "tiny.bundle", "--count", "100000", "--name", "killed", cwd=home)
    while process.poll() is None and len(list(working_in(home))) < 3:
        time.sleep(0.05)
    code, _, err = interrupt(process, signal.SIGTERM)
    assert code == 130, err
    assert not list(working_in(home))


def test_the_demo_does_its_whole_job(tmp_path: Path) -> None:
    done = cli("demo", "--act", "fashion", "--frames", "40", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = result(done, DemoResult).acts
    assert found.outcomes == {"remote": 120}
    figures = found.figures
    assert figures["accuracy_cut"].value > 0.75
    assert figures["agreement"].value > 0.9
    assert figures["waist_as_sent_bytes"].value < figures["picture_png_bytes"].value
    assert all(figure.evidence == "modelled" for name, figure in figures.items() if "radio" in name)
    radios = {name.split("_")[1] for name in figures if name.startswith("radio_")}
    assert len(radios) == 2
    assert any("picture" in remark for remark in found.remarks)
    folder = tmp_path / found.folder
    assert {"run.json", "frames.csv", "report.html"} <= {path.name for path in folder.iterdir()}
    bits = read_table(folder, "bits")
    assert bits.column("bits") == [*range(1, 9), 32]
    html = (folder / "report.html").read_text()
    assert html.count("<image") == len(read_table(folder, "samples").rows) > 2
    again = cli("report", folder, "--recompute", "--json", cwd=tmp_path)
    assert result(again, ReportResult).changed == ()


def test_the_demo_prints_what_it_promises(tmp_path: Path) -> None:
    done = cli("demo", "--act", "fashion", "--frames", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("doctor", "cuts", "split", "run", "edge process", "p50", "p99", "transit",
                 "picture PNG", "picture JPEG", "picture WebP", "waist uncoded", "accuracy",
                 "agreement", "uncut model", "change",
                 "modelled", "emulated", "bits", "report.html"):  # fmt: skip
        assert word in done.stdout, word
    lines = [line for line in done.stdout.splitlines() if not line.startswith("report")]
    assert max(map(len, lines)) <= 100


def test_the_first_act_finds_biscuits_and_draws_them(tmp_path: Path) -> None:
    done = cli("demo", "--act", "biscuits", "--frames", "12", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = result(done, DemoResult).acts
    assert found.outcomes == {"remote": 36}
    figures = found.figures
    assert figures["map50_cut"].value > 0.8
    assert figures["map50_cut"].standard_uncertainty is not None
    for picture in ("raw", "png", "jpeg_q90", "jpeg_q75", "jpeg_q50", "webp_q80", "webp_q50"):
        assert figures[f"map50_picture_{picture}"].n == 12
        assert figures[f"picture_{picture}_bytes"].value > figures["waist_as_sent_bytes"].value
    html = (tmp_path / found.folder / "report.html").read_text()
    assert html.count('class="box truth') > 10
    assert html.count('class="box found') > 10

"""A stage has one name: in the terminal, in the report, in tables and in what the node prints."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path

import msgspec
import pytest
from cli_rig import cli, result
from edge_rig import fake_bundle

from waistline import words
from waistline.files import sha256_file
from waistline.run import RECORD
from waistline_hostctl.results import ReportResult


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a bundle whose stages all take time, and what the terminal said of it."""
    home = tmp_path_factory.mktemp("words")
    bundle = fake_bundle(home / "a.bundle").path
    done = cli("run", bundle, "--count", "4", cwd=home)
    assert done.returncode == 0, done.stderr
    (folder,) = (home / "runs").iterdir()
    return folder, done.stdout


def test_terminal_report_and_tables_name_stages_alike(run):
    folder, said = run
    with (folder / "latency.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    keys = [row["stage"] for row in rows if row["stage"] != "total"]
    assert keys == [stage.key for stage in words.STAGES]
    page = html.unescape((folder / "report.html").read_text())
    for row in rows:
        if row["stage"] != "total" and float(row["p99_s"]) > 0:
            name = words.stage_name(row["stage"])
            assert re.search(rf"^ +{name}  ", said, re.MULTILINE), said
            assert f"<td>{name}</td>" in page
    assert "wait on" not in page + said


def renamed(folder: Path, name: str, old: str, new: str) -> None:
    """Put another word into a table, and what belongs to it into its schema and hash."""
    table, schema = folder / f"{name}.csv", folder / f"{name}.schema.json"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    schema.write_text(schema.read_text().replace(old, new))
    record = json.loads((folder / RECORD).read_text())
    for row in record["tables"]:
        if row["name"] == name:
            row["sha256"] = sha256_file(table)
    (folder / RECORD).write_bytes(msgspec.json.encode(record))


def test_a_run_made_with_a_former_key_is_read(run):
    folder, _ = run
    renamed(folder, "frames", "edge_queue_s", "queue_s")
    renamed(folder, "latency", "edge_queue", "queue")
    shown = cli("report", folder, "--json", cwd=folder)
    assert result(shown, ReportResult).changed == ()
    assert "edge queue" in (folder / "report.html").read_text()
    again = cli("report", folder, "--recompute", "--json", cwd=folder)
    assert result(again, ReportResult).changed == ("latency",)
    assert "edge queue" in (folder / "report.html").read_text()

"""What `waistline bench edge` makes of what it counted, and what it refuses to report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import msgspec
import pytest
from click.testing import CliRunner

from waistline.bench import resolve
from waistline.errors import MeterError, WaistlineError
from waistline.evidence import Evidence
from waistline.run import load_run, read_table
from waistline_hostctl import bench_edge, bench_edge_report, services
from waistline_hostctl.bench_edge import Round, Setting, UnderTest
from waistline_hostctl.bench_edge_bundle import golden_waist, sleeping_bundle
from waistline_hostctl.bench_edge_load import BUSY, REMOTE, Phase, Tally
from waistline_hostctl.commands import bench


def phase(remote, busy=0, *, seconds=1.0, cpu_s=0.1, edge_cpu_s=0.5, queue_s=0.1, **changes):
    """A phase of as many nodes as ``remote`` has counts."""
    nodes = tuple(
        Tally(
            sent=count + busy,
            ends=Counter({REMOTE: count, BUSY: busy} if busy else {REMOTE: count}),
            latency_s=[0.01 * (k + 1) for k in range(count)],
            busy_s=[0.001] * busy,
            queue_s=[queue_s] * count,
        )
        for count in remote
    )
    fields = {"late_s": (0.001,), "unanswered": 0, **changes}
    return Phase(seconds, nodes, cpu_s=cpu_s, edge_cpu_s=edge_cpu_s, **fields)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return sleeping_bundle(tmp_path_factory.mktemp("bundle") / "a.bundle", 1.0)


def test_an_edge_that_does_not_start_is_quoted(bundle, monkeypatch):
    """Its log is temporary: what it said stands in the error, and no fix leads to it."""
    crash = "import sys; print('loading'); sys.exit('Illegal instruction')"

    def dies(command, **options):
        return subprocess.Popen([sys.executable, "-c", crash], **options)

    stand_in = SimpleNamespace(**{**vars(subprocess), "Popen": dies})
    monkeypatch.setattr(services, "subprocess", stand_in)
    with (
        pytest.raises(WaistlineError, match="the edge did not start") as caught,
        bench_edge.edge_under_test(bundle, None, resolve(environment={}), 1),
    ):
        pass
    assert "Illegal instruction" in caught.value.cause
    assert "edge.log" not in caught.value.cause + caught.value.fix
    assert "waistline edge" in caught.value.fix


def test_half_of_the_nodes_send_twice_as_often_and_all_more_than_their_share():
    rates = Setting(nodes=32, overload=3.0).rates_hz(100.0)
    assert sum(rates) == pytest.approx(300.0)
    assert max(rates) == pytest.approx(2 * min(rates))
    assert min(rates) > 100.0 / 32
    assert len(set(Setting(nodes=5, overload=1.2).rates_hz(10.0))) == 1


@pytest.mark.parametrize(("nodes", "window"), [(1, 64), (5, 13), (32, 2), (100, 1)])
def test_about_as_many_frames_are_under_way_whatever_the_number_of_nodes(nodes, window):
    assert Setting(nodes=nodes).window == window


def test_figures_are_means_over_rounds_with_their_grade():
    rounds = [
        Round(phase([10, 10]), phase([9, 10], 20)),
        Round(phase([10, 10]), phase([10, 11], 20)),
    ]
    found = bench_edge_report.figures(rounds, Evidence.EMULATED)
    assert found["peak_goodput"].value == 20.0
    assert found["goodput_share"].value == pytest.approx(1.0)
    assert found["goodput_share"].n == 2
    assert found["goodput_share"].standard_uncertainty == pytest.approx(0.05)
    assert found["fairness_most_over_least"].value == pytest.approx((10 / 9 + 11 / 10) / 2)
    assert 0.99 < found["fairness_jain"].value <= 1.0
    assert {figure.evidence for figure in found.values()} == {Evidence.EMULATED}
    assert found["overload_latency_p99"].value >= found["overload_latency_p50"].value


def test_an_edge_that_is_not_ours_has_no_processor_time():
    rounds = [Round(phase([5], edge_cpu_s=None), phase([5], 1, edge_cpu_s=None))]
    assert "peak_edge_cpu" not in bench_edge_report.figures(rounds, Evidence.MEASURED)
    assert UnderTest("tcp://127.0.0.1:1").cpu_s() is None


@pytest.mark.parametrize(
    ("overload", "missed"),
    [
        (phase([10, 10], 5), set()),
        (phase([8, 8], 5), {"goodput_share"}),
        (phase([12, 9], 5), {"fairness"}),
        (phase([20, 0], 5), {"fairness"}),
        (phase([10, 10], 5, unanswered=1), {"busy_typed"}),
    ],
)
def test_what_an_overloaded_edge_owes(overload, missed):
    rounds = [Round(phase([10, 10]), overload)]
    found = bench_edge_report.figures(rounds, Evidence.MEASURED)
    goals = bench_edge_report.goals(found, bench_edge_report.outcomes(rounds), rounds)
    assert {name for name, reached in goals.items() if not reached} == missed


def test_an_end_that_is_no_busy_and_a_wrong_answer_are_seen():
    odd = phase([10, 10], 5)
    odd.nodes[0].ends["error(edge)"] += 1
    odd.nodes[1].wrong += 1
    rounds = [Round(phase([10, 10]), odd)]
    found = bench_edge_report.figures(rounds, Evidence.MEASURED)
    goals = bench_edge_report.goals(found, bench_edge_report.outcomes(rounds), rounds)
    assert not goals["busy_typed"]
    assert not goals["answers_right"]


@pytest.mark.parametrize(
    ("peak", "fact"),
    [
        (phase([10], cpu_s=0.95), "95%"),
        (phase([0]), "no frame"),
        (phase([10], queue_s=0.01), "0.10 requests waited"),
    ],
)
def test_a_peak_that_is_not_the_edges_is_refused(peak, fact):
    with pytest.raises(MeterError) as raised:
        bench_edge._check_peak(peak)
    assert fact in str(raised.value)


def test_a_peak_without_a_queue_is_the_edges_when_its_own_thread_is_the_limit():
    bench_edge._check_peak(phase([10], queue_s=0.0, edge_cpu_s=1.1))


def test_an_overload_that_was_not_sent_is_refused():
    bench_edge._check_offered(phase([10], 20), 30.0)
    with pytest.raises(MeterError, match="as much as planned"):
        bench_edge._check_offered(phase([10], 18), 30.0)
    held_back = phase([10], 10)
    held_back.nodes[0].withheld = 10
    bench_edge._check_offered(held_back, 30.0)


def test_the_run_folder_holds_what_was_counted(bundle, tmp_path):
    rounds = [Round(phase([10, 10]), phase([9, 10], 20))]
    edge = UnderTest("tcp://127.0.0.1:1", None, 2, "fake")
    setting = Setting(2, 3.0, 1.0, 1)
    result = bench_edge_report.evaluate(rounds, setting, edge, bundle, resolve(), tmp_path)
    record = load_run(result.folder)
    assert record.figures == result.figures
    assert record.evidence["goodput_share"] == "emulated"
    table = read_table(result.folder, "rounds")
    assert table.column("phase") == ["peak", "overload"]
    assert table.column("goodput") == [20.0, 19.0]
    assert read_table(result.folder, "nodes").column("busy") == [0, 0, 20, 20]
    text = bench_edge_report.shown(result, setting)
    assert "0.950 of peak" in text
    assert "reached" in text
    assert "MISSED" not in text
    assert json.loads(msgspec.json.encode(result))["outcomes"] == {BUSY: 40, REMOTE: 19}


def test_the_golden_frame_is_what_is_sent(bundle):
    waist = golden_waist(bundle)
    codec = bundle.waist_codec()
    assert waist.raw_len == codec.raw_len
    assert [array.shape for array in codec.decode(waist.payload, waist.raw_len)] == [
        bundle.cut.tensors[0].tensor.shape
    ]


def test_an_edge_that_runs_already_needs_its_bundle_named():
    done = CliRunner().invoke(bench.command, ["edge", "--edge", "tcp://127.0.0.1:1"])
    assert done.exit_code != 0
    assert "bundle" in str(done.exception)

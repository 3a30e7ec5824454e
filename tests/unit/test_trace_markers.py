"""Edges of a bit, and the layers that the marker pin's modes tell of."""

from pathlib import Path

import numpy as np
import pytest

from waistline.errors import MarkerMissing
from waistline.evidence import Evidence
from waistline.trace.base import SIGNALS, Block, Gap, TraceSpec
from waistline.trace.markers import (
    Edges,
    _within,
    annotations_of,
    passes_of_head,
    passes_of_layers,
    passes_of_pulses,
    read_edges,
)
from waistline.trace.store import create, open_trace

SETTLE = 10.0


def edges_of(changes: list[tuple[float, int]], holes: tuple[tuple[int, int], ...] = ()) -> Edges:
    """From (place, level) as a pin is written; a level that it has already is no change."""
    places, rising, level = [], [], 0
    for place, new in changes:
        if new != level:
            places.append(place)
            rising.append(bool(new))
            level = new
    return Edges(np.array(places, float), np.array(rising, bool), holes)


def run(
    mode: str, durations: list[float], start: float
) -> tuple[list[tuple[float, int]], list[float], float]:
    """What the firmware writes to its pin, (place, level); each layer's begin; the last's end."""
    at, written, begins = start, [], []
    if mode == "head":
        written.append((at, 1))
        at += SETTLE
    for layer, duration in enumerate(durations):
        if mode == "layers":
            written.append((at, 1 - layer % 2))
            at += SETTLE
        if mode == "pulses":
            for _ in range(layer + 1):
                written += [(at, 1), (at + SETTLE, 0)]
                at += 2 * SETTLE
        begins.append(at)
        at += duration
    if mode != "pulses":
        written.append((at, 0))
    return written, begins, at


def many(mode: str, count: int, layers: int, seed: int = 1) -> tuple[Edges, list[list[float]]]:
    rng = np.random.default_rng(seed)
    changes: list[tuple[float, int]] = []
    begins, at = [], 100.0
    for _ in range(count):
        written, found, at = run(mode, rng.uniform(30, 400, layers).tolist(), at)
        changes += written
        begins.append(found)
        at += 2000 + rng.uniform(0, 50)
    return edges_of(changes), begins


def bits_file(path: Path, parts: list[np.ndarray | int], bit: int = 3) -> Path:
    """A trace of one logic bit; a number is a gap of so many samples."""
    spec = TraceSpec(1e5, (SIGNALS["current"], SIGNALS[f"d{bit}"]), "sim:1", Evidence.SIMULATED)
    with create(path, spec) as writer:
        for part in parts:
            if isinstance(part, int):
                writer.gap(Gap(writer.next_sample, part, "counter"))
            else:
                logic = (part << bit).astype(np.uint8)
                current = np.zeros(len(part), np.float32)
                writer.write(Block(writer.next_sample, current_a=current, logic=logic))
    return path


def test_edges_are_left_out_beside_each_of_many_gaps() -> None:
    rng = np.random.default_rng(5)
    places = np.sort(rng.integers(0, 3000, 800)) - 0.5
    firsts = np.sort(rng.integers(0, 3000, 60))
    holes = [
        (int(first), int(first + size))
        for first, size in zip(firsts, rng.integers(0, 40, 60), strict=True)
    ]
    expected = np.zeros(len(places), bool)
    for first, end in holes:
        expected |= (places >= first - 1) & (places <= end)
    np.testing.assert_array_equal(_within(places, holes), expected)
    assert not _within(places, []).any()


def test_edges_are_read_and_none_beside_a_gap(tmp_path: Path) -> None:
    pytest.importorskip("pyjls", reason="needs the extra capture")
    first = np.repeat(np.array([0, 1, 0]), [10, 5, 5])
    path = bits_file(tmp_path / "a.jls", [first, 30, np.repeat(np.array([1, 0, 1]), [4, 6, 8])])
    with open_trace(path) as trace:
        found = read_edges(trace, 3)
        np.testing.assert_array_equal(found.places, [9.5, 14.5, 53.5, 59.5])
        np.testing.assert_array_equal(found.rising, [True, False, False, True])
        assert found.holes == ((20, 50),)
        part = read_edges(trace, 3, 10, 16)
        np.testing.assert_array_equal(part.places, [14.5])
        with pytest.raises(MarkerMissing, match="D0") as caught:
            read_edges(trace, 0)
    assert "D3" in caught.value.cause


@pytest.mark.parametrize("first", [1, 999, 1000, 1001])
def test_edges_at_the_seams_of_pieces_are_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    pytest.importorskip("pyjls", reason="needs the extra capture")
    monkeypatch.setattr("waistline.trace.markers._PIECE", 1000)
    values = np.zeros(5000, np.uint8)
    values[first : first + 2000] = 1
    with open_trace(bits_file(tmp_path / "a.jls", [values])) as trace:
        np.testing.assert_array_equal(read_edges(trace, 3).places, [first - 0.5, first + 1999.5])


def test_head_marks_are_passes() -> None:
    edges, begins = many("head", 5, 3)
    found = passes_of_head(edges, SETTLE)
    assert [one.begins[0] for one in found] == [one[0] for one in begins]
    cut = Edges(edges.places, edges.rising, ((int(edges.places[2]) + 1, int(edges.places[2]) + 2),))
    assert len(passes_of_head(cut)) == 4


@pytest.mark.parametrize("layers", [1, 2, 5, 8])
def test_layers_are_told_by_their_edges(layers: int) -> None:
    edges, begins = many("layers", 6, layers)
    found, left_out = passes_of_layers(edges, layers, pause=1000, settle=SETTLE)
    assert left_out == 0
    assert len(found) == 6
    for one, expected in zip(found, begins, strict=True):
        np.testing.assert_allclose(one.begins, expected)
        assert np.isnan(one.ends[-1]) == (layers % 2 == 0)
        np.testing.assert_allclose(one.ends[:-1], np.array(expected[1:]) - SETTLE)


def test_a_pass_with_an_edge_too_few_or_many_is_left_out() -> None:
    edges, _ = many("layers", 6, 5)
    keep = np.ones(len(edges), bool)
    keep[8] = False
    found, left_out = passes_of_layers(Edges(edges.places[keep], edges.rising[keep]), 5, 1000)
    assert (len(found), left_out) == (5, 1)
    hole = int(edges.places[14]) + 2
    found, left_out = passes_of_layers(
        Edges(edges.places, edges.rising, ((hole, hole + 1),)), 5, 1000
    )
    assert (len(found), left_out) == (5, 1)


@pytest.mark.parametrize("layers", [1, 2, 3, 7, 20])
def test_pulses_are_decoded_to_layers(layers: int) -> None:
    edges, begins = many("pulses", 4, layers)
    found, odd = passes_of_pulses(edges, layers, SETTLE)
    assert odd == 0
    assert [one.layers for one in found] == [tuple(range(layers))] * 4
    for one, expected in zip(found, begins, strict=True):
        np.testing.assert_allclose(one.begins, expected)
        pulses = 2 * SETTLE * np.arange(2, layers + 1)
        np.testing.assert_allclose(one.ends[:-1], np.array(expected[1:]) - pulses)
        assert np.isnan(one.ends[-1])


def test_layers_shorter_than_a_pulse_are_told_by_the_sum() -> None:
    written, begins, _ = run("pulses", [200, 1, 2, 300, 1, 50], 10)
    found, odd = passes_of_pulses(edges_of(written), 6, SETTLE)
    assert odd == 0
    (one,) = found
    assert one.layers == (0, 1, 2, 3, 4, 5)
    np.testing.assert_allclose(one.begins, begins, atol=3)


@pytest.mark.parametrize("seed", range(10))
def test_a_lost_edge_costs_its_layer_and_no_other(seed: int) -> None:
    """Each edge that is left keeps its layer's number; nothing is made up."""
    rng = np.random.default_rng(seed)
    edges, begins = many("pulses", 5, 6, seed)
    keep = np.ones(len(edges), bool)
    keep[rng.integers(len(edges))] = False
    found, _ = passes_of_pulses(Edges(edges.places[keep], edges.rising[keep]), 6, SETTLE)
    truth = {(layer, round(at)) for one in begins for layer, at in enumerate(one)}
    told = [
        (layer, round(at))
        for one in found
        for layer, at in zip(one.layers, one.begins.tolist(), strict=True)
    ]
    assert len(told) >= 28
    assert all(any(a == b and abs(x - y) <= 2 for b, y in truth) for a, x in told)


def test_notes_have_names_and_ends() -> None:
    edges, begins = many("pulses", 1, 3)
    found, _ = passes_of_pulses(edges, 3, SETTLE)
    notes = annotations_of(found, ["conv", "pool"])
    assert [note.text for note in notes] == ["conv", "pool", "layer 2"]
    assert [note.kind for note in notes] == ["segment", "segment", "marker"]
    assert notes[0].end_sample == pytest.approx(begins[0][1] - 4 * SETTLE)


def test_nothing_is_nothing() -> None:
    none = edges_of([])
    assert passes_of_head(none) == []
    assert passes_of_layers(none, 3, 10) == ([], 0)
    assert passes_of_pulses(none, 3, 10) == ([], 0)

"""What people read and type: tables, prefixes, shapes, codecs, pass-through options."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from waistline.bench import resolve
from waistline.errors import ConfigError
from waistline_hostctl import console
from waistline_hostctl.console import WIDTH, grid, plus_minus, si, size
from waistline_hostctl.example import find_example
from waistline_hostctl.models import find_task, parse_codecs, parse_shapes
from waistline_hostctl.page.cuts import bits_section
from waistline_hostctl.passing import with_settings
from waistline_hostctl.run_link import check_link
from waistline_hostctl.services import EDGE, NODE, reported_error


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (1.5, "1.5 s"), (0.00123, "1.23 ms"), (4.2e-8, "42 ns"), (2e6, "2 Ms"),
     (-0.0125, "-12.5 ms"), (0.9999, "1 s")],
)  # fmt: skip
def test_si_keeps_three_digits(value: float, text: str) -> None:
    assert si(value, "s") == text


def test_sizes_and_uncertainties() -> None:
    assert size(784.2) == "784 B"
    assert size(50176) == "50.2 kB"
    assert plus_minus(92.34, 0.84, 1, "%") == "92.3 ± 0.8 %"
    assert plus_minus(1.0, None, 2) == "1.00"


def test_grid_aligns_numbers_right_and_fits_the_width() -> None:
    text = grid(("x", "name", ""), [("1", "a", "y" * 300), ("20", "long name", "z")], indent=0)
    lines = text.splitlines()
    assert lines[1].startswith(" 1  a        ")
    assert lines[2].startswith("20  long name")
    assert max(map(len, lines)) <= WIDTH
    assert lines[1].endswith("..")
    assert grid(("x",), []) == ""


def test_nothing_that_a_terminal_obeys_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    screen = console.Console()
    screen.say("a\x1b[2Jb\x1b]0;title\x07\r\nc\u202ed\udcff \x1b[31mred\x1b[0m")
    screen.note("\x9b8m")
    out, err = capsys.readouterr()
    assert out == "a\\x1b[2Jb\\x1b]0;title\\x07\\r\nc\\u202ed\\udcff \x1b[31mred\x1b[0m\n"
    assert err == "note: \\x9b8m\n"


def test_the_name_of_a_metric_is_no_html() -> None:
    row = {"bits": 8, "score": 0.5, "score_u": 0.1, "agreement": 1.0, "agreement_u": 0.0, "n": 4,
           "mean_bytes": 10.0, "u_bytes": 0.0}  # fmt: skip
    page = bits_section([row], SimpleNamespace(settings={}), "<script>x</script>")
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_nothing_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console, "_PROGRESS_AFTER_S", 0.0)
    monkeypatch.setattr(console, "_PROGRESS_EVERY_S", 0.0)
    for beside in (Terminal(), io.StringIO()):
        with console.Console(beside=beside).progress("frames", 9) as progress:
            progress.update(4)
            progress.update(5)
        shown = beside.getvalue()
        assert shown == ("\r\x1b[Kframes 4/9\r\x1b[Kframes 5/9\r\x1b[K" if beside.isatty() else "")


def test_notes_go_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    said = io.StringIO()
    quiet = console.Console(json=True, beside=said)
    quiet.note("worth knowing")
    quiet.say("a table")
    assert said.getvalue() == "note: worth knowing\n"
    assert capsys.readouterr() == ("", "")


def test_shapes_take_names_with_equals_and_both_separators() -> None:
    assert parse_shapes(["in=1,3,8,8", "a=b=1x2"]) == {"in": (1, 3, 8, 8), "a=b": (1, 2)}


@pytest.mark.parametrize(
    "text", ["1,3", "in=", "in=a,b", "=1", "in=1,-1", "in=²", "in=" + "9" * 5000]
)
def test_a_bad_shape_shows_a_good_one(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_shapes([text])
    assert "--shape input=1,3,224,224" in caught.value.fix


def test_codecs_for_all_and_for_one_are_told_apart() -> None:
    general, named = parse_codecs(["affine:b=4,clip=mse|zstd:1", "conv/Relu:0=q1:b=2|none"])
    assert general == "affine:b=4,clip=mse|zstd:1"
    assert named == {"conv/Relu:0": "q1:b=2|none"}


@pytest.mark.parametrize("texts", [["f32|none", "f16|none"], ["a=f32", "a=f16"]])
def test_two_codecs_for_one_thing_are_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="one too many"):
        parse_codecs(texts)


@pytest.mark.parametrize(
    ("text", "word"),
    [("afine:b=4|zstd:1", "'afine'"), ("affine b=4", "'affine b=4'"), ("", "''"),
     ("affin:per=channel,b=4", "'affin'")],
)  # fmt: skip
def test_a_misspelt_codec_is_not_taken_for_a_tensor(text: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_codecs([text])
    assert f"no quantizer {word}" in caught.value.cause
    parse_codecs([caught.value.fix.partition("--codec ")[2].strip("'")])


def test_a_misspelt_codec_of_a_tensor_stays_with_it() -> None:
    assert parse_codecs(["conv/Relu:0=afine:b=4"]) == (None, {"conv/Relu:0": "afine:b=4"})


def test_the_task_beside_a_model_is_found_and_said() -> None:
    example = find_example("fashion")
    said: list[str] = []
    task = find_task(example.model, None, said.append)
    assert task is not None
    assert task.kind == "classify"
    assert "task.toml" in said[0]


def test_without_a_checkout_the_example_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="example") as caught:
        find_example("fashion", tmp_path / "site-packages" / "module.py")
    assert "make demo" in caught.value.fix


def test_services_get_only_what_was_chosen_somewhere(tmp_path: Path) -> None:
    assert with_settings(NODE, ["b", "--source", "s"], resolve()) == [
        "b", "--source", "s", "--edge", "tcp://127.0.0.1:7571",
    ]  # fmt: skip
    bench = tmp_path / "bench.toml"
    bench.write_text('[link]\nprofile = "lte-cat1"\n[edge]\nworkers = 3\n[node]\nthreads = 2\n')
    resolved = resolve(bench)
    node = with_settings(NODE, ["b", "--threads=1"], resolved)
    assert node[2:] == ["--edge", "paced:tcp://127.0.0.1:7571?profile=lte-cat1&seed=1"]
    assert with_settings(EDGE, ["b"], resolved)[1:] == [
        "--listen", "tcp://127.0.0.1:7571", "--workers", "3",
    ]  # fmt: skip
    assert with_settings(EDGE, ["--help"], resolved) == ["--help"]


def test_the_last_error_of_a_log_is_taken() -> None:
    log = "12:00 INFO x\nerror: first\nfix:   a\nerror: second\ncause: why: not\nfix:   b\n"
    assert reported_error(log) == {"error": "second", "cause": "why: not", "fix": "b"}
    assert reported_error("all is well\n") == {}


def test_a_link_over_which_nobody_can_be_greeted_is_refused() -> None:
    check_link("")
    check_link("nb-iot")
    with pytest.raises(ConfigError, match="too slow") as caught:
        check_link("lora-sf12-bw125")
    assert "--radio lora-sf12-bw125" in caught.value.fix

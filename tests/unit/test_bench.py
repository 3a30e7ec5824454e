"""The bench file: precedence, origins, and errors that name the key."""

from pathlib import Path

import pytest

from waistline.bench import DEFAULT, ENVIRONMENT, FILE, FLAG, Bench, resolve, with_link
from waistline.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "bench.example.toml"


def bench_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bench.toml"
    path.write_text(text)
    return path


def test_without_anything_defaults_hold() -> None:
    resolved = resolve()
    assert resolved.bench == Bench()
    assert set(resolved.origins.values()) == {DEFAULT}


def test_the_example_file_spells_out_the_defaults() -> None:
    resolved = resolve(EXAMPLE)
    assert resolved.bench == Bench()
    assert set(resolved.origins.values()) == {FILE}


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    path = bench_file(
        tmp_path, '[link]\nprofile = "file"\n[node]\nthreads = 3\n[edge]\nworkers = 2\n'
    )
    environment = {"WAISTLINE_LINK_PROFILE": "env", "WAISTLINE_NODE_THREADS": "4"}
    resolved = resolve(path, environment=environment, flags={"link.profile": "flag"})
    assert resolved.bench.link.profile == "flag"
    assert resolved.bench.node.threads == 4
    assert resolved.bench.edge.workers == 2
    assert resolved.origins["link.profile"] == FLAG
    assert resolved.origins["node.threads"] == ENVIRONMENT
    assert resolved.origins["edge.workers"] == FILE
    assert resolved.origins["edge.threads"] == DEFAULT


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    assert resolve(flags={"link.profile": None}).origins["link.profile"] == DEFAULT


@pytest.mark.parametrize(
    ("text", "named", "near"),
    [
        ("[node]\nthread = 2\n", "node.thread", "node.threads"),
        ('[lnk]\nprofile = "x"\n', "lnk", "link"),
        ('[edge]\nlisten = "x"\n', "edge.listen", "remove"),
    ],
)
def test_unknown_keys_are_named_with_near_ones(
    tmp_path: Path, text: str, named: str, near: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(bench_file(tmp_path, text))
    assert repr(named) in caught.value.what
    assert near in caught.value.fix


@pytest.mark.parametrize(
    "text",
    ["[node]\nthreads = 'two'\n", "[node]\nthreads = -1\n", "[edge]\nworkers = 0\n", "node = 3\n",
     "[node", "\xff"],
)  # fmt: skip
def test_values_that_cannot_be_used_are_config_errors(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError):
        resolve(path)


def test_a_bad_value_is_refused_even_where_a_flag_overrides_it(tmp_path: Path) -> None:
    path = bench_file(tmp_path, "[link]\nprofile = 3\n")
    with pytest.raises(ConfigError, match="bench file"):
        resolve(path, flags={"link.profile": "wifi"})


@pytest.mark.parametrize("text", ["[" * 5000, "#" * (1 << 20) + "x"])
def test_a_hostile_file_is_a_config_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="bench file"):
        resolve(bench_file(tmp_path, "x = " + text))


def test_a_number_out_of_range_names_where_it_came_from() -> None:
    with pytest.raises(ConfigError, match="-2, from the environment,") as caught:
        resolve(EXAMPLE, environment={"WAISTLINE_NODE_THREADS": "-2"})
    assert "bench file" not in caught.value.what


def test_a_bad_number_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="WAISTLINE_NODE_THREADS"):
        resolve(environment={"WAISTLINE_NODE_THREADS": "many"})


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        resolve(tmp_path / "nowhere.toml")


def test_another_link_is_chosen_by_whoever_says_so(tmp_path: Path) -> None:
    file = tmp_path / "bench.toml"
    file.write_text('[link]\nprofile = "lte-cat1"\n[node]\nthreads = 2\n')
    before = resolve(file)
    after = with_link(before, "wifi-n-esp32", FLAG)
    assert after.bench.link.profile == "wifi-n-esp32"
    assert after.origins == {**before.origins, "link.profile": FLAG}
    assert (after.bench.node, after.file) == (before.bench.node, before.file)

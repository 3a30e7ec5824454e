"""``bench.toml``: what is on the desk, and where each setting came from.

Order of precedence: flag, environment, bench file, default. A key ``link.profile`` is read from the
environment as ``WAISTLINE_LINK_PROFILE``. Unknown keys are errors, because a mistyped key would
silently measure something else.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from waistline.errors import ConfigError
from waistline.files import read_limited
from waistline.instrument import MeterBench

FILE_NAME = "bench.toml"
ENVIRONMENT_PREFIX = "WAISTLINE_"
FLAG, ENVIRONMENT, FILE, DEFAULT = "flag", "environment", "bench file", "default"
_MAX_BENCH_BYTES = 1 << 20
_METER = "meter"


class NodeBench(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device that runs the head.

    Attributes:
        backend: inference engine; ``auto``: the one that the slice's format is at home in.
        threads: of the engine, inside one head; 0 lets the engine decide.
        board: emulated microcontroller to start; "" where it is not one.
        port: serial port of a microcontroller, a path or an id; "" where there is none.
        baud: of that port.
    """

    backend: str = "auto"
    threads: int = 1
    board: str = ""
    port: str = ""
    baud: int = 921_600


class EdgeBench(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine that runs the tail.

    Attributes:
        endpoint: where the edge listens and nodes find it.
        backend: inference engine; ``auto``: the one that the slice's format is at home in.
        threads: of the engine, inside one tail; 0 lets the engine decide.
        workers: tails that run at once.
    """

    endpoint: str = "tcp://127.0.0.1:7571"
    backend: str = "auto"
    threads: int = 1
    workers: int = 1


class LinkBench(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies between them.

    Attributes:
        profile: row of the protocol table that emulation follows, "" for the link as it is.
    """

    profile: str = ""


class FlashBench(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a microcontroller is flashed by a tool that Waistline does not know.

    Attributes:
        command: program and arguments with ``{image}``, ``{port}`` and ``{address}``; no shell.
    """

    command: str = ""


class Bench(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything on the desk; ``meter`` holds instruments by name, as ``[meter.NAME]``."""

    node: NodeBench = NodeBench()
    edge: EdgeBench = EdgeBench()
    link: LinkBench = LinkBench()
    flash: FlashBench = FlashBench()
    meter: dict[str, MeterBench] = {}


class ResolvedBench(msgspec.Struct, frozen=True):
    """A bench with the origin of every key; stored with each run.

    Attributes:
        bench: the settings in force.
        origins: ``link.profile`` to flag, environment, bench file or default.
        file: the bench file that was read, "" when there was none.
    """

    bench: Bench
    origins: dict[str, str]
    file: str = ""


def keys() -> Iterator[tuple[str, str, type]]:
    """(section, key, type) of every setting but those of meters, which the file alone names."""
    for section in msgspec.structs.fields(Bench):
        if section.name != _METER:
            for field in msgspec.structs.fields(section.type):
                yield section.name, field.name, field.type


def resolve(
    path: str | Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> ResolvedBench:
    """The settings in force.

    Args:
        path: the bench file; None: there is none.
        environment: usually ``os.environ``; variables of other commands are left alone.
        flags: ``link.profile`` to its value; None means that the flag was not given.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown, a value of the wrong type.
    """
    table = _read(Path(path)) if path else {}
    sections: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    for section, key, kind in keys():
        name = f"{section}.{key}"
        variable = ENVIRONMENT_PREFIX + f"{section}_{key}".upper()
        values = sections.setdefault(section, {})
        if name in given:
            values[key], origins[name] = given.pop(name), FLAG
        elif (environment or {}).get(variable):
            values[key] = _from_text(variable, (environment or {})[variable], kind)
            origins[name] = ENVIRONMENT
        elif key in table.get(section, {}):
            values[key], origins[name] = table[section][key], FILE
        else:
            origins[name] = DEFAULT
    meters: dict[str, dict[str, Any]] = table.get(_METER, {})
    sections[_METER] = meters
    origins |= {f"{_METER}.{name}.{key}": FILE for name in meters for key in meters[name]}
    if given:
        raise KeyError(f"not a setting of a bench: {sorted(given)}")
    return ResolvedBench(_checked(sections, None, origins), origins, str(path or ""))


def with_link(resolved: ResolvedBench, profile: str, origin: str) -> ResolvedBench:
    """The same settings over another link; ``origin`` says who chose it."""
    replace = msgspec.structs.replace
    bench = replace(resolved.bench, link=replace(resolved.bench.link, profile=profile))
    origins = {**resolved.origins, "link.profile": origin}
    return replace(resolved, bench=bench, origins=origins)


def with_backends(
    resolved: ResolvedBench, origin: str, *, node: str | None = None, edge: str | None = None
) -> ResolvedBench:
    """The same settings with other engines; ``origin`` says who chose them."""
    replace = msgspec.structs.replace
    bench, origins = resolved.bench, dict(resolved.origins)
    if node is not None:
        bench = replace(bench, node=replace(bench.node, backend=node))
        origins["node.backend"] = origin
    if edge is not None:
        bench = replace(bench, edge=replace(bench.edge, backend=edge))
        origins["edge.backend"] = origin
    return replace(resolved, bench=bench, origins=origins)


def with_board(
    resolved: ResolvedBench,
    origin: str,
    *,
    board: str | None = None,
    port: str | None = None,
    baud: int | None = None,
) -> ResolvedBench:
    """The same settings with another microcontroller; ``origin`` says who chose it.

    A board puts aside the port that a weaker origin named, and a port the board.

    Raises:
        ConfigError: a board and a port, of one origin.
    """
    if board and port:
        raise ConfigError(
            "a board and a port were named, which are two devices",
            cause=f"board {board!r} is started here, port {port!r} leads to one that is there",
            fix="name one of them",
        )
    given = {"board": board, "port": port, "baud": baud}
    changed = {key: value for key, value in given.items() if value is not None}
    if board or port:
        changed = {"board": "", "port": "", **changed}
    if not changed:
        return resolved
    replace = msgspec.structs.replace
    bench = replace(resolved.bench, node=replace(resolved.bench.node, **changed))
    origins = {**resolved.origins, **{f"node.{key}": origin for key in changed}}
    return replace(resolved, bench=bench, origins=origins)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        table = tomllib.loads(read_limited(path, _MAX_BENCH_BYTES).decode())
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:  # TOML's and UTF-8's are ValueErrors
        raise _bad(path, str(error)) from error
    _check_names(path, table)
    _checked(table, path, {})  # also of keys that a flag or the environment overrides
    return table


def _check_names(path: Path, table: dict[str, Any]) -> None:
    known: dict[str, list[str]] = {}
    for section, key, _ in keys():
        known.setdefault(section, []).append(key)
    meters = table.get(_METER, {})
    if not isinstance(meters, dict) or not all(isinstance(one, dict) for one in meters.values()):
        raise _bad(path, f"each instrument is a section of its own: write [{_METER}.NAME]")
    fields = list(MeterBench.__struct_fields__)
    sections = {f"{_METER}.{name}": content for name, content in meters.items()}
    known |= dict.fromkeys(sections, fields)
    for section, content in (table | sections).items():
        if section == _METER:
            continue
        if section not in known:
            names = [*known, *({_METER} - {section.partition(".")[0]})]
            raise _unknown(path, section, names, f"sections: {', '.join(names)}")
        if not isinstance(content, dict):
            raise _bad(path, f"{section!r} is a section: write [{section}] and its keys below")
        for key in content:
            if key not in known[section]:
                cause = f"keys of [{section}]: {', '.join(known[section])}"
                raise _unknown(path, key, known[section], cause, f"{section}.")


def _checked(sections: Mapping[str, Any], path: Path | None, origins: Mapping[str, str]) -> Bench:
    """The bench in ``sections``, of a file or of all origins together."""
    try:
        bench = msgspec.convert(sections, Bench, strict=True)
    except msgspec.ValidationError as error:
        raise _bad(path, str(error)) from error
    least = {"node.threads": 0, "edge.threads": 0, "edge.workers": 1}
    for name, limit in least.items():
        section, key = name.split(".")
        if (value := getattr(getattr(bench, section), key)) < limit:
            origin = f", from the {origins[name]}," if name in origins else ""
            raise _bad(path, f"{name} = {value}{origin} is below {limit}")
    return bench


def _from_text(variable: str, text: str, kind: type) -> Any:
    if kind is not int:
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"{variable} cannot be used",
            cause=f"{text!r} is not a whole number",
            fix=f"unset {variable}, or give it a whole number",
        ) from None


def _unknown(path: Path, name: str, known: list[str], cause: str, prefix: str = "") -> ConfigError:
    near = difflib.get_close_matches(name, known, n=2)
    return ConfigError(
        f"{path} has an unknown key {prefix + name!r}",
        cause=cause,
        fix=f"write {' or '.join(repr(prefix + key) for key in near)}" if near else "remove it",
    )


def _bad(path: str | Path | None, cause: str) -> ConfigError:
    return ConfigError(
        f"bench file {path} cannot be used" if path else "the bench settings cannot be used",
        cause=cause,
        fix="see bench.example.toml for one that works",
    )

"""A model with the task that lies beside it, and the shapes given on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from waistline.errors import ConfigError
from waistline.task.load import Task, load_task

TASK_FILE = "task.toml"


def find_task(
    model: Path, given: str | None, say: Callable[[str], None] = lambda text: None
) -> Task | None:
    """The task ``given``, else ``task.toml`` beside the model (``say`` is told), else None."""
    if given is not None:
        return load_task(given)
    beside = model.parent / TASK_FILE
    if not beside.is_file():
        return None
    say(f"using {beside}, which lies beside the model (--no-task leaves it out)")
    return load_task(beside)


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,224,224`` to shapes by input name.

    Raises:
        ConfigError: not of that form.
    """
    shapes = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        parts = numbers.replace("x", ",").split(",")
        sound = all(part.strip().isdecimal() and len(part) < 20 for part in parts)
        if not equals or not name or not sound:
            raise ConfigError(
                f"--shape {text!r} is not NAME=SIZE,SIZE,..",
                cause="a shape is whole numbers with commas between them",
                fix="for example --shape input=1,3,224,224",
            )
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def parse_codecs(texts: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """``SPEC`` for all float tensors and ``NAME=SPEC`` for one, told apart.

    A spec has its first ``=`` behind a colon (``affine:b=4``); a tensor's name stands before one.

    Raises:
        ConfigError: more than one codec for the same thing, or a misspelt one.
    """
    from waistline.codec.spec import parse_spec

    general: str | None = None
    named: dict[str, str] = {}
    for text in texts:
        name, equals, spec = text.partition("=")
        if not text.strip() or (equals and not _is_spec(text) and _misspelt(name, spec)):
            parse_spec(text)  # refuses it and says which part is wrong
        if equals and not _is_spec(text):
            if name in named:
                raise _twice(text, f"{name!r} has {named[name]!r} already")
            named[name] = spec
        elif general is not None:
            raise _twice(text, f"float tensors have {general!r} already")
        else:
            general = text
    return general, named


def _is_spec(text: str) -> bool:
    from waistline.codec.spec import QUANTIZERS

    return text.partition("|")[0].partition(":")[0] in QUANTIZERS


def _misspelt(name: str, spec: str) -> bool:
    """Whether ``name=spec`` is a spec with an unknown quantizer rather than a tensor and a spec."""
    return not _is_spec(spec) and (name.rpartition(":")[2] in {"b", "clip", "per"} or " " in name)


def _twice(text: str, cause: str) -> ConfigError:
    return ConfigError(
        f"--codec {text!r} is one too many",
        cause=cause,
        fix="give one SPEC, and NAME=SPEC once for each tensor that differs",
    )

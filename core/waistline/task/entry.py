"""Functions that a task file names as ``file.py:function``, on the user's own machine only."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waistline.errors import ConfigError


def load_entry(text: str, folder: Path, what: str) -> Callable[..., Any]:
    """The function that ``text`` names.

    Its file may import what lies beside it, as a script does.

    Args:
        text: ``path.py:function``, the path relative to ``folder``.
        folder: of the task file.
        what: what the function is for, for messages: ``metric``, ``source``.

    Raises:
        ConfigError: there is no such file or function, or the file cannot be imported.
    """
    place, _, name = text.rpartition(":")
    path = folder / place
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"waistline_task_{path.stem}_{digest}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise _bad(path, name, what, "there is no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickle look a class's module up
    try:
        with _beside(path):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise _bad(path, name, what, f"{type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise _bad(path, name, what, f"the file has no function {name!r}")
    found: Callable[..., Any] = function
    return found


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Put the file's folder in front of the import path, for as long as it is imported."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _bad(path: Path, name: str, what: str, cause: str) -> ConfigError:
    return ConfigError(
        f"{what} {path.name}:{name} cannot be used",
        cause=f"{path}: {cause}",
        fix=f'write {what} = "file.py:function" with the file beside the task file',
    )

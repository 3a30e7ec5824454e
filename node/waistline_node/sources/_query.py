"""Options of a source behind a question mark: ``REST?key=value&key=value``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from waistline.errors import ConfigError
from waistline.task.folders import is_file, is_folder

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


def split_query(
    text: str, into: type[OptionsT], lists: Collection[str] = ()
) -> tuple[str, OptionsT]:
    """What stands before the last question mark, and the options behind it.

    A file whose name holds a question mark is taken as it is where it exists. Values may be
    percent-encoded.

    Args:
        text: as the user gave it, without the kind.
        into: a struct with the known options.
        lists: options that hold names with commas between them.

    Raises:
        ConfigError: an option is not known, or its value not usable; names it.
    """
    rest, mark, query = text.rpartition("?")
    if not mark or is_file(text) or is_folder(text):
        rest, query = text, ""
    given: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or key in given:
            raise _bad(text, f"{part!r} is no key=value, or stands there twice", into)
        given[key] = unquote(value)
        if key in lists:
            given[key] = [name.strip() for name in given[key].split(",")]
    try:
        return rest, msgspec.convert(given, into, strict=False)
    except msgspec.ValidationError as error:
        raise _bad(text, str(error), into) from error


def _bad(text: str, cause: str, into: type[msgspec.Struct]) -> ConfigError:
    known = ", ".join(into.__struct_fields__)
    return ConfigError(
        f"the options of source {text} cannot be used",
        cause=cause,
        fix=f"known options: {known}; quote the whole source in the shell",
    )

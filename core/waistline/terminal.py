"""What a terminal may be given: files, models and far machines put anything into names."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    r"(?!\x1b\[(?:0|2|3\d)m)[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
"""What a terminal obeys instead of showing it; line ends and our own colours are let through."""


def shown(text: str) -> str:
    """``text`` with what a terminal would obey written out, and what has no encoding as well."""
    safe = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
    return safe.encode(errors="backslashreplace").decode()

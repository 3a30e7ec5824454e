"""``python -m waistline_hostctl.survey_child PACKAGE:NAME..``: try plug-ins; one JSON line each.

Started by `waistline_hostctl.survey`. What libraries print goes to standard error.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

import msgspec

from waistline import plugins, provenance
from waistline.backends.base import Probe
from waistline.errors import MissingExtra, WaistlineError
from waistline_hostctl.survey import BACKENDS, FAKE, Told

_STANDIN = "stand-in for tests and demos"


def main() -> None:
    out = os.dup(1)
    os.dup2(2, 1)
    for plugin in sys.argv[1:]:
        _say(out, Told(plugin, begins=True))
        _say(out, Told(plugin, tried(*plugin.split(":", 1))))


def _say(out: int, told: Told) -> None:
    os.write(out, msgspec.json.encode(told) + b"\n")


def tried(package: str, name: str) -> tuple[Probe, ...]:
    """What importing and probing the plug-in gives."""
    try:
        module = plugins.load(package, name)
        return _devices(package, name, module)
    except MissingExtra as error:
        # A plug-in that raises this itself says in its cause what is missing where.
        return (Probe("", "missing library", error.what, error.fix),)
    except (WaistlineError, ImportError, OSError) as error:
        fix = getattr(error, "fix", "")
        return (Probe("", "failed", _one_line(str(error)), fix),)
    except Exception as error:
        return (Probe("", "failed", _one_line(f"{type(error).__name__}: {error}")),)


def _devices(package: str, name: str, module: ModuleType) -> tuple[Probe, ...]:
    probe = getattr(module, "probe", None)
    if probe is not None:
        return tuple(probe())
    first = (module.__doc__ or "").strip().split("\n", 1)[0].rstrip(".:")
    if package != BACKENDS:
        return (Probe("", "ok", first),)
    version = "".join(row.version for row in provenance.libraries([name]))
    return (Probe("CPU", "ok", version or (_STANDIN if name == FAKE else first)),)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


if __name__ == "__main__":
    main()

"""Plug-ins: the folder is the registry.

A plug-in is one module in a plug-in package (``waistline.backends``, ``waistline.links``, ...). It
is listed by its file name without being imported, and imported when somebody asks for it. It
imports its heavy third-party dependency at its own top; if that is missing, the loader says which
extra brings it. Any other import error is a bug of the plug-in and passes through.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import sys
from collections import Counter
from types import ModuleType

from waistline.errors import ConfigError, MissingExtra

_OWN_PACKAGES = re.compile(r"^waistline(_[a-z]+)?(\.|$)")
_SOLD_AS = {"pynvml": "nvidia-ml-py", "serial": "pyserial"}
"""Packages whose name is not that of their module. PyPI has others under the modules' names."""


def names(package: str) -> list[str]:
    """Plug-ins in ``package``, sorted, found by file name; nothing is imported but the package.

    Modules called ``base`` and names with a leading underscore are support code, not plug-ins.
    """
    parent = importlib.import_module(package)
    found = (module.name for module in pkgutil.iter_modules(parent.__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import plug-in ``name`` of ``package``.

    Raises:
        ConfigError: there is no such plug-in; the message lists the known ones.
        MissingExtra: the plug-in needs a third-party module that is not installed.
    """
    known = names(package)
    if name not in known:
        kind = package.rsplit(".", 1)[-1].rstrip("s")
        close = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(
            f"there is no {kind} named {name!r}",
            cause=f"known: {', '.join(known) or 'none'}",
            fix=f"use {close[0]!r}" if close else f"use one of: {', '.join(known)}",
        )
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not missing or _OWN_PACKAGES.match(missing):
            raise
        raise missing_extra(missing, needed_by=name) from error


def missing_extra(module: str, *, needed_by: str) -> MissingExtra:
    """The error for third-party ``module`` not being installed, naming the extra that brings it."""
    top = module.split(".", 1)[0]
    top = _SOLD_AS.get(top, top)
    extra = _extra_providing(top, prefer=needed_by)
    wanted = f"'waistline[{extra}]'" if extra else top
    return MissingExtra(
        f"{needed_by} needs the Python package {top!r}, which is not installed",
        cause=f"no module named {module!r} in {sys.prefix}",
        fix=pip_install(wanted),
    )


def pip_install(what: str) -> str:
    """The command that installs ``what`` where this interpreter finds it, whatever is on PATH."""
    return f"{sys.executable or 'python3'} -m pip install {what}"


def _extra_providing(module: str, *, prefer: str) -> str | None:
    """The extra that brings ``module``: ``prefer`` if it does, else the smallest that does."""
    # Only an error needs this, and importing it takes a third as long as NumPy.
    from importlib import metadata

    try:
        lines = metadata.requires("waistline") or []
    except metadata.PackageNotFoundError:
        return None
    pairs = [
        (match["extra"], _normalized(match["name"]))
        for line in lines
        if (match := re.match(r"(?P<name>[\w.-]+).*;.*extra\s*==\s*['\"](?P<extra>[\w-]+)", line))
    ]
    extras = [extra for extra, name in pairs if name == _normalized(module)]
    if prefer in extras:
        return prefer
    sizes = Counter(extra for extra, _ in pairs)
    return min(extras, key=lambda extra: (sizes[extra], extra), default=None)


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

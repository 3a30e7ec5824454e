"""What is installed, read from the packages' own records; nothing is imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from waistline.plugins import pip_install
from waistline_hostctl.results import Finding

BASE, EXTRAS, TRAPS = "base", "extras", "traps"
_PURPOSES = {
    "onnxruntime": "ONNX models on the CPU",
    "litert": "TFLite models on the CPU",
    "tflite-runtime": "TFLite models on 32-bit boards",
    "coral": "the Edge TPU",
    "openvino": "ONNX and TFLite models with OpenVINO",
    "camera": "cameras",
    "video": "video files",
    "mcu": "microcontrollers on serial ports, this command line",
    "smp": "flashing by SMP",
    "pyocd": "flashing by debug probes",
    "esptool": "flashing ESP32 boards",
    "capture": "power traces: meters on serial ports, files, plots",
    "joulescope": "Joulescope meters",
    "mccdaq": "MCC DAQ devices as meters",
    "counter": "NVIDIA processors as meters",
    "gpio": "markers on pins",
    "parquet": "tables as Parquet",
    "host": "cutting models, this command line",
    "edge": "Prometheus metrics of the edge",
    "train": "training the examples again",
    "test": "the tests",
    "fuzz": "the tests with mutated input",
    "dev": "working on Waistline itself",
}
_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)\s*(\[(?P<extras>[\w,\s-]+)\])?\s*(?P<bounds>[^;]*?)\s*(;(?P<marker>.*))?$"
)
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_PYTHON = re.compile(r"python_version\s*(<|<=|>|>=|==)\s*['\"]([\d.]+)['\"]")
_BOUND = re.compile(r"(<=|>=|==|<|>|!=|~=)\s*([\d.]+)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A line of what Waistline's own record requires.

    Attributes:
        name: of the package.
        bounds: such as ``>=1.26``.
        extra: it belongs to; "" for the base.
        extras: of the package itself.
        for_python: "" or the bound on Python that it is limited to, such as ``<3.12``.
    """

    name: str
    bounds: str
    extra: str
    extras: tuple[str, ...]
    for_python: str


def requirements() -> list[Requirement]:
    """Everything that the installed Waistline requires; [] where it is not installed as such."""
    try:
        lines = metadata.requires("waistline") or []
    except metadata.PackageNotFoundError:
        return []
    return [found for line in lines if (found := _parsed(line))]


def _parsed(line: str) -> Requirement | None:
    match = _REQUIREMENT.match(line)
    if match is None:
        return None
    marker = match["marker"] or ""
    extra, python = _EXTRA.search(marker), _PYTHON.search(marker)
    extras = tuple(part.strip() for part in (match["extras"] or "").split(",") if part.strip())
    return Requirement(
        match["name"],
        match["bounds"].strip(" ()"),
        extra[1] if extra else "",
        extras,
        f"{python[1]}{python[2]}" if python else "",
    )


def base() -> Iterator[Finding]:
    """One finding for every package that each device gets."""
    for one in requirements():
        if one.extra:
            continue
        state, found = installed(one)
        level = "ok" if state == "ok" else "fail"
        fix = "" if level == "ok" else pip_install(f"'{one.name}{one.bounds}'")
        yield Finding(one.name, level, found, fix, BASE, state)


def extras() -> Iterator[Finding]:
    """One finding an extra: complete, or what it lacks."""
    listed = requirements()
    for name in dict.fromkeys(one.extra for one in listed if one.extra):
        purpose = _PURPOSES.get(name, "")
        needed = _closure(name, listed)
        states = [(one, *installed(one)) for one in needed]
        fix = pip_install(f"'waistline[{name}]'")
        wrong = [(one, found) for one, state, found in states if state == "wrong version"]
        missing = [one.name for one, state, _ in states if state == "missing extra"]
        python = sys.version_info[:2]
        not_here = [one for one in needed if not _holds(python, one.for_python)]
        if not_here:
            one = not_here[0]
            found = f"{purpose}: {one.name} exists for Python {one.for_python} only"
            yield Finding(name, "info", found, "", EXTRAS, "wrong version")
        elif missing:
            found = f"{purpose}: lacks {', '.join(missing)}"
            yield Finding(name, "info", found, fix, EXTRAS, "missing extra")
        elif wrong:
            one, found = wrong[0]
            yield Finding(
                name, "info", f"{purpose}: {one.name} {found}", fix, EXTRAS, "wrong version"
            )
        else:
            versions = ", ".join(f"{one.name} {found}" for one, _, found in states[:3])
            more = " .." if len(states) > 3 else ""
            yield Finding(name, "ok", f"{purpose}: {versions}{more}", "", EXTRAS, "ok")


def _closure(extra: str, listed: list[Requirement]) -> list[Requirement]:
    """What an extra brings, extras of Waistline that it names included."""
    found: dict[str, Requirement] = {}
    waiting, seen = [extra], {extra}
    while waiting:
        current = waiting.pop()
        for one in listed:
            if one.extra != current:
                continue
            if one.name.lower() == "waistline":
                waiting += [name for name in one.extras if name not in seen]
                seen.update(one.extras)
            else:
                found[one.name] = one
    return list(found.values())


def installed(one: Requirement) -> tuple[str, str]:
    """State (``ok``, ``missing extra``, ``wrong version``) and the version or what is wrong."""
    try:
        version = metadata.version(one.name)
    except metadata.PackageNotFoundError:
        return "missing extra", "not installed"
    if not all(_holds(_numbers(version), "".join(bound)) for bound in _BOUND.findall(one.bounds)):
        return "wrong version", f"{version}, needed {one.bounds}"
    return "ok", version


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"[\d.]*\d", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _holds(version: tuple[int, ...], bound: str) -> bool:
    """Whether a version keeps a bound such as ``>=1.26``; a compatible release counts as ``>=``."""
    match = _BOUND.match(bound)
    if match is None:
        return True
    other = _numbers(match[2])
    length = max(len(version), len(other))
    left, right = (numbers + (0,) * (length - len(numbers)) for numbers in (version, other))
    return {
        "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right,
        "==": left == right, "!=": left != right, "~=": left >= right,
    }[match[1]]  # fmt: skip


def traps() -> Iterator[Finding]:
    """Packages that install without a word and do not do what their name or place promises."""
    tflite, numpy = _version("tflite-runtime"), _version("numpy")
    if tflite and numpy and _numbers(numpy) >= (2,) and _numbers(tflite) <= (2, 14, 999):
        yield Finding(
            "tflite-runtime",
            "warn",
            f"{tflite} is built against NumPy 1 and dies with NumPy {numpy} when a model is opened",
            "pip install 'numpy<2', or pip uninstall tflite-runtime and use waistline[litert]",
            TRAPS,
            "wrong version",
        )
    coral = _version("pycoral")
    if coral and not _is_googles("pycoral"):
        summary = "".join(metadata.metadata("pycoral").get_all("Summary") or ["no summary"])
        yield Finding(
            "pycoral",
            "warn",
            f"{coral} is not Google's but a tool for coral reefs ({summary[:40]}); the Edge TPU "
            "needs no such package",
            "pip uninstall pycoral",
            TRAPS,
            "wrong version",
        )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _is_googles(name: str) -> bool:
    """Google's package has a module that no other has."""
    files = metadata.files(name) or []
    return any(str(path) == "pycoral/utils/edgetpu.py" for path in files)

"""Chips on an SWD probe (ST-Link, CMSIS-DAP, picoprobe, J-Link), by pyOCD as a program.

``target`` is pyOCD's name of the chip. Options: ``frequency`` (Hz), ``erase`` (``sector``,
``chip`` or ``auto``), ``connect`` (``under-reset``, ...), ``pack`` (a CMSIS pack) and ``tool``
(the program).
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from waistline.errors import ConfigError, LinkError, MissingExtra, VerificationFailed
from waistline.workfolder import work_folder
from waistline_bridge.flash import _chips, _tool
from waistline_bridge.flash._image import Image
from waistline_bridge.flash._tool import Rule
from waistline_bridge.flash.base import (
    UNTRIED,
    Choice,
    Flasher,
    FlashError,
    Found,
    ImageTooBig,
    NoDevice,
    Progress,
    Step,
    Verdict,
    WrongChip,
    only,
)

TRIED = f"{UNTRIED}; pyocd 0.46 without a probe; a stand-in"
_OPTIONS = ("frequency", "erase", "connect", "pack", "tool")
_LIST_S = 60.0
_UDEV = "install udev rules for the probe (pyocd.io/docs/installing#udev-rules-on-linux), replug it"


class _Probe(msgspec.Struct):
    """A row of ``pyocd json --probes``, version 1."""

    unique_id: str
    info: str = ""
    target: str | None = ""


class _Probes(msgspec.Struct):
    boards: list[_Probe]
    status: int
    error: str = ""


def open_flasher(choice: Choice) -> Flasher:
    """Raises `ConfigError` for an option it does not have."""
    choice.check_options(_OPTIONS)
    return _Pyocd(choice)


def _rules(probe: str, target: str, image: Image) -> tuple[Rule, ...]:
    return (
        Rule(r"Target type (\S+) not recognized",
             lambda found: MissingExtra(
                 f"pyOCD does not know the target {found[1]}", cause=found[0],
                 fix=f"pyocd pack install {found[1]}, or name one of: pyocd list --targets")),
        Rule(r"No available debug probes?.*|No connected debug probes|No target device available|"
             r"No (?:debug )?probe.* found.*",
             lambda found: NoDevice(
                 f"the debug probe {probe} is gone", cause=found[0],
                 fix="plug it in again, then run the same command")),
        Rule(r".*(?:LIBUSB_ERROR_ACCESS|Access denied|insufficient permissions).*",
             lambda found: LinkError(
                 f"the debug probe {probe} may not be opened by you", cause=found[0].strip(),
                 fix=_UDEV)),
        Rule(r".*(?:LIBUSB_ERROR_BUSY|Resource busy|already (?:open|in use)|in use by).*",
             lambda found: LinkError(
                 f"the debug probe {probe} is in use", cause=found[0].strip(),
                 fix="close the debugger that has it")),
        Rule(r"Mismatched byte at (\S+).*",
             lambda found: VerificationFailed(
                 f"the chip on probe {probe} holds something else than {image.path.name}",
                 cause=found[0], fix="run the same command again; its flash may be protected")),
        Rule(r".*(?:no memory region defined for address|not contained within region|"
             r"memory region at address \w+ is not writable).*",
             lambda found: ImageTooBig(
                 f"{image.path.name} does not fit into {target}", cause=found[0].strip(),
                 fix="check its addresses, and --target")),
        Rule(r".*(?:No ACK|DP not (?:found|responding)|Unexpected ACK|Memory transfer fault|"
             r"SWD/JTAG communication failure).*",
             lambda found: FlashError(
                 f"no chip answers probe {probe}", cause=found[0].strip(),
                 fix="check its power and the SWD wires; --option connect=under-reset may help")),
    )  # fmt: skip


class _Pyocd:
    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def find(self) -> list[Found]:
        return [_found(probe) for probe in self._probes()]

    def plan(self, image: Image) -> list[Step]:
        probe, target = self._planned(image)
        names = _files(image, Path("PART"))
        steps = []
        if (identity := self._identity(probe, target)) is not None:
            steps.append(Step("see that it is that chip", tuple(identity)))
        steps.append(
            Step(f"write {image.size_bytes} bytes", tuple(self._load(probe, target, names)))
        )
        if self._choice.verify:
            command = self._compare(probe, target, names)
            steps.append(Step("read them back and compare", tuple(command)))
        return steps

    def flash(self, image: Image, progress: Progress) -> None:
        probe, target = self._checked(image)
        self._check_identity(probe, target, image)
        with _parts(image) as files:
            command = self._load(probe, target, files)
            said = _tool.run(command, progress=progress, total=image.size_bytes)
        if said.code != 0:
            what = f"{image.path.name} was not written by probe {probe}"
            raise _tool.explain(said, _rules(probe, target, image), what)
        progress(image.size_bytes, image.size_bytes)

    def verify(self, image: Image) -> Verdict:
        probe, target = self._checked(image)
        rules = _rules(probe, target, image)
        with _parts(image) as files:
            said = _tool.run(self._compare(probe, target, files))
        # Its commander ends with code 0 also where bytes differ.
        if said.code != 0 or "Mismatched byte" in said.text:
            raise _tool.explain(said, rules, f"probe {probe} could not read the chip back")
        compared = said.text.count("Comparing ")
        if compared < len(image.segments):
            raise FlashError(
                f"probe {probe} did not read the whole image back",
                cause=f"{compared} of at least {len(image.segments)} comparisons: {said.last}",
                fix="run the same command again",
            )
        return Verdict("read back", f"{image.size_bytes} bytes compared by pyOCD")

    def _start(self, *verb: str) -> list[str]:
        tool = _tool.program(
            "pyocd", self._choice.options.get("tool", ""), module="pyocd",
            extra="'waistline[pyocd]'",
        )  # fmt: skip
        return [*tool, *verb]

    def _connected(self, verb: str, probe: str, target: str) -> list[str]:
        options = self._choice.options
        # -W: an absent probe is an error, not something to wait for.
        command = self._start(verb, "-W", "--no-config", "-u", probe, "-t", target)
        command += ["-f", options["frequency"]] if "frequency" in options else []
        command += ["-M", options["connect"]] if "connect" in options else []
        return [*command, "--pack", options["pack"]] if "pack" in options else command

    def _load(self, probe: str, target: str, files: list[tuple[Path, int]]) -> list[str]:
        erase = self._choice.options.get("erase", "sector")
        command = [*self._connected("load", probe, target), "--erase", erase, "--format", "bin"]
        return command + [f"{path}@{address:#010x}" for path, address in files]

    def _compare(self, probe: str, target: str, files: list[tuple[Path, int]]) -> list[str]:
        command = self._connected("commander", probe, target)
        for path, address in files:
            command += ["-c", f"compare {address:#010x} {shlex.quote(str(path))}"]
        return command

    def _identity(self, probe: str, target: str) -> list[str] | None:
        known = _chips.chip(target)
        if known is None or known.identity is None:
            return None
        return [
            *self._connected("commander", probe, target),
            "-c",
            f"read32 {known.identity[0]:#x}",
        ]

    def _check_identity(self, probe: str, target: str, image: Image) -> None:
        command, known = self._identity(probe, target), _chips.chip(target)
        if command is None or known is None or known.identity is None:
            return
        said = _tool.run(command)
        address, mask, value = known.identity
        found = re.search(rf"^{address:08x}:\s+([0-9a-f]{{8}})\b", said.text, re.MULTILINE)
        if said.code != 0 or found is None:
            rules = _rules(probe, target, image)
            raise _tool.explain(said, rules, f"the chip on probe {probe} did not say what it is")
        if int(found[1], 16) & mask != value:
            raise WrongChip(
                f"the chip on probe {probe} is not {known.name}",
                cause=f"{address:#010x} reads {found[1]}, {known.name} has {value:#x} there",
                fix="choose another probe, or name the chip that is there with --target",
            )

    def _planned(self, image: Image) -> tuple[str, str]:
        """As `_checked`; what was said of both is taken as it is, and no probe is looked for."""
        target = self._choice.target or self._ours(image)
        if not (self._choice.probe and target):
            return self._checked(image)
        self._check(image, target)
        return self._choice.probe, target

    def _checked(self, image: Image) -> tuple[str, str]:
        """Probe and target, when all that can be seen from here fits."""
        found = self._probes()
        probe = only(
            [_found(one) for one in found], self._choice.probe, "debug probe",
            "plug one in; where it is: " + _UDEV,
        ).flags.partition(" ")[2]  # fmt: skip
        says = next((one.target or "" for one in found if one.unique_id == probe), "")
        target = self._choice.target or self._ours(image) or ("" if says == "cortex_m" else says)
        if not target:
            raise ConfigError(
                "which chip is on the probe?",
                cause=f"probe {probe} does not say",
                fix="name it as pyOCD does, such as --target stm32f446retx (pyocd list --targets)",
            )
        self._check(image, target)
        return probe, target

    def _ours(self, image: Image) -> str:
        return _chips.REAL_BOARDS.get(self._choice.board or image.board, "")

    def _check(self, image: Image, target: str) -> None:
        _chips.require_placed(image, target)
        _chips.check(image, target, self._choice.board)

    def _probes(self) -> list[_Probe]:
        said = _tool.run(self._start("json", "--probes"), quiet_s=_LIST_S, whole=True)
        try:
            listed = msgspec.json.decode(said.text[said.text.index("{") :], type=_Probes)
        except (ValueError, msgspec.ValidationError) as error:
            raise FlashError(
                "pyocd did not list its probes", cause=said.last, fix="pyocd list --probes"
            ) from error
        if listed.status != 0:
            raise LinkError("pyocd could not look for probes", cause=listed.error, fix=_UDEV)
        # One that a script of pyOCD's would not take for one word cannot be one of an id.
        return [one for one in listed.boards if re.fullmatch(r"[\w.:+/-]+", one.unique_id)]


def _found(probe: _Probe) -> Found:
    return Found(f"--probe {probe.unique_id}", probe.info)


def _files(image: Image, folder: Path) -> list[tuple[Path, int]]:
    return [
        (folder / f"{number}.bin", segment.address) for number, segment in enumerate(image.segments)
    ]


@contextmanager
def _parts(image: Image) -> Iterator[list[tuple[Path, int]]]:
    """A BIN of every piece: pyOCD's own readers need not see what ours have refused."""
    with work_folder(Path(tempfile.gettempdir()) / "waistline-flash") as folder:
        files = _files(image, folder)
        for (path, _), segment in zip(files, image.segments, strict=True):
            path.write_bytes(segment.data)
        yield files

"""pyOCD as a program: one that answers as pyocd 0.46 was seen to, without a probe behind it."""

from __future__ import annotations

import json

import pytest
from flash_help import FLASH, calls, elf, ignore, pattern, program

from waistline.errors import ConfigError, LinkError, MissingExtra, VerificationFailed
from waistline_bridge.flash import Choice, open_flasher, read_image
from waistline_bridge.flash.base import FlashError, ImageTooBig, NoDevice, WrongChip

ONE = {
    "unique_id": "066FFF5055",
    "info": "STM32F446 Nucleo",
    "target": "stm32f446retx",
    "board_name": "NUCLEO-F446RE",
    "product_name": "ST-LINK/V2-1",
}
TWO = ONE | {"unique_id": "0672FF4857", "target": "cortex_m"}
PARTS = ((FLASH, pattern(3000)), (FLASH + 0x4000, pattern(500, 9)))

# The words below are pyocd 0.46's own, from running it or from its source.
FAKE = """
state = json.loads(log.with_suffix(".state").read_text())
if argv[0] == "json":
    print(json.dumps({"pyocd_version": "0.46.0", "version": {"major": 1, "minor": 1}, "status": 0,
                      "boards": state["probes"]}))
    sys.exit(0)
if state.get("says"):
    print(state["says"], file=sys.stderr)
    sys.exit(1)
if argv[0] == "load":
    for pair in argv[argv.index("bin") + 1:]:
        name, _, address = pair.rpartition("@")
        (log.parent / f"flash-{int(address, 0):08x}").write_bytes(pathlib.Path(name).read_bytes())
    for percent in (0, 40, 100):
        print(f"\\r[{'=' * (percent // 2):50s}] {percent:3d}%", end="")
    print()
elif "read32" in argv[-1]:
    address = int(argv[-1].split()[1], 0)
    print(f"{address:08x}:  {state['identity']:08x}                               |..d!|")
else:
    for at, word in enumerate(argv):
        if word == "-c":
            _, address, name = argv[at + 1].split()
            there = (log.parent / f"flash-{int(address, 0):08x}").read_bytes()
            wanted = pathlib.Path(name).read_bytes()
            print(f"Comparing {len(wanted)} bytes @ {address}")
            if there != wanted:
                print(f"Mismatched byte at {address} (offset 0x0): 0x00 (memory) != 0x01 (file)")
"""


@pytest.fixture
def pyocd(tmp_path, monkeypatch):
    """``pyocd(probes=[...], identity=..., says=...)`` puts a fake one on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "pyocd", FAKE)
    monkeypatch.setenv("PATH", str(folder))

    def state(*, probes=(ONE,), identity=0x10006421, says=""):
        found = {"probes": list(probes), "identity": identity, "says": says}
        (folder / "pyocd.state").write_text(json.dumps(found))
        return folder

    state()
    return state


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "my app.elf"
    path.write_bytes(elf(PARTS))
    return read_image(path)


def flasher(**choice):
    return open_flasher(Choice("pyocd", **choice))


def test_it_writes_every_piece_and_reads_it_back(pyocd, image):
    folder = pyocd()
    seen = []
    ours = flasher()
    ours.flash(image, lambda done, total: seen.append(done))
    for address, data in PARTS:
        assert (folder / f"flash-{address:08x}").read_bytes() == data
    assert seen == [0, image.size_bytes * 40 // 100, image.size_bytes, image.size_bytes]
    assert ours.verify(image).how == "read back"
    verbs = [call[0] for call in calls(folder, "pyocd")]
    assert verbs == ["json", "commander", "load", "json", "commander"]


def test_the_plan_is_what_is_run(pyocd, image):
    folder = pyocd()
    ours = flasher(options={"frequency": "1000000", "connect": "under-reset"})
    identity, load, compare = ours.plan(image)
    connected = ["-W", "--no-config", "-u", ONE["unique_id"], "-t", "stm32f446retx"]
    connected += ["-f", "1000000", "-M", "under-reset"]
    assert list(identity.command[1:]) == ["commander", *connected, "-c", "read32 0xe0042000"]
    assert list(load.command[1:]) == [
        "load", *connected, "--erase", "sector", "--format", "bin",
        "PART/0.bin@0x08000000", "PART/1.bin@0x08004000",
    ]  # fmt: skip
    assert compare.command[-1] == "compare 0x08004000 PART/1.bin"
    ours.flash(image, ignore)
    ran = next(call for call in calls(folder, "pyocd") if call[0] == "load")
    assert ran[: len(load.command) - 3] == list(load.command[1:-2])


def test_a_flash_that_holds_something_else(pyocd, image):
    folder = pyocd()
    ours = flasher()
    ours.flash(image, ignore)
    (folder / f"flash-{FLASH:08x}").write_bytes(bytes(3000))
    with pytest.raises(VerificationFailed, match="holds something else") as refused:
        ours.verify(image)
    assert refused.value.cause.startswith("Mismatched byte at 0x08000000")


def test_two_probes_are_listed_and_none_is_guessed(pyocd, image):
    pyocd(probes=(ONE, TWO))
    with pytest.raises(ConfigError, match="2 debug probes are there") as refused:
        flasher().plan(image)
    assert "--probe 066FFF5055" in refused.value.cause
    assert "--probe 0672FF4857" in refused.value.cause
    assert refused.value.fix == "choose one, for example: --probe 066FFF5055"
    assert flasher(probe="066FFF5055").plan(image)


def test_no_probe(pyocd, image):
    pyocd(probes=())
    with pytest.raises(NoDevice, match="no debug probe was found") as refused:
        flasher().plan(image)
    assert refused.value.exit_code == 3
    assert "udev" in refused.value.fix


def test_a_probe_that_is_not_the_one_named(pyocd, image):
    with pytest.raises(NoDevice, match="no debug probe 0672") as refused:
        flasher(probe="0672").plan(image)
    assert refused.value.fix == "use --probe 066FFF5055"


def test_a_probe_that_does_not_know_its_chip(pyocd, image, tmp_path):
    pyocd(probes=(TWO,))
    with pytest.raises(ConfigError, match="which chip is on the probe"):
        flasher().plan(image)
    assert "-t stm32f446retx" in " ".join(flasher(target="stm32f446retx").plan(image)[0].command)
    (tmp_path / "ours.elf").write_bytes(elf([(FLASH, b"nucleo-f446re\0")]))
    ours = read_image(tmp_path / "ours.elf")
    assert "-t stm32f446retx" in " ".join(flasher().plan(ours)[0].command)


def test_another_chip_is_found_out_before_anything_is_erased(pyocd, image):
    folder = pyocd(identity=0x10016413)
    with pytest.raises(WrongChip, match="is not stm32f446") as refused:
        flasher().flash(image, ignore)
    assert "reads 10016413" in refused.value.cause
    assert not [call for call in calls(folder, "pyocd") if call[0] == "load"]


@pytest.mark.parametrize(
    ("says", "kind", "what"),
    [
        ("0000532 C Target type stm32f446retx not recognized. Use 'pyocd list --targets' to see",
         MissingExtra, "does not know the target stm32f446retx"),
        ("No connected debug probes\n0002565 E No target device available [load_cmd]",
         NoDevice, "is gone"),
        ("E STLink error: LIBUSB_ERROR_ACCESS [stlink]", LinkError, "may not be opened"),
        ("E probe 066F is already open [probe]", LinkError, "in use"),
        ("0000800 C no memory region defined for address 0x08080000 [__main__]",
         ImageTooBig, "does not fit into stm32f446retx"),
        ("0001200 C Error: No ACK received [__main__]", FlashError, "no chip answers"),
        ("0001200 C flash erase sector failure (address 0x08000000; result code 0x1) [__main__]",
         FlashError, "did not say what it is"),
    ],
)  # fmt: skip
def test_what_it_complains_of_is_said_in_three_parts(pyocd, image, says, kind, what):
    pyocd(says=says)
    with pytest.raises(kind, match=what) as refused:
        flasher().flash(image, ignore)
    assert refused.value.cause
    assert refused.value.fix


def test_an_image_for_another_chip_is_refused(pyocd, tmp_path):
    (tmp_path / "pico.elf").write_bytes(elf([(0x10000000, pattern(64))]))
    with pytest.raises(WrongChip, match="is not for stm32f446"):
        flasher().plan(read_image(tmp_path / "pico.elf"))
    (tmp_path / "big.elf").write_bytes(elf([(FLASH, bytes(600_000))]))
    with pytest.raises(ImageTooBig, match="too big"):
        flasher().plan(read_image(tmp_path / "big.elf"))


def test_a_plan_for_a_probe_and_chip_that_were_named_looks_for_nothing(pyocd, image):
    folder = pyocd(probes=())
    ours = flasher(probe="0672", target="stm32f446retx")
    assert all("-u 0672 -t stm32f446retx" in " ".join(step.command) for step in ours.plan(image))
    assert not calls(folder, "pyocd")
    with pytest.raises(NoDevice, match="no debug probe 0672"):
        ours.flash(image, ignore)


def test_ids_that_are_none_do_not_reach_a_command(pyocd, image):
    pyocd(probes=(ONE | {"unique_id": "1; $(reboot)"},))
    with pytest.raises(NoDevice):
        flasher().plan(image)


def test_a_missing_pyocd_is_named(image):
    with pytest.raises(MissingExtra, match="is not installed") as refused:
        flasher(options={"tool": "pyocd-that-is-not"}).find()
    assert "waistline[pyocd]" in refused.value.fix
    assert refused.value.exit_code == 3

"""Compiles core/c into the shared library that ``waistline.codec.native`` loads with ctypes.

The library knows nothing of Python, so one wheel per platform (``py3-none-<platform>``) serves all
versions. Without a compiler the wheel is pure and the codec runs on NumPy, slower, with the same
bytes; ``WAISTLINE_REQUIRE_NATIVE=1`` makes that an error. No ``-march``: a wheel must run on every
machine of its architecture.

A wheel also carries the firmware's sources, in the folders of the checkout below
``waistline_bridge/_c``: ``waistline mcu build`` compiles them where they lie.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "core/waistline/codec/_waist.so"
FIRMWARE = "firmware_bridge/firmware"
CARRIED = [f"{FIRMWARE}/Makefile", f"{FIRMWARE}/src/*.[ch]", f"{FIRMWARE}/cortexm/*",
           f"{FIRMWARE}/boards/*/board.*", "core/c/*.[ch]"]  # fmt: skip
FLAGS = ["-std=c99", "-O3", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=default"]


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        root = Path(self.root)
        problem = self._compile(root)
        if version != "editable":
            for path in sorted(found for part in CARRIED for found in root.glob(part)):
                target = f"waistline_bridge/_c/{path.relative_to(root)}"
                build_data["force_include"][str(path)] = target
        if not problem:
            build_data["artifacts"].append(LIBRARY)
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"
        elif os.environ.get("WAISTLINE_REQUIRE_NATIVE") == "1":
            raise RuntimeError(f"WAISTLINE_REQUIRE_NATIVE=1, but {problem}")
        else:
            print(f"waistline: {problem}; the codec will run on NumPy", file=sys.stderr)

    def _compile(self, root):
        """Build the library; return what went wrong, having removed an older one."""
        target = root / LIBRARY
        # Renamed when whole: a process that has the old file open keeps it.
        partial = target.with_suffix(f".{os.getpid()}")
        compiler = shlex.split(os.environ.get("CC", "cc"))
        sources = sorted(str(path) for path in (root / "core/c").glob("*.c"))
        command = [*compiler, *FLAGS, *sources, "-o", str(partial)]
        problem = ""
        if shutil.which(compiler[0]) is None:
            problem = f"there is no C compiler ({compiler[0]})"
        elif (done := subprocess.run(command, capture_output=True, text=True)).returncode:
            problem = f"{shlex.join(command)} failed:\n{done.stderr}"
        if problem:
            partial.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
        else:
            partial.replace(target)
        return problem

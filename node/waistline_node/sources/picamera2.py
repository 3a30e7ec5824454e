"""A ribbon camera of a Raspberry Pi: ``picamera2:0?rate=30``. Untried on hardware.

    rate      frames a second; the sensor may be slower
    timeout   seconds without a frame after which the camera counts as gone

Written on the API of picamera2 0.3 as its manual documents it. The camera's processor scales to
the task's frame size. libcamera's few buffers go round on their own; picamera2 keeps the newest
finished one (``queue=True``), so a frame is at most one interval old when it is read. Frames that
passed by in between are counted by the sensor's time stamps.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np

from waistline.errors import ConfigError, MissingExtra
from waistline.frame import SensorFrame
from waistline_node.sources._query import split_query
from waistline_node.sources.base import SourceLost, SourceOptions, UnreadableFrame

try:
    from picamera2 import Picamera2
except ModuleNotFoundError as error:
    # pip cannot bring it: it belongs to the libcamera of the system and to its Python.
    raise MissingExtra(
        "source picamera2 needs the system's Python package picamera2, which is not found",
        cause=f"no module named {error.name!r}",
        fix="sudo apt install python3-picamera2, and make the environment with "
        "python3 -m venv --system-site-packages",
    ) from error

BUFFERS = 4
"""One is filled, one waits its turn, one is the newest, one is being read."""
_LOOK_S = 0.25
"""How often a reader who waits looks whether it was told to stop."""
_FORMAT = "BGR888"
"""Named by the order in a little-endian word: in memory it is R, G, B (picamera2 manual, 4.2)."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the module."""

    rate: float | None = None
    timeout: float = 5.0


class PiCameraSource:
    """Frames of a camera, the newest at each time."""

    live = True

    def __init__(self, number: int, chosen: Options, options: SourceOptions) -> None:
        self._name = f"picamera2:{number}"
        self._shape = options.image_shape(self._name)
        self._timeout_s = chosen.timeout
        self._count = options.count
        self._index = 0
        self._overtaken = 0
        self._last_ns = 0
        self._stopped = False
        try:
            self._camera = Picamera2(number)
        except (RuntimeError, IndexError, OSError) as error:
            raise SourceLost(
                f"camera {self._name} cannot be opened",
                cause=str(error) or type(error).__name__,
                fix="end what else uses it; rpicam-hello --list-cameras shows the cameras",
            ) from error
        try:
            self._start(chosen.rate)
        except BaseException:
            self._camera.close()
            raise

    @property
    def lost(self) -> dict[str, int]:
        return {"overtaken": self._overtaken}

    def read(self) -> SensorFrame | None:
        if self._count is not None and self._index >= self._count:
            return None
        request = self._request()
        if request is None:
            return None
        index, self._index = self._index, self._index + 1
        try:
            pixels = request.make_array("main")
            captured_s = self._captured_s(request.get_metadata())
        except (RuntimeError, ValueError, KeyError) as error:
            damaged = ConfigError("a frame of the camera is damaged", cause=str(error))
            raise UnreadableFrame(index, f"{self._name}[{index}]", damaged) from error
        finally:
            request.release()
        array = pixels if self._shape[2] == 3 else _grey(pixels)
        return SensorFrame(index, (array,), None, f"{self._name}[{index}]", captured_s)

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self.stop()
        self._camera.stop()
        self._camera.close()

    def _start(self, rate_hz: float | None) -> None:
        height, width, _ = self._shape
        controls: dict[str, Any] = {}
        if rate_hz is not None:
            interval_us = round(1e6 / rate_hz)
            controls["FrameDurationLimits"] = (interval_us, interval_us)
        try:
            self._camera.configure(
                self._camera.create_video_configuration(
                    main={"size": (width, height), "format": _FORMAT},
                    buffer_count=BUFFERS,
                    queue=True,
                    controls=controls,
                )
            )
            came = tuple(self._camera.camera_configuration()["main"]["size"])
            if came != (width, height):
                raise ConfigError(
                    f"camera {self._name} does not give pictures of {width}x{height}",
                    cause=f"libcamera chose {came[0]}x{came[1]}",
                    fix="use that size as frame_shape in the task file",
                )
            self._camera.start()
        except (RuntimeError, ValueError) as error:
            raise SourceLost(
                f"camera {self._name} cannot be started", cause=str(error), fix="see dmesg"
            ) from error

    def _request(self) -> Any:
        """The newest finished request, waiting for one; None: stopped."""
        deadline = time.monotonic() + self._timeout_s
        job = self._camera.capture_request(wait=False)
        while not self._stopped:
            try:
                return self._camera.wait(job, timeout=_LOOK_S)
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue
            except RuntimeError as error:
                raise self._gone(str(error)) from error
            raise self._gone(f"no frame came in {self._timeout_s:g} s")
        return None

    def _captured_s(self, metadata: dict[str, Any]) -> float:
        """When the sensor began to read the frame out, on the monotonic clock."""
        stamp_ns = int(metadata["SensorTimestamp"])  # of CLOCK_BOOTTIME, which counts suspension
        interval_ns = 1000 * int(metadata.get("FrameDuration", 0))
        if self._last_ns and interval_ns > 0:
            self._overtaken += max(0, round((stamp_ns - self._last_ns) / interval_ns) - 1)
        self._last_ns = stamp_ns
        asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        return (stamp_ns - asleep_ns) * 1e-9

    def _gone(self, cause: str) -> SourceLost:
        return SourceLost(
            f"camera {self._name} gives no frames any more",
            cause=cause,
            fix="check its cable, then start this node again",
        )


def _grey(pixels: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma, as Pillow computes it."""
    from PIL import Image

    return np.array(Image.fromarray(pixels).convert("L"))[:, :, np.newaxis]


def open_source(text: str, options: SourceOptions) -> PiCameraSource:
    rest, chosen = split_query(text, Options)
    if not 0 < chosen.timeout < float("inf") or (chosen.rate is not None and chosen.rate <= 0):
        raise ConfigError("rate and timeout of a camera are above 0", fix="mend the source")
    options.image_shape(f"picamera2:{rest}")
    return PiCameraSource(_number(rest), chosen, options)


def _number(text: str) -> int:
    """Which camera: its number, its id, or the only one there is.

    Raises:
        SourceLost: there is none such, or a choice.
    """
    cameras = Picamera2.global_camera_info()
    for camera in cameras:
        if text in {str(camera["Num"]), camera["Id"]} or (not text and len(cameras) == 1):
            return int(camera["Num"])
    listed = ", ".join(f"picamera2:{one['Id']} ({one.get('Model', '')})" for one in cameras)
    raise SourceLost(
        f"there is no camera {text!r}" if text else "no camera was named",
        cause=f"libcamera sees {len(cameras)}",
        fix=f"give one of: {listed}" if cameras else "check the cable; rpicam-hello --list-cameras",
    )

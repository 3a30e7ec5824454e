"""A camera of Video4Linux: ``camera:/dev/video0?rate=30&format=mjpeg``. Untried on hardware.

    width, height   what the camera is asked for; the task's frame size unless given
    scale=1         scale what comes to the task's frame size, instead of refusing another
    rate, format    frames a second; FFmpeg's name of the pixel format, such as mjpeg or yuyv422
    timeout         seconds without a frame after which the camera counts as gone
    api             FFmpeg's input device. Without a camera, lavfi makes pictures:
                    ``camera:testsrc=size=640x480:rate=30,realtime?api=lavfi``

A thread takes every frame from the driver as it comes and keeps the newest, undecoded, so that
neither the driver's buffers nor a queue ever hold an old one; a frame is decoded when it is read.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import msgspec

from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline_node.sources import _v4l2
from waistline_node.sources._av import FAILURES, PROTECTION, check_size, one_thread, to_array, why
from waistline_node.sources._newest import Gaps, Newest
from waistline_node.sources._query import split_query
from waistline_node.sources.base import SourceLost, SourceOptions, UnreadableFrame

V4L2, LAVFI = "v4l2", "lavfi"
CLOSE_S = 2.0
"""For the thread to leave the driver, where it waits for a frame; else it is left behind."""
MAX_TIMEOUT_S = 86400.0
_CLOCK_SPAN_S = 60.0
"""A time stamp further from now than this is of another clock."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the module."""

    width: int | None = None
    height: int | None = None
    rate: float | None = None
    format: str = ""
    scale: bool = False
    timeout: float = 5.0
    api: str = V4L2


@dataclass(frozen=True, slots=True)
class _Packet:
    """A frame as it came, its number since the start and when it was taken."""

    packet: Any
    number: int
    captured_s: float


class CameraSource:
    """Frames of a camera, the newest at each time."""

    live = True

    def __init__(self, device: str, chosen: Options, options: SourceOptions) -> None:
        self._device = device
        self._chosen = chosen
        self._shape = options.image_shape(device)
        self._count = options.count
        self._index = 0
        self._gaps = Gaps()
        self._newest: Newest[_Packet] = Newest()
        self._container, self._stream = self._open()
        self.remarks = self._notes()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> dict[str, int]:
        return {"overtaken": self._newest.overtaken, "device": self._gaps.lost}

    def read(self) -> SensorFrame | None:
        if self._count is not None and self._index >= self._count:
            return None
        try:
            taken = self._newest.take(self._chosen.timeout)
        except TimeoutError:
            raise self._gone(f"no frame came in {self._chosen.timeout:g} s") from None
        if taken is None:
            return None
        index, self._index = self._index, self._index + 1
        name = f"{self._device}[{taken.number}]"
        try:
            pictures = taken.packet.decode()
            if not pictures:
                raise ConfigError("a frame is damaged", cause="it decodes to nothing")
            array = to_array(pictures[-1], self._shape, scale=self._chosen.scale)
        except FAILURES as error:
            damaged = ConfigError("a frame of the camera is damaged", cause=why(error))
            raise UnreadableFrame(index, name, damaged) from error
        except ConfigError as error:
            raise UnreadableFrame(index, name, error) from error
        return SensorFrame(index, (array,), None, name, taken.captured_s)

    def stop(self) -> None:
        self._newest.close()

    def close(self) -> None:
        self.stop()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._container.close()

    def _drain(self) -> None:
        """Take frames from the driver as they come, on a thread of its own."""
        number = 0
        try:
            for packet in self._container.demux(self._stream):
                if not packet.size:
                    continue
                captured_s = self._captured_s(packet)
                if not self._newest.put(_Packet(packet, number, captured_s)):
                    break
                number += 1
            self._newest.fail(self._gone("it gives no frames any more"))
        except FAILURES as error:
            self._newest.fail(self._gone(why(error)))

    def _captured_s(self, packet: Any) -> float:
        """By the driver's clock where that is the monotonic one, else now."""
        now_s = time.monotonic()
        if self._chosen.api == V4L2 and packet.pts is not None:
            stamp_s = float(packet.pts * packet.time_base)
            if 0.0 <= now_s - stamp_s < _CLOCK_SPAN_S:
                self._gaps.note(stamp_s)
                return stamp_s
        return now_s

    def _open(self) -> tuple[Any, Any]:
        height, width, _ = self._shape
        size = (self._chosen.width or width, self._chosen.height or height)
        asked = dict(PROTECTION)
        if self._chosen.api != LAVFI:
            asked["video_size"] = f"{size[0]}x{size[1]}"
        if self._chosen.rate is not None:
            asked["framerate"] = f"{self._chosen.rate:g}"
        if self._chosen.format:
            asked["input_format"] = self._chosen.format
        try:
            container = av.open(self._device, format=self._chosen.api, options=asked)
        except FAILURES as error:
            raise self._refused(error) from error
        try:
            if not container.streams.video or container.streams.video[0].codec_context is None:
                raise ConfigError(f"{self._device} gives no pictures that can be decoded")
            stream = container.streams.video[0]
            codec = stream.codec_context.codec
            if not codec.intra_only and codec.name != "wrapped_avframe":
                raise ConfigError(
                    f"{self._device} cannot be used with format {codec.name}",
                    cause="its frames depend on earlier ones, so none could be left out",
                    fix="give format=mjpeg or format=yuyv422",
                )
            self._check_came(stream, size)
            one_thread(stream)
        except BaseException:
            container.close()
            raise
        return container, stream

    def _check_came(self, stream: Any, size: tuple[int, int]) -> None:
        came = (stream.codec_context.width, stream.codec_context.height)
        if self._chosen.api != LAVFI and came != size:
            raise ConfigError(
                f"{self._device} does not give pictures of {size[0]}x{size[1]}",
                cause=f"the driver chose {came[0]}x{came[1]}; {self._offers()}",
                fix="give width=, height= and scale=1, or mend frame_shape in the task file",
            )
        check_size(came, self._shape, scale=self._chosen.scale)

    def _notes(self) -> tuple[str, ...]:
        asked, given = self._chosen.rate, self._stream.average_rate
        if asked is None or given is None or abs(float(given) - asked) <= 0.05 * asked:
            return ()
        return (f"{self._device} gives {float(given):.3g} frames a second, not {asked:g}",)

    def _offers(self) -> str:
        offered = _v4l2.list_sizes(self._device) if self._chosen.api == V4L2 else []
        return f"it offers {', '.join(offered[:40])}" if offered else "it does not say what it has"

    def _refused(self, error: Exception) -> ConfigError:
        cause, fix = why(error), "see what the camera offers: v4l2-ctl --list-formats-ext"
        if isinstance(error, FileNotFoundError):
            fix = found_devices()
        elif isinstance(error, PermissionError):
            fix = "sudo usermod -aG video $USER, then log in again"
        elif self._chosen.api == V4L2:
            cause = f"{cause}; {self._offers()}"
        return SourceLost(f"camera {self._device} cannot be opened", cause=cause, fix=fix)

    def _gone(self, cause: str) -> SourceLost:
        return SourceLost(
            f"camera {self._device} gives no frames any more",
            cause=cause,
            fix="see that it is plugged in, then start this node again",
        )


def open_source(text: str, options: SourceOptions) -> CameraSource:
    device, chosen = split_query(text, Options)
    if not 0 < chosen.timeout <= MAX_TIMEOUT_S:
        raise ConfigError(
            f"timeout is {chosen.timeout}", fix=f"give seconds above 0, {MAX_TIMEOUT_S:.0f} at most"
        )
    if chosen.api not in {V4L2, LAVFI}:
        raise ConfigError(f"there is no camera api {chosen.api!r}", fix="give api=v4l2 or lavfi")
    options.image_shape(text)
    return CameraSource(device or only_device(), chosen, options)


def only_device() -> str:
    """The camera, where there is one.

    Raises:
        SourceLost: there is none, or a choice.
    """
    found = _v4l2.list_devices()
    if len(found) != 1:
        raise SourceLost(
            "no camera was named",
            cause=f"there are {len(found)}",
            fix=found_devices(),
        )
    return found[0].path


def found_devices() -> str:
    """The cameras there are, each with what names it for good."""
    found = _v4l2.list_devices()
    if found:
        listed = ", ".join(f"camera:{device.stable} ({device.card})" for device in found)
        return f"give one of: {listed}"
    if any(Path("/dev").glob("video*")):
        return "no video device can be read: sudo usermod -aG video $USER, then log in again"
    return "plug in a camera; one of a Raspberry Pi's ribbon connector is picamera2:0"

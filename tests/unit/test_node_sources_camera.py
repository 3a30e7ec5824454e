"""Cameras: the newest frame wins and every other is counted; what goes wrong is said.

Pictures come from libavdevice's virtual input device, through the code a real camera's take.
"""

import fcntl
import struct
import sys
import threading

import numpy as np
import pytest

from waistline import plugins
from waistline.errors import ConfigError, MissingExtra, WaistlineError
from waistline.tensors import TensorSpec
from waistline_node.sources import _v4l2
from waistline_node.sources._newest import Gaps, Newest
from waistline_node.sources.base import (
    PACKAGE,
    LiveSource,
    SourceLost,
    SourceOptions,
    lost_by,
    open_source,
    wake,
)
from waistline_node.ticket import Ticket

WAIT_S = 60
PACED = "camera:testsrc=size=64x48:rate=200,realtime?api=lavfi"
SLOW = "camera:color=size=64x48:rate=0.2,realtime=limit=1000?api=lavfi"
"""The first frame at once, the next after five seconds."""


def options(channels=3, height=48, width=64, **more):
    return SourceOptions((TensorSpec("frame", "uint8", (height, width, channels)),), True, **more)


@pytest.fixture
def opened():
    pytest.importorskip("av", reason="the extra camera is not installed")
    sources = []

    def make(text, chosen=None):
        sources.append(open_source(text, chosen or options()))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


def number(frame):
    """Which frame since the start of the camera it is."""
    return int(frame.name.rpartition("[")[2].rstrip("]"))


def test_a_slow_reader_gets_the_newest_frame_and_every_other_is_counted(opened):
    source = opened(PACED)
    assert isinstance(source, LiveSource)
    assert source.live
    numbers = []
    for _ in range(5):
        before = source.lost["overtaken"]
        while source.lost["overtaken"] < before + 3:
            threading.Event().wait(0.001)
        numbers.append(number(source.read()))
        assert numbers[-1] >= before + 3
    source.stop()
    assert numbers == sorted(set(numbers))
    # Read, overtaken, or still waiting: nothing else becomes of a frame.
    seen = source.lost["overtaken"] + len(numbers)
    assert numbers[-1] + 1 <= seen
    assert lost_by(source) == {"overtaken": source.lost["overtaken"]}


def read_all(source):
    """Read until the source raises."""
    while source.read() is not None:
        source.taken = getattr(source, "taken", 0) + 1


def test_a_frame_is_read_or_overtaken_and_never_both(opened):
    source = opened("camera:testsrc=size=64x48:rate=1000:duration=0.2?api=lavfi")
    with pytest.raises(SourceLost) as caught:
        read_all(source)
    assert source.taken + source.lost["overtaken"] == 200
    assert caught.value.exit_code == 3
    assert "gives no frames" in caught.value.what


def test_frames_are_timed_from_their_capture(opened):
    source = opened(PACED, options(count=2))
    first, second = source.read(), source.read()
    assert first.captured_s < second.captured_s
    assert source.read() is None
    ticket = Ticket()
    ticket.read(first.index, first.name, captured_s=first.captured_s)
    assert ticket.started_ns == round(first.captured_s * 1e9)
    assert ticket.source_ns > 0
    ticket.read(0, "", captured_s=second.captured_s + 1e6)
    assert ticket.source_ns == 0


def test_pixels_are_those_of_the_camera(opened):
    blue = "camera:color=c=0x0000ff:size=64x48,format=yuv444p,realtime?api=lavfi"
    colour = opened(blue).read().arrays[0]
    assert colour.shape == (48, 64, 3)
    assert np.abs(colour.astype(int) - [0, 0, 255]).max() <= 3
    grey = opened(blue, options(1)).read().arrays[0]
    assert grey.shape == (48, 64, 1)
    assert abs(int(grey[0, 0, 0]) - 29) <= 2  # ITU-R 601: 0.114 of 255


def test_a_held_frame_is_not_overwritten_by_those_that_follow(opened):
    source = opened("camera:testsrc=size=64x48:rate=100:decimals=2,realtime?api=lavfi")
    first = source.read()
    copy = first.arrays[0].copy()
    while source.lost["overtaken"] < 20:
        threading.Event().wait(0.001)
    source.read()
    np.testing.assert_array_equal(first.arrays[0], copy)


def test_another_size_is_refused_or_scaled(opened):
    small = options(height=24, width=32)
    with pytest.raises(ConfigError) as caught:
        opened(PACED, small)
    assert "64x48" in caught.value.what
    assert "scale=1" in caught.value.fix
    assert opened(f"{PACED}&scale=1", small).read().arrays[0].shape == (24, 32, 3)


def test_a_waiting_reader_can_be_let_go(opened):
    source = opened(f"{SLOW}&timeout=600")
    source.read()
    found = []
    reader = threading.Thread(target=lambda: found.append(source.read()), daemon=True)
    reader.start()
    wake(source)
    reader.join(WAIT_S)
    assert len(found) == 1
    assert source.read() is None


def test_a_camera_that_goes_silent_counts_as_gone(opened):
    source = opened(f"{SLOW}&timeout=0.05")
    with pytest.raises(SourceLost) as caught:
        read_all(source)
    assert caught.value.cause == "no frame came in 0.05 s"


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("nosuchfilter?api=lavfi", "cannot be opened"),
        ("/dev/video-none", "cannot be opened"),
        ("/dev/null", "cannot be opened"),
        ("x?api=alsa", "api=v4l2 or lavfi"),
        ("x?timeout=0", "timeout is 0"),
        ("x?timeout=1e300", "timeout is 1e+300"),
        ("sine?api=lavfi", "no pictures"),
        ("nosuchfilter" + ",null" * 60 + "?api=lavfi", "cannot be opened"),
        ("x?width=many", "int"),
        ("x?zoom=3", "zoom"),
    ],
)
def test_a_camera_that_cannot_be_used_is_refused(opened, rest, words):
    with pytest.raises(ConfigError) as caught:
        opened(f"camera:{rest}")
    assert words in "\n".join(caught.value.lines())


def test_frames_that_need_others_cannot_be_left_out(opened, tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "inter.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    module = plugins.load(PACKAGE, "camera")
    chosen = module.Options(api="matroska")
    with pytest.raises(ConfigError) as caught:
        module.CameraSource(str(path), chosen, options())
    assert "format=mjpeg" in caught.value.fix


class Kernel:
    """Answers ioctl for devices that are plain files, as videodev2.h lays it out."""

    def __init__(self, cards):
        self.cards = cards

    def __call__(self, handle, request, data):
        name = _v4l2.os.readlink(f"/proc/self/fd/{handle}").rpartition("/")[2]
        if name not in self.cards:
            raise OSError(25, "Inappropriate ioctl for device")
        card, caps = self.cards[name]
        if request == 0x80685600:
            data[:] = struct.pack(
                "<16s32s32sIII12x", b"drv", card, b"usb", 1, caps | 0x84200000, caps
            )
            return 0
        (index,) = struct.unpack_from("<I", data)
        if request == 0xC0405602 and index < 2:
            struct.pack_into("<I", data, 44, int.from_bytes((b"YUYV", b"MJPG")[index], "little"))
            return 0
        if request == 0xC02C564A and data[4:8] == b"YUYV" and index < 2:
            struct.pack_into("<3I", data, 8, 1, (640, 320)[index], (480, 240)[index])
            return 0
        if request == 0xC02C564A and data[4:8] == b"MJPG" and not index:
            struct.pack_into("<7I", data, 8, 3, 16, 1920, 8, 16, 1080, 8)
            return 0
        raise OSError(22, "Invalid argument")


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """Two cameras, the metadata node of one, and a decoder; the second has a name that stays."""
    for name in ("video10", "video2", "video3", "video11", "videoX"):
        (tmp_path / name).touch()
    (tmp_path / "v4l" / "by-id").mkdir(parents=True)
    (tmp_path / "v4l" / "by-id" / "usb-Acme-index0").symlink_to(tmp_path / "video10")
    cards = {
        "video2": (b"Front", 1),
        "video3": (b"Front", 0x800000),
        "video10": (b"Acme \xff", 1),
        "video11": (b"codec", 0x4000),
    }
    monkeypatch.setattr(fcntl, "ioctl", Kernel(cards))
    return tmp_path


def test_devices_are_listed_with_names_that_stay(devices):
    found = _v4l2.list_devices(devices)
    assert [device.path for device in found] == [str(devices / n) for n in ("video2", "video10")]
    assert found[0].stable == found[0].path
    assert found[1].stable == str(devices / "v4l" / "by-id" / "usb-Acme-index0")
    assert found[1].card.startswith("Acme")
    assert _v4l2.list_sizes(found[0].path) == [
        "YUYV 640x480", "YUYV 320x240", "MJPG 16x16 to 1920x1080",
    ]  # fmt: skip
    assert _v4l2.list_sizes(str(devices / "none")) == []


def test_one_of_several_cameras_is_never_picked(devices, monkeypatch, opened):
    found = _v4l2.list_devices(devices)
    module = plugins.load(PACKAGE, "camera")
    monkeypatch.setattr(module._v4l2, "list_devices", lambda: found)
    with pytest.raises(SourceLost) as caught:
        opened("camera:")
    assert "there are 2" in caught.value.cause
    assert f"camera:{found[0].path} (Front)" in caught.value.fix
    assert "usb-Acme-index0" in caught.value.fix
    monkeypatch.setattr(module._v4l2, "list_devices", lambda: found[:1])
    assert module.only_device() == found[0].path
    monkeypatch.setattr(module._v4l2, "list_devices", list)
    with pytest.raises(SourceLost, match="no camera was named"):
        opened("camera:?rate=30")


def test_gaps_in_the_time_stamps_are_frames_lost():
    gaps = Gaps()
    for stamp in [0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12.4, 13]:
        gaps.note(stamp * 0.04)
    assert gaps.lost == 2


def test_a_camera_that_slows_down_loses_few():
    gaps = Gaps()
    for stamp in [*range(20), *range(20, 220, 2)]:
        gaps.note(stamp * 0.04)
    assert gaps.lost <= 5


def test_the_newest_wins_and_an_error_comes_after_the_last():
    slot = Newest()
    assert slot.put(1)
    assert slot.put(2)
    assert slot.take(0) == 2
    with pytest.raises(TimeoutError):
        slot.take(0)
    slot.put(3)
    slot.fail(WaistlineError("gone"))
    assert slot.take(0) == 3
    with pytest.raises(WaistlineError, match="gone"):
        slot.take(0)
    slot.close()
    assert slot.take(0) is None
    assert not slot.put(4)
    assert slot.overtaken == 1


@pytest.fixture
def without_picamera2(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.picamera2", raising=False)
    yield
    sys.modules.pop(f"{PACKAGE}.picamera2", None)


def test_picamera2_comes_with_the_system(without_picamera2):
    with pytest.raises(MissingExtra) as caught:
        open_source("picamera2:0", options())
    assert "sudo apt install python3-picamera2" in caught.value.fix
    assert "--system-site-packages" in caught.value.fix


def test_a_missing_pyav_is_named_by_its_extra(monkeypatch):
    for name in ("camera", "video", "_av"):
        monkeypatch.delitem(sys.modules, f"{PACKAGE}.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    for kind in ("camera", "video"):
        with pytest.raises(MissingExtra) as caught:
            plugins.load(PACKAGE, kind)
        assert f"{kind} needs the Python package 'av'" in caught.value.what


class PiCamera:
    """Stands in for picamera2 where it goes wrong."""

    cameras: list = []  # noqa: RUF012
    came = (64, 48)

    def __init__(self, number):
        if number == 7:
            raise RuntimeError("Camera __init__ sequence did not complete.")

    @classmethod
    def global_camera_info(cls):
        return cls.cameras

    def create_video_configuration(self, **given):
        return given

    def configure(self, given):
        self.given = given

    def camera_configuration(self):
        return {"main": {"size": self.came}}

    def start(self):
        pass

    def stop(self):
        pass

    def close(self):
        pass

    def capture_request(self, wait):
        assert wait is False

    def wait(self, job, timeout):
        raise TimeoutError


@pytest.fixture
def pi(monkeypatch):
    stand_in = type("picamera2", (), {"Picamera2": type("Camera", (PiCamera,), {})})
    monkeypatch.setitem(sys.modules, "picamera2", stand_in)
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.picamera2", raising=False)
    yield stand_in.Picamera2
    sys.modules.pop(f"{PACKAGE}.picamera2", None)


def test_what_goes_wrong_with_picamera2_is_said(pi):
    def refusal(text):
        with pytest.raises(ConfigError) as caught:
            open_source(text, options())
        return "\n".join(caught.value.lines())

    assert "libcamera sees 0" in refusal("picamera2:")
    pi.cameras = [{"Num": number, "Id": f"/base/imx{number}", "Model": "m"} for number in (0, 7)]
    assert "picamera2:/base/imx0 (m), picamera2:/base/imx7 (m)" in refusal("picamera2:")
    assert "there is no camera '3'" in refusal("picamera2:3")
    assert "sequence did not complete" in refusal("picamera2:/base/imx7")
    assert "above 0" in refusal("picamera2:0?rate=0")
    pi.came = (64, 40)
    assert "libcamera chose 64x40" in refusal("picamera2:0?rate=30")


def test_a_silent_picamera2_counts_as_gone_and_can_be_let_go(pi):
    pi.cameras = [{"Num": 0, "Id": "/base/imx0", "Model": "m"}]
    source = open_source("picamera2:?timeout=0.01", options())
    assert isinstance(source, LiveSource)
    with pytest.raises(SourceLost, match=r"no frame came in 0\.01 s"):
        source.read()
    source.stop()
    assert source.read() is None
    source.close()

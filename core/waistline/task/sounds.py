"""Windows of sound out of WAV files, the same ones for a task's data and for a node."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import msgspec
import numpy as np

from waistline.errors import ConfigError
from waistline.task.folders import Listing, is_file, list_files
from waistline.task.riff import Wav, open_wav
from waistline.task.windows import Order, check_finite, fit_window
from waistline.tensors import TensorSpec

SUFFIXES = (".wav", ".wave")


class SoundOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How sound is cut into frames.

    Attributes:
        rate: sampling rate in Hz that every file must have; None: that of the first. Nothing is
            ever resampled.
        window: samples in a frame; None: as many as the model's input holds.
        hop: samples from one frame to the next; None: the window.
        channel: which one of the file, from 0; ``mix``: their mean; "": all of them.
        pad: fill a file shorter than a window up with silence instead of refusing it.
        order: of the axes in the input, where its shape leaves it open.
    """

    rate: int | None = None
    window: int | None = None
    hop: int | None = None
    channel: str = ""
    pad: bool = False
    order: Order | None = None


def list_sounds(path: Path) -> tuple[Path, Listing]:
    """One WAV file, or those of a folder and of its class folders; and the folder.

    Raises:
        ConfigError: there are none.
    """
    if is_file(path):
        return path.parent, Listing((path,), {})
    return path, list_files(path, SUFFIXES, "sound")


class SoundWindows:
    """Frames of a row of files, by position. Holds no file open.

    Args:
        files: at least one.
        root: a folder they all lie in; names start from it.
        inputs: of the model.
        options: how they are cut.
        skip_bad: a file that cannot be used, but for the first, is one position, which raises when
            it is read; False: such a file is refused here.

    Raises:
        ConfigError: a file cannot be used, or the model takes no such windows.
    """

    def __init__(
        self,
        files: Sequence[Path],
        root: Path,
        inputs: Sequence[TensorSpec],
        options: SoundOptions,
        *,
        skip_bad: bool,
    ) -> None:
        first = open_wav(files[0])
        self.files = tuple(files)
        self._root = root
        self.rate_hz = first.rate_hz if options.rate is None else options.rate
        self._options = options
        self._channels = first.channels
        self._picked = _picked(options.channel)
        self.windowing = fit_window(
            inputs,
            first.channels if options.channel == "" else 1,
            what=f"the sound in {files[0].name}",
            window=options.window,
            hop=options.hop,
            order=options.order,
        )
        self._wavs: list[Wav | ConfigError] = []
        for path in files:
            try:
                self._wavs.append(self._checked(open_wav(path)))
            except ConfigError as error:
                if not (skip_bad and self._wavs):
                    raise
                self._wavs.append(error)
        self._ends = list(accumulate(map(self._count, self._wavs)))

    def __len__(self) -> int:
        return self._ends[-1]

    def owner(self, position: int) -> int:
        """Which of the files a frame comes from."""
        return bisect.bisect_right(self._ends, position)

    def name(self, position: int) -> str:
        """The file, and where it gives several frames the first sample of this one."""
        owner, place, several = self._place(position)
        name = str(self.files[owner].relative_to(self._root))
        return f"{name}@{place * self.windowing.hop}" if several else name

    def read(self, position: int) -> np.ndarray:
        """One frame, as the model takes it.

        Raises:
            ConfigError: its file is damaged or does not fit; names it.
        """
        owner, place, _ = self._place(position)
        wav = self._wavs[owner]
        if isinstance(wav, ConfigError):
            raise wav
        start = place * self.windowing.hop
        rows = wav.read(start, min(self.windowing.window, wav.samples - start))
        if wav.sample_format == "f32":
            check_finite(rows, wav.path, start)
        if self._options.channel == "mix":
            rows = rows.mean(axis=1, dtype=np.float32, keepdims=True)
        rows = rows[:, self._picked]
        missing = self.windowing.window - len(rows)
        return self.windowing.frame(np.pad(rows, ((0, missing), (0, 0))) if missing else rows)

    def _place(self, position: int) -> tuple[int, int, bool]:
        """The file, which of its frames, and whether it has several."""
        owner = self.owner(position)
        begin = self._ends[owner - 1] if owner else 0
        return owner, position - begin, self._ends[owner] - begin > 1

    def _count(self, wav: Wav | ConfigError) -> int:
        """Frames of a file; a bad or padded one counts as one."""
        return 1 if isinstance(wav, ConfigError) else max(1, self.windowing.count(wav.samples))

    def _checked(self, wav: Wav) -> Wav:
        window = self.windowing.window
        if wav.rate_hz != self.rate_hz:
            cause = f"it was sampled at {wav.rate_hz} Hz, expected {self.rate_hz} Hz"
            fix = f"resample it, for example: sox {wav.path} -r {self.rate_hz} resampled.wav"
        elif wav.channels != self._channels:
            cause = f"it has {wav.channels} channels, the first file has {self._channels}"
            fix = "convert it, or leave it out"
        elif self._picked.start is not None and self._picked.start >= wav.channels:
            cause = f"channel {self._picked.start} is wanted, it has {wav.channels}"
            fix = f"give channel=0..{wav.channels - 1}, or channel=mix"
        elif not wav.samples or (wav.samples < window and not self._options.pad):
            cause = f"it has {wav.samples} samples, a window is {window}"
            fix = "leave it out, or give pad=1 to fill it up with silence"
        else:
            return wav
        raise ConfigError(f"{wav.path} does not fit", cause=cause, fix=fix)


def _picked(channel: str) -> slice:
    if channel in {"", "mix"}:
        return slice(None)
    if not channel.isdecimal() or len(channel) > 3:
        raise ConfigError(
            f"there is no channel {channel!r}", cause="channels are counted from 0",
            fix="give a number, or mix for the mean of all",
        )  # fmt: skip
    return slice(int(channel), int(channel) + 1)

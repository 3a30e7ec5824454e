"""The raw tables beside a stream: what its frames are in themselves, and a few to look at."""

from __future__ import annotations

from pathlib import Path

from waistline.frame import SensorFrame
from waistline.run import Table
from waistline_hostctl import inprocess, raw
from waistline_hostctl.console import Console
from waistline_hostctl.samples import CANDIDATES, choose_samples
from waistline_hostctl.streaming import Streamed


def describe_stream(
    streamed: Streamed, backend: str, console: Console, *, model: Path | None = None
) -> list[Table]:
    """Tables ``inputs``, and of images ``pictures`` and ``samples``.

    Args:
        streamed: the main stream.
        backend: engine for the uncut answers.
        console: is shown progress.
        model: the uncut model; None: head and tail joined.
    """
    stream = streamed.stream
    bundle = stream.bundle
    frames = inprocess.frames_of(bundle, stream.source, stream.count, loop=stream.loop)
    inputs: list[raw.InputRow] = []
    pictures: list[raw.PictureRow] = []
    candidates: list[SensorFrame] = []
    with console.progress("uncut model: frames", stream.count) as progress:
        for found in inprocess.describe_frames(
            bundle, frames, backend=backend, model=model, step=progress.update
        ):
            inputs.append(found.input)
            pictures += found.pictures
            if found.pictures and len(candidates) < CANDIDATES:
                candidates.append(found.frame)
    tables = [raw.inputs_table(inputs)]
    if pictures:
        uncut = {row.index: row.answer for row in inputs}
        chosen = choose_samples(candidates, uncut, streamed.records, bundle.answer_kind)
        tables += [raw.pictures_table(pictures), raw.samples_table(chosen)]
    return tables

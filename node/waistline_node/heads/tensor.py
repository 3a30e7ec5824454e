"""A head that runs on this machine, by one of the backends of core."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from waistline.backends.base import AUTO, BackendOptions, Slice, home_of, load_backend
from waistline.bundle.store import Bundle
from waistline.codec.waist import EncodedWaist
from waistline.errors import ConfigError
from waistline.frame import SensorFrame
from waistline.stages import HeadStages, open_slice
from waistline_node.heads.base import HeadChoice, StageTimes, Waist


class TensorHead:
    def __init__(self, bundle: Bundle, slice_: Slice | None) -> None:
        self._stages = HeadStages(bundle, slice_)
        self._slice = slice_

    def preprocess(self, frame: SensorFrame) -> Sequence[np.ndarray]:
        return self._stages.preprocess(frame)

    def head(self, inputs: Sequence[np.ndarray]) -> Waist:
        return self._stages.head(inputs)

    def encode(self, waist: Waist | EncodedWaist) -> EncodedWaist:
        return waist if isinstance(waist, EncodedWaist) else self._stages.encode(waist)

    def run(self, frame: SensorFrame) -> tuple[EncodedWaist, StageTimes]:
        clock = time.monotonic_ns
        start = clock()
        inputs = self.preprocess(frame)
        preprocessed = clock()
        waist = self.head(inputs)
        headed = clock()
        encoded = self.encode(waist)
        times = StageTimes(preprocessed - start, headed - preprocessed, clock() - headed)
        return encoded, times

    def info(self) -> dict[str, str]:
        engine = self._slice.info() if self._slice else {"engine": "none"}
        return {**engine, "codec": self._stages.codec_implementation}

    def close(self) -> None:
        if self._slice:
            self._slice.close()


def open_head(bundle: Bundle, choice: HeadChoice) -> TensorHead:
    """At x = 0 and x = 1 the bundle has no head: no backend is loaded."""
    if bundle.head is None:
        return TensorHead(bundle, None)
    name = home_of(bundle.head.format) if choice.backend == AUTO else choice.backend
    hints = dict(bundle.head.hints.get(name, {}))
    hinted = hints.pop("threads", "1")
    if not hinted.isdecimal() or len(hinted) > 4:
        raise ConfigError(f"the bundle hints {hinted[:20]!r} threads", fix="give --threads N")
    threads = int(hinted) if choice.threads is None else choice.threads
    options = BackendOptions(threads=threads, extra={**hints, **choice.options})
    backend = load_backend(name, bundle.head.format, options)
    return TensorHead(bundle, open_slice(backend, bundle, bundle.head))

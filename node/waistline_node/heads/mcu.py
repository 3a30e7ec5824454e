"""A head on a microcontroller: the board runs the blob, quantizes and packs; this end forwards.

Preprocessing is the host's. The board's bytes are what DATA carries, so `encode` changes nothing;
at x = N the board sends the model's raw outputs and this end makes the answer of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from waistline.backends.base import LayerTime, Profile
from waistline.blob import FORMAT
from waistline.blob.check import check_blob
from waistline.blob.records import Blob, read_blob
from waistline.bundle.schema import Stage
from waistline.bundle.store import Bundle
from waistline.codec.waist import EncodedWaist
from waistline.errors import CodecError, ConfigError
from waistline.frame import SensorFrame
from waistline.stages import HeadStages
from waistline.tensors import TensorSpec
from waistline_bridge import boards
from waistline_bridge.attached import Attached
from waistline_bridge.boards.base import Board
from waistline_bridge.client import Client, Inference
from waistline_bridge.messages import Area
from waistline_bridge.sent import Sent, input_bytes
from waistline_node.heads.base import (
    DeviceWaist,
    HeadChoice,
    Say,
    StageTimes,
    Waist,
    board_by_default,
    quiet,
)

_OWN = ("board", "port", "baud")


@dataclass(frozen=True, slots=True)
class BoardWaist(DeviceWaist):
    """What a board sent.

    Attributes:
        given: the model's inputs by name, of which some may cross the cut as they are.
    """

    given: Mapping[str, np.ndarray] = field(default_factory=dict)


class BoardSlice:
    """The head as a slice, run by a board; arrays in the shapes that the bundle says.

    Args:
        bundle: with a blob for its head.
        stage: that head.
        attached: holds the blob.
        blob: its records.

    Attributes:
        sent: what it sends of the bundle's waist.
    """

    def __init__(self, bundle: Bundle, stage: Stage, attached: Attached, blob: Blob) -> None:
        self._stage = stage
        self._blob = blob
        self.attached = attached
        self._limit_bytes = blob.output[1]
        self.sent = Sent(bundle, stage)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._stage.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._stage.outputs

    def infer(self, tensors: Sequence[np.ndarray]) -> DeviceWaist:
        """The coded outputs of one run, as the board made them; ``tensors`` as in `inputs`."""
        data = input_bytes(tensors)

        def work(client: Client) -> Inference:
            client.load_input(data)
            return client.infer(limit_bytes=self._limit_bytes)

        return self._waist(self.attached.perform(work))

    def infer_looking(
        self, tensors: Sequence[np.ndarray]
    ) -> tuple[DeviceWaist, tuple[np.ndarray, ...]]:
        """As `infer`, and the waist tensors as they lie in the arena before they are coded."""
        data = input_bytes(tensors)
        places = [self._blob.tensors[item.tensor] for item in self._blob.waists]

        def work(client: Client) -> tuple[Inference, list[bytes]]:
            client.load_input(data)
            made = client.infer(limit_bytes=self._limit_bytes)
            return made, [client.read(Area.ARENA, at.offset, at.size_bytes) for at in places]

        made, values = self.attached.perform(work)
        arrays = tuple(
            np.frombuffer(part, np.int8).reshape(spec.shape)
            for part, spec in zip(values, self.outputs, strict=True)
        )
        return self._waist(made), arrays

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The int8 outputs as they were before they were coded."""
        return list(self.infer_looking(tensors)[1])

    def profile(self, tensors: Sequence[np.ndarray], repeat: int) -> Profile:
        """The board's ticks a layer, and the time of the whole as this end sees it."""
        data = input_bytes(tensors)

        def work(client: Client) -> tuple[float, list[int]]:
            began = time.perf_counter()
            client.load_input(data)
            client.infer(limit_bytes=self._limit_bytes)
            return time.perf_counter() - began, client.ticks()

        runs = [self.attached.perform(work) for _ in range(repeat)]
        hertz = max(1, self.attached.info.tick_hz)
        layers = []
        for k, record in enumerate(self._blob.layers):
            times = [ticks[k] / hertz for _, ticks in runs]
            size = self._blob.tensors[record.output].size_bytes
            low, high = np.percentile(times, (25, 75))
            layers.append(
                LayerTime(f"layer {k}", f"op {record.op}", statistics.median(times),
                          float(high - low) / 2, size)
            )  # fmt: skip
        whole_s = statistics.median(duration_s for duration_s, _ in runs)
        note = "of an emulated board: no time of a processor" if self.attached.emulated else ""
        return Profile("native", tuple(layers), whole_s, repeat, note)

    def info(self) -> dict[str, str]:
        found = self.attached.info
        features = [flag.name or "" for flag in found.features]
        return {
            "engine": "mcu",
            "version": f"firmware {found.build:08x}",
            "device": found.board,
            "precision": "int8",
            "board": found.board,
            "build": f"{found.build:08x}",
            "protocol": str(found.protocol),
            "kernels": str(found.kernels),
            "ticks": f"{found.tick_source}, {found.tick_hz} Hz",
            "features": " ".join(name.lower() for name in features) or "none",
            "emulated": "yes" if self.attached.emulated else "no",
        }

    def close(self) -> None:
        self.attached.close()

    def _waist(self, made: Inference) -> DeviceWaist:
        wanted = self.sent.codec.raw_len
        if made.raw_len != wanted:
            raise CodecError(
                "the board sent another waist than the bundle has",
                cause=f"{made.raw_len} packed bytes, the bundle says {wanted}",
                fix="write the bundle again: waistline split MODEL --backend mcu",
            )
        device_s = made.ticks / max(1, self.attached.info.tick_hz)
        return DeviceWaist(made.output, made.raw_len, device_s)


class McuHead:
    """As `heads.base.Head` says.

    Attributes:
        stages: what the host does around the board.
        slice: the board.
    """

    def __init__(
        self, bundle: Bundle, stage: Stage, slice_: BoardSlice, *, chosen: bool = True
    ) -> None:
        self.slice = slice_
        self._chosen = "by name" if chosen else "default"
        self.stages = HeadStages(bundle, slice_)
        self._stage = stage
        self._crossing = [item.tensor.name for item in bundle.cut.tensors]
        self._names = [tensor.name for tensor in bundle.manifest.model_inputs]

    def preprocess(self, frame: SensorFrame) -> Sequence[np.ndarray]:
        return self.stages.preprocess(frame)

    def head(self, inputs: Sequence[np.ndarray]) -> Waist | EncodedWaist:
        given = dict(zip(self._names, inputs, strict=True))
        return _sent(self.slice.infer(self._taken(given)), given)

    def look(self, inputs: Sequence[np.ndarray]) -> tuple[EncodedWaist, tuple[np.ndarray, ...]]:
        """The waist encoded, and its tensors as they were before; `inputs` of the model."""
        given = dict(zip(self._names, inputs, strict=True))
        sent, values = self.slice.infer_looking(self._taken(given))
        made = {spec.name: array for spec, array in zip(self.slice.outputs, values, strict=True)}
        known = {**given, **made}
        return self.encode(_sent(sent, given)), tuple(known[name] for name in self._crossing)

    def _taken(self, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The inputs that the blob has, in its order."""
        return [given[tensor.name] for tensor in self._stage.inputs]

    def encode(self, waist: Waist | EncodedWaist) -> EncodedWaist:
        """What the board sent, with the inputs that cross the cut; at x = N the answer."""
        assert isinstance(waist, BoardWaist)
        sent = self.slice.sent
        if self._crossing:
            made = sent.whole(waist, waist.given)
        else:
            made = self.stages.encode(sent.outputs(waist, waist.given))
        if made is waist:
            return waist
        return DeviceWaist(made.payload, made.raw_len, waist.device_s)

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
        return {**self.slice.info(), "codec": "firmware", "chosen": self._chosen}

    def interrupt(self) -> None:
        self.slice.attached.interrupt()

    def close(self) -> None:
        self.slice.close()


def open_head(bundle: Bundle, choice: HeadChoice) -> McuHead:
    """Attach to the board that ``choice.options`` name, and have it hold the head.

    Options: ``board`` or ``port`` and ``baud``; what else there is goes to the board.

    Raises:
        ConfigError: the bundle has no head for a board, or the options name none or two.
        What `waistline_bridge.attached.Attached` raises.
    """
    stage = bundle.head
    if stage is None or stage.format != FORMAT:
        has = "no head" if stage is None else f"a head in {stage.format}"
        raise ConfigError(
            "no board can run this bundle's head",
            cause=f"it is cut at x = {bundle.cut.partition_point} and has {has}",
            fix="waistline split MODEL --backend mcu",
        )
    blob = check_blob(read_blob(bundle.read(stage.file)))
    attached = Attached(
        board_opener(choice.options, choice.say),
        blob,
        bundle,
        budget_s=choice.budget_s,
        say=choice.say,
        progress=choice.progress,
    )
    try:
        slice_ = BoardSlice(bundle, stage, attached, blob)
        chosen = bool({"board", "port"} & set(choice.options))
        return McuHead(bundle, stage, slice_, chosen=chosen)
    except BaseException:
        attached.close()
        raise


def board_opener(options: Mapping[str, str], say: Say = quiet) -> Callable[[], Board]:
    """What opens the board that ``options`` name; says which one it took where they name none.

    Raises:
        ConfigError: they name a board and a port.
    """
    own = {key: options[key] for key in options if key not in _OWN}
    name, port, baud = (options.get(key, "") for key in _OWN)
    if port and name not in ("", boards.SERIAL):
        raise ConfigError(
            "a board and a port were named, which are two devices",
            cause=f"board {name!r} is a program, port {port!r} is plugged in",
            fix="give --board or --port",
        )
    if port or name == boards.SERIAL:
        more = {key: value for key, value in (("port", port), ("baud", baud)) if value}
        return lambda: boards.open_board(boards.SERIAL, **own, **more)
    if not name:
        name = boards.DEFAULT
        say(board_by_default(name))
    return lambda: boards.open_board(name, **own)


def _sent(made: DeviceWaist, given: dict[str, np.ndarray]) -> BoardWaist:
    return BoardWaist(made.payload, made.raw_len, made.device_s, given)

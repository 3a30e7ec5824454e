"""The NCS2's side of the pipe: a program of its own, for an interpreter of its own.

The last OpenVINO that drives the stick ends at Python 3.9, so this file is run by another Python
than the rest (syntax of 3.6 and up), has nothing of this package, and speaks three dialects of the
engine: ``openvino.Core`` (2023 and later), ``openvino.runtime.Core`` (2022), ``IECore`` (2021.4).

Frames, both ways: magic, u32 length of the JSON, u64 length of the raw part (little-endian), the
JSON (an object; ``tensors`` lists dtype and shape of each array), the arrays in C order one after
the other. One answer to each request; an answer with ``error`` says kind and message. The program
ends when its standard input does. What the engine prints goes to standard error.
"""
# The syntax and the typing of Python 3.6 (no list[int], no zip(strict=)):
# ruff: noqa: UP006, UP035, UP045, B905

import importlib
import json
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

PROTOCOL = 1
HEADER = struct.Struct("<4sIQ")
MAGIC = b"WNC2"
MAX_JSON_BYTES = 1 << 22
MAX_RAW_BYTES = 1 << 28
MAX_RANK = 8
TYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "i8": "int8",
    "u8": "uint8",
    "i16": "int16",
    "u16": "uint16",
    "i32": "int32",
    "i64": "int64",
    "bool": "bool",
}
_SINK = "/sink_port_"
_STICK = "MYRIAD"
_PARENT_CHECK_S = 1.0

Spec = Dict[str, Any]
Row = List[Any]


class Refused(Exception):
    """What the other side is told as kind and message."""

    def __init__(self, kind: str, message: str) -> None:
        Exception.__init__(self, message)
        self.kind = kind


class OldSlice:
    """A network opened by ``IECore``."""

    def __init__(self, core: Any, request: Dict[str, Any]) -> None:
        self._core = core
        self._device = request["device"]
        self._threads = request["threads"]
        self._network = _refusing("read", core.read_network, model=request["path"])
        self._loaded = _refusing("compile", self._load, {})
        self._counting = None  # type: Any
        given, made = _file_order(self._network)
        known = self._network.input_info
        found = self._resolved(known, request["inputs"], given)
        self._feeds = [own for _, own in found]
        self.inputs = [
            _spec(name, known[own].input_data.precision, known[own].input_data.shape)
            for name, own in found
        ]
        outputs = self._network.outputs
        found = self._resolved(outputs, request["outputs"], made)
        self._results = [own for _, own in found]
        self.outputs = [
            _spec(name, outputs[own].precision, outputs[own].shape) for name, own in found
        ]

    def _resolved(
        self, known: Any, wanted: Optional[List[str]], order: List[str]
    ) -> List[Tuple[str, str]]:
        """Each tensor's name for the caller and the engine's own: as wanted, then the others."""
        own_names = {name: name for name in known}
        for name in wanted or ():
            if name not in known:
                try:
                    own_names[name] = self._network.get_ov_name_for_tensor(name)
                except (RuntimeError, KeyError):
                    continue
        found = [(name, own_names[name]) for name in wanted or () if name in own_names]
        taken = {own for _, own in found}
        return found + [(name, name) for name in order if name in known and name not in taken]

    def _load(self, more: Dict[str, str]) -> Any:
        config = dict(more)
        if self._device == "CPU":
            config.update(CPU_BIND_THREAD="NO", CPU_THROUGHPUT_STREAMS="1", ENFORCE_BF16="NO")
            config.update(LP_TRANSFORMS_MODE="NO")
            if self._threads:
                config.update(CPU_THREADS_NUM=str(self._threads))
        return self._core.load_network(self._network, self._device, config)

    def run(self, tensors: Sequence[np.ndarray]) -> List[np.ndarray]:
        return self._infer(self._loaded, tensors)

    def _infer(self, loaded: Any, tensors: Sequence[np.ndarray]) -> List[np.ndarray]:
        found = loaded.infer(dict(zip(self._feeds, tensors)))
        return [found[name] for name in self._results]

    def counts(self, tensors: Sequence[np.ndarray]) -> List[Row]:
        """One counted run: name, operator, kernel, microseconds of each node."""
        if self._counting is None:
            self._counting = self._load({"PERF_COUNT": "YES"})
        self._infer(self._counting, tensors)
        rows = self._counting.requests[0].get_perf_counts()
        order = sorted(rows, key=lambda name: rows[name]["execution_index"])
        return [
            [name, rows[name]["layer_type"], _kernel(rows[name]), float(rows[name]["real_time"])]
            for name in order
        ]


class NewSlice:
    """A model compiled by ``Core``, of 2022 and later."""

    def __init__(self, core: Any, request: Dict[str, Any]) -> None:
        self._core = core
        self._device = request["device"]
        self._threads = request["threads"]
        self._model = _refusing("read", core.read_model, request["path"])
        self._request = _refusing("compile", self._compiled, {}).create_infer_request()
        self._counting = None  # type: Any
        self.inputs, self._feeds = _ports(self._model.inputs, request["inputs"])
        self.outputs, self._results = _ports(self._model.outputs, request["outputs"])

    def _compiled(self, more: Dict[str, Any]) -> Any:
        """Compiled with what this version of the engine knows of what is wanted."""
        config = dict(more)
        if self._device == "CPU":
            known = self._core.get_property("CPU", "SUPPORTED_PROPERTIES")
            wanted = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}
            wanted["ENABLE_CPU_PINNING"] = "NO"
            if self._threads:
                wanted["INFERENCE_NUM_THREADS"] = str(self._threads)
            config.update((name, wanted[name]) for name in wanted if name in known)
            config["LP_TRANSFORMS_MODE"] = "NO"
        return self._core.compile_model(self._model, self._device, config)

    def run(self, tensors: Sequence[np.ndarray]) -> List[np.ndarray]:
        return self._infer(self._request, tensors)

    def _infer(self, request: Any, tensors: Sequence[np.ndarray]) -> List[np.ndarray]:
        found = list(request.infer(dict(zip(self._feeds, tensors))).values())
        return [found[index] for index in self._results]

    def counts(self, tensors: Sequence[np.ndarray]) -> List[Row]:
        """One counted run: name, operator, kernel, microseconds of each node."""
        if self._counting is None:
            self._counting = self._compiled({"PERF_COUNT": "YES"}).create_infer_request()
        self._infer(self._counting, tensors)
        return [
            [row.node_name, row.node_type, row.exec_type, row.real_time.total_seconds() * 1e6]
            for row in self._counting.get_profiling_info()
        ]


def _refusing(kind: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What ``function`` gives; what it raises goes to the other side as ``kind``."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise Refused(kind, str(error)) from error


def _file_order(network: Any) -> Tuple[List[str], List[str]]:
    """Inputs and outputs in the order of the file; ``IECore`` itself sorts them by name."""
    graph = importlib.import_module("ngraph").function_from_cnn(network)
    made = []
    for result in graph.get_results():
        source = result.input(0).get_source_output()
        name = source.get_node().get_friendly_name()
        made.append(name if name in network.outputs else f"{name}.{source.get_index()}")
    return [given.get_friendly_name() for given in graph.get_parameters()], made


def _kernel(row: Dict[str, Any]) -> str:
    return "undef" if row["status"] == "OPTIMIZED_OUT" else str(row["exec_type"])


def _ports(ports: Any, wanted: Optional[List[str]]) -> Tuple[List[Spec], List[int]]:
    found = {}  # type: Dict[str, Tuple[int, Spec]]
    for index, port in enumerate(ports):
        names = port.get_names()
        friendly = port.get_node().get_friendly_name().partition(_SINK)[0]
        known_as = friendly if friendly in names or not names else min(names)
        for name in [name for name in wanted or () if name in names] or [known_as]:
            shape = port.get_partial_shape()
            axes = list(port.get_shape()) if shape.is_static else [0]
            found.setdefault(
                name,
                (index, _spec(name, port.get_element_type().get_type_name(), axes)),
            )
    first = [name for name in wanted or () if name in found]
    order = first + [name for name in found if name not in first]
    return [found[name][1] for name in order], [found[name][0] for name in order]


def _spec(name: str, type_name: str, shape: Iterable[int]) -> Spec:
    axes = [int(axis) for axis in shape]
    short = type_name.lower().replace("fp", "f").replace("boolean", "bool")
    if short not in TYPES:
        raise Refused("shape", f"{name!r} has the element type {type_name}")
    if not all(axis > 0 for axis in axes):
        raise Refused("shape", f"{name!r} has an open shape")
    return {"name": name, "dtype": TYPES[short], "shape": axes}


class Engine:
    """The engine of this interpreter, in the newest dialect that it speaks."""

    def __init__(self) -> None:
        # Importing a recent engine reports to its maker unless this cannot be imported.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        self._slice = None  # type: Any
        try:
            self._core, self.dialect = _core()
        except ImportError as error:
            raise Refused("no_engine", str(error)) from error
        self._old = self.dialect == "IECore"

    def hello(self, request: Dict[str, Any]) -> Dict[str, Any]:
        if PROTOCOL not in request["protocols"]:
            raise Refused("protocol", f"this side speaks {PROTOCOL}")
        return {
            "protocol": PROTOCOL,
            "dialect": self.dialect,
            "version": str(self._core.get_versions("CPU")["CPU"].build_number),
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "devices": list(self._core.available_devices),
        }

    def sticks(self) -> Dict[str, Any]:
        """Sticks that the engine finds."""
        ask = self._core.get_metric if self._old else self._core.get_property
        return {"devices": list(_refusing("compile", ask, _STICK, "AVAILABLE_DEVICES"))}

    def open(self, request: Dict[str, Any]) -> Dict[str, Any]:
        opened = OldSlice if self._old else NewSlice
        self._slice = opened(self._core, request)
        return {"inputs": self._slice.inputs, "outputs": self._slice.outputs}

    def run(self, tensors: Sequence[np.ndarray]) -> List[np.ndarray]:
        found = zip(self._slice.run(tensors), self._slice.outputs)
        return [np.ascontiguousarray(array).reshape(spec["shape"]) for array, spec in found]

    def counts(self, tensors: Sequence[np.ndarray]) -> List[Row]:
        return list(self._slice.counts(tensors))


def _core() -> Tuple[Any, str]:
    for module in ("openvino", "openvino.runtime"):
        try:
            core = importlib.import_module(module).Core
        except (ImportError, AttributeError):
            continue
        return core(), (module + ".Core").replace("openvino.", "", 1)
    return importlib.import_module("openvino.inference_engine").IECore(), "IECore"


def read_frame(stream: BinaryIO) -> Optional[Tuple[Dict[str, Any], List[np.ndarray]]]:
    """The next request, None at the end of the stream.

    Raises:
        Refused: it is not a frame, or is longer than the limits.
    """
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    magic, json_len, raw_len = HEADER.unpack(head)
    if magic != MAGIC or json_len > MAX_JSON_BYTES or raw_len > MAX_RAW_BYTES:
        raise Refused("protocol", "not a frame, or a frame over the limits")
    text, raw = stream.read(json_len), stream.read(raw_len)
    if len(text) < json_len or len(raw) < raw_len:
        return None
    body = json.loads(text.decode("utf-8"))
    return body, unpack(body.get("tensors", []), raw)


def unpack(specs: List[Spec], raw: bytes) -> List[np.ndarray]:
    """Arrays of ``raw`` as ``specs`` say; they share its memory.

    Raises:
        Refused: the sizes do not fit.
    """
    arrays, start = [], 0
    for spec in specs:
        shape = spec["shape"]
        if (
            spec["dtype"] not in TYPES.values()
            or len(shape) > MAX_RANK
            or not all(a > 0 for a in shape)
        ):
            raise Refused("protocol", "a tensor of impossible type or shape")
        size = np.dtype(spec["dtype"]).itemsize
        for axis in shape:
            size *= int(axis)
        part = raw[start : start + size]
        if len(part) < size:
            raise Refused("protocol", "tensors are longer than the frame")
        arrays.append(np.frombuffer(part, spec["dtype"]).reshape(shape))
        start += size
    if start != len(raw):
        raise Refused("protocol", "the frame is longer than its tensors")
    return arrays


def write_frame(stream: BinaryIO, body: Dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    described = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in arrays]
    text = json.dumps(dict(body, tensors=described)).encode("utf-8")
    stream.write(HEADER.pack(MAGIC, len(text), sum(array.nbytes for array in arrays)))
    stream.write(text)
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def answer(engine: Engine, body: Dict[str, Any], arrays: List[np.ndarray]) -> Tuple[Any, List[Any]]:
    """The answer to one request: its JSON and its arrays."""
    op = body["op"]
    if op == "hello":
        return engine.hello(body), []
    if op == "sticks":
        return engine.sticks(), []
    if op == "open":
        return engine.open(body), []
    if op == "run":
        return {}, engine.run(arrays)
    if op == "counts":
        return {"rows": engine.counts(arrays)}, []
    raise Refused("protocol", f"no request is called {op!r}")


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until the stream ends."""
    engine = None  # type: Optional[Engine]
    number = -1
    while True:
        found, arrays = {}, []  # type: Tuple[Dict[str, Any], List[np.ndarray]]
        try:
            got = read_frame(source)
            if got is None:
                return
            number = got[0]["id"]
            engine = engine or Engine()
            found, arrays = answer(engine, *got)
        except Refused as error:
            found = {"error": error.kind, "message": str(error)}
        except Exception as error:
            found = {"error": "run", "message": str(error) or type(error).__name__}
        write_frame(sink, dict(found, id=number), arrays)
        if found.get("error") == "protocol":
            return


def _leave_with(parent: int) -> None:
    """End the process once its parent is gone, even where the engine hangs."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)


def main() -> None:
    # Beside this file lies another that is called openvino.py.
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != here]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    watch = threading.Thread(target=_leave_with, args=(os.getppid(),))
    watch.daemon = True
    watch.start()
    serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()

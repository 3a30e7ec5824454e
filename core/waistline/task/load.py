"""``task.toml``: what a model is for, and the data to judge it by.

    kind = "classify"                # how outputs become an answer: waistline.task.kinds
    metric = "top1"                  # waistline.task.metrics, or "score.py:function"

    [preprocess]                     # waistline.task.spec.Preprocess
    frame_shape = [28, 28, 1]
    size = [28, 28]

    [answer]                         # the kind's own options
    top_k = 3

    [data.calibration]               # waistline.task.data; also selection, report, test
    kind = "npz"
    path = "calibration.npz"         # relative to this file

Without ``[preprocess]`` frames are the model's inputs, and data is ``npz`` with one array an input,
``wav`` or ``csv``.
Code is named here only, on the user's own machine: a bundle carries ``preprocess`` and ``answer``,
which are plain data.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from waistline import plugins
from waistline.errors import ConfigError
from waistline.files import read_limited
from waistline.task import data as data_package
from waistline.task.data.base import DataContext, DataSet
from waistline.task.kinds.base import PACKAGE as KINDS
from waistline.task.kinds.base import Kind, load_kind
from waistline.task.metrics.base import Metric, load_metric
from waistline.task.preprocess import check_preprocess
from waistline.task.spec import AnswerSpec, Preprocess
from waistline.tensors import TensorSpec

DataName = Literal["calibration", "selection", "report", "test"]
DATA_NAMES: tuple[str, ...] = get_args(DataName)
_MAX_TASK_BYTES = 1 << 20


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    calibration: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None
    report: dict[str, Any] | None = None
    test: dict[str, Any] | None = None


class _TaskFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    metric: str = "agreement"
    preprocess: Preprocess | None = None
    answer: dict[str, Any] = {}
    data: _Data = _Data()


class Task:
    """A task file, read and checked.

    Attributes:
        path: of the file; relative paths in it start from its folder.
        kind: name of the answer kind.
        preprocess: None: frames are the model's inputs.
        answer: kind and options as a bundle stores them. A ``tensors`` task may leave its outputs
            out; `waistline.split` fills them in from the model.
        metric: name of a metric, or ``path.py:function``.
    """

    def __init__(self, path: Path, content: _TaskFile) -> None:
        self.path = path
        self.kind = content.kind
        self.preprocess = content.preprocess
        self.answer = AnswerSpec(content.kind, content.answer)
        self.metric = content.metric
        self._data = content.data
        self._opened: dict[tuple[str, tuple[TensorSpec, ...]], DataSet] = {}

    def has_data(self, name: str) -> bool:
        return name in DATA_NAMES and getattr(self._data, name) is not None

    def data(self, name: str, inputs: Sequence[TensorSpec] = ()) -> DataSet:
        """Open the data set called ``calibration``, ``selection``, ``report`` or ``test``.

        Opened again it is the same object, so that what it read or made once is at hand.

        Args:
            name: of the data set.
            inputs: of the model: what frames are in a task without preprocessing.

        Raises:
            ConfigError: the task names no such data, or the data cannot be used.
        """
        if not self.has_data(name):
            named = [known for known in DATA_NAMES if self.has_data(known)]
            raise ConfigError(
                f"the task has no {name} data",
                cause=f"{self.path} names {', '.join(named) or 'no data at all'}",
                fix=f"add [data.{name}] with kind and path to {self.path}",
            )
        shape = self.preprocess.frame_shape if self.preprocess else None
        takes = () if shape else tuple(inputs)
        if (name, takes) in self._opened:
            return self._opened[name, takes]
        options = dict(getattr(self._data, name))
        kind = options.pop("kind", None)
        if not isinstance(kind, str):
            raise ConfigError(
                f"[data.{name}] in {self.path} has no kind",
                fix=f"add kind = one of {', '.join(plugins.names(data_package.__name__))}",
            )
        classes = self.answer.options.get("classes", ())
        context = DataContext(
            self.path.parent,
            f"[data.{name}]",
            shape,
            tuple(classes),
            takes,
        )
        opened: DataSet = plugins.load(data_package.__name__, kind).open_data(options, context)
        self._opened[name, context.inputs] = opened
        return opened

    def open_kind(self) -> Kind:
        return load_kind(self.answer)

    def open_metric(self, kind: Kind | None = None) -> Metric:
        """The task's metric; ``kind`` where it was opened already.

        Raises:
            ConfigError: there is no such metric, or its file or function is missing.
        """
        return load_metric(self.metric, kind or self.open_kind(), self.path.parent)


def load_task(path: str | Path) -> Task:
    """Read and check a task file. Its data is not opened yet.

    Raises:
        ConfigError: missing, not TOML, a key unknown (named) or of the wrong type.
    """
    path = Path(path)
    try:
        table = tomllib.loads(read_limited(path, _MAX_TASK_BYTES).decode())
        content = msgspec.convert(table, _TaskFile, strict=True)
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:  # of TOML, UTF-8 and the keys' types
        raise _bad(path, str(error)) from error
    task = Task(path, content)
    with _naming(f"{path}, kind"):
        plugins.load(KINDS, task.kind)
    if content.preprocess is not None:
        with _naming(f"{path} [preprocess]"):
            check_preprocess(content.preprocess)
    if task.kind != "tensors" or task.answer.options:
        with _naming(f"{path} [answer]"):
            task.open_kind()
    return task


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Say where in which file the options stand that a module refuses."""
    try:
        yield
    except ConfigError as error:
        what = f"{place}: {error.what}"
        raise ConfigError(what, cause=error.cause, fix=error.fix) from error


def _bad(path: Path, cause: str) -> ConfigError:
    return ConfigError(
        f"task file {path} cannot be used",
        cause=cause,
        fix="see examples/fashion/task.toml for one that works",
    )

"""``bundle.json``: the unit of deployment, as typed data.

The bundle's id is the SHA-256 of ``bundle.json`` as stored, so the file is written once, in one
canonical form, and never edited. Everything else in the folder is named here with size and hash.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from waistline.task.spec import AnswerSpec, Preprocess
from waistline.tensors import TensorSpec, WaistTensor

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
EVIDENCE = "evidence.json"
MAX_MANIFEST_BYTES = 4 << 20
"""Ranges of a per-channel codec dominate; the widest model tried needs 90 kB."""


class StoredFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file in the bundle's folder: its name there (no path), size and SHA-256."""

    name: str
    size_bytes: int
    sha256: str


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One slice of the model.

    Attributes:
        role: ``head`` runs on the node, ``tail`` on the edge.
        file: the slice's file.
        format: ``onnx``, ``tflite``, or ``blob`` for a microcontroller's head.
        inputs, outputs: in the order in which tensors are passed, whatever the file's order is.
        hints: backend options by backend name, e.g. ``{"onnxruntime": {"threads": "2"}}``.
    """

    role: Literal["head", "tail"]
    file: StoredFile
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    hints: dict[str, dict[str, str]] = {}


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where two stages meet.

    Attributes:
        partition_point: x in 0..N.
        after: name of the last layer before the cut, "" at x <= 1.
        tensors: the waist, in wire order. Empty at x = N: the wire carries the packed answer.
    """

    partition_point: int
    after: str
    tensors: tuple[WaistTensor, ...]


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A known input with what must come out of it.

    Attributes:
        frame: the input arrays' bytes, concatenated in the order of ``frame_tensors``.
        frame_tensors: shape and type of each (uint8 (H, W, C) for an image task).
        codes: frame ranges, then packed codes before entropy coding, per tensor; empty at x = N.
        answer: the packed answer.
    """

    frame: StoredFile
    frame_tensors: tuple[TensorSpec, ...]
    codes: StoredFile
    answer: StoredFile


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``bundle.json``.

    Attributes:
        schema_version: `SCHEMA_VERSION`.
        model_name, model_sha256: the uncut model.
        partition_points: N of the uncut model.
        stages: in execution order; one or two here (x = 0 and x = 1: tail only; x = N: head only).
        cuts: one between consecutive machines: always one for a node and an edge.
        model_inputs, model_outputs: of the uncut model; of the slices where a head was quantized
            for a microcontroller, int8 and NHWC then.
        preprocess: None: frames are the model's inputs themselves.
        answer: what the last stage's outputs become.
        opsets: of the uncut model.
        golden: for ``waistline verify``.
        created_by: program and version that wrote it.
    """

    schema_version: int
    model_name: str
    model_sha256: str
    partition_points: int
    stages: tuple[Stage, ...]
    cuts: tuple[Cut, ...]
    model_inputs: tuple[TensorSpec, ...]
    model_outputs: tuple[TensorSpec, ...]
    preprocess: Preprocess | None
    answer: AnswerSpec
    opsets: dict[str, int]
    golden: Golden
    created_by: str

"""What an edge is loaded with: a bundle whose tail sleeps, and the frame that any bundle takes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from waistline import __version__, plugins
from waistline.backends.base import Backend, BackendOptions
from waistline.backends.fake import FakeModel, write_fake
from waistline.bundle import golden
from waistline.bundle.schema import SCHEMA_VERSION, Cut, Manifest, Stage
from waistline.bundle.store import Bundle, read_stored
from waistline.bundle.write import stored_file, write_bundle
from waistline.codec.waist import EncodedWaist
from waistline.task.spec import AnswerSpec
from waistline.tensors import TensorSpec, WaistTensor

CODEC = "affine:b=4|zstd:1"
_INPUT = TensorSpec("x", "float32", (1, 64))
_WAIST = TensorSpec("w", "float32", (1, 128, 13, 13), "NCHW", 1)
_ANSWER = TensorSpec("y", "float32", (1, 10))


def sleeping_bundle(path: Path, tail_ms: float) -> Bundle:
    """A bundle whose tail takes ``tail_ms`` and no processor time, as an accelerator's would.

    So what is measured is the edge itself: a tail that computes would contend with the load
    generator for the same cores.
    """

    def build(folder: Path) -> Manifest:
        write_fake(folder / "head.fake", FakeModel((_INPUT,), (_WAIST,)))
        write_fake(folder / "tail.fake", FakeModel((_WAIST,), (_ANSWER,), delay_ms=tail_ms))
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            model_name=f"sleeping {tail_ms:g} ms",
            model_sha256="0" * 64,
            partition_points=3,
            stages=(
                Stage("head", stored_file(folder, "head.fake"), "fake", (_INPUT,), (_WAIST,)),
                Stage("tail", stored_file(folder, "tail.fake"), "fake", (_WAIST,), (_ANSWER,)),
            ),
            cuts=(Cut(2, "head", (WaistTensor(_WAIST, CODEC),)),),
            model_inputs=(_INPUT,),
            model_outputs=(_ANSWER,),
            preprocess=None,
            answer=AnswerSpec("tensors", {"outputs": [msgspec.to_builtins(_ANSWER)]}),
            opsets={},
            golden=golden.EMPTY,
            created_by=f"waistline {__version__} bench edge",
        )
        options = BackendOptions(extra={"delay_ms": "0"})
        backend: Backend = plugins.load("waistline.backends", "fake").open_backend(options)
        frame = golden.invented_frame((_INPUT,), None)
        made = golden.write_golden(folder, Bundle(folder, manifest, "0" * 64), backend, frame)
        return msgspec.structs.replace(manifest, golden=made)

    return write_bundle(path, build)


def golden_waist(bundle: Bundle) -> EncodedWaist:
    """The bundle's golden frame as a node sends it; no engine is needed for that.

    Raises:
        BundleError: a golden file was changed.
        CodecError: the golden codes do not decode.
    """
    parts = bundle.manifest.golden
    codec = bundle.waist_codec()
    if codec is None:
        answer = read_stored(bundle.path, parts.answer)
        return EncodedWaist(answer, len(answer))
    return codec.encode(codec.decode_codes(read_stored(bundle.path, parts.codes)))

"""The ends of a bundle on a far machine: `waistline.verification.ends.Ends` over a pipe."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import numpy as np

from waistline import errors
from waistline.bundle.golden import frame_to_bytes
from waistline.bundle.schema import MANIFEST, StoredFile
from waistline.bundle.store import Bundle
from waistline.errors import BadFrame, BundleError, ConfigError, LinkTimeout, WaistlineError
from waistline.frame import SensorFrame
from waistline.verification import pipe
from waistline.verification.ends import EndChoice, HeadRun, Place
from waistline.verification.pipe import Kind
from waistline_hostctl.far_process import FarProcess

_RAISED = (
    errors.ConfigError, errors.MissingExtra, errors.BundleError, errors.BackendError,
    errors.CodecError, errors.NonFinite, errors.BadFrame, errors.VersionMismatch,
)  # fmt: skip
"""What the far side may raise here; anything else arrives as the root class."""


_BYE_S = 5.0
_MAX_TEXT = 2000
"""Characters of each part of such an error."""


class FarEnds:
    """Ends at the other side of a pipe.

    Args:
        bundle: a checked bundle.
        command: leads there; it must end in ``python3 -m waistline_node.probe``.
        head, tail: what is to run them there; None: that end is not opened.
        path: where the bundle lies there already; "" sends it.
        timeout_s: longest silence, longest time for one run, and for a message to begin.

    Attributes:
        hello: what the far side says of itself.

    Raises:
        LinkError: the command leads nowhere, or the far side ended or fell silent.
        WireError: it says what the conversation does not allow.
        WaistlineError: what the far side raised when it opened the ends.
    """

    def __init__(
        self,
        bundle: Bundle,
        command: str,
        *,
        head: EndChoice | None,
        tail: EndChoice | None,
        path: str = "",
        timeout_s: float = 60.0,
    ) -> None:
        self._bundle = bundle
        self._process = FarProcess(command, timeout_s)
        try:
            self._process.skip_noise()
            self.hello = pipe.decode(self._next(Kind.HELLO), pipe.Hello)
            self._open(head, tail, path)
            place = pipe.decode(self._next(Kind.OPENED), pipe.Opened).place
        except BaseException:
            self._process.close()
            raise
        self.place: Place = msgspec.structs.replace(place, name=command)

    @property
    def noise(self) -> str:
        """What the way there printed before the conversation."""
        return self._process.noise.decode(errors="replace").strip()

    def _open(self, head: EndChoice | None, tail: EndChoice | None, path: str) -> None:
        files = () if path else _files(self._bundle)
        total = sum(file.size_bytes for file in files)
        if total > self.hello.max_bytes:
            raise ConfigError(
                "the bundle is larger than the far side takes",
                cause=f"it has {total} bytes, {self.hello.max_bytes} are allowed",
                fix="add --max-mb to the far side's command, or copy it and give --via-bundle PATH",
            )
        self._process.expect(total + pipe.MAX_JSON_BYTES)
        asked = pipe.Open(self._bundle.id, files, path, head, tail)
        if not self._process.write(pipe.message(Kind.OPEN, asked)):
            return
        for file in files:
            data = (
                _read(self._bundle.path / MANIFEST, file)
                if file.name == MANIFEST
                else self._bundle.read(file)
            )
            for chunk in pipe.chunks((data,)):
                # What it has to say about stopping is read next.
                if not self._process.write(chunk):
                    return

    def run_head(self, frame: SensorFrame) -> HeadRun:
        result, data = self._run("head", frame_to_bytes(frame))
        codes_end = result.codes_bytes
        values_end = codes_end + result.values_bytes
        values, offset = [], codes_end
        for waist in self._bundle.cut.tensors:
            spec = waist.tensor
            stored = np.frombuffer(data, spec.numpy_dtype.newbyteorder("<"), spec.elements, offset)
            values.append(stored.astype(spec.numpy_dtype).reshape(spec.shape))
            offset += spec.size_bytes
        return HeadRun(data[:codes_end], tuple(values), data[values_end:])

    def run_tail(self, codes: bytes) -> bytes:
        return self._run("tail", codes)[1]

    def _run(self, role: str, data: bytes) -> tuple[pipe.Result, bytes]:
        self._send_run(role, data)
        result = pipe.decode(self._next(Kind.RESULT), pipe.Result)
        self._check(role, result)
        total = result.codes_bytes + result.values_bytes + result.answer_bytes
        self._process.expect(total)
        return result, b"".join(pipe.read_chunks(self._process.read, total))

    def _send_run(self, role: str, data: bytes) -> None:
        self._process.expect(len(data) + pipe.MAX_JSON_BYTES)
        if self._process.write(pipe.message(Kind.RUN, pipe.Run(role, len(data)))):
            for chunk in pipe.chunks((data,)):
                if not self._process.write(chunk):
                    return

    def _check(self, role: str, result: pipe.Result) -> None:
        """Refuse sizes that this bundle cannot have, before anything is read."""
        bundle = self._bundle
        waist = bundle.cut.tensors
        sends_answer = (role == "tail") == bool(waist)
        allowed = (
            bundle.manifest.golden.codes.size_bytes if role == "head" else 0,
            sum(item.tensor.size_bytes for item in waist) if role == "head" else 0,
        )
        answer_limit = bundle.answer_kind.max_bytes if sends_answer else 0
        sound = (result.codes_bytes, result.values_bytes) == allowed
        if not sound or not 0 <= result.answer_bytes <= answer_limit:
            raise BadFrame(
                "the far side's result has sizes that this bundle cannot have",
                cause=f"{result.codes_bytes}, {result.values_bytes}, {result.answer_bytes} bytes; "
                f"due are {allowed[0]}, {allowed[1]} and at most {answer_limit}",
                fix="install the same release of waistline on both machines",
            )

    def _next(self, kind: Kind) -> bytes:
        """The payload of the far side's next frame, or what it raised."""
        self._process.expect(pipe.MAX_JSON_BYTES)
        found, payload = pipe.read_frame(self._process.read, (kind, Kind.ERROR))
        if found is Kind.ERROR:
            raise _raised(pipe.decode(payload, pipe.Failure))
        return payload

    def close(self) -> None:
        try:
            # Who no longer listens is not waited for, and what went wrong before is what counts.
            with contextlib.suppress(LinkTimeout):
                self._process.expect(0, timeout_s=_BYE_S)
                self._process.write(pipe.frame(Kind.BYE))
        finally:
            self._process.close()

    def __enter__(self) -> FarEnds:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _raised(failure: pipe.Failure) -> WaistlineError:
    kind = next((kind for kind in _RAISED if kind.__name__ == failure.kind), WaistlineError)
    what, cause, fix = (text[:_MAX_TEXT] for text in (failure.what, failure.cause, failure.fix))
    fix = fix and f"at the far side: {fix}"
    return kind(f"at the far side: {what}", cause=cause, fix=fix)


def _files(bundle: Bundle) -> tuple[StoredFile, ...]:
    """The manifest, whose hash is the bundle's id, then what it lists."""
    manifest = bundle.manifest
    size_bytes = (bundle.path / MANIFEST).stat().st_size
    golden = manifest.golden
    listed = (*(stage.file for stage in manifest.stages), golden.frame, golden.codes, golden.answer)
    return (StoredFile(MANIFEST, size_bytes, bundle.id), *listed)


def _read(path: Path, file: StoredFile) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(file.size_bytes + 1)
    if len(data) != file.size_bytes:
        raise BundleError(f"{path} changed while it was sent", fix="run the same command again")
    return data

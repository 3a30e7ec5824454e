from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from small_models import write_classifier, write_task

from waistline.bundle import store, write
from waistline.bundle.schema import EVIDENCE, MANIFEST, MAX_MANIFEST_BYTES
from waistline.errors import BundleError, ConfigError, WaistlineError
from waistline.split import split


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    model, task = write_classifier(folder), write_task(folder)
    return split(model, "b", folder / "small.bundle", task=task).path


@pytest.fixture
def path(original, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "small.bundle"))


def edit(path: Path, change) -> None:
    """Change the manifest as JSON and store it again."""
    content = json.loads((path / MANIFEST).read_bytes())
    change(content)
    (path / MANIFEST).write_text(json.dumps(content))


def test_a_bundle_says_what_it_is(path):
    bundle = store.load_bundle(path)
    assert len(bundle.id) == 64
    assert bundle.short_id.to_bytes(4, "little").hex() == bundle.id[:8]
    assert bundle.manifest.model_name == "small"
    assert bundle.manifest.partition_points == 7
    assert bundle.cut.partition_point == 3
    assert [item.tensor.name for item in bundle.cut.tensors] == ["b"]
    assert bundle.slice_path(bundle.head).name == "head.onnx"
    assert bundle.slice_path(bundle.tail).name == "tail.onnx"
    assert bundle.waist_codec().raw_len == 4 * 64 // 2
    assert bundle.answer_kind.max_bytes == 2 + 2 * 8


def test_the_manifest_is_stored_in_one_canonical_form(path):
    bundle = store.load_bundle(path)
    assert write.encode_manifest(bundle.manifest) == (path / MANIFEST).read_bytes()


def test_every_byte_of_every_file_counts(path):
    for file in sorted(path.iterdir()):
        if file.name == MANIFEST:
            continue
        whole = file.read_bytes()
        changed = bytearray(whole)
        changed[len(changed) // 2] ^= 1
        file.write_bytes(changed)
        with pytest.raises(BundleError, match="edited after the bundle was written") as caught:
            store.load_bundle(path)
        assert file.name in caught.value.what
        assert caught.value.cause.count("..") == 2
        assert "waistline split" in caught.value.fix
        file.write_bytes(whole + b"\x00")
        with pytest.raises(BundleError, match=f"{len(whole) + 1} bytes"):
            store.load_bundle(path)
        file.unlink()
        with pytest.raises(BundleError, match=f"lacks its file {file.name}"):
            store.load_bundle(path)
        file.write_bytes(whole)
    store.load_bundle(path)


def test_a_file_changed_after_loading_is_noticed_when_read(path):
    bundle = store.load_bundle(path)
    golden = bundle.manifest.golden.codes
    (path / golden.name).write_bytes(bytes(golden.size_bytes))
    with pytest.raises(BundleError, match="edited"):
        bundle.read(golden)


def test_what_a_killed_writer_of_evidence_left_does_not_spoil_the_bundle(path):
    (path / f".{EVIDENCE}.k3j2").write_text("{")
    assert store.load_bundle(path).read_evidence() == {}


@pytest.mark.parametrize("name", ["weights.bin", ".hidden", "folder"])
def test_a_file_that_the_id_does_not_cover_is_refused(path, name):
    """A slice made by hand could name it as the home of its weights."""
    (path / EVIDENCE).write_text("{}")
    store.load_bundle(path)
    if name == "folder":
        (path / name).mkdir()
    else:
        (path / name).write_bytes(b"weights")
    with pytest.raises(BundleError, match="does not belong to the bundle") as caught:
        store.load_bundle(path)
    assert name in caught.value.what


def test_an_edited_manifest_is_another_bundle(path):
    before = store.load_bundle(path).id
    edit(path, lambda manifest: manifest.update(model_name="other"))
    assert store.load_bundle(path).id != before


@pytest.mark.parametrize(
    "name",
    [
        *("../head.onnx", "/etc/hostname", "a/b", "a\\b", "..", ".", "", "a\x00b"),
        *("x" * 200, "bundle.json", "evidence.json"),
    ],
)
def test_a_file_name_that_leaves_the_folder_is_refused(path, name):
    edit(path, lambda manifest: manifest["stages"][0]["file"].update(name=name))
    with pytest.raises(BundleError, match="plain file name"):
        store.load_bundle(path)


def test_links_are_refused(path):
    outside = path.parent / "outside"
    outside.write_bytes((path / "head.onnx").read_bytes())
    (path / "head.onnx").unlink()
    (path / "head.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="not a regular file"):
        store.load_bundle(path)


@pytest.mark.parametrize("name", [MANIFEST, "golden.codes"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_refused_without_waiting_for_it(path, name, kind):
    content = (path / name).read_bytes()
    (path / name).unlink()
    if kind == "link":
        (path.parent / "outside").write_bytes(content)
        (path / name).symlink_to("../outside")
    elif kind == "pipe":
        os.mkfifo(path / name)
    else:
        (path / name).mkdir()
    with pytest.raises(BundleError, match="not a regular file"):
        store.load_bundle(path)


def test_a_file_swapped_for_a_link_after_loading_is_not_read(path):
    bundle = store.load_bundle(path)
    codes = path / bundle.manifest.golden.codes.name
    codes.rename(path.parent / "outside")
    codes.symlink_to("../outside")
    with pytest.raises(BundleError, match="not a regular file"):
        bundle.read(bundle.manifest.golden.codes)


def first_waist(manifest):
    return manifest["cuts"][0]["tensors"][0]


def set_shape(manifest, shape):
    first_waist(manifest)["tensor"]["shape"] = shape


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda m: set_shape(m, [1, 1 << 40, 8, 8]), "limit"),
        (lambda m: set_shape(m, [1, -4, 8, 8]), "axis below 1"),
        (lambda m: set_shape(m, [1 << 200]), "limit"),
        (lambda m: set_shape(m, [1, 4, 8, 9]), "another type or shape"),
        (lambda m: first_waist(m)["tensor"].update(dtype="object"), "object"),
        (lambda m: first_waist(m)["tensor"].update(channel_axis=7), "channel axis"),
        (lambda m: first_waist(m).update(codec="lzw|none"), "lzw"),
        (lambda m: first_waist(m).update(codec="affine:b=4|none"), "ranges"),
        (lambda m: first_waist(m).update(codec="affine:clip=mse,b=4|none"), "canonical"),
        (lambda m: first_waist(m).update(codec="png"), "image codec"),
        (lambda m: first_waist(m)["ranges"].update(lo=[0.0]), "ranges for 4 channels"),
        (lambda m: first_waist(m)["ranges"].update(lo=[1e9] * 4), "empty or not finite"),
        (lambda m: first_waist(m)["tensor"].update(name="z"), "nothing makes tensor"),
        (lambda m: m["cuts"][0].update(partition_point=9), "partition point"),
        (lambda m: m["cuts"][0].update(partition_point=7), "stages"),
        (lambda m: m["cuts"][0].update(tensors=[]), "no waist tensor"),
        (lambda m: m["cuts"].append(m["cuts"][0]), "2 cuts"),
        (lambda m: m["cuts"].clear(), "0 cuts"),
        (lambda m: m["stages"].reverse(), "stages"),
        (lambda m: m["stages"].clear(), "0 stages"),
        (lambda m: m["stages"][1]["inputs"].clear(), "no in- or output"),
        (lambda m: m["stages"][0]["file"].update(size_bytes=1 << 60), "limit"),
        (lambda m: m["stages"][0]["file"].update(size_bytes=-1), "claims -1"),
        (lambda m: m["stages"][0]["file"].update(sha256="0"), "SHA-256"),
        (lambda m: m["stages"][0].update(file=m["stages"][1]["file"]), "share one file"),
        (lambda m: m["golden"]["frame_tensors"][0].update(shape=[8, 9, 1]), "golden frame"),
        (lambda m: m["golden"]["answer"].update(size_bytes=1 << 20), "golden answer"),
        (lambda m: m["golden"]["frame"].update(size_bytes=63), "has 63 bytes, its tensors have 64"),
        (lambda m: m["golden"]["codes"].update(size_bytes=9), "9 bytes, the codecs of this cut"),
        (lambda m: m["preprocess"].update(size=[9, 9]), "resize"),
        (lambda m: m["preprocess"].update(color="rgb"), "the model takes"),
        (lambda m: m["answer"].update(kind="eval"), "eval"),
        (lambda m: m["answer"]["options"].update(top_k=-1), "top_k"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: first_waist(m).update(surprise=1), "surprise"),
        (lambda m: first_waist(m)["tensor"].update(surprise=1), "surprise"),
        (lambda m: first_waist(m)["ranges"].update(hi=[1e300] * 4), "not finite in float32"),
        (lambda m: m.pop("stages"), "stages"),
        (lambda m: m.update(schema_version=2), "schema version is 2"),
        (lambda m: m.update(schema_version="1"), "schema_version"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_true_is_refused(path, change, fact):
    edit(path, change)
    with pytest.raises(BundleError) as caught:
        store.load_bundle(path)
    assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "size_bytes"),
    [("affine:b=4,", "affine:b=8,", 256), ("affine:b=4,", "affine:b=1,", 32)],
)
def test_another_codec_than_the_golden_codes_were_made_with(path, old, new, size_bytes):
    manifest = path / MANIFEST
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(BundleError) as caught:
        store.load_bundle(path)
    assert f"golden.codes has 128 bytes, the codecs of this cut make {size_bytes}" in str(
        caught.value
    )
    assert "bundle.json was changed" in caught.value.cause


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_a_damaged_manifest(path, content):
    (path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        store.load_bundle(path)


def test_a_giant_manifest_is_not_read(path):
    with (path / MANIFEST).open("wb") as stream:
        stream.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(BundleError, match="too large"):
        store.load_bundle(path)


def test_what_is_no_bundle(tmp_path):
    for target in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleError, match="not a bundle"):
            store.load_bundle(target)


def test_an_existing_target_is_kept_unless_forced(path, original):
    bundle = store.load_bundle(original)

    def build(folder: Path):
        for file in original.iterdir():
            if file.name != MANIFEST:
                shutil.copy(file, folder)
        return msgspec.structs.replace(bundle.manifest, model_name="second")

    before = store.load_bundle(path).id
    with pytest.raises(ConfigError, match="exists") as caught:
        write.write_bundle(path, build)
    assert "--force" in caught.value.fix
    assert store.load_bundle(path).id == before
    second = write.write_bundle(path, build, force=True)
    assert second.manifest.model_name == "second"
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_force_replaces_bundles_only(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "keep.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not a bundle"):
        write.write_bundle(tmp_path / "letters", lambda folder: None, force=True)
    assert (tmp_path / "letters" / "keep.txt").read_text() == "dear"


@pytest.mark.parametrize("force", [False, True])
def test_what_came_to_its_place_meanwhile_stays(path, tmp_path, force):
    source, target = store.load_bundle(path), tmp_path / "second.bundle"

    def build(folder):
        for file in path.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        target.mkdir()
        (target / "keep.txt").write_text("dear")
        return source.manifest

    with pytest.raises(ConfigError, match="exists"):
        write.write_bundle(target, build, force=force)
    assert (target / "keep.txt").read_text() == "dear"
    assert not [item.name for item in tmp_path.iterdir() if item.name.startswith(".")]


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "where",
    [
        "waistline.bundle.write._sync",
        "waistline.bundle.write._write_synced",
        "waistline.bundle.golden.write_stored",
        "pathlib.Path.write_bytes",
        "pathlib.Path.rename",
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, where, there):
    model = write_classifier(tmp_path)
    out = tmp_path / "out" / "small.bundle"
    before = split(model, 3, out).id if there else None
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        with pytest.raises(WaistlineError, match="No space left") as caught:
            split(model, 4, out, force=True)
    assert str(out) in caught.value.what
    left = [item.name for item in out.parent.iterdir()] if out.parent.exists() else []
    assert left == (["small.bundle"] if there else [])
    if there:
        assert store.load_bundle(out).id == before


def test_a_name_no_file_system_takes_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="could not be written"):
        write.write_bundle(tmp_path / ("x" * 300), lambda folder: None)


def test_evidence_on_a_full_disk_keeps_what_was_there(path, monkeypatch):
    bundle = store.load_bundle(path)
    bundle.write_evidence({"first": 1})
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ConfigError, match="No space left"):
            bundle.write_evidence({"second": 2})
    assert bundle.read_evidence() == {"first": 1}
    assert not [item.name for item in path.iterdir() if item.name.startswith(".")]


def test_evidence_lies_beside_and_changes_no_id(path):
    bundle = store.load_bundle(path)
    assert bundle.read_evidence() == {}
    bundle.write_evidence({"accuracy": {"value": 0.9, "unit": "1"}})
    assert bundle.read_evidence() == {"accuracy": {"value": 0.9, "unit": "1"}}
    assert store.load_bundle(path).id == bundle.id
    (path / EVIDENCE).write_text("{")
    with pytest.raises(BundleError, match="not readable"):
        bundle.read_evidence()

"""Folders of work in progress: what a killed maker leaves is gone at the next try."""

from __future__ import annotations

import subprocess
import sys

from waistline.workfolder import work_folder

MAKER = """
import sys, time
from pathlib import Path
from waistline.workfolder import work_folder
with work_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("made")
    print(folder, flush=True)
    sys.stdin.read()
"""


def maker(target):
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(target)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_is_gone_in_the_end_or_has_become_the_target(tmp_path):
    with work_folder(tmp_path / "deep" / "a") as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path / "deep"
    assert names(tmp_path / "deep") == []
    with work_folder(tmp_path / "a") as folder:
        folder.rename(tmp_path / "a")
    assert names(tmp_path) == ["a", "deep"]


def test_what_a_killed_maker_left_goes_and_what_a_living_one_has_stays(tmp_path):
    target = tmp_path / "m.bundle"
    killed, living = maker(target), maker(target)
    left, kept = (one.stdout.readline().strip() for one in (killed, living))
    killed.kill()
    killed.communicate()
    other = tmp_path / ".n.bundle.abc.making"
    old = tmp_path / ".m.bundle.old.abc"
    for folder in (other, old):
        folder.mkdir()
    assert (tmp_path / left / "half").exists()
    with work_folder(target) as own:
        assert names(tmp_path) == sorted([own.name, kept.rpartition("/")[2], other.name, old.name])
    living.communicate("")
    assert living.returncode == 0
    assert names(tmp_path) == sorted([other.name, old.name])


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "dear").mkdir()
    (tmp_path / "dear" / "file").write_text("x")
    (tmp_path / ".a.b.making").symlink_to(tmp_path / "dear")
    with work_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "dear" / "file").exists()

"""Folders of work in progress: what a killed maker leaves is gone at the next try."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

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


def left_by_a_kill(target):
    """A folder as a killed maker leaves it."""
    with work_folder(target) as folder:
        pass
    folder.mkdir()
    return folder


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "dear").mkdir()
    (tmp_path / "dear" / "file").write_text("x")
    place = left_by_a_kill(tmp_path / "a")
    place.rmdir()
    place.symlink_to(tmp_path / "dear")
    with work_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "dear" / "file").exists()


def test_what_another_machine_makes_in_a_shared_folder_stays(tmp_path, monkeypatch):
    left = left_by_a_kill(tmp_path / "a")
    here = os.uname()
    with monkeypatch.context() as elsewhere:
        there = os.uname_result((here.sysname, here.nodename + "2", *here[2:]))
        elsewhere.setattr(os, "uname", lambda: there)
        with work_folder(tmp_path / "a"):
            assert left.exists()
    with work_folder(tmp_path / "a"):
        assert not left.exists()


@pytest.mark.parametrize("finished", [True, False], ids=["swept", "being swept"])
def test_one_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch, finished):
    make, swept, held = tempfile.mkdtemp, [], []

    def made(**options):
        folder = make(**options)
        if not swept:
            swept.append(folder)
            if finished:
                with work_folder(tmp_path / "a"):
                    assert not Path(folder).exists()
            else:
                held.append(os.open(folder, os.O_RDONLY))
                fcntl.flock(held[0], fcntl.LOCK_EX)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", made)
    with work_folder(tmp_path / "a") as folder:
        (folder / "file").write_text("x")
        assert str(folder) != swept[0]
    for handle in held:
        os.close(handle)


def test_where_nothing_can_be_locked_nothing_is_swept(tmp_path, monkeypatch):
    left = left_by_a_kill(tmp_path / "a")

    def refused(handle, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refused)
    with work_folder(tmp_path / "a") as folder:
        assert folder.is_dir()
        assert left.is_dir()
    assert not folder.exists()


def test_a_folder_that_cannot_be_listed_takes_one_all_the_same(tmp_path, monkeypatch):
    def refused(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", refused)
    with work_folder(tmp_path / "a") as folder:
        assert folder.is_dir()

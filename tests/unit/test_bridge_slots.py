"""Updates of the head that are cut short: the old one or the new one, never neither."""

from __future__ import annotations

import subprocess

import pytest
from bridge_help import check_program, host_program, needs_compiler, payload_of, small_head

from waistline.errors import BridgeError, LinkClosed
from waistline_bridge.boards import open_board
from waistline_bridge.client import Client

pytestmark = needs_compiler


@pytest.mark.parametrize(
    ("page", "chunk", "unit"), [(256, 128, 4), (1024, 512, 8), (2048, 1016, 4)]
)
def test_every_cut_of_an_update_leaves_old_or_new(tmp_path, page, chunk, unit):
    for name, seed, filler in (("old", 1, 0), ("new", 2, 333)):
        (tmp_path / name).write_bytes(small_head(seed=seed, filler=filler)[0].bytes())
    command = [check_program("slots"), tmp_path / "old", tmp_path / "new"]
    done = subprocess.run(
        [*map(str, command), str(page), str(chunk), str(unit)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    operations, cuts, olds, news = map(int, done.stdout.split())
    assert operations >= 5
    assert cuts > 3 * 1000
    assert olds + news == cuts
    assert news >= 3, "a seal that is whole counts"


def _identity(board):
    client = Client(board.line, deadline_s=20)
    head = client.head()
    return client, None if head is None else int.from_bytes(bytes.fromhex(head.id), "little")


# Of 1 kB chunks: erase, three writes of the blob, the seal.
@pytest.mark.parametrize("cut", ["0:0", "0:2000", "1:1", "2:500", "3:0", "4:0", "4:31", "4:32"])
def test_a_device_that_loses_power_comes_back_with_a_head(tmp_path, cut):
    options = {"firmware": str(host_program()), "flash": str(tmp_path / "slots"), "page": "4096"}
    options |= {"slot": "8192", "arena": "65536"}
    with open_board("host", **options) as board:
        client, _ = _identity(board)
        for seed in (8, 9, 1):
            client.load_blob(small_head(seed=seed)[0].bytes())
    blob, values, codes = small_head(seed=2, filler=1000)
    with open_board("host", **options, cut=cut) as board:
        client = Client(board.line, deadline_s=60)
        assert client.info.sequence == 3
        with pytest.raises(LinkClosed):
            client.load_blob(blob.bytes())
    with open_board("host", **options) as board:
        client, seed = _identity(board)
        assert seed == (2 if cut == "4:32" else 1)
        client.load_blob(blob.bytes())
        client.load_input(values.tobytes())
        assert client.infer().output == payload_of(codes, 4, (6, 4, 5))


def test_two_host_boards_do_not_share_their_slots(tmp_path):
    options = {"firmware": str(host_program()), "flash": str(tmp_path / "slots")}
    with open_board("host", **options) as board:
        client = Client(board.line, deadline_s=20)
        client.reset()
        with pytest.raises(BridgeError, match="cannot hold the slots") as refused:
            open_board("host", **options)
    assert "in use by another board" in refused.value.cause
    assert "flash=FILE" in refused.value.fix
    with open_board("host", **options) as board:
        assert Client(board.line, deadline_s=20).info.board == "host"


def test_slots_that_the_disk_has_no_room_for_are_refused_at_the_start(tmp_path):
    limited = tmp_path / "limited"
    limited.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f 8\nexec {host_program()} \"$@\"\n")
    limited.chmod(0o755)
    flash = tmp_path / "slots"
    with pytest.raises(BridgeError, match="cannot hold the slots") as refused:
        open_board("host", firmware=str(limited), flash=str(flash))
    assert "File too large" in refused.value.cause
    assert "free space" in refused.value.fix
    assert flash.stat().st_size == 0, "nothing that a later start would take for slots"


def test_slots_in_a_file_with_holes_get_their_place_on_the_disk_at_once(tmp_path):
    flash = tmp_path / "slots"
    with flash.open("wb") as file:
        file.truncate(2 * 65536)
    with open_board("host", firmware=str(host_program()), flash=str(flash), slot="65536"):
        assert flash.stat().st_blocks * 512 >= 2 * 65536
    with pytest.raises(BridgeError, match="cannot hold the slots") as refused:
        open_board("host", firmware=str(host_program()), flash=str(flash), slot="32768")
    assert "131072 bytes, two slots are 65536" in refused.value.cause

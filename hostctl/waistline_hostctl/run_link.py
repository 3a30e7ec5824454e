"""What a run must know beforehand: whether its link carries it, and what its tables will need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from waistline.bundle.golden import read_frame
from waistline.bundle.store import Bundle
from waistline.errors import ConfigError
from waistline.files import unwritable
from waistline.links._profiles import profile
from waistline.run import RunFolder
from waistline_edge.options import EdgeOptions
from waistline_hostctl.derive import Settings, pick_metric

HELLO_BYTES = 320
"""A node's greeting, about; what a paced link must carry before the edge gives up."""
BUDGET_FACTOR = 20
BUDGET_S = 5.0


def settings_of(
    bundle: Bundle, labels: Iterable[str], link: str, radios: Sequence[str]
) -> Settings:
    """What computing the tables of a run needs to know; ``labels`` of its frames, as text."""
    plain = Settings(
        answer=bundle.manifest.answer,
        metric="",
        link=link,
        radios=tuple(radios),
        partition_point=bundle.cut.partition_point,
        codec=", ".join(dict.fromkeys(item.codec for item in bundle.cut.tensors)),
    )
    return replace(plain, metric=pick_metric(labels, plain))


def describe_link(profile_id: str) -> str:
    """The paced link in words, "" for loopback."""
    if not profile_id:
        return ""
    found = profile(profile_id)
    return (
        f"emulated {found.name} ({found.id}): {found.rate_up_bps / 1e6:g} Mbit/s up, "
        f"round trip {found.rtt_s * 1e3:g} ms, jitter {found.jitter_s * 1e3:g} ms"
    )


def check_link(profile_id: str) -> None:
    """Refuse a link over which a node cannot greet its edge in time.

    Raises:
        ConfigError: there is no such profile, or it is too slow for a conversation.
    """
    if not profile_id:
        return
    found = profile(profile_id)
    hello_s = found.rtt_s + 2 * found.jitter_s + 8 * HELLO_BYTES / (found.rate_up_bps or 1e9)
    waits_s = EdgeOptions().handshake_s
    if hello_s > waits_s:
        raise ConfigError(
            f"link {profile_id} is too slow to run over",
            cause=f"greeting takes {hello_s:.1f} s, an edge waits {waits_s:g} s",
            fix=f"model its energy beside another link: --radio {profile_id}",
        )


def budget_s(profile_id: str, bundle: Bundle) -> float:
    """Age limit of a frame that a slow link does not run into.

    The default is 5 s; a profile whose largest payload and round trip need more gets more.
    """
    if not profile_id:
        return BUDGET_S
    found, codec = profile(profile_id), bundle.waist_codec()
    largest = codec.max_payload_bytes if codec else bundle.answer_kind.max_bytes
    one_s = found.rtt_s + 2 * found.jitter_s + 8 * largest / (found.rate_up_bps or 1e9)
    return max(BUDGET_S, BUDGET_FACTOR * one_s)


def write_golden(folder: RunFolder, bundle: Bundle) -> Path:
    """The bundle's golden frame as a source of one frame, in the run folder."""
    frame = read_frame(bundle)
    names = [spec.name for spec in bundle.manifest.golden.frame_tensors]
    keys = ["images"] if bundle.manifest.preprocess is not None else names
    target = folder.path / "golden.npz"
    try:
        np.savez(
            target,
            allow_pickle=False,
            **{key: array[np.newaxis] for key, array in zip(keys, frame.arrays, strict=True)},
        )
    except OSError as error:
        raise unwritable(target, error, elsewhere="choose another --runs folder") from error
    return target

"""``waistline.split`` and its like are functions, whatever was imported before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import waistline


@pytest.mark.parametrize(
    "before",
    [
        "",
        "waistline.split, waistline.verify, waistline.load_bundle",
        "import waistline.split, waistline.verify, waistline.bundle.store",
        "from waistline.split import split; from waistline.verify import verify",
    ],
)
def test_functions_are_not_hidden_by_modules_of_their_name(before):
    code = f"""
import types, waistline
{before}
for name in ("split", "verify", "load_bundle"):
    for _ in range(2):
        assert isinstance(getattr(waistline, name), types.FunctionType), name
from waistline import load_bundle, split, verify
from waistline.split import pick_default_cut
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_loaded_when_used_is_listed_before():
    code = "import waistline; assert {'split', 'verify', 'load_bundle'} <= set(dir(waistline))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="capture"):
        waistline.capture  # noqa: B018

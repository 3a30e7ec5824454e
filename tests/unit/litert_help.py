"""What the tests of LiteRT's backend share."""

from __future__ import annotations

import pytest

from waistline.backends.base import BackendOptions
from waistline.errors import BackendError

made = pytest.importorskip("tflite_help", reason="the models are made by LiteRT's schema")
litert = pytest.importorskip("waistline.backends.litert", reason="needs a TFLite runtime")


def writer(folder):
    """Writes bytes as a model in ``folder`` and gives its path."""

    def write(data, name="model.tflite"):
        path = folder / name
        path.write_bytes(data)
        return path

    return write


def open_model(path, **options):
    return litert.open_backend(BackendOptions(**options)).open(path)


def conv_net(**options):
    net = made.Net(**options)
    return net.finish(net.conv(net.input([1, 6, 6, 3]), 4, name="y"))


def refused(path, **options):
    with pytest.raises(BackendError) as caught:
        open_model(path, **options)
    assert caught.value.fix
    return caught.value

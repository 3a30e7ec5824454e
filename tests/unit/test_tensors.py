import numpy as np
import pytest

from waistline.errors import BundleError
from waistline.tensors import TensorSpec, check_spec, dequantize, quantize


def test_sizes_follow_from_shape_and_type():
    spec = TensorSpec("t", "float32", (1, 16, 7, 7), "NCHW", 1)
    assert (spec.elements, spec.size_bytes, spec.channels) == (784, 3136, 16)
    scalar = TensorSpec("s", "int64", ())
    assert (scalar.elements, scalar.size_bytes, scalar.channels) == (1, 8, 1)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dtype": "object"}, "object"),
        ({"shape": (1, -1)}, "axis below 1"),
        ({"shape": (1, 0)}, "axis below 1"),
        ({"shape": (1 << 31, 1 << 31)}, "over the limit"),
        ({"shape": (1,) * 9}, "axes"),
        ({"channel_axis": 3}, "channel axis 3"),
        ({"channel_axis": -1}, "channel axis -1"),
    ],
)
def test_dishonest_numbers_are_refused_by_name(change, word):
    fields = {"name": "waist", "dtype": "float32", "shape": (1, 2, 3), **change}
    with pytest.raises(BundleError) as caught:
        check_spec(TensorSpec(**fields))
    assert "'waist'" in caught.value.what
    assert word in caught.value.cause


def test_a_scale_at_the_end_of_float32_is_infinite_without_a_warning():
    spec = TensorSpec("q", "int8", (3,), scale=1e38, zero_point=0)
    values = dequantize(spec, np.array([-128, 0, 127], np.int8))
    assert values.tolist() == [-np.inf, 0, np.inf]
    tiny = TensorSpec("q", "int8", (2,), scale=1.2e-38, zero_point=0)
    assert quantize(tiny, np.array([-3e38, 3e38], np.float32)).tolist() == [-128, 127]

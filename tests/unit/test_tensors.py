import pytest

from waistline.errors import BundleError
from waistline.tensors import TensorSpec, check_spec


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

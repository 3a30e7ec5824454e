import inspect

import pytest

from waistline import errors
from waistline.errors import LinkTimeout, MissingExtra, NoFeasibleCut, WaistlineError


def _all_errors():
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, WaistlineError)
    ]


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_speaks_in_three_lines_and_has_a_documented_exit_code(kind):
    error = kind("it broke", cause="saw 3 of 4", fix="waistline doctor")
    assert error.lines() == ["error: it broke", "cause: saw 3 of 4", "fix:   waistline doctor"]
    assert str(error) == "it broke; saw 3 of 4"
    assert kind.exit_code in {1, 2, 3, 4, 5, 6}
    assert kind is WaistlineError or kind.exit_code != 1


def test_lines_leave_out_what_is_not_known():
    assert WaistlineError("it broke").lines() == ["error: it broke"]


def test_errors_can_be_caught_as_the_builtin_they_specialise():
    assert issubclass(MissingExtra, ImportError)
    assert issubclass(LinkTimeout, TimeoutError)
    assert NoFeasibleCut.exit_code == 6

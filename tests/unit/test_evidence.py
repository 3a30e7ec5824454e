import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waistline.evidence import Evidence, Figure, mean, observed, total, weakest

figures = st.builds(
    Figure,
    value=st.floats(-1e6, 1e6),
    unit=st.just("J"),
    evidence=st.sampled_from(Evidence),
    source=st.sampled_from(["meter", "model", "data sheet"]),
    standard_uncertainty=st.none() | st.floats(0, 1e3),
    n=st.integers(1, 100),
)


def test_grades_are_ordered_strongest_first():
    assert " ".join(Evidence) == (
        "metered counter measured replayed emulated modelled simulated published"
    )


@given(st.lists(figures, min_size=1, max_size=6))
def test_a_sum_takes_its_weakest_grade_and_never_hides_an_unknown_uncertainty(rows):
    result = total(rows)
    assert result.value == pytest.approx(math.fsum(row.value for row in rows))
    assert result.evidence == weakest(row.evidence for row in rows)
    assert all(
        list(Evidence).index(r.evidence) <= list(Evidence).index(result.evidence) for r in rows
    )
    assert (result.standard_uncertainty is None) == any(
        row.standard_uncertainty is None for row in rows
    )
    assert result.n == min(row.n for row in rows)


def test_a_simulated_joule_spoils_a_metered_sum():
    metered = Figure(1.0, "J", Evidence.METERED, "JS220", 0.03)
    simulated = Figure(2.0, "J", Evidence.SIMULATED, "twin", 0.04)
    result = total([metered, simulated])
    assert result.evidence is Evidence.SIMULATED
    assert result.standard_uncertainty == pytest.approx(0.05)
    assert result.source == "JS220 + twin"


@pytest.mark.parametrize("rows", [[], ["J", "s"]])
def test_a_sum_needs_one_unit(rows):
    with pytest.raises(ValueError, match="one unit"):
        total(Figure(1.0, unit, Evidence.MEASURED, "clock") for unit in rows)


def test_scaling_keeps_grade_and_scales_the_uncertainty():
    figure = Figure(2.0, "J", Evidence.MODELLED, "formula", 0.5, n=3).scaled(-1e3, "mJ")
    assert figure == Figure(-2000.0, "mJ", Evidence.MODELLED, "formula", 500.0, n=3)


def test_a_mean_knows_its_uncertainty_from_two_observations_on():
    assert mean([3]) == (3.0, None)
    assert mean([1.0, 3.0]) == (2.0, pytest.approx(1.0))
    assert mean([7.0] * 5) == (7.0, 0.0)


@pytest.mark.parametrize(
    ("unit", "emulated", "grade"),
    [
        ("byte", True, Evidence.MEASURED),
        ("byte", False, Evidence.MEASURED),
        ("s", True, Evidence.EMULATED),
        ("s", False, Evidence.MEASURED),
        ("instruction", True, Evidence.EMULATED),
    ],
)
def test_an_emulator_changes_times_and_not_the_number_of_bytes(unit, emulated, grade):
    assert observed(unit, emulated=emulated) is grade

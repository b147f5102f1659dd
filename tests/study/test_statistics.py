"""Curves are compared as is said, and intervals are as wide as they must be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from study.statistics import Array, curve_gap, interval_over_subjects, student_quantile, verdict


def test_the_gap_between_curves_by_hand() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0]])  # a straight line, obedience = 1 - likeness
    above = np.array([[0.25, 0.85], [0.5, 0.6]])
    assert curve_gap(above, reference) == pytest.approx(0.1)
    assert curve_gap(reference, reference) == 0.0
    out_of_reach = np.array([[0.5, 0.2], [-0.5, 9.0]])
    assert curve_gap(out_of_reach, reference) == pytest.approx(-0.3)
    just_beyond = np.array([[1.04, 0.25]])
    assert curve_gap(just_beyond, reference) == pytest.approx(0.25)  # its last point counts
    assert np.isnan(curve_gap(just_beyond, reference, reach=0.0))
    assert np.isnan(curve_gap(np.array([[-1.0, 2.0], [1.06, 2.0]]), reference))


def test_the_interval_of_a_mean_is_student_s_by_hand() -> None:
    found = interval_over_subjects(np.array([1.0, 2.0, 3.0, 6.0]))  # deviation √(14/3), of the mean √(7/6), t 3.18245
    assert found == pytest.approx((3.0, 3 - 3.18245 * math.sqrt(7 / 6), 3 + 3.18245 * math.sqrt(7 / 6)), abs=1e-4)
    assert interval_over_subjects(np.full(5, 2.0)) == (2.0, 2.0, 2.0)
    assert interval_over_subjects(np.array([2.0])) == (2.0, -math.inf, math.inf)


def test_the_interval_of_a_curve_s_gap_leaves_each_subject_out_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])

    def squared(mean: Array) -> float:
        return float(mean**2)

    found, low, high = interval_over_subjects(values, squared)
    without = np.array([11 / 3, 10 / 3, 3.0, 2.0]) ** 2  # squared means of the other three
    error = math.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum())
    assert (found, high - found, found - low) == pytest.approx((9.0, 3.18245 * error, 3.18245 * error), abs=1e-3)
    beyond = interval_over_subjects(values, lambda mean: float(mean) if mean > 2.5 else float("nan"))
    assert beyond == (3.0, -math.inf, math.inf), "without the last subject there is nothing to compare"


def test_where_there_is_no_difference_one_in_twenty_studies_says_that_there_is() -> None:
    rng, studies = np.random.default_rng(0), 4000
    values = rng.normal(0, 0.05, (studies, 8, 1)) + rng.normal(0, 0.05, (studies, 8, 3))
    told = [verdict(*interval_over_subjects(of_study.mean(axis=1))[1:]) for of_study in values]
    assert np.mean([one != "not told apart" for one in told]) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(
    ("probability", "degrees", "quantile"),
    [
        *((0.975, 1, 12.70620), (0.975, 2, 4.302653), (0.975, 3, 3.182446), (0.975, 4, 2.776445), (0.975, 5, 2.570582)),
        *((0.975, 7, 2.364624), (0.975, 11, 2.200985), (0.975, 30, 2.042272), (0.975, 1000, 1.962339)),
        *((0.8, 1, 1.376382), (0.8, 7, 0.896030), (0.5, 3, 0.0), (0.025, 2, -4.302653), (0.05, 7, -1.894579)),
    ],
)
def test_student_s_quantiles_are_those_of_the_tables(probability: float, degrees: int, quantile: float) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(quantile, abs=2e-5)


@pytest.mark.parametrize(("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_student_s_quantiles_are_asked_for_in_their_range(probability: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="give a probability between 0 and 1 and at least one degree"):
        student_quantile(probability, degrees)


def test_a_verdict_needs_the_whole_interval_on_one_side() -> None:
    assert [verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.1)] == ["above", "below", "not told apart"]

"""What a plan can see, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from study.plan import CORE
from study.power import (
    Deviations,
    Size,
    detectable,
    scatter_of,
    size_of,
    standard_error,
    subjects_needed,
)


def test_the_size_of_the_core_plan() -> None:
    assert size_of(CORE) == Size(subjects=12, trainings=2, pictures=12)


def test_the_standard_error_by_hand() -> None:
    scatter, size = Deviations(0.06, 0.03, 0.3), Size(4, 9, 4)
    # subjects 0.0036 / 4, trainings 0.0009 / 36, pictures 0.09 / 144
    assert standard_error(scatter, size) == pytest.approx(math.sqrt(0.0009 + 0.000025 + 0.000625))
    assert standard_error(Deviations(0, 0, 0.6), Size(8, 3, 24)) == pytest.approx(0.6 / math.sqrt(576))


def test_the_smallest_difference_by_hand() -> None:
    size = Size(8, 3, 24)
    assert detectable(Deviations(0.0, 0.0, 0.6), size) == pytest.approx((2.3646 + 0.8960) * 0.025, abs=1e-5)
    assert detectable(Deviations(0.08, 0.0, 0.0), size) == pytest.approx(
        (2.3646 + 0.8960) * 0.08 / math.sqrt(8), abs=1e-5
    )
    assert detectable(Deviations(0.0, 0.0, 0.6), size, power=0.5) < detectable(Deviations(0.0, 0.0, 0.6), size)


def test_a_study_with_the_power_that_is_promised_finds_the_difference_so_often() -> None:
    scatter, size = Deviations(0.04, 0.05, 0.3), Size(8, 3, 24)
    rng, studies = np.random.default_rng(0), 4000
    error = standard_error(scatter, size) * math.sqrt(size.subjects)  # of one subject's mean
    means = rng.normal(detectable(scatter, size), error, (studies, size.subjects))
    t = means.mean(axis=1) / (means.std(axis=1, ddof=1) / math.sqrt(size.subjects))
    assert (np.abs(t) > 2.3646).mean() == pytest.approx(0.8, abs=0.03)


def test_the_subjects_that_are_needed() -> None:
    scatter, size = Deviations(0.05, 0.05, 0.3), Size(8, 3, 24)
    needed = subjects_needed(scatter, size, 0.03)
    assert needed is not None
    assert detectable(scatter, Size(needed, 3, 24)) <= 0.03 < detectable(scatter, Size(needed - 1, 3, 24))
    assert subjects_needed(Deviations(10.0, 0.0, 0.0), size, 0.03) is None


def test_deviations_by_hand() -> None:
    differences = np.array(
        [[[1.0, 3.0], [3.0, 5.0]], [[5.0, 7.0], [7.0, 9.0]]]
    )  # [2 subjects, 2 trainings, 2 pictures]
    found = scatter_of(differences)
    # pictures: variance 2. Trainings' means 2 4 and 6 8: variance 2, less 2 / 2. Subjects' means 3 and 7: 8, less (1 + 1) / 2
    assert (found.pictures, found.trainings, found.subjects) == pytest.approx((math.sqrt(2), 1.0, math.sqrt(7)))


def test_deviations_are_found_again() -> None:
    rng = np.random.default_rng(0)
    shape = (400, 3, 24)
    made = rng.normal(0, 0.05, (400, 1, 1)) + rng.normal(0, 0.08, (400, 3, 1)) + rng.normal(0, 0.3, shape)
    found = scatter_of(made)
    assert (found.subjects, found.trainings, found.pictures) == pytest.approx((0.05, 0.08, 0.3), abs=0.012)
    assert scatter_of(made[:, :1]).trainings == 0.0

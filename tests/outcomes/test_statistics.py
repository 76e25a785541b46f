"""Intervals against numbers from the literature."""

from __future__ import annotations

import numpy as np
import pytest

from videopolicy.outcomes.intervals import mean_over_tasks, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3 (score, no continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_reproduces_newcombes_table(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_known_without_episodes():
    assert wilson(0, 0) == (0.0, 1.0)
    assert mean_over_tasks([]) == (0.0, 1.0)


def test_mean_of_one_task_is_wilsons_interval():
    assert mean_over_tasks([(17, 20)]) == pytest.approx(wilson(17, 20))


def test_mean_of_two_tasks_agrees_with_mees_interval_of_a_difference():
    # Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 5 (score): 56/70 - 48/80 is 0.0533 to 0.3377.
    # p1 - p2 = 2 * mean(p1, 1 - p2) - 1.
    low, high = mean_over_tasks([(56, 70), (80 - 48, 80)])
    assert (2 * low - 1, 2 * high - 1) == pytest.approx((0.0533, 0.3377), abs=5e-5)


def test_equal_tasks_give_wilsons_interval_of_all_episodes():
    assert mean_over_tasks([(16, 20)] * 4) == pytest.approx(wilson(64, 80))


def test_tasks_weigh_the_same_whatever_their_number_of_episodes():
    low, high = mean_over_tasks([(200, 200), (0, 10)])
    assert low < 0.5 < high
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.08)


def test_tasks_that_always_succeed_still_leave_doubt_and_more_tasks_leave_less():
    four, fifty = mean_over_tasks([(20, 20)] * 4), mean_over_tasks([(20, 20)] * 50)
    assert four.high == fifty.high == 1.0
    assert 0.9 < four.low < fifty.low < 1.0


@pytest.mark.parametrize("rates", [(0.97, 1.0, 0.6, 1.0), (1.0, 0.98, 0.95, 0.9), (0.0, 1.0, 0.5, 0.01)])
def test_the_mean_is_covered_about_as_often_as_claimed(rates):
    outcomes = np.sort(np.random.default_rng(0).binomial(20, rates, size=(2000, len(rates))))
    rows, repeats = np.unique(outcomes, axis=0, return_counts=True)
    intervals = [mean_over_tasks([(int(successes), 20) for successes in row]) for row in rows]
    inside = [low <= np.mean(rates) <= high for low, high in intervals]
    assert 0.93 <= np.average(inside, weights=repeats) <= 0.985

"""The tests between methods against published implementations, hand-made cases and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, boschloo_exact
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from videopolicy.outcomes import significance


def test_mcnemar_is_that_of_statsmodels():
    won, lost = np.array([0, 3, 10, 25, 7, 1]), np.array([0, 0, 2, 24, 7, 6])
    ours = significance.mcnemar(won, lost)
    theirs = [reference_mcnemar([[5, w], [n, 5]], exact=True).pvalue for w, n in zip(won, lost, strict=True)]
    assert ours[0] == 1.0
    np.testing.assert_allclose(ours[1:], theirs[1:], rtol=1e-10)


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(0).uniform(size=40) ** 3
    np.testing.assert_allclose(significance.holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_flipped_signs_of_successes_are_mcnemars_test():
    gains = np.array([1] * 11 + [-1] * 3 + [0] * 20, dtype=float)
    assert significance.sign_flips(gains) == pytest.approx(binomtest(3, 14).pvalue, rel=1e-10)


def by_enumeration(differences: np.ndarray) -> float:
    sums = [np.dot(signs, np.abs(differences)) for signs in itertools.product((-1, 1), repeat=len(differences))]
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9))


def test_flipped_signs_of_chain_lengths_are_counted_exactly():
    gains = np.array([3, -1, 2, 2, 0, 5, -2, 1], dtype=float)
    assert significance.sign_flips(gains) == pytest.approx(by_enumeration(gains), rel=1e-9)
    coverages = gains / 7 + np.pi / 1e4 * np.arange(8)  # no common step: random flips
    assert significance.sign_flips(coverages) == pytest.approx(by_enumeration(coverages), abs=0.02)


def test_without_common_states_counts_are_compared_exactly_or_by_task():
    equal = np.array([[8, 10], [3, 10]]), np.array([[4, 10], [1, 10]])
    name, p = significance.unpaired(*equal)
    assert name == "Boschloo, exact"
    assert p == pytest.approx(boschloo_exact([[11, 5], [9, 15]]).pvalue)
    unequal = np.array([[80, 100], [30, 100]]), np.array([[40, 80], [10, 90]])
    name, p = significance.unpaired(*unequal)
    tables = [np.array([[80, 20], [40, 40]]), np.array([[30, 70], [10, 80]])]
    assert name == "Cochran-Mantel-Haenszel"
    assert p == pytest.approx(StratifiedTable(tables).test_null_odds().pvalue)


def test_an_unpaired_permutation_finds_what_is_there_and_nothing_else():
    draws = np.random.default_rng(1)
    first, second = draws.normal(size=60), draws.normal(size=50)
    assert significance.permutation(first, second) > 0.05
    assert significance.permutation(first + 1, second) < 0.001


@pytest.mark.parametrize(
    ("count", "different", "letters"),
    [
        (1, [], ["a"]),
        (3, [], ["a", "a", "a"]),
        (3, [(0, 2)], ["a", "ab", "b"]),
        (3, [(0, 1), (0, 2), (1, 2)], ["a", "b", "c"]),
        (4, [(0, 3)], ["a", "ab", "ab", "b"]),
    ],
)
def test_letters_of_small_cases(count: int, different: list[tuple[int, int]], letters: list[str]):
    assert significance.compact_letters(count, different) == letters


def test_letters_are_shared_exactly_where_methods_do_not_differ():
    draws = np.random.default_rng(2)
    for _ in range(50):
        count = int(draws.integers(2, 9))
        pairs = list(itertools.combinations(range(count), 2))
        different = {pair for pair in pairs if draws.uniform() < 0.4}
        letters = significance.compact_letters(count, different)
        assert all(letters)
        for i, j in pairs:
            assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in different)


def test_several_seeds_widen_the_interval():
    draws = np.random.default_rng(3)
    tasks = np.repeat(np.arange(4), 25)
    rates = np.array([0.5, 0.7, 0.9, 0.6, 0.8])
    outcomes = (draws.uniform(size=(5, 100)) < rates[:, None]).astype(float)
    several = significance.two_level_interval(outcomes, tasks)
    alike = significance.two_level_interval((draws.uniform(size=(5, 100)) < 0.7).astype(float), tasks)
    assert several is not None and alike is not None
    assert several.low < outcomes.mean() < several.high
    assert several.high - several.low > 1.3 * (alike.high - alike.low)


def test_the_detectable_difference_is_detected_four_times_out_of_five():
    pairs, discordance = 300, 0.2
    difference = significance.detectable_difference(pairs, discordance)
    assert difference is not None and 0.05 < difference < 0.12
    draws = np.random.default_rng(4)
    chances = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    counts = draws.multinomial(pairs, chances, size=4000)
    shown = significance.mcnemar(counts[:, 0], counts[:, 1]) <= 0.05
    assert 0.77 < shown.mean() < 0.83


def test_too_few_episodes_show_nothing():
    assert significance.detectable_difference(4, 0.5) is None

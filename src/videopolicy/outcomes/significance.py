"""Tests between methods, on plain arrays: exact where that is affordable, many pairs at once.

McNemar's and Holm's few lines stand here because importing statsmodels, and scipy.stats under it, takes longer
than comparing 200 runs; the tests hold them against statsmodels.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from videopolicy.outcomes.intervals import CONFIDENCE, Interval

LEVEL = 0.05
POWER = 0.80
_FLIPS = 9_999
_RESAMPLES = 2_000
_LARGEST_STEPS = 60
_LARGEST_SUM = 50_000
_EXACT_EPISODES = 100


def mcnemar(won: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Two-sided exact McNemar tests: under equal methods, each discordant pair is a fair coin.

    Args:
        won, lost: Discordant pairs of every comparison, ``(P,)``.

    Returns:
        p-values, ``(P,)``; 1 without discordant pairs.
    """
    from scipy.special import bdtr

    return np.minimum(1.0, 2 * bdtr(np.minimum(won, lost), (won + lost).astype(int), 0.5))


def sign_flips(differences: np.ndarray) -> float:
    """Two-sided paired permutation test of mean 0: under equal methods, every difference may have either sign.

    Exact where the differences are multiples of one step (chain lengths, averages over a few seeds; of successes it
    is McNemar's test), from 9,999 random flips otherwise, whose smallest p-value is 0.0001.

    Args:
        differences: One for every pair, ``(U,)``.
    """
    sizes = np.abs(differences[differences != 0])
    if len(sizes) == 0:
        return 1.0
    for steps in range(1, _LARGEST_STEPS + 1):
        whole = np.rint(sizes * steps)
        if sizes.sum() * steps <= _LARGEST_SUM and np.abs(sizes * steps - whole).max() < 1e-6:
            return _exact_sign_flips(whole.astype(int), int(np.rint(abs(differences.sum()) * steps)))
    sums = np.abs(_signs(len(sizes)) @ sizes.astype(np.float32))
    return float((1 + np.sum(sums >= abs(differences.sum()) * (1 - 1e-5))) / (1 + _FLIPS))


@lru_cache(maxsize=4)
def _signs(count: int) -> np.ndarray:
    """Random signs ``(flips, count)``, the same ones in every comparison."""
    return np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.float32), size=(_FLIPS, count))


def _exact_sign_flips(sizes: np.ndarray, observed: int) -> float:
    """Probability that whole numbers with random signs add up to ``observed`` or more, or its negative or less."""
    from scipy.special import gammaln

    positive = np.ones(1)  # distribution of the sum of those whose sign is positive
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        k = np.arange(count + 1)
        one = np.zeros(size * count + 1)
        one[size * k] = np.exp(gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1) - count * np.log(2))
        positive = np.convolve(positive, one)
    sums = 2 * np.arange(len(positive)) - int(sizes.sum())
    return float(min(1.0, positive[np.abs(sums) >= observed].sum()))


def unpaired(first: np.ndarray, second: np.ndarray) -> tuple[str, float]:
    """Two-sided test between successes on different initial states.

    With the same number of episodes of every task on both sides, and not too many, Boschloo's exact test of the
    counts of all tasks together: the difference of the pooled rates is then that of the means over tasks, and tasks
    of unequal difficulty only make it conservative. Otherwise Cochran, Mantel and Haenszel's, which is stratified
    by task and good for large numbers.

    Args:
        first, second: Successes and episodes by task, ``(K, 2)``.

    Returns:
        The test's name, and p.
    """
    (a, n), (b, m) = first.sum(axis=0), second.sum(axis=0)
    if n <= _EXACT_EPISODES and np.array_equal(first[:, 1], second[:, 1]):
        return "Boschloo, exact", _boschloo(int(a), int(n - a), int(b), int(m - b))
    from statsmodels.stats.contingency_tables import StratifiedTable

    tables = [np.array([[s, k - s], [t, r - t]], dtype=float) for (s, k), (t, r) in zip(first, second, strict=True)]
    decided = [table for table in tables if 0 < table[:, 0].sum() < table.sum()]
    p = float(StratifiedTable(decided).test_null_odds().pvalue) if decided else 1.0
    return "Cochran-Mantel-Haenszel", p


@lru_cache(maxsize=4096)
def _boschloo(won: int, lost: int, other_won: int, other_lost: int) -> float:
    from scipy.stats import boschloo_exact

    if won + other_won == 0 or lost + other_lost == 0:
        return 1.0
    return float(min(1.0, boschloo_exact([[won, other_won], [lost, other_lost]]).pvalue))


def permutation(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided unpaired permutation test between the means of scores, of 9,999 random permutations.

    Args:
        first, second: Scores, ``(N,)`` and ``(M,)``.
    """
    from scipy.stats import permutation_test

    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return x.mean(axis=axis) - y.mean(axis=axis)

    tested = permutation_test(
        (first, second), difference, vectorized=True, n_resamples=_FLIPS, batch=1000, rng=np.random.default_rng(0)
    )
    return float(tested.pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values after Holm's step-down correction (S. Holm, Scandinavian Journal of Statistics 6, 1979), ``(P,)``."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def compact_letters(count: int, different: Iterable[tuple[int, int]]) -> list[str]:
    """Letters such that two methods share one exactly where they do not differ significantly.

    Insert and absorb (H.-P. Piepho, Journal of Computational and Graphical Statistics 13, 2004), without his
    optional sweep that drops letters which say nothing new.

    Args:
        count: Number of methods, best first: it gets ``a``.
        different: Pairs that differ.
    """
    columns = [(1 << count) - 1] if count else []
    for i, j in different:
        both = 1 << i | 1 << j
        split = [column for column in columns if column & both == both]
        columns = [column for column in columns if column & both != both]
        for column in sorted((c & ~(1 << k) for c in split for k in (i, j)), key=int.bit_count, reverse=True):
            if not any(column & other == column for other in columns):
                columns.append(column)
    members = sorted([k for k in range(count) if column >> k & 1] for column in columns)
    alphabet = string.ascii_lowercase + string.ascii_uppercase
    names = [alphabet[c % 52] + (str(c // 52) if c >= 52 else "") for c in range(len(members))]
    return ["".join(name for name, group in zip(names, members, strict=True) if k in group) for k in range(count)]


def two_level_interval(outcomes: np.ndarray, tasks: np.ndarray, confidence: float = CONFIDENCE) -> Interval | None:
    """Percentile bootstrap interval of the mean over tasks, over training seeds and episodes at once.

    Seeds and initial states are crossed: every seed is evaluated on the same states. So both are redrawn with
    replacement, states within their tasks, and a drawn state counts for all drawn seeds (A. B. Owen, "The pigeonhole
    bootstrap", Annals of Applied Statistics 1, 2007). One seed is drawn as itself. With fewer than about five seeds
    the interval is too narrow, since so few say little of how far others would lie.

    Args:
        outcomes: Successes or scores of every seed, ``(S, U)``; NaN where there is none.
        tasks: Index of every column's task, ``(U,)``.
        confidence: Coverage.

    Returns:
        The interval, in the outcomes' unit; None without outcomes.
    """
    known = np.isfinite(outcomes)
    columns = [here for here in (tasks == task for task in np.unique(tasks)) if known[:, here].any()]
    if not columns:
        return None
    weights, drawn = _draws(len(outcomes), tuple(int(here.sum()) for here in columns))
    means = []
    for here, times in zip(columns, drawn, strict=True):
        values, there = outcomes[:, here], known[:, here]
        both = np.concatenate([np.where(there, values, 0), there]).T.astype(np.float32)
        total, trials = np.split(times.astype(np.float32) @ both, 2, axis=1)
        total, trials = (weights * total).sum(axis=1), (weights * trials).sum(axis=1)
        means.append(np.divide(total, trials, out=np.full(_RESAMPLES, np.nan), where=trials > 0))
    low, high = np.nanquantile(np.nanmean(means, axis=0), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


@lru_cache(maxsize=2)
def _draws(seeds: int, counts: tuple[int, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """How often every seed ``(R, S)``, and by task every one of its states ``(R, states)``, is drawn.

    The same for all methods with as many seeds and states: drawing takes longer than all that is done with it.
    """
    rng = np.random.default_rng(0)
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=_RESAMPLES)
    often = [rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES) for count in counts]
    return weights, [drawn.astype(np.uint16) for drawn in often]


def detectable_difference(pairs: int, discordance: float) -> float | None:
    """Smallest difference of two success rates that the exact McNemar test shows with 80 % power at 5 %.

    The power is exact: over the binomial number of discordant pairs, and over who wins them.

    Args:
        pairs: Episodes on equal initial states under both methods.
        discordance: Share of them that one method solves and the other does not, as observed between the methods;
            for differences above it, all discordant pairs are won by one.

    Returns:
        None where even a difference of 1 is not shown that often.
    """
    from scipy.optimize import brentq
    from scipy.special import bdtr, bdtrik, gammaln

    m = np.arange(pairs + 1)
    # Largest number of pairs that the loser may win for p <= 5 %, by number of discordant pairs; less than 0 for none.
    limits = np.floor(np.nan_to_num(bdtrik(LEVEL / 2, m, 0.5), nan=-1))
    possible = (limits >= 0) & (mcnemar(limits, m - limits) <= LEVEL)
    choose = gammaln(pairs + 1) - gammaln(m + 1) - gammaln(pairs - m + 1)

    def shortfall(difference: float) -> float:
        apart = min(max(discordance, difference), 1 - 1e-12)
        chances = np.exp(choose + m * np.log(apart) + (pairs - m) * np.log1p(-apart))[possible]
        wins = min((apart + difference) / (2 * apart), 1.0)
        limit, k = limits[possible], m[possible]
        return POWER - float(np.sum(chances * (bdtr(limit, k, 1 - wins) + bdtr(limit, k, wins))))

    if not possible.any() or shortfall(1.0) > 0:
        return None
    return float(brentq(shortfall, 1e-6, 1.0, xtol=1e-4))

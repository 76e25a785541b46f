"""Intervals for success rates.

A success rate over n episodes of one task gets Wilson's score interval. The mean over tasks weighs every task
equally whatever its number of episodes, so episodes must not be pooled: its interval is recovered from the
tasks' own intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A confidence interval, both ends in [0, 1]."""

    low: float
    high: float


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a proportion (E. B. Wilson, JASA 22, 1927).

    Unlike the normal approximation it keeps its coverage at 20 episodes and does not collapse at 0 or 100 %.

    Args:
        successes: Number of successes.
        trials: Number of episodes; with none, nothing is known and the interval is [0, 1].
        confidence: Coverage.
    """
    from scipy.stats import binomtest

    if trials == 0:
        return Interval(0.0, 1.0)
    ends = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(float(ends.low), float(ends.high))


def mean_over_tasks(counts: Sequence[tuple[int, int]], confidence: float = CONFIDENCE) -> Interval:
    """Interval of the unweighted mean of K tasks' success rates, each from its own episodes.

    The variances on either side of the mean are recovered from the tasks' Wilson limits (MOVER)::

        low  = mean(p_k) - sqrt(sum((p_k - low_k)^2)) / K
        high = mean(p_k) + sqrt(sum((high_k - p_k)^2)) / K

    Zou, Huang and Zhang, "A note on confidence interval estimation for a linear function of binomial
    proportions", Computational Statistics & Data Analysis 53, 2009. The tasks may differ in difficulty and in
    number of episodes, one task gives Wilson's interval, the mean always lies inside, and tasks that always
    succeed or fail still contribute width. It speaks of new episodes of these tasks, not of new tasks.

    Args:
        counts: Successes and episodes of every task, each with at least one episode.
        confidence: Coverage.
    """
    if not counts:
        return Interval(0.0, 1.0)
    rates = [successes / trials for successes, trials in counts]
    limits = [wilson(successes, trials, confidence) for successes, trials in counts]
    mean = sum(rates) / len(rates)
    below = math.hypot(*(rate - limit.low for rate, limit in zip(rates, limits, strict=True))) / len(rates)
    above = math.hypot(*(limit.high - rate for rate, limit in zip(rates, limits, strict=True))) / len(rates)
    return Interval(max(0.0, mean - below), min(1.0, mean + above))

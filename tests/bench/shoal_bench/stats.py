# SPDX-License-Identifier: Apache-2.0
"""What is said about paired rounds. Pure: the same samples give the same words.

Ours and the peer are measured in turn, so that what the machine does meanwhile meets both; the ratio of each round is
ours / peer, and the claim is the median of those ratios. Its interval comes from their order statistics: with n rounds
the k-th smallest and the k-th largest ratio enclose the true median with a probability that the binomial distribution
gives, whatever the noise looks like. Nothing is drawn at random and no round is left out.
"""
import math
from dataclasses import dataclass

ROUNDS_MIN = 5
CONFIDENCE = 0.95
DIGITS = 4  # of a ratio: a goal is held against what is printed


def rounded(ratio):
    """Decimals, or of small ratios significant digits: a ten-thousandth is one."""
    return round(ratio, DIGITS) if ratio >= 0.1 else float(f"{ratio:.{DIGITS - 1}g}")


def shown(ratio):
    return f"{ratio:.3f}" if ratio >= 0.1 else f"{ratio:.2g}"


def median(values):
    ordered = sorted(values)
    if not ordered:
        raise ValueError("the median of nothing")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def coverage(n, k):
    """How probable it is that the (k+1)-th smallest and (k+1)-th largest of n values enclose the median."""
    return 1 - 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    coverage: float  # below CONFIDENCE only when there are too few values: then low and high are the extremes


def median_interval(values, confidence=CONFIDENCE):
    """The narrowest interval of order statistics that encloses the median with at least that confidence."""
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        raise ValueError("the interval of nothing")
    k = 0
    while k + 1 < (n + 1) // 2 and coverage(n, k + 1) >= confidence:
        k += 1
    return Interval(ordered[k], ordered[n - 1 - k], coverage(n, k))


def ratios(samples):
    """ours / peer of each round; samples are (ours, peer)."""
    for number, (ours, peer) in enumerate(samples, 1):
        if not (math.isfinite(ours) and math.isfinite(peer)) or ours <= 0 or peer <= 0:
            raise ValueError(f"round {number}: {ours} beside {peer}: both must be above zero")
    return [ours / peer for ours, peer in samples]


@dataclass(frozen=True)
class Summary:
    ours: float  # medians of each side; their quotient need not be `ratio`
    peer: float
    ratio: float  # median of the rounds' ratios
    interval: Interval
    holds: bool | None  # None: there is no goal


def meets(ratio, better, goal):
    """Whether a ratio is as good as the goal; better is "higher" or "lower"."""
    if goal is None:
        return None
    return ratio >= goal if better == "higher" else ratio <= goal


def summarize(samples, better, goal, verdict="median"):
    """samples: (ours, peer) of each round. What is held against the goal: the median, or the interval's better end."""
    if len(samples) < ROUNDS_MIN:
        raise ValueError(f"{len(samples)} rounds: at least {ROUNDS_MIN} are needed")
    of_rounds = ratios(samples)
    ratio = rounded(median(of_rounds))
    interval = median_interval([rounded(value) for value in of_rounds])
    best = {"higher": interval.high, "lower": interval.low}[better]
    return Summary(median(ours for ours, _ in samples), median(peer for _, peer in samples), ratio, interval,
                   meets({"median": ratio, "interval": best}[verdict], better, goal))

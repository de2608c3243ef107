"""Do two rows differ by more than chance? Paired tests on the same test utterances.

An utterance is the unit that chance moves. With several seeds it still counts once, with the number of seeds that have it
right, since its answers with several seeds are not independent. The tests say what these trained models do on utterances
like these; how far another training would move is what the deviation over seeds shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, binomtest

from .run_folder import Predictions

DRAWS = 100_000  # of the permutation test, where its outcomes are too many to enumerate
MAX_OUTCOMES = 200_000


@dataclass(frozen=True)
class Comparison:
    """
    A second row against a first one.

    Attributes:
        utterances: their number.
        only_first, only_second: utterances that one row has right and the other wrong; with several seeds, right with
            more seeds than the other.
        wa_p: McNemar's exact test of those two counts.
        ua_difference: pooled UA of the second less that of the first, mean over the seeds.
        ua_p: paired permutation test of it.
        exact: whether every outcome of that test was counted; else `DRAWS` random ones.
    """

    utterances: int
    only_first: int
    only_second: int
    wa_p: float
    ua_difference: float
    ua_p: float
    exact: bool


def compare(first: Mapping[tuple[int, int], Predictions], second: Mapping[tuple[int, int], Predictions]) -> Comparison:
    """
    Compare two rows, each given as (fold, seed) -> `Predictions`.

    Raises:
        ValueError: they have not the same folds, seeds, utterances and labels.
    """
    if first.keys() != second.keys():
        raise ValueError(f"rows of other folds and seeds cannot be paired: {sorted(first)} and {sorted(second)}")
    gains, labels = [], []
    seeds = sorted({seed for _, seed in first})
    for fold in sorted({fold for fold, _ in first}):
        reference = first[fold, seeds[0]]
        truth = dict(zip(reference.ids, reference.labels.tolist(), strict=True))
        gain = dict.fromkeys(truth, 0)
        for seed in seeds:
            for row, sign in ((first[fold, seed], -1), (second[fold, seed], 1)):
                if dict(zip(row.ids, row.labels.tolist(), strict=True)) != truth:
                    raise ValueError(f"fold {fold}, seed {seed}: rows of other utterances or labels cannot be paired")
                for name, right in zip(row.ids, row.right.tolist(), strict=True):
                    gain[name] += sign * right
        gains += gain.values()
        labels += truth.values()
    gains = np.array(gains)
    only_first, only_second = int((gains < 0).sum()), int((gains > 0).sum())
    difference, ua_p, exact = ua_permutation_test(gains / len(seeds), np.array(labels))
    return Comparison(len(gains), only_first, only_second, mcnemar(only_first, only_second), difference, ua_p, exact)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test, two-sided: the p-value of two discordant counts, each as likely as the other by chance."""
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def ua_permutation_test(gains: np.ndarray, labels: np.ndarray) -> tuple[float, float, bool]:
    """
    Paired permutation test of a difference in UA, two-sided.

    By chance either row could have given each utterance's two answers, so every utterance's gain may turn its sign. The
    difference in UA depends on the gains of each class alone, so it is enough to count how many of each class and size
    turn, a binomial number.

    Args:
        gains: (N,) second row's share of right answers less the first's, for each utterance, from -1 to 1.
        labels: (N,) class indices.

    Returns:
        the difference in UA, its p-value, and whether all outcomes were counted (else `DRAWS` random ones).
    """
    gains, labels = np.asarray(gains, dtype=np.float64), np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    weights = dict(zip(classes.tolist(), (1 / (len(classes) * counts)).tolist(), strict=True))
    difference = sum(weights[label] * gains[labels == label].sum() for label in weights)
    sizes, members = [], []  # groups of utterances that move UA by the same amount
    for label, weight in weights.items():
        of_class = np.round(np.abs(gains[(labels == label) & (gains != 0)]), 12)
        for gain, number in zip(*np.unique(of_class, return_counts=True), strict=True):
            sizes.append(weight * gain)
            members.append(int(number))
    least = abs(difference) - 1e-12
    exact = np.prod([number + 1.0 for number in members]) <= MAX_OUTCOMES
    if exact:
        outcomes, chances = np.zeros(1), np.ones(1)
        for size, number in zip(sizes, members, strict=True):
            kept = np.arange(number + 1)
            outcomes = (outcomes[:, None] + size * (2 * kept - number)).ravel()
            chances = (chances[:, None] * binom(number, 0.5).pmf(kept)).ravel()
        p = min(float(chances[np.abs(outcomes) >= least].sum()), 1.0)
    else:
        kept = np.random.default_rng(0).binomial(members, 0.5, (DRAWS, len(members)))
        outcomes = (2 * kept - np.array(members)) @ np.array(sizes)
        p = (1 + int((np.abs(outcomes) >= least).sum())) / (1 + DRAWS)
    return float(difference), p, bool(exact)

"""Test whether two rows differ by more than chance, with paired tests on the same test utterances.

The tests treat utterances as independent. With several seeds an utterance still counts once, with the number of seeds that
predict it right, since its predictions with several seeds are not independent. The tests tell whether these trained models
differ on utterances like these; the deviation over seeds tells how much another training would change.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, binomtest

from .run_folder import Predictions

DRAWS = 100_000  # of the permutation test, if it has more than MAX_OUTCOMES
MAX_OUTCOMES = 200_000


@dataclass(frozen=True)
class Comparison:
    """
    The comparison of a second row with a first one.

    Attributes:
        utterances: the number of utterances.
        only_first, only_second: number of utterances that only this row has right; with several seeds, that it has right
            with more seeds than the other row.
        wa_p: p-value of McNemar's exact test of these two counts.
        ua_difference: pooled UA of the second row minus that of the first, mean over the seeds.
        ua_p: p-value of the paired permutation test of this difference.
        exact: whether the permutation test counted every outcome; otherwise it drew `DRAWS` random ones.
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
        ValueError: the rows differ in their folds, seeds, utterances or labels.
    """
    if first.keys() != second.keys():
        raise ValueError(f"rows of different folds and seeds cannot be paired: {sorted(first)} and {sorted(second)}")
    gains, labels = [], []
    seeds = sorted({seed for _, seed in first})
    for fold in sorted({fold for fold, _ in first}):
        reference = first[fold, seeds[0]]
        truth = dict(zip(reference.ids, reference.labels.tolist(), strict=True))
        gain = dict.fromkeys(truth, 0)
        for seed in seeds:
            for row, sign in ((first[fold, seed], -1), (second[fold, seed], 1)):
                if dict(zip(row.ids, row.labels.tolist(), strict=True)) != truth:
                    raise ValueError(f"fold {fold}, seed {seed}: rows of different utterances or labels cannot be paired")
                for name, right in zip(row.ids, row.right.tolist(), strict=True):
                    gain[name] += sign * right
        gains += gain.values()
        labels += truth.values()
    gains = np.array(gains)
    only_first, only_second = int((gains < 0).sum()), int((gains > 0).sum())
    difference, ua_p, exact = ua_permutation_test(gains / len(seeds), np.array(labels))
    return Comparison(len(gains), only_first, only_second, mcnemar(only_first, only_second), difference, ua_p, exact)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test, two-sided: the p-value of two counts that are equally likely by chance."""
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def ua_permutation_test(gains: np.ndarray, labels: np.ndarray) -> tuple[float, float, bool]:
    """
    Paired permutation test of a difference in UA, two-sided.

    If the rows differ only by chance, the two predictions of an utterance could be swapped, so that its gain changes sign.
    Gains of the same class and size move UA by the same amount, so it is enough to count how many of them change sign,
    which is a binomial number.

    Args:
        gains: (N,) for each utterance the share of seeds with which the second row is right, minus that of the first row.
        labels: (N,) class indices.

    Returns:
        the difference in UA, its p-value, and whether all outcomes were counted instead of `DRAWS` random ones.
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
            chances = (chances[:, None] * binom.pmf(kept, number, 0.5)).ravel()
        p = min(float(chances[np.abs(outcomes) >= least].sum()), 1.0)
    else:
        kept = np.random.default_rng(0).binomial(members, 0.5, (DRAWS, len(members)))
        outcomes = (2 * kept - np.array(members)) @ np.array(sizes)
        p = (1 + int((np.abs(outcomes) >= least).sum())) / (1 + DRAWS)
    return float(difference), p, bool(exact)

"""TF-IDF of terms whose documents are the classes, for words and for codes alike."""

import numpy as np

# Added to every count, so that a term seen once is not taken for one that only occurs in its class.
PSEUDO_COUNT = 0.5


def class_tfidf(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """
    TF-IDF of every term in every class: log(1 + n) * log(C / df), never below 0.

    n is the term's count in the class. With four classes nearly every common term occurs in all of them, and the usual
    document frequency (in how many classes does it occur) would be 4 for function words and key words alike. So df is
    graded: the sum of the term's rates in all classes over its rate in this one, 1 for a term of this class alone, C for
    one that is equally common in all. The logarithm of the count is TF-IDF's usual sublinear term frequency.

    Args:
        counts: (C, V) how often each of V terms occurs in each class.
        totals: (C,) what the counts are out of: utterances or frames of each class.

    Returns:
        (C, V) scores, 0 for terms that are no more common in the class than elsewhere or do not occur in it.
    """
    counts = np.asarray(counts, dtype=np.float64)
    rates = (counts + PSEUDO_COUNT) / (np.asarray(totals, dtype=np.float64)[:, None] + 2 * PSEUDO_COUNT)
    classes_worth = rates.sum(axis=0) / rates  # graded df, 1 to infinity
    return np.maximum(np.log1p(counts) * np.log(len(counts) / classes_worth), 0.0)


def best_terms(scores: np.ndarray, k: int) -> list[list[int]]:
    """The at most k terms (V,) with the highest scores above 0 of every class (C, V), best first, ties in term order."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[int(term) for term in row if row_scores[term] > 0] for row, row_scores in zip(order, scores, strict=True)]

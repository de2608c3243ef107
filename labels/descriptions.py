"""Key words of every class (paper, section 2.1): those that tell its transcripts from the other classes'."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

# scikit-learn's list also holds words that tell emotions.
FUNCTION_WORDS = (
    ENGLISH_STOP_WORDS
    - {"amount", "bill", "bottom", "cry", "describe", "detail", "fire", "found", "interest", "mill", "serious", "sincere"}
    - {"system", "thick", "thin"}
) | {"ai", "ain", "ca", "did", "does", "doing", "don", "just", "sha", "wo", "ll", "re", "ve", "oh", "uh", "um", "yeah", "mm"}
# IEMOCAP's labels are abbreviations.
LABEL_NAMES = {
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "neu": "neutral",
    "sad": "sad",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgusted",
}
_WORD = r"(?u)\b\w[\w'’]*\b"


def is_function_word(word: str) -> bool:
    """Whether a lower-case word, or what a contraction is made of (it's, don't, we'll), is a function word."""
    stem = re.split(r"(?:n)?['’]", word)[0]
    return word in FUNCTION_WORDS or stem in FUNCTION_WORDS or len(stem) < 2


def key_words(texts: Sequence[str], labels: Sequence[int], label_names: Sequence[str], k: int = 9) -> dict[str, list[str]]:
    """
    The k words of every class with the highest TF-IDF ([`class_tfidf`]) that tell it from the others, best first.

    Args:
        texts: Transcripts of the training split, the current utterances without history. A word counts once in each.
        labels: class index of every text.
        label_names: names of the classes in the order of their indices.
        k: words a class; the paper's best is 9.

    Returns:
        For every label at most k words; fewer where no other word is more common in the class than elsewhere.

    Raises:
        ValueError: k below 1, a class without a text, or without a single key word.
    """
    if k < 1:
        raise ValueError(f"number of key words must be at least 1, got {k}")
    labels = np.asarray(labels)
    totals = np.array([(labels == index).sum() for index in range(len(label_names))])
    if not totals.all():
        empty = [name for name, total in zip(label_names, totals, strict=True) if not total]
        raise ValueError(f"no training text has the label {', '.join(empty)}: its key words cannot be found")
    vectorizer = CountVectorizer(binary=True, token_pattern=_WORD)
    try:
        occurs = vectorizer.fit_transform(texts)  # (texts, V)
    except ValueError as error:
        raise ValueError(f"the {len(texts)} training texts hold no word: key words cannot be found") from error
    words = vectorizer.get_feature_names_out()
    counts = np.stack([np.asarray(occurs[labels == index].sum(axis=0)).ravel() for index in range(len(label_names))])
    scores = class_tfidf(counts, totals)
    scores[:, [is_function_word(word) for word in words]] = 0.0
    chosen = {
        name: [str(words[term]) for term in terms] for name, terms in zip(label_names, best_terms(scores, k), strict=True)
    }
    wordless = [name for name, found in chosen.items() if not found]
    if wordless:
        raise ValueError(
            f"no word is more common in the training texts of {', '.join(wordless)} than in the others: there are no key "
            "words to describe it; use more text, or train_label_embeddings=True"
        )
    return chosen


def name_words(label_names: Sequence[str]) -> dict[str, list[str]]:
    """The words that the labels are called by, IEMOCAP's abbreviations written out (row A4)."""
    return {name: LABEL_NAMES.get(name, name).replace("_", " ").replace("-", " ").split() for name in label_names}


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


def key_codes(
    codes: Iterable[tuple[int, np.ndarray]], label_names: Sequence[str], k: int = 100
) -> dict[str, list[list[int]]]:
    """
    The k codes of every class with the highest TF-IDF ([`class_tfidf`]), best first.

    Args:
        codes: class index and codes (F, G) of every training utterance, in any order.
        label_names: names of the classes in the order of their indices.
        k: codes a class; the paper's best is 100.

    Raises:
        ValueError: k below 1, or a class without a frame.
    """
    if k < 1:
        raise ValueError(f"number of key frames must be at least 1, got {k}")
    counters = [Counter() for _ in label_names]
    for label, utterance in codes:
        counters[label].update(map(tuple, utterance.tolist()))
    empty = [name for name, counter in zip(label_names, counters, strict=True) if not counter]
    if empty:
        raise ValueError(f"no training utterance has the label {', '.join(empty)}: its key frames cannot be found")
    terms = sorted(set().union(*counters))
    counts = np.array([[counter[term] for term in terms] for counter in counters])
    best = best_terms(class_tfidf(counts, counts.sum(axis=1)), k)
    chosen = {name: [list(terms[term]) for term in found] for name, found in zip(label_names, best, strict=True)}
    frameless = [name for name, found in chosen.items() if not found]
    if frameless:
        raise ValueError(f"no code is more common in {', '.join(frameless)} than elsewhere: there are no key frames for it")
    return chosen

"""Describe every class by its key words (paper, section 2.1) and its key frames (section 2.2), both ranked by TF-IDF.

Shapes: C classes, V terms (words or codes), F frames, G groups of the codebook.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

# Words that never become key words. Some words of scikit-learn's list express emotions or topics, so they may.
FUNCTION_WORDS = (
    ENGLISH_STOP_WORDS
    - {"amount", "bill", "bottom", "cry", "describe", "detail", "fire", "found", "interest", "mill", "serious", "sincere"}
    - {"system", "thick", "thin"}
    # Who denies, accuses, begs, or is by himself.
    - {"against", "alone", "always", "cannot", "enough", "never", "no", "nobody", "none", "nothing", "nowhere", "please"}
    - {"together", "why"}
) | {"ai", "ain", "ca", "did", "does", "doing", "don", "just", "sha", "wo", "ll", "re", "ve", "oh", "uh", "um", "yeah", "mm"}
# The words for IEMOCAP's labels, which are abbreviations.
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
# A key word occurs in so many dialogs of its class, or in a twentieth of them where the class has few.
LEAST_DIALOGS = 4
_WORD = r"(?u)\b\w[\w'’]*\b"


# Added to every count, so that a term seen once does not pass for one that occurs in its class only.
PSEUDO_COUNT = 0.5


def class_tfidf(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """
    TF-IDF of every term in every class: log(1 + n) * log(C / df), and 0 where this is negative.

    n is the count of the term in the class; its logarithm is the usual sublinear term frequency. The usual document
    frequency is the number of classes in which a term occurs. With four classes it would be 4 for nearly every common term,
    key word or not. Therefore df is graded: the sum of the rates of the term in all classes, divided by its rate in this
    class. It is near 1 for a term that occurs in this class only, and C for a term that is equally common in all classes.

    Args:
        counts: (C, V) number of utterances or frames of each class with each term.
        totals: (C,) number of all utterances or frames of each class.

    Returns:
        (C, V) scores; 0 for terms that do not occur in the class or are not more common there than in the others.
    """
    counts = np.asarray(counts, dtype=np.float64)
    rates = (counts + PSEUDO_COUNT) / (np.asarray(totals, dtype=np.float64)[:, None] + 2 * PSEUDO_COUNT)
    classes_worth = rates.sum(axis=0) / rates  # df
    return np.maximum(np.log1p(counts) * np.log(len(counts) / classes_worth), 0.0)


def best_terms(scores: np.ndarray, k: int) -> list[list[int]]:
    """For every class at most k terms with the highest scores (C, V) above 0, best first, equal scores in term order."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[int(term) for term in row if row_scores[term] > 0] for row, row_scores in zip(order, scores, strict=True)]


def is_function_word(word: str) -> bool:
    """Whether a lower-case word is a function word, or a contraction of one (it's, don't, we'll)."""
    stem = re.split(r"(?:n)?['’]", word)[0]
    return word in FUNCTION_WORDS or stem in FUNCTION_WORDS or len(stem) < 2


def key_words(
    texts: Sequence[str],
    labels: ArrayLike,
    label_names: Sequence[str],
    k: int = 9,
    dialogs: Sequence[str] | None = None,
) -> dict[str, list[str]]:
    """
    The k words of every class with the highest TF-IDF (`class_tfidf`), best first.

    A word of a single dialog tells that dialog's topic and no emotion, so a key word occurs in at least `LEAST_DIALOGS`
    dialogs of its class. Where the class has fewer than 61 dialogs, a twentieth of them is enough.

    Args:
        texts: transcripts of the training split, without history. A word counts once in each.
        labels: the class index of every text.
        label_names: names of the classes in the order of their indices.
        k: number of key words of a class; 9 is best in the paper.
        dialogs: the dialog of every text; None where each text is a dialog of its own.

    Returns:
        class name -> at most k words; fewer if no other word is more common in the class than in the others.

    Raises:
        ValueError: k is below 1, or a class has no text or no key word.
    """
    if k < 1:
        raise ValueError(f"number of key words must be at least 1, got {k}")
    classes = np.asarray(labels)
    totals = np.array([(classes == index).sum() for index in range(len(label_names))])
    if not totals.all():
        empty = [name for name, total in zip(label_names, totals, strict=True) if not total]
        raise ValueError(f"no training text has the label {', '.join(empty)}: its key words cannot be found")
    vectorizer = CountVectorizer(binary=True, token_pattern=_WORD)
    try:
        occurs = vectorizer.fit_transform(texts)  # (texts, V)
    except ValueError as error:
        raise ValueError(f"the {len(texts)} training texts hold no word: key words cannot be found") from error
    words = vectorizer.get_feature_names_out()
    counts = np.stack([np.asarray(occurs[classes == index].sum(axis=0)).ravel() for index in range(len(label_names))])
    scores = class_tfidf(counts, totals)
    scores[:, [is_function_word(word) for word in words]] = 0.0
    dialog_of_text = np.arange(len(texts)) if dialogs is None else np.unique(np.asarray(dialogs), return_inverse=True)[1]
    for index in range(len(label_names)):
        of_class = np.flatnonzero(classes == index)
        text, word = occurs[of_class].nonzero()  # pyright: ignore[reportAttributeAccessIssue]  a sparse matrix
        pairs = np.unique(np.stack([dialog_of_text[of_class[text]], word]), axis=1)  # each dialog with each of its words
        least = min(LEAST_DIALOGS, math.ceil(len(np.unique(dialog_of_text[of_class])) / 20))
        scores[index, np.bincount(pairs[1], minlength=len(words)) < least] = 0.0
    chosen = {
        name: [str(words[term]) for term in terms] for name, terms in zip(label_names, best_terms(scores, k), strict=True)
    }
    wordless = [name for name, key_words_of_class in chosen.items() if not key_words_of_class]
    if wordless:
        raise ValueError(
            f"no word is more common in the training texts of {', '.join(wordless)} than in the others: there are no key "
            "words to describe it; use more text, or train_label_embeddings=True"
        )
    return chosen


def name_words(label_names: Sequence[str]) -> dict[str, list[str]]:
    """The words of the label names themselves, with IEMOCAP's abbreviations written out (row A4)."""
    return {name: LABEL_NAMES.get(name, name).replace("_", " ").replace("-", " ").split() for name in label_names}


def key_codes(
    codes: Iterable[tuple[int, np.ndarray]], label_names: Sequence[str], k: int = 100
) -> dict[str, list[list[int]]]:
    """
    The k codes of every class with the highest TF-IDF (`class_tfidf`), best first.

    Args:
        codes: the class index and the codes (F, G) of every training utterance, in any order.
        label_names: names of the classes in the order of their indices.
        k: number of key frames of a class; 100 is best in the paper.

    Returns:
        class name -> at most k codes, each G indices.

    Raises:
        ValueError: k is below 1, or a class has no frame or no key frame.
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
    chosen = {name: [list(terms[term]) for term in indices] for name, indices in zip(label_names, best, strict=True)}
    frameless = [name for name, key_frames in chosen.items() if not key_frames]
    if frameless:
        raise ValueError(
            f"no code is more common in {', '.join(frameless)} than in the other classes: there are no key frames for it"
        )
    return chosen

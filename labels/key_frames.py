"""Key frames of every class (paper, section 2.2): the codes that tell its frames from those of the other classes.

Shapes: F frames, G groups of the codebook.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from .class_tfidf import best_terms, class_tfidf


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

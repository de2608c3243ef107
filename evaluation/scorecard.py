"""Scores of a checkpoint on a labelled corpus that it was not trained for: figures, intervals, calibration, and a page."""

from collections.abc import Sequence

import numpy as np

from .calibration import expected_calibration_error
from .intervals import bootstrap_intervals
from .ser_metrics import emotion_scores


def score_logits(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict:
    """
    All figures of a test set.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
        names: of the C classes.

    Returns:
        What `emotion_scores` gives, `intervals` (95 %, see `bootstrap_intervals`) and `calibration_error` of the softmax
        of the logits.
    """
    scores = emotion_scores(labels, logits.argmax(1), names)
    return {
        **scores,
        "intervals": bootstrap_intervals(scores["confusion"]),
        "calibration_error": expected_calibration_error(softmax(logits), labels),
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) of logits (N, C)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def format_scores(title: str, scores: dict, names: Sequence[str], remarks: Sequence[str]) -> str:
    """The scores as Markdown: a table of the figures in per cent, one of recalls and confusion, and the remarks."""
    lines = [f"## {title}", "", "| | per cent | 95 % interval |", "|---|---|---|"]
    for name, heading in (("wa", "WA"), ("ua", "UA"), ("macro_f1", "macro-F1")):
        low, high = scores["intervals"][name]
        lines.append(f"| {heading} | {100 * scores[name]:.1f} | {100 * low:.1f} to {100 * high:.1f} |")
    lines.append(f"| expected calibration error | {100 * scores['calibration_error']:.1f} | |")
    lines += ["", f"| label ({scores['utterances']} utterances) | recall | {' | '.join(f'as {name}' for name in names)} |"]
    lines.append("|---" * (2 + len(names)) + "|")
    for name, counts in zip(names, scores["confusion"], strict=True):
        recall = scores["recall"][name]
        figure = "none in the corpus" if recall is None else f"{100 * recall:.1f}"
        lines.append(f"| {name} | {figure} | {' | '.join(map(str, counts))} |")
    lines += ["", "Intervals draw utterances again within each class, and take them as independent.", *remarks]
    return "\n".join(lines) + "\n"

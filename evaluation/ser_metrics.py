"""WA, UA, macro-F1, recalls and the confusion matrix of speech emotion recognition, as one `evaluate` metric.

    metric = evaluate.load("evaluation/ser_metrics.py")  # the path of this file; no network is needed
    metric.compute(predictions=[0, 1], references=[0, 0], label_names=["ang", "neu"])

`SerMetrics()` gives the same metric from the package, and `emotion_scores` the same scores without `evaluate`. This file
must not import others of the package, since `evaluate.load` copies it alone.
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, f1_score


def emotion_scores(references: ArrayLike, predictions: ArrayLike, label_names: Sequence[str]) -> dict:
    """
    Score predicted classes.

    Args:
        references: (N,) class indices of the labels, 0 to C - 1.
        predictions: (N,) predicted class indices.
        label_names: names of the C classes in the order of their indices.

    Returns:
        `wa`: weighted accuracy, the share of utterances whose prediction is right.
        `ua`: unweighted accuracy, the mean recall of the classes that occur in the references.
        `macro_f1`: the mean F1 of the same classes.
        `recall`: the recall of every class; None for a class that does not occur in the references.
        `confusion`: counts, C rows for the references and C columns for the predictions.
        `missing`: names of the classes that do not occur in the references.
        `utterances`: the number N of utterances.

    Raises:
        ValueError: there is no utterance, the numbers of references and predictions differ, or an index is no class.
    """
    labels, predicted = np.asarray(references), np.asarray(predictions)
    if labels.shape != predicted.shape or labels.ndim != 1 or not labels.size:
        raise ValueError(
            f"references and predictions must be equally long and not empty, got {labels.shape}, {predicted.shape}"
        )
    classes = np.arange(len(label_names))
    if not (np.isin(labels, classes).all() and np.isin(predicted, classes).all()):
        raise ValueError(f"classes must be 0 to {len(label_names) - 1} ({', '.join(label_names)}), got others")
    confusion = confusion_matrix(labels, predicted, labels=classes)
    counts = confusion.sum(axis=1)
    present = classes[counts > 0]
    recalls = np.diag(confusion)[present] / counts[present]
    recall: dict[str, float | None] = dict.fromkeys(label_names)
    recall.update({label_names[int(index)]: float(value) for index, value in zip(present, recalls, strict=True)})
    return {
        "wa": float(np.mean(labels == predicted)),
        "ua": float(recalls.mean()),
        # scikit-learn is not annotated, and the checker takes the type of `zero_division` from its default, "warn".
        "macro_f1": float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0)),  # pyright: ignore[reportArgumentType]
        "recall": recall,
        "confusion": confusion.tolist(),
        "missing": [name for name, value in recall.items() if value is None],
        "utterances": int(labels.size),
    }


class SerMetrics(evaluate.Metric):
    """The scores of `emotion_scores` as a metric, which can collect batches with `add_batch`."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Weighted and unweighted accuracy, macro-F1, recalls and confusion of emotion classes.",
            citation="",
            inputs_description=emotion_scores.__doc__ or "",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references, label_names):
        return emotion_scores(references, predictions, label_names)

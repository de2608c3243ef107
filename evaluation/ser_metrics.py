"""WA, UA, macro-F1, recalls and the confusion matrix of speech emotion recognition, as one `evaluate` metric.

Works offline: `SerMetrics().compute(predictions=..., references=..., label_names=...)`, or
`evaluate.load("<this file>")`. `emotion_scores` is the same without `evaluate`.
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from sklearn.metrics import confusion_matrix, f1_score


def emotion_scores(references: Sequence[int], predictions: Sequence[int], label_names: Sequence[str]) -> dict:
    """
    Scores of predicted classes.

    Args:
        references, predictions: class indices, one for each utterance, 0 to C - 1.
        label_names: names of the C classes in the order of their indices.

    Returns:
        `wa`, weighted accuracy: the share of utterances that are right.
        `ua`, unweighted accuracy: the mean recall over the classes that occur in the references.
        `macro_f1`: the mean F1 over the same classes.
        `recall`: the recall of every class, None where the references have none of it.
        `confusion`: C rows of references, C columns of predictions.
        `missing`: names of the classes that the references have none of.
        `utterances`: their number.

    Raises:
        ValueError: no utterance, different counts, or an index that is no class.
    """
    references, predictions = np.asarray(references), np.asarray(predictions)
    if references.shape != predictions.shape or references.ndim != 1 or not references.size:
        raise ValueError(
            f"references and predictions must be equally long and not empty, got {references.shape}, {predictions.shape}"
        )
    classes = np.arange(len(label_names))
    if not (np.isin(references, classes).all() and np.isin(predictions, classes).all()):
        raise ValueError(f"classes must be 0 to {len(label_names) - 1} ({', '.join(label_names)}), got others")
    confusion = confusion_matrix(references, predictions, labels=classes)
    counts = confusion.sum(axis=1)
    present = classes[counts > 0]
    recalls = np.diag(confusion)[present] / counts[present]
    recall = {name: None for name in label_names}
    recall.update({label_names[index]: float(value) for index, value in zip(present, recalls, strict=True)})
    return {
        "wa": float(np.mean(references == predictions)),
        "ua": float(recalls.mean()),
        "macro_f1": float(f1_score(references, predictions, labels=present, average="macro", zero_division=0)),
        "recall": recall,
        "confusion": confusion.tolist(),
        "missing": [name for name, value in recall.items() if value is None],
        "utterances": int(references.size),
    }


class SerMetrics(evaluate.Metric):
    """`emotion_scores` for those who collect batches with `add_batch`."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Weighted and unweighted accuracy, macro-F1, recalls and confusion of emotion classes.",
            citation="",
            inputs_description=emotion_scores.__doc__,
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references, label_names):
        return emotion_scores(references, predictions, label_names)

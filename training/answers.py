"""What a trained model answers from everything that it may be given: both modalities, speech alone, words alone."""

from typing import Any

from accelerate import Accelerator
from scipy.special import softmax

from ..evaluation.calibration import expected_calibration_error, fit_temperature
from ..evaluation.ser_metrics import emotion_scores
from .batches import Collator, evaluation_loader
from .loop import predict


def modalities_of(config) -> list[str]:
    """From what a model can answer: from its own modality first, then from one of both where a branch can."""
    single = ["speech", "text"] if config.modality == "multimodal" and config.answers_from_one_modality else []
    return [config.modality, *single]


class Answers:
    """
    Logits of a trained model, by modality.

    Args:
        model: prepared by the accelerator.
        config: the model's configuration.
        batch_size, workers: of the loaders.
    """

    def __init__(self, model, config, processor, accelerator: Accelerator, batch_size: int, workers: int):
        self.model, self.config, self.processor, self.accelerator = model, config, processor, accelerator
        self.batch_size, self.workers = batch_size, workers

    def predict(self, rows, modality: str):
        """Labels (N,), logits (N, C) and attributes (N, A) or None of the rows, of which it gets one modality or both."""
        loader = evaluation_loader(rows, Collator(self.processor, modality), self.batch_size, self.workers)
        return predict(self.model, self.accelerator.prepare(loader), self.accelerator)

    def temperatures(self, validation_rows) -> dict[str, float] | None:
        """The temperature of every modality, fitted on validation utterances; None where there are none."""
        if not len(validation_rows):
            return None
        modalities = modalities_of(self.config)
        return {name: round(fit_temperature(*self.predict(validation_rows, name)[:2]), 4) for name in modalities}

    def score(self, test_rows, temperatures: dict[str, float] | None) -> tuple:
        """
        Score the test rows.

        Returns:
            Labels (N,), logits (N, C) and attributes (N, A) or None of the model's own modality; and for every modality that
            it answers from WA, UA, macro-F1, the expected calibration error, and where there are temperatures the
            temperature and the error with it.
        """
        answer: Any = None
        scores = {}
        for name in modalities_of(self.config):
            labels, logits, attributes = self.predict(test_rows, name)
            answer = answer or (labels, logits, attributes)
            figures = emotion_scores(labels, logits.argmax(1), list(self.config.id2label.values()))
            scores[name] = {figure: figures[figure] for figure in ("wa", "ua", "macro_f1")}
            scores[name]["calibration_error"] = expected_calibration_error(softmax(logits, axis=1), labels)
            if temperatures is not None:
                scores[name]["temperature"] = temperatures[name]
                error = expected_calibration_error(softmax(logits / temperatures[name], axis=1), labels)
                scores[name]["calibration_error_with_temperature"] = error
        return *answer, scores

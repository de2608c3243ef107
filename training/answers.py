"""What a trained model answers from everything that it may be given: both modalities, speech alone, words alone, silence."""

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from scipy.special import softmax
from transformers import AutoModel

from .. import LemerProcessor
from ..evaluation.calibration import expected_calibration_error, fit_temperature
from ..evaluation.run_folder import read_predictions
from ..evaluation.ser_metrics import emotion_scores
from ..runtime.files import write_atomically
from ..runtime.locks import hold_for_all
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

    def __init__(self, model, config, processor, accelerator: Accelerator, batch_size: int, workers: int = 0):
        self.model, self.config, self.processor, self.accelerator = model, config, processor, accelerator
        self.batch_size, self.workers = batch_size, workers

    def predict(self, rows, modality: str, silence: float = 0.0):
        """
        Labels (N,), logits (N, C) and attributes (N, A) or None of the rows, of which the model gets one modality or both,
        with so many seconds of `silence` before and after every recording.
        """
        collator = Collator(self.processor, modality, silence=silence)
        loader = evaluation_loader(rows, collator, self.batch_size, self.workers)
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


def add_silence_scores(folder: Path, test_rows, seconds: float, batch_size: int, mixed_precision: str) -> None:
    """
    Score the checkpoint of a finished fold and seed once more, with silence before and after every test recording.

    results.json of the folder gets `with_silence`: the `seconds`, WA, UA and macro-F1, and the share of the answers that
    `changed`. One that has it for as many seconds stays as it is.

    Args:
        folder: of the fold and seed.
        test_rows: those of its predictions.csv, in the same order.
        seconds: of digital zeros on either side.
    """
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=mixed_precision)
    path = folder / "results.json"
    with hold_for_all(folder, accelerator.is_main_process):
        results = json.loads(path.read_text())
        if results.get("with_silence", {}).get("seconds") == seconds:
            return
        before = read_predictions(folder / "predictions.csv")
        if before.ids != list(test_rows["id"]):
            raise ValueError(
                f"{folder / 'predictions.csv'} has other utterances than the corpus has for this fold: leave out --silence, "
                "or train anew in another --output_dir"
            )
        model = AutoModel.from_pretrained(folder / "checkpoint", dtype=torch.float32).eval()
        prepared = accelerator.prepare_model(model, evaluation_mode=True)
        processor = LemerProcessor.from_pretrained(folder / "checkpoint")
        answers = Answers(prepared, model.config, processor, accelerator, batch_size)
        labels, logits, _ = answers.predict(test_rows, model.config.modality, seconds)
        if accelerator.is_main_process:
            predicted = logits.argmax(1)
            scores = emotion_scores(labels, predicted, before.names)
            results["with_silence"] = {
                "seconds": seconds,
                **{figure: scores[figure] for figure in ("wa", "ua", "macro_f1")},
                "changed": float((predicted != before.predicted).mean()),
            }
            write_atomically(path, json.dumps(results, indent=1))
        accelerator.wait_for_everyone()

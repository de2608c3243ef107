"""Writes finished runs as train.py leaves them, for tests, without training: tiny models and made-up predictions.

run = write_run(tmp_path / "C1")                          # two folds, two seeds
run = write_run(tmp_path / "B1", modality="speech")
"""

import json
from pathlib import Path

import numpy as np
from tiny import tiny_model, tiny_processor

from lemer.evaluation.run_folder import format_predictions
from lemer.evaluation.ser_metrics import emotion_scores
from lemer.evaluation.summary import summarise

LABELS = ("ang", "hap", "neu", "sad")
KEY_WORDS = {"ang": ["hate"], "hap": ["great", "won"], "neu": ["table"], "sad": ["late"]}
PROTOCOL = {
    "recipe": "C1",
    "set": [],
    "model": "lemer",
    "corpus": "iemocap",
    "validation_share": 0.1,
    "speech_model": "facebook/wav2vec2-conformer-rel-pos-large",
    "text_model": "google-bert/bert-base-uncased",
    "second_stage": "on the utterances of the training sessions, without labels",
    "split": "leave one session out",
    "selection": "best UA on validation dialogs of the training sessions",
    "history": "every earlier turn",
    "words": 9,
    "codes": 100,
    "epochs": 2,
    "processor": {"max_history": 3},
    "command": "python train.py --data_dir /home/ann/IEMOCAP_full_release",
}


def write_run(
    folder: Path, folds=(1, 2), seeds=(0, 1), protocol: dict | None = None, comparable=False, model=None, **changes
):
    """
    A finished run; each fold and seed has a checkpoint of its own and other figures.

    Args:
        protocol: changes of it.
        comparable: scored on the standard corpus.
        model: what every checkpoint holds, by default a `tiny_model(**changes)` for each.

    Returns:
        The folder.
    """
    folder, runs = Path(folder), []
    changes = {"label_words": KEY_WORDS, **changes}
    for fold in folds:
        for seed in seeds:
            part = folder / f"fold{fold}" / f"seed{seed}"
            random = np.random.default_rng([fold, seed])
            labels = np.arange(8 + 4 * fold) % 4
            logits = random.normal(size=(len(labels), 4)) + 2 * np.eye(4)[labels]
            ids = [f"Ses0{fold}F_impro01_F{index:03d}" for index in range(len(labels))]
            results = {
                "fold": fold,
                "seed": seed,
                **emotion_scores(labels, logits.argmax(1), LABELS),
                "labels": list(LABELS),
                "selected": "best UA on validation, update 20",
                "split": {"train": 30, "validation": 4, "test": len(labels)},
            }
            checkpoint = part / "checkpoint"
            (tiny_model(seed=10 * fold + seed, **changes) if model is None else model).save_pretrained(checkpoint)
            tiny_processor(max_history=3).save_pretrained(checkpoint)
            (part / "predictions.csv").write_text(format_predictions(ids, labels, logits, LABELS))
            (part / "results.json").write_text(json.dumps(results))
            runs.append(results)
    row = {"recipe": "C1", "comparable": comparable, **summarise(runs, {"wa": 82.4, "ua": 83.11})}
    (folder / "protocol.json").write_text(json.dumps({**PROTOCOL, **(protocol or {})}))
    (folder / "results.json").write_text(json.dumps(row))
    return folder

"""Writes run folders as train.py leaves them, with predictions drawn at random, for tests of what reads them.

write_run(tmp_path / "C1", "C1", folds=(1, 2), seeds=(0, 1), epochs=3)
"""

import json
import zlib
from pathlib import Path

import numpy as np

from lemer.evaluation.run_folder import format_predictions
from lemer.evaluation.ser_metrics import emotion_scores

NAMES = ("ang", "hap", "neu", "sad")
PROTOCOL = {
    "corpus": "iemocap",
    "corpus_fingerprint": "f1",
    "split": "leave one session out",
    "selection": "last update",
    "validation_share": 0.0,
    "history": "every earlier turn",
    "set": [],
    "config": {},
    "processor": {},
    "epochs": 3,
    "command": "python train.py --data_dir RELEASE",
}
UTTERANCES = 24  # of a fold


def write_run(
    folder: Path,
    recipe: str = "C1",
    folds=(1, 2),
    seeds=(0,),
    answers: dict | None = None,
    names=NAMES,
    comparable: bool = False,
    **protocol,
) -> Path:
    """
    A finished run.

    Args:
        answers: (fold, seed) -> ids, labels and logits; otherwise random ones, of half improvised and half scripted turns,
            the same utterances and labels in every run.
        protocol: changes to `PROTOCOL`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    (folder / "protocol.json").write_text(json.dumps({"recipe": recipe, **PROTOCOL, **protocol}))
    for fold in folds:
        for seed in seeds:
            ids, labels, logits = (answers or {}).get((fold, seed)) or random_answers(folder.name, fold, seed, len(names))
            write_part(folder, fold, seed, ids, labels, logits, names)
    results = {"recipe": recipe, "comparable": comparable, "folds": list(folds), "seeds": list(seeds)}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def random_answers(name: str, fold: int, seed: int, classes: int = 4):
    ids = [f"Ses0{fold}F_{('impro', 'script')[n % 2]}01_F{n:03d}" for n in range(UTTERANCES)]
    labels = np.arange(UTTERANCES) * 7 // 3 % classes
    logits = np.random.default_rng([zlib.crc32(name.encode()), fold, seed]).normal(size=(UTTERANCES, classes))
    logits[np.arange(UTTERANCES), labels] += 1.0
    return ids, labels, logits


def write_part(folder: Path, fold: int, seed: int, ids, labels, logits, names=NAMES) -> Path:
    part = folder / f"fold{fold}" / f"seed{seed}"
    part.mkdir(parents=True)
    (part / "predictions.csv").write_text(format_predictions(ids, labels, logits, names))
    results = {"fold": fold, "seed": seed, **emotion_scores(labels, logits.argmax(1), names), "labels": list(names)}
    results.update(parameters=1000, trained_parameters=900, split={"train": 9, "validation": 0, "test": len(ids)})
    (part / "results.json").write_text(json.dumps(results))
    lines = [{"step": step, "epoch": step // 2, "loss": 2.0 - step / 10} for step in range(6)]
    (part / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return part

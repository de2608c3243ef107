"""Read and check a run folder of train.py: the protocol, and the predictions and scores of every fold and seed."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.files import format_csv, from_cell
from .ser_metrics import emotion_scores


class UnfinishedRun(ValueError):
    """A run that train.py has not finished; the message says how far it is."""


@dataclass(frozen=True)
class Predictions:
    """
    predictions.csv of one fold and seed: N test utterances, C classes.

    Attributes:
        ids: the N utterances, each once.
        labels: (N,) class indices.
        logits: (N, C).
        names: names of the C classes, in the order of the logits.
    """

    ids: list[str]
    labels: np.ndarray
    logits: np.ndarray
    names: list[str]

    @property
    def predicted(self) -> np.ndarray:
        """(N,) class indices of the highest logits."""
        return self.logits.argmax(1)

    @property
    def right(self) -> np.ndarray:
        """(N,) whether the predicted class is the label."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class FoldRun:
    """One fold and seed: its folder, its predictions, and results.json with the scores recomputed from the predictions."""

    folder: Path
    results: dict
    predictions: Predictions


@dataclass(frozen=True)
class Run:
    """
    A finished run folder.

    Attributes:
        protocol: the settings of the run, from protocol.json.
        comparable: whether the run was scored on the utterances that the literature uses.
        parts: (fold, seed) -> `FoldRun`, in the order of folds, then seeds.
    """

    folder: Path
    protocol: dict
    comparable: bool
    parts: dict[tuple[int, int], FoldRun]

    @property
    def folds(self) -> list[int]:
        return sorted({fold for fold, _ in self.parts})

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, seed in self.parts})

    @property
    def names(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return next(iter(self.parts.values())).predictions.names


def format_predictions(ids: Sequence[str], labels: np.ndarray, logits: np.ndarray, names: Sequence[str]) -> str:
    """The text of predictions.csv: id, label, prediction and the logit of every class; scores are recomputed from it."""
    rows = (
        [name, names[label], names[row.argmax()], *map(float, row)]
        for name, label, row in zip(ids, labels, logits, strict=True)
    )
    return format_csv(["id", "label", "prediction", *names], rows)


def read_predictions(path: Path) -> Predictions:
    """
    Read a predictions.csv.

    Raises:
        ValueError: the file is damaged: its header is another, a label has no logit, a logit is not finite, an id occurs
            twice, a prediction is not the class of the highest logit, or there is no utterance.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [[from_cell(cell) for cell in row] for row in csv.reader(file)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error
    header = rows[0] if rows else []
    names = header[3:]
    if header[:3] != ["id", "label", "prediction"] or len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"{path} begins with {header}, expected id, label, prediction and one column for each class")
    if len(rows) == 1:
        raise ValueError(f"{path} has no utterance")
    index = {name: number for number, name in enumerate(names)}
    ids, labels, logits = [], [], []
    for number, row in enumerate(rows[1:], start=2):
        try:
            name, label, prediction, *columns = row
            values = np.array([float(column) for column in columns])
            if len(values) != len(names) or not np.isfinite(values).all() or index[prediction] != values.argmax():
                raise ValueError("the logits do not fit the header or the prediction")
            labels.append(index[label])
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}, line {number} is damaged: {','.join(row)[:100]}") from error
        ids.append(name)
        logits.append(values)
    if len(set(ids)) < len(ids):
        raise ValueError(f"{path} has {len(ids) - len(set(ids))} utterances more than once")
    return Predictions(ids, np.array(labels), np.stack(logits), names)


def read_json(path: Path) -> dict:
    """Read a JSON object; a `ValueError` names a file that holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def read_log(path: Path) -> list[dict]:
    """The entries of a log.jsonl up to the first line that is no JSON object; an empty list without a log."""
    entries = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not isinstance(entry, dict):
                break
            entries.append(entry)
    return entries


def read_run(folder: Path) -> Run:
    """
    Read a run folder with all its predictions.

    Raises:
        UnfinishedRun: a fold or a seed is missing or not finished.
        ValueError: a file is missing or damaged, or the scores in a results.json differ from those of its predictions.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no run folder {folder}")
    if not (folder / "protocol.json").exists():
        raise ValueError(f"{folder} has no protocol.json: it is no run of train.py")
    protocol = read_json(folder / "protocol.json")
    folders = sorted(path for path in folder.glob("fold*/seed*") if path.is_dir() and path.suffix != ".tmp")
    open_parts = [part for part in folders if not (part / "results.json").exists()]
    if open_parts or not (folder / "results.json").exists():
        done = len(folders) - len(open_parts)
        begun = f"{done} of the {len(folders)} folds and seeds begun are done" if folders else "no fold is begun"
        progress = [begun, *(_progress(part, protocol) for part in open_parts)]
        raise UnfinishedRun(f"{folder} is not finished: {'; '.join(progress)}")
    parts = {}
    for part in folders:
        run = _read_part(part)
        parts[run.results["fold"], run.results["seed"]] = run
    results = read_json(folder / "results.json")
    if not all(isinstance(results.get(name), list) for name in ("folds", "seeds")):
        raise ValueError(f"{folder / 'results.json'} has no lists of folds and seeds")
    run = Run(folder, protocol, bool(results.get("comparable", False)), dict(sorted(parts.items())))
    expected = [(fold, seed) for fold in results["folds"] for seed in results["seeds"]]
    missing = [f"fold {fold}, seed {seed}" for fold, seed in expected if (fold, seed) not in parts]
    if missing or not parts:
        raise UnfinishedRun(f"{folder} has no {'; '.join(missing) or 'fold'}")
    if len(parts) != len(run.folds) * len(run.seeds):
        raise UnfinishedRun(f"{folder} has not the same seeds in every fold: {sorted(parts)} as (fold, seed)")
    for part in parts.values():
        if part.predictions.names != run.names:
            raise ValueError(f"{part.folder} has the classes {part.predictions.names}, other folds {run.names}")
    return run


def _progress(part: Path, protocol: dict) -> str:
    """How far an unfinished fold is, according to its log."""
    epochs = [entry["epoch"] + 1 for entry in read_log(part / "log.jsonl") if isinstance(entry.get("epoch"), int)]
    where = f"in epoch {epochs[-1]} of {protocol.get('epochs', '?')}" if epochs else "before its first update"
    return f"{part.parent.name}/{part.name} {where}"


def _read_part(part: Path) -> FoldRun:
    results = read_json(part / "results.json")
    wrong = [name for name in ("fold", "seed", "wa", "ua") if not isinstance(results.get(name), int | float)]
    if wrong:
        raise ValueError(f"{part / 'results.json'} has no number as {', '.join(wrong)}")
    if (part.parent.name, part.name) != (f"fold{results['fold']}", f"seed{results['seed']}"):
        raise ValueError(f"{part} holds the results of fold {results['fold']}, seed {results['seed']}")
    path = part / "predictions.csv"
    if not path.exists():
        raise ValueError(f"{part} has results but no predictions.csv")
    predictions = read_predictions(path)
    scores = emotion_scores(predictions.labels, predictions.predicted, predictions.names)
    for name in ("wa", "ua"):
        if abs(scores[name] - results[name]) > 1e-6:
            raise ValueError(
                f"{part / 'results.json'} says {name.upper()} {100 * results[name]:.2f}, its predictions give "
                f"{100 * scores[name]:.2f}: the two are not of the same run"
            )
    return FoldRun(part, {**results, **scores}, predictions)

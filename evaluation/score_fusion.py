"""Score fusion: add the logits of two finished runs, utterance by utterance, without training.

    python train.py --recipe score_fusion --output_dir runs/score_fusion

fuses runs/A5 (text) and runs/B5 (speech), as the row of the paper's table 2; `--fuse FIRST SECOND` names other runs.
"""

import json
import shlex
from pathlib import Path

from ..recipes import RECIPES
from ..runtime.files import whole_folder, write_atomically
from .protocol import check_fusion_output
from .run_folder import FoldRun, Predictions, Run, format_predictions, read_run
from .ser_metrics import emotion_scores
from .summary import format_summary, paper_figures, summarise

# Both runs must have the same value of each, so that they are scored on the same utterances and selected by the same rule.
# Model, towers, labels, history and training may differ.
MUST_AGREE = ("corpus", "corpus_fingerprint", "transcripts", "split", "selection", "validation_share")
OF_ONE_RUN = ("recipe", "set", "command", "model", "config", "processor", "second_stage")
OF_ONE_RUN += ("semantic_labels", "tonal_labels", "words", "codes")


def fuse_runs(first: Path, second: Path, output: Path) -> dict:
    """
    Add the logits of two finished runs and score the sums.

    Writes OUTPUT/fold<k>/seed<s>/predictions.csv and results.json, and OUTPUT/protocol.json, results.json and results.md,
    as train.py does. A second call with the same runs replaces them.

    Args:
        first, second: the two run folders.
        output: folder of the fused run.

    Returns:
        the row, as `summarise` gives it.

    Raises:
        ValueError: a run is unfinished or damaged; the runs differ in corpus, transcripts, split, rule of selection, folds,
            seeds, utterances or labels; or `output` holds something else.
    """
    first, second, output = Path(first), Path(second), Path(output)
    if first.resolve() == second.resolve():
        raise ValueError(f"score fusion needs two runs, got {first} twice")
    runs = read_run(first), read_run(second)
    check_fusable(*runs)
    described = [{name: run.protocol.get(name) for name in OF_ONE_RUN} for run in runs]
    command = ["python", "train.py", "--recipe", "score_fusion", "--fuse", str(first), str(second)]
    protocols = [run.protocol for run in runs]
    protocol = {
        "recipe": "score_fusion",
        **{
            name: value for name, value in protocols[0].items() if name not in OF_ONE_RUN and protocols[1].get(name) == value
        },
        "fused": described,
        "command": shlex.join([*command, "--output_dir", str(output)]),
    }
    check_fusion_output(output, protocol)

    results, comparable = [], all(run.comparable for run in runs)
    with whole_folder(output) as folder:
        for (fold, seed), part in runs[0].parts.items():
            results.append(_fuse_fold(part, runs[1].parts[fold, seed], fold, seed, folder / f"fold{fold}" / f"seed{seed}"))
        summary = summarise(results, paper_figures(protocol, RECIPES["score_fusion"]))
        row = {"recipe": "score_fusion", "comparable": comparable, **summary}
        title = f"score_fusion: sum of the logits of {described[0]['recipe']} and {described[1]['recipe']}"
        write_atomically(folder / "protocol.json", json.dumps(protocol, indent=1))
        write_atomically(folder / "results.json", json.dumps(row, indent=1))
        write_atomically(folder / "results.md", format_summary(title, results, summary, comparable))
    return summary


def _fuse_fold(first: FoldRun, second: FoldRun, fold: int, seed: int, folder: Path) -> dict:
    """Add the logits of one fold and seed, write predictions.csv and results.json to a new folder; return the results."""
    fused = add_logits(first.predictions, second.predictions)
    results = {
        "fold": fold,
        "seed": seed,
        **emotion_scores(fused.labels, fused.predicted, fused.names),
        "labels": fused.names,
        "selected": "nothing: the sum of two finished runs",
        "split": first.results.get("split"),
        **{name: first.results.get(name, 0) + second.results.get(name, 0) for name in ("parameters", "trained_parameters")},
    }
    folder.mkdir(parents=True)
    lines = format_predictions(fused.ids, fused.labels, fused.logits, fused.names)
    write_atomically(folder / "predictions.csv", lines)
    write_atomically(folder / "results.json", json.dumps(results, indent=1))
    return results


def add_logits(first: Predictions, second: Predictions) -> Predictions:
    """The sum of the logits of the same utterances, in the order of the first."""
    rows = {name: row for row, name in enumerate(second.ids)}
    order = [rows[name] for name in first.ids]
    return Predictions(first.ids, first.labels, first.logits + second.logits[order], first.names)


def check_fusable(first: Run, second: Run) -> None:
    """Raise a `ValueError` that names everything that two runs must share but do not."""
    differing = [
        f"{name} ({first.protocol.get(name)!r} and {second.protocol.get(name)!r})"
        for name in MUST_AGREE
        if first.protocol.get(name) != second.protocol.get(name)
    ]
    for name, of_first, of_second in (
        ("folds", first.folds, second.folds),
        ("seeds", first.seeds, second.seeds),
        ("classes", first.names, second.names),
    ):
        if of_first != of_second:
            differing.append(f"{name} ({of_first} and {of_second})")
    if not differing:
        for (fold, seed), part in first.parts.items():
            predictions = part.predictions, second.parts[fold, seed].predictions
            labels, other_labels = (dict(zip(p.ids, p.labels.tolist(), strict=True)) for p in predictions)
            apart = [name for name in {**labels, **other_labels} if labels.get(name) != other_labels.get(name)]
            if apart:
                differing.append(f"utterances or labels of fold {fold}, seed {seed} ({len(apart)}, such as {apart[0]})")
            splits = part.results.get("split"), second.parts[fold, seed].results.get("split")
            if splits[0] != splits[1]:
                differing.append(f"split of fold {fold}, seed {seed} ({splits[0]} and {splits[1]})")
    if differing:
        raise ValueError(
            f"{first.folder} and {second.folder} cannot be fused, they differ in {'; '.join(differing)}: train both on the "
            "same corpus with the same folds, seeds and rule of selection"
        )

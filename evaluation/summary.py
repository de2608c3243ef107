"""Summarise the results of all folds and seeds as one row: means, deviation over the seeds, pooled scores, the paper's."""

from collections import defaultdict
from pathlib import PurePath

import numpy as np

from ..recipes import Recipe, get_recipe

FIGURES = ("wa", "ua", "macro_f1")
MODALITIES = {"multimodal": "speech and words", "speech": "speech alone", "text": "words alone"}


def summarise(runs: list[dict], paper: dict) -> dict:
    """
    Summarise a run as one row of a table.

    Args:
        runs: the results of every fold and seed, each with `fold`, `seed`, the scores and the confusion matrix.
        paper: the paper's `wa` and `ua` in per cent, each None if the paper has none.

    Returns:
        `folds`, `seeds` and `paper`; `mean`: over the folds of each seed, then over the seeds; `deviation`: the standard
        deviation of the seeds' means, None with one seed; `pooled`: WA and UA with the utterances of all folds as one test
        set, mean over the seeds; and of a run on several corpora `by_corpus`: the same of each, with its
        `utterances`; `ccc` of attributes, where the model predicts some.
    """
    by_seed = defaultdict(list)
    for run in runs:
        by_seed[run["seed"]].append(run)
    means = {name: [np.mean([run[name] for run in folds]) for folds in by_seed.values()] for name in FIGURES}
    corpora = list(dict.fromkeys(name for run in runs for name in run.get("by_corpus", {})))
    by_corpus = {
        name: _pool([[run["by_corpus"][name] for run in folds if name in run["by_corpus"]] for folds in by_seed.values()])
        for name in corpora
    }
    several = len(by_seed) > 1
    return {
        "folds": sorted({run["fold"] for run in runs}),
        "seeds": sorted(by_seed),
        "mean": {name: float(np.mean(values)) for name, values in means.items()},
        "deviation": {name: float(np.std(values, ddof=1)) if several else None for name, values in means.items()},
        "pooled": {name: value for name, value in _pool(list(by_seed.values())).items() if name != "utterances"},
        **({"by_corpus": by_corpus} if by_corpus else {}),
        "paper": paper,
        **_summarise_attributes(by_seed),
    }


def _pool(seeds: list[list[dict]]) -> dict[str, float]:
    """WA and UA with the utterances of all folds as one test set, mean over the seeds, and the number of utterances."""
    values = {"wa": [], "ua": [], "utterances": []}
    for folds in filter(None, seeds):
        confusion = np.sum([run["confusion"] for run in folds], axis=0)
        counts = confusion.sum(axis=1)
        values["wa"].append(np.trace(confusion) / counts.sum())
        values["ua"].append(np.mean(np.diag(confusion)[counts > 0] / counts[counts > 0]))
        values["utterances"].append(counts.sum())
    return {name: float(np.mean(numbers)) for name, numbers in values.items()}


def _summarise_attributes(by_seed: dict[int, list[dict]]) -> dict:
    """`ccc`: of every attribute the mean over the folds of each seed, then over the seeds, and its deviation."""
    folds = [run for runs in by_seed.values() for run in runs]
    if not folds or "ccc" not in folds[0]:
        return {}
    summary = {}
    for name in folds[0]["ccc"]:
        seeds = [[run["ccc"][name] for run in runs if run["ccc"][name] is not None] for runs in by_seed.values()]
        means = [np.mean(values) for values in seeds if values]
        deviation = float(np.std(means, ddof=1)) if len(means) > 1 else None
        summary[name] = {"mean": float(np.mean(means)) if means else None, "deviation": deviation}
    return {"ccc": summary}


def tower_name(tower: str) -> str:
    """A short name of a tower: the run that it is of, a name on the Hub, or the last folder of a path."""
    parts = list(PurePath(tower).parts)
    by_fold = [number for number, part in enumerate(parts) if "{fold}" in part]
    if by_fold:
        return parts[max(by_fold[0] - 1, 0)]
    return tower if len(parts) < 3 and not PurePath(tower).is_absolute() else parts[-1]


def recipe_changes(protocol: dict, recipe: Recipe) -> list[str]:
    """The settings of a run that differ from those of its recipe, as text; of a score fusion those of both its runs."""
    changes = [str(setting) for setting in protocol.get("set") or []]
    for name in ("words", "codes", "semantic_labels", "tonal_labels"):
        if protocol.get(name) not in (None, getattr(recipe, name)):
            changes.append(f"{name}={protocol[name]}")
    if recipe.fuses:
        runs = [{**protocol, "fused": None, **run} for run in protocol.get("fused") or []]
        fused = [str(run["recipe"]) for run in runs]
        changes = [f"fuses {' and '.join(fused)}"] if fused and set(fused) != set(recipe.fuses) else []
        return changes + [
            f"{run['recipe']}: {change}" for run in runs for change in recipe_changes(run, get_recipe(str(run["recipe"])))
        ]
    unused = {"speech": "text", "text": "speech"}.get((protocol.get("config") or {}).get("modality", ""))
    by_fold = {
        kind: tower
        for kind in ("speech", "text")
        if kind != unused and "{fold}" in (tower := str(protocol.get(f"{kind}_model")))
    }
    changes += [f"{kind} tower of {tower_name(tower)}" for kind, tower in by_fold.items()]
    if recipe.second_stage and unused != "speech" and "speech" not in by_fold and not protocol.get("second_stage"):
        changes.append("no second stage")
    return changes


def what_it_is(protocol: dict, recipe: Recipe) -> str:
    """What a run is in words: its recipe, and of a score fusion the two rows whose logits were added."""
    fused = [str(run["recipe"]) for run in protocol.get("fused") or []]
    return f"sum of the logits of {' and '.join(fused)}" if fused else recipe.description


def paper_figures(protocol: dict, recipe: Recipe) -> dict[str, float | None]:
    """The paper's `wa` and `ua` in per cent of the row that a run is; None of a run that changes its recipe."""
    changed = bool(recipe_changes(protocol, recipe))
    return {"wa": None if changed else recipe.paper_wa, "ua": None if changed else recipe.paper_ua}


def format_summary(title: str, runs: list[dict], summary: dict, comparable: bool) -> str:
    """
    The row and its folds as a Markdown table in per cent.

    Args:
        title: heading of the table.
        runs: the results of every fold and seed.
        summary: as `summarise` gives it.
        comparable: whether the run was scored on the same utterances as the paper.
    """
    lines = [f"## {title}", "", "| | WA | UA | macro-F1 | utterances |", "|---|---|---|---|---|"]
    for run in sorted(runs, key=lambda run: (run["fold"], run["seed"])):
        figures = " | ".join(f"{100 * run[name]:.2f}" for name in FIGURES)
        name = run.get("fold_name", str(run["fold"]))
        fold = str(run["fold"]) if name == str(run["fold"]) else f"{run['fold']} ({name})"
        lines.append(f"| fold {fold}, seed {run['seed']} | {figures} | {run['utterances']} |")
    mean, deviation, pooled, paper = (summary[key] for key in ("mean", "deviation", "pooled", "paper"))
    cells = []
    for name in FIGURES:
        spread = "" if deviation[name] is None else f" ± {100 * deviation[name]:.2f}"
        cells.append(f"{100 * mean[name]:.2f}{spread}")
    total = sum(run["utterances"] for run in runs) // len(summary["seeds"])
    lines.append(f"| **mean over folds** | {' | '.join(cells)} | {total} |")
    lines.append(f"| pooled | {100 * pooled['wa']:.2f} | {100 * pooled['ua']:.2f} | | {total} |")
    for name, scores in summary.get("by_corpus", {}).items():
        figures = f"{100 * scores['wa']:.2f} | {100 * scores['ua']:.2f}"
        lines.append(f"| {name}, pooled | {figures} | | {scores['utterances']:.0f} |")
    for attribute, figures in summary.get("ccc", {}).items():
        spread = "" if figures["deviation"] is None else f" ± {figures['deviation']:.3f}"
        figure = "not known" if figures["mean"] is None else f"CCC {figures['mean']:.3f}{spread}"
        lines.append(f"| {attribute} | {figure} | | | |")
    if silent := silence_scores(runs):
        figures = " | ".join(f"{100 * silent[name]:.2f}" for name in FIGURES)
        lines.append(f"| with {silent['seconds']:g} s of silence on both sides | {figures} | {total} |")
    if paper.get("wa") is not None:
        name = "paper" if comparable else "paper, on IEMOCAP: not this corpus"
        lines.append(f"| {name} | {paper['wa']:.2f} | {paper['ua']:.2f} | | 5531 |")
    return "\n".join([*lines, *_by_modality(runs)]) + "\n"


def silence_scores(runs: list[dict]) -> dict | None:
    """
    What the runs answer with silence around the recordings.

    Args:
        runs: the results of every fold and seed.

    Returns:
        Of `with_silence` of all results the `seconds`, and the means over the folds of each seed, then over the seeds, of
        `wa`, `ua`, `macro_f1` and `changed`; `deviation` of UA over the seeds, None with one. None where a result has no
        such scores, or they are of other seconds.
    """
    seconds = {(run.get("with_silence") or {}).get("seconds") for run in runs}
    if None in seconds or len(seconds) != 1:
        return None
    by_seed = defaultdict(list)
    for run in runs:
        by_seed[run["seed"]].append(run["with_silence"])
    names = (*FIGURES, "changed")
    means = {name: [np.mean([scores[name] for scores in folds]) for folds in by_seed.values()] for name in names}
    deviation = float(np.std(means["ua"], ddof=1)) if len(by_seed) > 1 else None
    return {
        "seconds": seconds.pop(),
        **{name: float(np.mean(values)) for name, values in means.items()},
        "deviation": deviation,
    }


def _by_modality(runs: list[dict]) -> list[str]:
    """What the runs answer from both modalities and from one, and how far their scores can be believed, if they say so."""
    if not all(run.get("by_modality") for run in runs):
        return []
    figures = {"wa": "WA", "ua": "UA", "calibration_error": "ECE", "calibration_error_with_temperature": "with temperature"}
    lines = ["", "Mean over folds and seeds; ECE is the expected calibration error of the scores.", ""]
    lines += [f"| answer from | {' | '.join(figures.values())} |", f"|---{'|---' * len(figures)}|"]
    for modality in runs[0]["by_modality"]:
        found = [run["by_modality"][modality] for run in runs]
        cells = [
            f"{100 * np.mean([scores[name] for scores in found]):.2f}" if all(name in scores for scores in found) else "-"
            for name in figures
        ]
        lines.append(f"| {MODALITIES[modality]} | {' | '.join(cells)} |")
    return lines

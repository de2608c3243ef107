"""Rows of a report: reads every run folder below a folder, recomputes its scores, and groups the runs by protocol."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...recipes import RECIPES, get_recipe
from ..run_folder import FoldRun, Run, UnfinishedRun, read_log, read_run
from ..ser_metrics import emotion_scores
from ..significance import Comparison, compare
from ..summary import MODALITIES, paper_figures, recipe_changes, silence_scores, summarise, what_it_is

# Rows may be compared if they share these settings and the folds, seeds and classes.
PROTOCOL = ("corpus", "corpus_fingerprint", "transcripts", "split", "selection", "validation_share")
STYLES = {"improvised": "_impro", "scripted": "_script"}  # what IEMOCAP's ids contain


@dataclass
class Row:
    """
    A finished run and its scores, which are shares between 0 and 1, recomputed from its predictions.

    Attributes:
        name: the recipe, with its modality where that is not the recipe's, and the path where the folder has another name.
        path: the run folder, below the folder of all runs.
        description: of the recipe.
        changes: settings that differ from those of the recipe.
        paper: the paper's WA and UA in per cent, if the run is a row of the paper with nothing changed.
        summary: as `summarise` gives it.
        pooled: scores, recalls, confusion matrix and number of utterances of all folds as one test set.
        styles: "improvised" and "scripted" -> WA, UA and number of utterances.
        silent: scores with silence around the recordings, as `silence_scores` gives them.
        has_other_modality: whether its modality is not that of its recipe.
    """

    name: str
    path: str
    run: Run
    description: str
    changes: list[str]
    paper: tuple[float, float] | None
    summary: dict
    pooled: dict
    styles: dict[str, dict]
    silent: dict | None = None
    has_other_modality: bool = False

    @property
    def recipe(self) -> str:
        return str(self.run.protocol.get("recipe", "?"))


@dataclass
class Group:
    """
    Rows that may be compared with each other: a table of the report.

    Attributes:
        number: the number of the table, from 1.
        facts: the settings that all rows share.
        comparable: whether the rows may be compared with the paper: the same utterances and all five folds.
    """

    number: int
    facts: dict
    comparable: bool
    rows: list[Row]

    @cached_property
    def neighbours(self) -> list[tuple[Row, Row, Comparison | str]]:
        """Pairs of neighbouring rows with their comparison, or with a text that says why they cannot be compared."""
        answers = [{key: part.predictions for key, part in row.run.parts.items()} for row in self.rows]
        pairs = []
        for number, (first, second) in enumerate(zip(self.rows, self.rows[1:], strict=False)):
            try:
                pairs.append((first, second, compare(answers[number], answers[number + 1])))
            except ValueError as error:
                pairs.append((first, second, str(error)))
        return pairs


def find_runs(root: Path) -> tuple[list[Run], list[str], list[str]]:
    """The finished runs below a folder, a line for each unfinished run, and a line for each damaged one."""
    folders = {path.parents[1] for path in root.rglob("fold*/seed*") if path.is_dir()}
    settings = [path for path in root.rglob("protocol.json") if path.is_file()]
    folders |= {
        path.parent for path in settings if b'"recipe"' in path.read_bytes()
    }  # second stages of pretrain.py have none
    folders = {path for path in folders if not any(part.endswith(".tmp") for part in path.relative_to(root).parts)}
    runs, unfinished, damaged = [], [], []
    for folder in sorted(folders):
        try:
            run = read_run(folder)
            if "recipe" not in run.protocol:
                raise ValueError(f"{folder / 'protocol.json'} names no recipe: it is no run of train.py")
            runs.append(run)
        except UnfinishedRun as error:
            unfinished.append(str(error).replace(f"{root}/", ""))
        except (ValueError, OSError, TypeError, KeyError) as error:
            text = str(error) if str(folder) in str(error) else f"{folder}: {error!r}"
            damaged.append(text.replace(f"{root}/", ""))
    return runs, unfinished, damaged


def make_row(run: Run, root: Path) -> Row:
    """The row of a run, with all its scores."""
    protocol, recipe = run.protocol, None
    name = str(protocol["recipe"])
    try:
        recipe = get_recipe(name)
    except ValueError:
        changes = ["a recipe that this version does not know"]
    else:
        changes = recipe_changes(protocol, recipe)
    path = str(run.folder.relative_to(root)) if run.folder != root else run.folder.name
    # A row without one of its modalities is another row, which does not stand where the paper's stands.
    modality = str((protocol.get("config") or {}).get("modality", ""))
    of_recipe = recipe.config.get("modality", "multimodal") if recipe and not recipe.fuses else modality
    is_other = modality not in ("", of_recipe)
    label = f"{name}, {MODALITIES[modality]}" if is_other else name
    label += "" if run.folder.name == name else f" ({path})"
    scores = [{**part.results, "fold": fold, "seed": seed} for (fold, seed), part in run.parts.items()]
    figures = {} if recipe is None else paper_figures(protocol, recipe)
    wa, ua = figures.get("wa"), figures.get("ua")
    paper = None if wa is None or ua is None else (wa, ua)
    pooled = pooled_scores(run)
    assert pooled is not None, f"{run.folder} has no utterance, which read_run refuses"
    styles = {style: pooled_scores(run, mark) for style, mark in STYLES.items()}
    return Row(
        name=label,
        path=path,
        run=run,
        description=what_it_is(protocol, recipe) if recipe else "",
        changes=changes,
        paper=paper,
        summary=summarise(scores, {}),
        pooled=pooled,
        styles={style: scores for style, scores in styles.items() if scores is not None},
        silent=silence_scores(scores),
        has_other_modality=is_other,
    )


def pooled_scores(run: Run, mark: str = "") -> dict | None:
    """Scores of the utterances with `mark` in their ids, all folds as one test set, means over the seeds, or None."""
    by_seed = []
    for seed in run.seeds:
        parts = [part.predictions for (_, its_seed), part in run.parts.items() if its_seed == seed]
        chosen = [np.array([mark in name for name in part.ids]) for part in parts]
        labels = np.concatenate([part.labels[keep] for part, keep in zip(parts, chosen, strict=True)])
        predicted = np.concatenate([part.predicted[keep] for part, keep in zip(parts, chosen, strict=True)])
        if not len(labels):
            return None
        by_seed.append(emotion_scores(labels, predicted, run.names))
    mean: dict = {name: float(np.mean([scores[name] for scores in by_seed])) for name in ("wa", "ua", "utterances")}
    recalls = {name: [scores["recall"][name] for scores in by_seed] for name in run.names}
    mean["recall"] = {name: None if None in values else float(np.mean(values)) for name, values in recalls.items()}
    mean["confusion"] = np.mean([scores["confusion"] for scores in by_seed], axis=0)
    return mean


def group_rows(rows: list[Row], as_given: bool = False) -> list[Group]:
    """
    Group rows by protocol. Tables that may be compared with the paper come first, then those with more rows.

    Args:
        as_given: keep the order of the rows; otherwise they are sorted as in the papers' tables.
    """
    groups = {}
    for row in rows:
        facts = {name: row.run.protocol.get(name) for name in PROTOCOL}
        facts.update(folds=row.run.folds, seeds=row.run.seeds, classes=row.run.names)
        groups.setdefault(repr(facts), (facts, []))[1].append(row)
    tables = []
    for facts, members in groups.values():
        # The paper's figures are means of five folds.
        comparable = len(facts["folds"]) == 5 and all(row.run.comparable for row in members)
        tables.append(Group(0, facts, comparable, members if as_given else sorted(members, key=_table_order)))
    tables.sort(key=lambda group: (not group.comparable, -len(group.rows), group.rows[0].path))
    for number, group in enumerate(tables, start=1):
        group.number = number
    return tables


def _table_order(row: Row) -> tuple:
    """Sort key of a row: the order of the papers' tables, then the sweep over K, then other recipes."""
    names = list(RECIPES)
    if row.recipe in names and not row.has_other_modality:
        return (names.index(row.recipe), 0, row.path)
    sweep = re.fullmatch(r"K(\d+)(-words)?", row.recipe)
    return (len(names) + bool(sweep and sweep[2]), int(sweep[1]), row.path) if sweep else (len(names) + 2, 0, row.path)


def learning_curve(part: FoldRun) -> dict | None:
    """Mean training loss of every epoch, and validation UA if it was measured, from log.jsonl; None without a log."""
    losses, validation = {}, {}
    for entry in read_log(part.folder / "log.jsonl"):
        epoch = entry.get("epoch")
        if isinstance(epoch, int) and "loss" in entry:
            losses.setdefault(epoch + 1, []).append(entry["loss"])
        if isinstance(epoch, int) and "validation_ua" in entry:
            validation[epoch + 1] = entry["validation_ua"]
    if not losses:
        return None
    return {
        "epoch": np.array(list(losses)),
        "loss": np.array([np.mean(values) for values in losses.values()]),
        "validation_epoch": np.array(list(validation)),
        "validation_ua": np.array(list(validation.values())),
    }


@dataclass
class Sweep:
    """
    WA and UA against K, means over the folds and over the seeds that all rows of the sweep have.

    Attributes:
        name: what K counts.
        changes: settings that differ from those of the recipe, the same in all rows.
        points: K, WA and UA in per cent.
    """

    name: str
    changes: str
    seeds: list[int]
    points: list[tuple[int, float, float]]


def find_sweeps(groups: list[Group]) -> dict[int, list[Sweep]]:
    """
    The sweeps over K (the paper's figure 3): rows K<n> or K<n>-words with C1, if they have two or more values of K.

    Rows of a sweep may have different seeds, so that they stand in different tables; the sweep takes the seeds that all of
    them have. Everything else must be the same.

    Returns:
        number of the first table with a row K<n> -> its sweeps.
    """
    sweeps = {}
    for name, setting, pattern in (
        ("key frames a class", "codes", r"K\d+"),
        ("key words a class", "words", r"K\d+-words"),
    ):
        alike = {}
        for group in groups:
            facts = {key: value for key, value in group.facts.items() if key != "seeds"}
            for row in group.rows:
                protocol = row.run.protocol
                if (row.recipe == "C1" or re.fullmatch(pattern, row.recipe)) and setting in protocol:
                    changes = ", ".join(map(str, protocol.get("set") or []))
                    others = {name: protocol[name] for name in sorted({*protocol} - {"recipe", "command", setting})}
                    alike.setdefault((repr(facts), repr(others), changes), []).append((group.number, row))
        for (*_, changes), members in alike.items():
            seeds = sorted(set.intersection(*(set(row.run.seeds) for _, row in members)))
            tables = [number for number, row in members if row.recipe != "C1"]
            if seeds and tables and len({row.run.protocol[setting] for _, row in members}) > 1:
                points = [(row.run.protocol[setting], *_mean_of_seeds(row.run, seeds)) for _, row in members]
                sweeps.setdefault(min(tables), []).append(Sweep(name, changes, seeds, sorted(points)))
    return sweeps


def _mean_of_seeds(run: Run, seeds: list[int]) -> tuple[float, float]:
    """WA and UA in per cent, means over the folds and the given seeds."""
    results = [part.results for (_, seed), part in run.parts.items() if seed in seeds]
    wa, ua = (100 * float(np.mean([scores[name] for scores in results])) for name in ("wa", "ua"))
    return wa, ua

"""Rows of a report: every run folder below a folder, its figures recomputed from the predictions, grouped by protocol."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...recipes import RECIPES, get_recipe
from ..run_folder import FoldRun, Run, UnfinishedRun, read_log, read_run
from ..ser_metrics import emotion_scores
from ..significance import Comparison, compare
from ..summary import summarise

# Rows with the same of all these, the same folds, seeds and classes, may be compared.
PROTOCOL = ("corpus", "corpus_fingerprint", "transcripts", "split", "selection", "validation_share")
STYLES = {"improvised": "_impro", "scripted": "_script"}  # how IEMOCAP's ids tell them


@dataclass
class Row:
    """A finished run and its figures, all recomputed from its predictions; shares of 1."""

    name: str
    place: str  # below RUNS_DIR
    run: Run
    description: str
    changes: list[str]  # of the recipe's settings
    paper: tuple[float, float] | None
    summary: dict
    pooled: dict  # recall, confusion, utterances
    styles: dict[str, dict]  # improvised, scripted -> wa, ua, utterances

    @property
    def recipe(self) -> str:
        return str(self.run.protocol.get("recipe", "?"))


@dataclass
class Group:
    """Rows that may be compared, and what they share."""

    number: int
    facts: dict
    comparable: bool  # with the paper: the standard utterances, all five folds
    rows: list[Row]

    @cached_property
    def neighbours(self) -> list[tuple[Row, Row, Comparison | str]]:
        """Each row and the one below it with their comparison; a string says why two cannot be paired."""
        answers = [{key: part.predictions for key, part in row.run.parts.items()} for row in self.rows]
        found = []
        for number, (first, second) in enumerate(zip(self.rows, self.rows[1:], strict=False)):
            try:
                found.append((first, second, compare(answers[number], answers[number + 1])))
            except ValueError as error:
                found.append((first, second, str(error)))
        return found


def find_runs(root: Path) -> tuple[list[Run], list[str], list[str]]:
    """Finished runs below a folder, and one line for each unfinished and each damaged one, with paths below the folder."""
    folders = {path.parents[1] for path in root.rglob("fold*/seed*") if path.is_dir()}
    settings = [path for path in root.rglob("protocol.json") if path.is_file()]
    folders |= {path.parent for path in settings if b'"recipe"' in path.read_bytes()}  # those of pretrain.py have none
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
    """All figures of a run."""
    protocol, recipe = run.protocol, None
    name = str(protocol["recipe"])
    try:
        recipe = get_recipe(name)
    except ValueError:
        changes = ["a recipe that this version does not know"]
    else:
        changes = recipe_changes(protocol, recipe)
    place = str(run.folder.relative_to(root)) if run.folder != root else run.folder.name
    label = name if run.folder.name == name else f"{name} ({place})"
    scores = [{**part.results, "fold": fold, "seed": seed} for (fold, seed), part in run.parts.items()]
    paper = None
    if recipe is not None and recipe.paper_wa is not None:  # in what the row differs stands beside it
        paper = (recipe.paper_wa, recipe.paper_ua)
    styles = {style: pooled_scores(run, mark) for style, mark in STYLES.items()}
    return Row(
        name=label,
        place=place,
        run=run,
        description=recipe.description if recipe else "",
        changes=changes,
        paper=paper,
        summary=summarise(scores, {}),
        pooled=pooled_scores(run),
        styles={style: scores for style, scores in styles.items() if scores is not None},
    )


def recipe_changes(protocol: dict, recipe) -> list[str]:
    """In what the settings of a run differ from its recipe."""
    changes = [str(one) for one in protocol.get("set") or []]
    for name in ("words", "codes", "semantic_labels", "tonal_labels"):
        if name in protocol and protocol[name] != getattr(recipe, name):
            changes.append(f"{name}={protocol[name]}")
    unused = {"speech": "text", "text": "speech"}.get(protocol.get("config", {}).get("modality"))
    by_fold = {
        kind: tower
        for kind in ("speech", "text")
        if kind != unused and "{fold}" in (tower := str(protocol.get(f"{kind}_model")))
    }
    changes += [f"{kind} tower of {tower}" for kind, tower in by_fold.items()]
    if recipe.second_stage and unused != "speech" and "speech" not in by_fold and not protocol.get("second_stage"):
        changes.append("no second stage")
    return changes


def pooled_scores(run: Run, mark: str = "") -> dict | None:
    """WA, UA, recalls and confusion of the utterances with `mark` in their ids, all folds together, means over the seeds."""
    by_seed = []
    for seed in run.seeds:
        parts = [part.predictions for (_, its_seed), part in run.parts.items() if its_seed == seed]
        chosen = [np.array([mark in name for name in part.ids]) for part in parts]
        labels = np.concatenate([part.labels[keep] for part, keep in zip(parts, chosen, strict=True)])
        predicted = np.concatenate([part.predicted[keep] for part, keep in zip(parts, chosen, strict=True)])
        if not len(labels):
            return None
        by_seed.append(emotion_scores(labels, predicted, run.names))
    mean = {name: float(np.mean([scores[name] for scores in by_seed])) for name in ("wa", "ua", "utterances")}
    recalls = {name: [scores["recall"][name] for scores in by_seed] for name in run.names}
    mean["recall"] = {name: None if None in values else float(np.mean(values)) for name, values in recalls.items()}
    mean["confusion"] = np.mean([scores["confusion"] for scores in by_seed], axis=0)
    return mean


def group_rows(rows: list[Row], as_given: bool = False) -> list[Group]:
    """
    Rows by protocol; tables of the standard corpus first, then the larger ones.

    Args:
        as_given: keep the order of the rows, instead of the one of the papers' tables.
    """
    groups = {}
    for row in rows:
        facts = {name: row.run.protocol.get(name) for name in PROTOCOL}
        facts.update(folds=row.run.folds, seeds=row.run.seeds, classes=row.run.names)
        groups.setdefault(repr(facts), (facts, []))[1].append(row)
    made = []
    for facts, members in groups.values():
        # The paper's figures are means of five folds.
        comparable = len(facts["folds"]) == 5 and all(row.run.comparable for row in members)
        made.append(Group(0, facts, comparable, members if as_given else sorted(members, key=_table_order)))
    made.sort(key=lambda group: (not group.comparable, -len(group.rows), group.rows[0].place))
    for number, group in enumerate(made, start=1):
        group.number = number
    return made


def _table_order(row: Row) -> tuple:
    """The order of the papers' tables, then the sweep by K."""
    names = list(RECIPES)
    if row.recipe in names:
        return (names.index(row.recipe), 0, row.place)
    sweep = re.fullmatch(r"K(\d+)(-words)?", row.recipe)
    return (len(names) + bool(sweep and sweep[2]), int(sweep[1]), row.place) if sweep else (len(names) + 2, 0, row.place)


def learning_curve(part: FoldRun) -> dict | None:
    """Mean training loss of every epoch, and validation UA where there is one, from log.jsonl."""
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
    """WA and UA in per cent against K, mean over the folds and over the seeds that all its rows have."""

    name: str  # what K counts
    changes: str  # of the recipe's settings, the same in all rows
    seeds: list[int]
    points: list[tuple[int, float, float]]  # K, WA, UA


def find_sweeps(groups: list[Group]) -> dict[int, list[Sweep]]:
    """
    The sweeps over K (the paper's figure 3): rows K<n> or K<n>-words, and C1, with two values of K or more.

    Rows may have been run with other numbers of seeds, which puts them in other tables; here the seeds that all of them have
    are counted, and everything else is the same.

    Returns:
        number of the first group with a row of K -> its sweeps.
    """
    found = {}
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
            homes = [number for number, row in members if row.recipe != "C1"]
            if seeds and homes and len({row.run.protocol[setting] for _, row in members}) > 1:
                points = [(row.run.protocol[setting], *_mean_of_seeds(row.run, seeds)) for _, row in members]
                found.setdefault(min(homes), []).append(Sweep(name, changes, seeds, sorted(points)))
    return found


def _mean_of_seeds(run: Run, seeds: list[int]) -> tuple[float, float]:
    """WA and UA in per cent, mean over the folds and the given seeds."""
    results = [part.results for (_, seed), part in run.parts.items() if seed in seeds]
    return tuple(100 * float(np.mean([scores[name] for scores in results])) for name in ("wa", "ua"))

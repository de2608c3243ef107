"""Sections of a report on the second stages of pretrain.py: what the speech tower of each fold learned, and its curves."""

from pathlib import Path

from ..run_folder import read_json
from .page import Figure, Section, Table

LEARNED = (
    "Means over the first epoch and over the last epoch. The loss is the contrastive loss. The accuracy is the share of "
    "masked frames whose code the tower tells from the distractors. The code perplexity counts the codes in use by their "
    "probabilities in one batch; codes in use counts them by the codes chosen in the last epoch."
)
LOGGED = {
    "contrastive_loss": ("loss", ".3f"),
    "accuracy": ("accuracy", ".3f"),
    "code_perplexity": ("code perplexity", ".1f"),
}


def stage_sections(root: Path, plots) -> tuple[list[Section], list[str]]:
    """
    A section for each second stage with a finished fold, and one line for each fold that cannot be read.

    Args:
        plots: the module `lemer.evaluation.plots`, or None without matplotlib: then there are no curves.
    """
    sections, damaged = [], []
    for path in sorted(Path(root).rglob("protocol.json")):
        if b'"recipe"' in path.read_bytes():  # a run of train.py
            continue
        rows, figures = [], []
        for results in sorted(path.parent.glob("fold*/results.json")):
            try:
                rows.append(_row(read_json(results)))
            except (ValueError, KeyError, TypeError) as error:
                damaged.append(f"{results.relative_to(root)}: {error!r}")
                continue
            curve = results.with_name("curve.png")
            if plots and curve.is_file():
                caption = f"Second stage without session {rows[-1][0]}: loss, accuracy and codes over the updates"
                numbers = (f"{name} {cell}" for (name, _), cell in zip(LOGGED.values(), rows[-1][3:6], strict=True))
                picture = plots.with_palette(curve.read_bytes())
                figures.append(Figure(f"session {rows[-1][0]}", caption, picture, ", ".join(numbers)))
        if rows:
            try:
                protocol = read_json(path)
                tables = [_learned(protocol, rows), _settings(protocol)]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                damaged.append(f"{path.relative_to(root)}: {error!r}")
                continue
            sections.append(Section(f"Second stage: {path.parent.name}", tables, figures))
    return sections, damaged


def _row(results: dict) -> list[str]:
    row = [str(results["fold"]), f"{results['utterances']:,}", f"{results['updates']:,}"]
    for name, (_, digits) in LOGGED.items():
        row.append(" to ".join(format(results[f"{when}_{name}"], digits) for when in ("first", "last")))
    return [*row, f"{results['codes_in_use']:.1f}", f"{results['trained_parameters']:,} of {results['parameters']:,}"]


def _learned(protocol: dict, rows: list[list[str]]) -> Table:
    header = ["session held out", "utterances", "updates", *(name for name, _ in LOGGED.values())]
    header += ["codes in use", "trained parameters"]
    chance = f" By chance the accuracy is {1 / (1 + protocol['settings']['negatives']):.3f}."
    return Table("What it learned", header, sorted(rows, key=lambda row: int(row[0])), LEARNED + chance)


def _settings(protocol: dict) -> Table:
    facts = {"speech_model": protocol["speech_model"], "utterances": protocol["split"], **protocol["settings"]}
    return Table("How", ["setting", "all folds"], [[name.replace("_", " "), str(value)] for name, value in facts.items()])

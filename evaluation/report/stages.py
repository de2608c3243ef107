"""Second stages of pretrain.py below a folder, as sections of a report: what every fold's tower learned, and its curves."""

from pathlib import Path

from ..run_folder import read_json
from .page import Figure, Section, Table

LEARNED = (
    "Means over the first and over the last epoch. Loss: contrastive. Accuracy: masked frames whose own code is told from "
    "the distractors. Perplexity: codes in use by probability, in one batch; in use: by the codes chosen, in the last epoch."
)
MOVING = {
    "contrastive_loss": ("loss", ".3f"),
    "accuracy": ("accuracy", ".3f"),
    "code_perplexity": ("code perplexity", ".1f"),
}


def stage_sections(root: Path, plots) -> tuple[list[Section], list[str]]:
    """
    A section for each second stage with a finished fold, and one line for each fold that cannot be read.

    Args:
        plots: the module that draws, None where matplotlib is not installed: then there are no curves.
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
                said = (f"{name} {cell}" for (name, _), cell in zip(MOVING.values(), rows[-1][3:6], strict=True))
                figures.append(Figure(caption, plots.with_palette(curve.read_bytes()), ", ".join(said)))
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
    for name, (_, digits) in MOVING.items():
        row.append(" to ".join(format(results[f"{when}_{name}"], digits) for when in ("first", "last")))
    return [*row, f"{results['codes_in_use']:.1f}", f"{results['trained_parameters']:,} of {results['parameters']:,}"]


def _learned(protocol: dict, rows: list[list[str]]) -> Table:
    header = ["session held out", "utterances", "updates", *(name for name, _ in MOVING.values())]
    header += ["codes in use", "trained parameters"]
    chance = f" By chance the accuracy is {1 / (1 + protocol['settings']['negatives']):.3f}."
    return Table("What it learned", header, sorted(rows, key=lambda row: int(row[0])), LEARNED + chance)


def _settings(protocol: dict) -> Table:
    facts = {"speech_model": protocol["speech_model"], "utterances": protocol["split"], **protocol["settings"]}
    return Table("How", ["", "all folds"], [[name.replace("_", " "), str(value)] for name, value in facts.items()])

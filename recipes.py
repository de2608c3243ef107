"""Every row of the papers' tables as a small difference from LE-MER, with the paper's numbers beside it.

`python train.py --recipe NAME --corpus iemocap --data_dir RELEASE --output_dir runs/NAME` trains and scores one row.
The numbers are the LE-MER paper's (arXiv 2309.02106, tables 1 and 2), in per cent, on IEMOCAP, mean of five folds.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    """A row: what it is, its fields of `LemerConfig` and settings of `LemerProcessor` that differ, the paper's figures."""

    description: str
    config: dict = field(default_factory=dict)
    processor: dict = field(default_factory=dict)
    paper_wa: float | None = None
    paper_ua: float | None = None


RECIPES = {
    "A1": Recipe(
        "BERT on the current utterance",
        {"modality": "text", "use_label_embeddings": False},
        {"max_history": 0},
        paper_wa=67.34,
        paper_ua=67.66,
    ),
    "A2": Recipe(
        "A1 + historical utterances", {"modality": "text", "use_label_embeddings": False}, paper_wa=77.46, paper_ua=78.38
    ),
    "A5": Recipe("A2 + label embeddings from TF-IDF key words", {"modality": "text"}, paper_wa=78.11, paper_ua=78.92),
    "B1": Recipe("wav2vec 2.0", {"modality": "speech", "use_label_embeddings": False}, paper_wa=73.92, paper_ua=74.48),
    "C1": Recipe("LE-MER: attention constraint", {"fusion": "constraint"}, paper_wa=82.40, paper_ua=83.11),
    "C2": Recipe("A_r + A_l weights the frames, no constraint", {"fusion": "sum"}, paper_wa=82.39, paper_ua=82.75),
    "C3": Recipe("only A_l", {"fusion": "label"}, paper_wa=81.29, paper_ua=81.37),
    "C4": Recipe("only A_r", {"fusion": "cross"}, paper_wa=81.08, paper_ua=81.68),
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name; an unknown one names the choices."""
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)} (--list describes them)")
    return RECIPES[name]


def format_recipes() -> str:
    """All recipes as a table."""
    lines = [f"{'recipe':<10}{'paper WA':>9}{'UA':>7}  what it is"]
    for name, recipe in RECIPES.items():
        figures = [f"{figure:.2f}" if figure is not None else "-" for figure in (recipe.paper_wa, recipe.paper_ua)]
        lines.append(f"{name:<10}{figures[0]:>9}{figures[1]:>7}  {recipe.description}")
    return "\n".join(lines)

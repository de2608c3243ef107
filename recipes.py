"""Every row of the papers' tables as a small difference from its neighbour, with the paper's numbers beside it.

`python train.py --recipe NAME --data_dir RELEASE --output_dir runs/NAME` trains and scores one row.
The numbers are those of the LE-MER paper (arXiv 2309.02106, tables 1 and 2), in per cent, on IEMOCAP, as the mean of five
folds. The rows after Krishna 2021 (arXiv 2108.09669) have none, because only the abstract of that paper was at hand.
`small_corpus` is of neither paper.
"""

import re
from dataclasses import dataclass, field, replace

SEMANTIC = ("key_words", "names", "random")  # what the label embeddings of the text branch can start from
TONAL = ("key_frames", "semantic", "random")  # and those of the speech branch


@dataclass(frozen=True)
class Recipe:
    """
    A row of a table.

    Attributes:
        description: a few words that say in what it differs.
        config: fields of the model's configuration that differ from the defaults.
        processor: settings of `LemerProcessor` that differ.
        model: "lemer" or "cross_modal".
        second_stage: the speech tower is first trained further on the fold's training sessions (`pretrain.py`).
        semantic_labels: what the label embeddings of the text branch start from: "key_words", the "names" of the labels, or
            "random" numbers.
        tonal_labels: what those of the speech branch start from: "key_frames", "semantic" (the label embeddings of a BERT),
            or "random" numbers.
        words, codes: K, the number of key words and of key frames of each class.
        fuses: two recipes. The logits of their finished runs are added, and nothing is trained.
        paper_wa, paper_ua: the paper's figures in per cent, None where it prints none.
    """

    description: str
    config: dict = field(default_factory=dict)
    processor: dict = field(default_factory=dict)
    model: str = "lemer"
    second_stage: bool = False
    semantic_labels: str = "key_words"
    tonal_labels: str = "key_frames"
    words: int = 9
    codes: int = 100
    fuses: tuple[str, str] | None = None
    paper_wa: float | None = None
    paper_ua: float | None = None


def _row(base: Recipe, description: str, wa: float | None = None, ua: float | None = None, **changes) -> Recipe:
    """Return the base with another description and other figures; fields of `config` are added to those of the base."""
    config = {**base.config, **changes.pop("config", {})}
    return replace(base, description=description, config=config, paper_wa=wa, paper_ua=ua, **changes)


_TEXT = Recipe("", {"modality": "text", "use_label_embeddings": False})
_LABELS = {"use_label_embeddings": True}
_TRAINED = {"use_label_embeddings": True, "train_label_embeddings": True}  # a fixed random target carries nothing

A1 = _row(_TEXT, "BERT on the current utterance", 67.34, 67.66, processor={"max_history": 0})
A2 = _row(A1, "A1 + historical utterances", 77.46, 78.38, processor={})
A3 = _row(A2, "A2 + label embeddings, random", 77.51, 78.52, config=_TRAINED, semantic_labels="random")
A4 = _row(A2, "A2 + label embeddings from the labels' names", 78.03, 78.88, config=_LABELS, semantic_labels="names")
A5 = _row(A2, "A2 + label embeddings from TF-IDF key words", 78.11, 78.92, config=_LABELS)
B1 = _row(Recipe(""), "wav2vec 2.0", 73.92, 74.48, config={"modality": "speech", "use_label_embeddings": False})
B2 = _row(B1, "B1 + second-stage pre-training", 75.73, 76.44, second_stage=True)
B3 = _row(B2, "B2 + label embeddings, random", 76.20, 76.80, config=_TRAINED, tonal_labels="random")
_SEMANTIC = {**_LABELS, "speech_label_space": "semantic"}
B4 = _row(B2, "B2 + label embeddings from BERT's semantic labels", 76.48, 77.14, config=_SEMANTIC, tonal_labels="semantic")
B5 = _row(B2, "B2 + label embeddings from the codebook", 76.74, 77.74, config=_LABELS)
C1 = Recipe("LE-MER: attention constraint", {"fusion": "constraint"}, second_stage=True, paper_wa=82.40, paper_ua=83.11)
CROSS_MODAL = Recipe("cross-modal attention, after Krishna 2021", model="cross_modal")
SMALL_CORPUS = _row(
    B1,
    "functionals and a linear classifier, for a few hundred recordings",
    config={"speech_encoder": "functionals"},
)

# Rows that the paper does not have. A3 and B3 differ from the rows after them in two things: where the label embeddings
# start, and that they are trained. With these rows each can be seen alone.
A3_FIXED = _row(A3, "A3, not trained", config={"train_label_embeddings": False})
A5_TRAINED = _row(A5, "A5, label embeddings trained", config=_TRAINED)
B3_FIXED = _row(B3, "B3, not trained", config={"train_label_embeddings": False})
B5_TRAINED = _row(B5, "B5, label embeddings trained", config=_TRAINED)

RECIPES = {
    "A1": A1,
    "A2": A2,
    "A3": A3,
    "A4": A4,
    "A5": A5,
    "A3_fixed": A3_FIXED,
    "A5_trained": A5_TRAINED,
    "B1": B1,
    "B2": B2,
    "B3": B3,
    "B4": B4,
    "B5": B5,
    "B3_fixed": B3_FIXED,
    "B5_trained": B5_TRAINED,
    "score_fusion": Recipe("sum of the logits of A5 and B5", fuses=("A5", "B5"), paper_wa=81.32, paper_ua=82.18),
    "C1": C1,
    "C2": _row(C1, "A_r + A_l weights the frames, no constraint", 82.39, 82.75, config={"fusion": "sum"}),
    "C3": _row(C1, "only A_l", 81.29, 81.37, config={"fusion": "label"}),
    "C4": _row(C1, "only A_r", 81.08, 81.68, config={"fusion": "cross"}),
    "cross_modal": CROSS_MODAL,
    "cross_modal_speech": _row(CROSS_MODAL, "its speech branch alone", config={"modality": "speech"}),
    "cross_modal_text": _row(CROSS_MODAL, "its text branch alone", config={"modality": "text"}),
    "self_attention": _row(CROSS_MODAL, "self- in the place of cross-modal attention", config={"attention": "self"}),
    "small_corpus": SMALL_CORPUS,
}
_SWEEP = re.compile(r"K([1-9]\d*)(-words)?")


def get_recipe(name: str) -> Recipe:
    """Return the recipe of that name, which may be `K<n>` or `K<n>-words`; an unknown name is a `ValueError`."""
    sweep = _SWEEP.fullmatch(name)
    if sweep:
        k = int(sweep[1])
        if sweep[2] is not None:
            return _row(C1, f"C1 with {k} key words a class", words=k)
        return _row(C1, f"C1 with {k} key frames a class", codes=k)
    if name not in RECIPES:
        raise ValueError(
            f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}, K<n> or K<n>-words (--list describes them)"
        )
    return RECIPES[name]


def format_recipes() -> str:
    """Return all recipes as a table in plain text."""
    lines = [f"{'recipe':<20}{'paper WA':>9}{'UA':>7}  description"]
    for name, recipe in RECIPES.items():
        figures = [f"{figure:.2f}" if figure is not None else "-" for figure in (recipe.paper_wa, recipe.paper_ua)]
        lines.append(f"{name:<20}{figures[0]:>9}{figures[1]:>7}  {recipe.description}")
    lines.append(f"{'K<n>':<20}{'-':>9}{'-':>7}  C1 with n key frames a class (paper, figure 3: best at 100)")
    lines.append(f"{'K<n>-words':<20}{'-':>9}{'-':>7}  C1 with n key words a class (paper: best at 9)")
    return "\n".join(lines)

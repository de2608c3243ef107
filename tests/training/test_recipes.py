"""Every row is there, builds its configuration, and differs from its neighbour by what it says."""

import dataclasses

import pytest
from tiny import tiny_model

from lemer.recipes import RECIPES, format_recipes, get_recipe
from lemer.training.folds import MODELS
from lemer.training.options import changed_settings, parse_args, set_defaults

PAPER = ["A1", "A2", "A3", "A4", "A5", "B1", "B2", "B3", "B4", "B5", "score_fusion", "C1", "C2", "C3", "C4"]
CROSS_MODAL = ["cross_modal", "cross_modal_speech", "cross_modal_text", "self_attention"]
SEPARATED = ["A3_fixed", "A5_trained", "B3_fixed", "B5_trained"]
TRAINED = [name for name in RECIPES if not RECIPES[name].fuses]


def test_every_row_of_the_papers_is_a_recipe_in_the_papers_order():
    assert [name for name in RECIPES if name not in SEPARATED] == [*PAPER, *CROSS_MODAL, "small_corpus"]


@pytest.mark.parametrize("name", SEPARATED)
def test_rows_that_separate_start_and_training_differ_in_training_alone(name):
    recipe, base = RECIPES[name], RECIPES[name[:2]]
    trained = {"train_label_embeddings": name.endswith("trained")}
    assert recipe.config == {**base.config, **trained} != base.config
    assert dataclasses.replace(recipe, config=base.config, description=base.description) == dataclasses.replace(
        base, paper_wa=None, paper_ua=None
    )


@pytest.mark.parametrize("name", PAPER)
def test_rows_of_the_paper_have_its_figures(name):
    assert 67 < RECIPES[name].paper_wa < RECIPES[name].paper_ua < 84


@pytest.mark.parametrize("name", [*CROSS_MODAL, *SEPARATED, "small_corpus"])
def test_rows_without_a_printed_figure_have_none(name):
    assert RECIPES[name].paper_wa is None and RECIPES[name].paper_ua is None


@pytest.mark.parametrize("name", TRAINED)
def test_every_recipe_builds_its_configuration(name):
    config, _ = changed_settings([], RECIPES[name])
    assert set(config) <= set(MODELS[RECIPES[name].model].config_class.__annotations__)


@pytest.mark.parametrize("name", [name for name in TRAINED if RECIPES[name].model == "lemer"])
def test_rows_with_label_embeddings_have_them_and_others_not(name):
    config = {**RECIPES[name].config, **({"semantic_size": 20} if name == "B4" else {})}
    model = tiny_model(**config)
    buffers, parameters = dict(model.named_buffers()), dict(model.named_parameters())
    used = name not in ("A1", "A2", "B1", "B2", "small_corpus")
    trained = name in ("A3", "B3", "A5_trained", "B5_trained")
    for modality, label in (("speech", "semantic"), ("text", "tonal")):
        there = used and config.get("modality") != modality
        assert (f"{label}_label_embeddings" in buffers) == (there and not trained)
        assert (f"{label}_label_embeddings" in parameters) == (there and trained)


def test_second_stage_comes_with_b2_and_stays():
    assert [name for name in RECIPES if RECIPES[name].second_stage] == [
        *("B2", "B3", "B4", "B5", "B3_fixed", "B5_trained", "C1", "C2", "C3", "C4")
    ]


def test_history_comes_with_a2_and_stays():
    assert [name for name in RECIPES if RECIPES[name].processor.get("max_history") == 0] == ["A1"]


@pytest.mark.parametrize(("name", "words", "codes"), [("K50", 9, 50), ("K5-words", 5, 100), ("K100", 9, 100)])
def test_the_sweep_changes_one_k_of_le_mer(name, words, codes):
    recipe = get_recipe(name)
    assert (recipe.words, recipe.codes, recipe.config) == (words, codes, RECIPES["C1"].config) and recipe.paper_wa is None


@pytest.mark.parametrize("name", ["K0", "K", "K-words", "c1", "K5-codes", ""])
def test_an_unknown_recipe_names_the_choices(name):
    with pytest.raises(ValueError, match="A1, A2.*C4.*K<n>"):
        get_recipe(name)


def test_the_list_has_a_line_for_each_recipe():
    lines = format_recipes().splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*RECIPES, "K<n>", "K<n>-words"]


def test_a_field_that_the_model_does_not_have_names_the_choices():
    with pytest.raises(ValueError, match="expected FIELD=VALUE with a field of .*fusion"):
        changed_settings(["fusoin=sum"], RECIPES["C1"])


@pytest.mark.parametrize(
    ("recipe", "towers", "expected"),
    [
        ("C1", [], (1e-6, 5e-6, 1e-4, 8000, 50, True)),
        ("C1", ["--speech_model", "small", "--text_model", "small"], (1e-3, 1e-3, 1e-3, 50, 25, False)),
        ("C1", ["--speech_model", "small-log-mel"], (1e-3, 5e-6, 1e-4, 50, 25, False)),
        ("C1", ["--text_model", "small"], (1e-6, 1e-3, 1e-4, 50, 25, True)),
        ("B1", ["--speech_model", "small"], (1e-3, 5e-6, 1e-3, 50, 25, False)),
        ("A1", ["--text_model", "small", "--text_lr", "0.1"], (1e-6, 0.1, 1e-3, 50, 25, True)),
    ],
)
def test_settings_that_are_not_given_are_those_of_each_towers_kind(recipe, towers, expected):
    args = parse_args(["--recipe", recipe, "--data_dir", "x", "--output_dir", "y", *towers])
    set_defaults(args, RECIPES[recipe], RECIPES[recipe].config.get("modality", "multimodal"))
    got = (args.speech_lr, args.text_lr, args.new_lr, args.warmup_steps, args.epochs, args.freeze_feature_encoder)
    assert got == expected

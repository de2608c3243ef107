"""What publish.py writes and says, and what it refuses; nothing here asks the Hub, see test_hub_round_trip.py for that."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from runs import KEY_WORDS, write_run
from safetensors.torch import load_file
from tiny import perturb, tiny_config, tiny_model, tiny_processor

from lemer import CrossModalConfig, CrossModalModel, publish


def dry_run(run, folder, *options) -> tuple[str, str]:
    """The card printed and what else was said by a --dry-run that ends well."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = publish.main([str(run), "ann/lemer-c1", "--dry-run", "--output_dir", str(folder), *map(str, options)])
    assert code == 0, err.getvalue()
    return out.getvalue(), err.getvalue()


def refusal(run, tmp_path, capsys, *options) -> str:
    """The one line of a --dry-run that fails and leaves nothing."""
    capsys.readouterr()
    assert publish.main([str(run), "ann/x", "--dry-run", "--output_dir", str(tmp_path / "refused"), *map(str, options)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("publish.py: ")
    assert not list(tmp_path.glob("refused*"))
    return lines[0]


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def change(path: Path, **changes):
    path.write_text(json.dumps({**read(path), **changes}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folds 1 and 2, seeds 0 and 1; for reading only."""
    return write_run(tmp_path_factory.mktemp("runs") / "C1")


@pytest.fixture
def one(tmp_path):
    """A run of one fold, to be damaged."""
    return write_run(tmp_path / "C1", folds=(5,), seeds=(0,))


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """What a dry run writes; `card.txt` beside it is what it printed."""
    folder = tmp_path_factory.mktemp("dry") / "lemer-c1"
    folder.with_name("card.txt").write_text(dry_run(run, folder)[0])
    return folder


# ------------------------------------------------------------------------------------------------------- the folder


def test_weights_configuration_processor_code_and_card_are_there_and_nothing_else(folder):
    names = {path.name for path in folder.iterdir()}
    code = {name for name in names if name.endswith(".py")}
    assert names - code == {"README.md", "config.json", "model.safetensors", "processor_config.json"} | {
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert code >= {f"{part}_lemer.py" for part in ("configuration", "modeling", "processing", "pipeline", "speech_encoder")}


def test_the_weights_are_the_checkpoints_to_the_bit(run, folder):
    published, trained = (load_file(path / "model.safetensors") for path in (folder, run / "fold1/seed0/checkpoint"))
    assert published.keys() == trained.keys() and all(torch.equal(published[key], trained[key]) for key in trained)


def test_all_auto_classes_are_named(folder):
    assert read(folder / "config.json")["auto_map"].keys() >= {
        "AutoConfig",
        "AutoModel",
        "AutoModelForAudioClassification",
        "AutoModelForSequenceClassification",
    }


def test_no_path_of_the_machine_is_published(run, folder):
    text = "\n".join(path.read_text() for path in folder.iterdir() if path.suffix != ".safetensors")
    places = ["/home/ann", "/root/", sys.prefix, str(run), str(Path.cwd()), str(Path.home()), str(folder.parent)]
    assert not [place for place in places if place in text]


def test_two_dry_runs_write_the_same_bytes(run, folder, tmp_path):
    dry_run(run, tmp_path / "again")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()
    }


# ---------------------------------------------------------------------------------------------------- which checkpoint


def test_the_first_fold_and_seed_are_taken_by_number_whatever_they_score(tmp_path):
    run = write_run(tmp_path / "C1", folds=(10, 2), seeds=(10, 9), model=tiny_model())
    assert publish.find_run(run).folder == run / "fold2/seed9"
    assert "looks at no number" in publish.find_run(run).choice


@pytest.mark.parametrize(
    ("fold", "seed", "expected"), [(2, None, "fold2/seed0"), (None, 1, "fold1/seed1"), (2, 1, "fold2/seed1")]
)
def test_a_fold_and_a_seed_can_be_named(run, fold, seed, expected):
    found = publish.find_run(run, fold, seed)
    assert found.folder == run / expected and "named this fold and seed" in found.choice


def test_the_folder_of_a_fold_and_seed_says_the_same_as_naming_them(run):
    by_folder, by_name = publish.find_run(run / "fold2/seed1"), publish.find_run(run, 2, 1)
    assert by_folder == by_name


def test_an_endpoint_gets_its_handler_and_requirements(one, tmp_path):
    dry_run(one, tmp_path / "with", "--endpoint")
    names = {path.name for path in (tmp_path / "with").iterdir()}
    assert names >= {"handler.py", "requirements.txt"}
    assert (tmp_path / "with" / "handler.py").read_text() == publish.HANDLER.read_text()
    lines = (tmp_path / "with" / "requirements.txt").read_text().splitlines()
    assert [re.split("[<>=]", line)[0] for line in lines] == ["soundfile", "soxr", "transformers"]


# ------------------------------------------------------------------------------------------------------------ the card


@pytest.fixture(scope="module")
def card(folder):
    return ModelCard.load(folder / "README.md")


def test_the_card_is_printed(folder):
    assert folder.with_name("card.txt").read_text().strip() == (folder / "README.md").read_text().strip()


def test_the_card_has_no_gap(card):
    assert not re.search(r"\{\{|\{%|None\b|Undefined|# *\n|\n\n\n", card.text)


def test_the_metadata_hold_the_figures_of_the_row_and_of_the_checkpoint(run, card):
    row, own = read(run / "results.json")["mean"], read(run / "fold1/seed0/results.json")
    found = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    expected = {}
    for split, figures in (("mean of folds 1, 2", row), ("this checkpoint: fold 1, session 1 held out", own)):
        for metric, name in (("accuracy", "wa"), ("balanced_accuracy", "ua"), ("f1", "macro_f1")):
            expected[split, metric] = round(100 * figures[name], 2)
    assert found == expected


def test_the_metadata_say_what_each_figure_is(card):
    names = {result.metric_name.split(", ", 2)[2] for result in card.data.eval_results}
    assert names == {"mean of folds 1, 2", "this checkpoint: fold 1, session 1 held out"}


def test_the_metadata_name_library_task_language_and_towers(card):
    data = card.data
    assert (data.library_name, data.pipeline_tag, data.language) == ("transformers", "audio-classification", "en")
    assert data.base_model == ["facebook/wav2vec2-conformer-rel-pos-large", "google-bert/bert-base-uncased"]
    assert {"lemer", "speech-emotion-recognition", "multimodal"} <= set(data.tags) and data.datasets is None


def test_the_table_has_the_row_with_its_deviation_the_checkpoint_and_the_paper(run, card):
    row, own = read(run / "results.json"), read(run / "fold1/seed0/results.json")

    def cells(figures, spread=None):
        names = ("wa", "ua", "macro_f1")
        return " | ".join(
            f"{100 * figures[name]:.2f}" + ("" if spread is None else f" ± {100 * spread[name]:.2f}") for name in names
        )

    assert f"| row `C1`: mean of folds 1, 2, ± over 2 seeds | {cells(row['mean'], row['deviation'])} | |" in card.text
    assert f"| **this checkpoint: fold 1, session 1 held out** | {cells(own)} | {own['utterances']} |" in card.text
    assert "| the paper, mean of five folds of IEMOCAP: other utterances than above | 82.40 | 83.11 | | 5531 |" in card.text


def test_the_card_tells_every_labels_key_words(card):
    for label, words in KEY_WORDS.items():
        assert f"| {publish.in_both_forms(label)} | {', '.join(words)} |" in card.text


def test_names_of_labels_are_text_in_the_card_and_nothing_else(tmp_path):
    names = ["[ang](http://x)", "<b>hap", "ne|u", "*sad* `x`"]
    words = {name: ["<i>", "a|b"] for name in names}
    model = tiny_model(id2label=dict(enumerate(names)), label2id=None, label_words=words)
    text, _ = dry_run(write_run(tmp_path / "C1", folds=(5,), seeds=(0,), model=model), tmp_path / "dry")
    assert r"\[ang\](http://x), \<b\>hap, ne\|u, \*sad\* \`x\`" in text
    assert r"| \<b\>hap | \<i\>, a\|b |" in text


def test_the_card_tells_why_this_checkpoint_and_what_it_is_not_for(card):
    assert "the first fold of the run and its first seed" in card.text and "best UA on validation, update 20" in card.text
    assert "not for decisions about people" in card.text


def test_one_fold_and_seed_are_one_result(one, tmp_path):
    card = ModelCard(dry_run(one, tmp_path / "dry")[0])
    assert len(re.findall(r"^\| .*\d\d\.\d\d", card.text.split("| the paper")[0], re.MULTILINE)) == 1
    assert len({result.dataset_split for result in card.data.eval_results}) == 1
    assert max(map(len, card.text.split("```json")[0].splitlines())) <= 130  # nothing runs off


def test_the_card_says_what_one_modality_is_worth(one, tmp_path):
    scores = {"multimodal": (0.9, 0.8), "speech": (0.7, 0.75), "text": (0.6, 0.5)}
    by_modality = {name: {"wa": wa, "ua": ua, "calibration_error": 0.1} for name, (wa, ua) in scores.items()}
    change(one / "fold5/seed0/results.json", by_modality=by_modality)
    text, _ = dry_run(one, tmp_path / "dry")
    assert "Without words, 70.00 % of the utterances are right instead of 90.00 %" in text
    assert "words are worth 20.00 points of WA and 5.00 of UA" in text
    assert "speech is worth 30.00 points of WA and 30.00 of UA" in text
    assert "No temperature\nwas fitted" in text and "ECE after" not in text


@pytest.mark.parametrize(
    ("corpus", "said", "unsaid"),
    [
        ("iemocap", "a corpus in IEMOCAP's layout", "SAIL"),
        ("iemocap, ang, sad, every speaker held out", "IEMOCAP is given out on request by USC SAIL", "layout"),
        ("ravdess + emodb", "RAVDESS: CC BY-NC-SA 4.0", "SAIL"),
        ("owner/voices", "trained on owner/voices", "SAIL"),
    ],
)
def test_the_licence_of_a_corpus_stands_on_its_own_cards_alone(corpus, said, unsaid, one, tmp_path):
    change(one / "protocol.json", corpus=corpus)
    licence = dry_run(one, tmp_path / "dry")[0].split("## Limits")[1]
    assert said in licence and unsaid not in licence


def test_the_standard_corpus_is_named_and_another_is_not_called_iemocap(tmp_path):
    run = write_run(tmp_path / "C1", folds=(1,), seeds=(0,), comparable=True)
    standard = ModelCard(dry_run(run, tmp_path / "standard")[0])
    assert standard.data.datasets == ["iemocap"] and "ten actors" in standard.text and "SAIL" in standard.text
    change(run / "results.json", comparable=False)
    options = ("--corpus_name", "Emo-DB", "--language", "de", "--licence", "cc-by-4.0")
    other = ModelCard(dry_run(run, tmp_path / "other", *options)[0])
    assert (other.data.datasets, other.data.language, other.data.license) == (None, "de", "cc-by-4.0")
    assert "SAIL" not in other.text and "ten actors" not in other.text
    assert {result.dataset_name for result in other.data.eval_results} == {"Emo-DB"}


@pytest.mark.parametrize(("corpus", "datasets"), [("owner/voices", ["owner/voices"]), ("voices", None)])
def test_any_other_dataset_is_named_as_the_run_names_it(corpus, datasets, tmp_path):
    protocol = {"corpus": corpus, "split": "every value of speaker held out once", "history": "none: every row for itself"}
    text, _ = dry_run(write_run(tmp_path / "A", folds=(1,), seeds=(0,), protocol=protocol), tmp_path / "dry")
    data = ModelCard(text).data
    assert (data.datasets, data.language, {result.dataset_name for result in data.eval_results}) == (
        datasets,
        None,
        {corpus},
    )
    assert f"on {corpus}. Split: every value of speaker held out once." in text and "none: every row for itself" in text
    assert (
        "IEMOCAP" not in text.replace("IEMOCAP_full_release", "") and "| the paper" not in text and "session 1" not in text
    )


@pytest.mark.parametrize("towers", [("small", "small"), ("small-log-mel", "small")])
def test_towers_from_scratch_are_said_to_be(towers, one, tmp_path):
    change(one / "protocol.json", speech_model=towers[0], text_model=towers[1])
    card = dry_run(one, tmp_path / "out")[0]
    assert "Towers of random weights, trained from scratch" in card
    assert f'"speech_model": "{towers[0]}"' in card


def test_towers_that_are_folders_are_not_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "towers/bert").mkdir(parents=True)
    towers = {"speech_model": "/srv/towers/speech", "text_model": "towers/bert", "notes": ["~/secret"]}
    run = write_run(tmp_path / "C1", folds=(1,), seeds=(0,), protocol=towers)
    text, _ = dry_run(run, tmp_path / "dry")
    assert not re.search("/srv|towers/bert|secret", text) and ModelCard(text).data.base_model is None


def test_the_papers_figures_do_not_stand_beside_changed_settings(tmp_path):
    run = write_run(tmp_path / "C1", folds=(1,), protocol={"set": ["fusion=sum"], "second_stage": None})
    text, _ = dry_run(run, tmp_path / "dry")
    assert "82.40" not in text and "Changed: `fusion=sum`, `no second stage`" in text and "row `C1`: fold 1 alone" in text


@pytest.mark.parametrize(("modality", "absent"), [("speech", "text="), ("text", "audio=")])
def test_half_a_models_card_asks_for_its_half_alone(modality, absent, tmp_path):
    run = write_run(tmp_path / "half", folds=(1,), seeds=(0,), modality=modality)
    text, _ = dry_run(run, tmp_path / "dry")
    assert absent not in text and len(ModelCard(text).data.base_model) == 1


def test_a_cross_modal_model_is_published_with_its_own_code(tmp_path):
    towers = tiny_config()
    config = CrossModalConfig(
        speech_config=towers.speech_config, text_config=towers.text_config, hidden_size=16, num_attention_heads=2
    )
    protocol = {"recipe": "cross_modal", "model": "cross_modal"}
    run = write_run(tmp_path / "X", folds=(1,), seeds=(0,), protocol=protocol, model=perturb(CrossModalModel(config)))
    change(run / "results.json", recipe="cross_modal", paper={"wa": None, "ua": None})
    text, _ = dry_run(run, tmp_path / "dry")
    assert {path.name for path in (tmp_path / "dry").iterdir()} >= {"modeling_cross_modal.py", "pipeline_lemer.py"}
    assert "Krishna" in text and "key words" not in text and "| the paper" not in text


def test_a_figure_shows_the_recording_that_is_named(one, tmp_path):
    soundfile.write(
        tmp_path / "mine.wav", 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy(), 16_000
    )
    text, said = dry_run(one, tmp_path / "dry", "--figure_audio", tmp_path / "mine.wav", "--figure_text", "we won the day")
    assert (tmp_path / "dry/attention.png").read_bytes().startswith(b"\x89PNG")
    assert (
        "](attention.png)" in text
        and "The answer is " in text
        and 'Recording: mine.wav, "we won the day"' in text
        and str(tmp_path) not in text
    )


# ------------------------------------------------------------------------------------------------------ what is refused


def test_a_run_that_is_not_finished(one, tmp_path, capsys):
    (one / "results.json").unlink()
    assert "not finished" in refusal(one, tmp_path, capsys)


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert "nowhere" in refusal(tmp_path / "nowhere", tmp_path, capsys)


def test_a_fold_that_the_run_has_not(one, tmp_path, capsys):
    assert "there are fold5/seed0" in refusal(one, tmp_path, capsys, "--fold", 3)


def test_a_row_that_is_not_the_mean_of_its_folds(one, tmp_path, capsys):
    change(one / "results.json", mean={"wa": 0.99, "ua": 0.99, "macro_f1": 0.99})
    assert "not the mean of the 1 folds" in refusal(one, tmp_path, capsys)


def test_scores_without_a_model(one, tmp_path, capsys):
    (one / "fold5/seed0/checkpoint").rename(tmp_path / "away")
    assert "no model of its own" in refusal(one, tmp_path, capsys)


def test_a_checkpoint_that_was_never_trained(one, tmp_path, capsys):
    model = tiny_model()
    torch.nn.init.zeros_(model.classifier.bias)
    model.save_pretrained(one / "fold5/seed0/checkpoint")
    assert "is not trained: classifier" in refusal(one, tmp_path, capsys)


def test_a_checkpoint_that_lacks_a_weight(one, tmp_path, capsys):
    model = tiny_model()
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "cross_attention.weight"}
    model.save_pretrained(one / "fold5/seed0/checkpoint", state_dict=weights)
    assert "the weights lack cross_attention.weight" in refusal(one, tmp_path, capsys)


def test_damaged_weights(one, tmp_path, capsys):
    path = one / "fold5/seed0/checkpoint/model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert refusal(one, tmp_path, capsys)


def test_a_path_of_the_machine_in_the_processor(one, tmp_path, capsys):
    processor = tiny_processor()
    processor.tokenizer.init_kwargs["vocabulary_from"] = "/home/ann/towers/vocab.txt"
    processor.save_pretrained(one / "fold5/seed0/checkpoint")
    line = refusal(one, tmp_path, capsys)
    assert "/home/ann/towers/vocab.txt" in line and "tokenizer_config.json, line" in line


def test_a_folder_with_something_in_it_is_not_overwritten(one, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    assert publish.main([str(one), "ann/x", "--dry-run", "--output_dir", str(tmp_path / "mine")]) == 1
    assert "is not empty" in capsys.readouterr().err and [*(tmp_path / "mine").iterdir()] == [tmp_path / "mine/letter.txt"]


def test_without_a_token_nothing_is_begun_and_the_way_to_one_is_said(monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    assert publish.main(["no/such/run", "ann/x"]) == 1  # the run is not even looked for
    line = capsys.readouterr().err
    assert "no token" in line and "hf auth login" in line and len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["run"], "required: user/name"),
        (["run", "name"], "user/name"),
        (["run", "a/b/c"], "user/name"),
        (["run", "ann/.."], "user/name"),
        (["run", "ann/x", "--figure_text", "hello"], "--figure_audio"),
        (["run", "ann/x", "--output_dir", "there"], "--dry-run"),
        (["run/fold1/seed0", "ann/x", "--fold", "2"], "already"),
        (["run", "ann/x", "--privat"], "--privat"),
    ],
)
def test_usage_errors_exit_with_2(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        publish.main(options)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_help_tells_how_the_checkpoint_is_chosen_and_what_stays(capsys):
    with pytest.raises(SystemExit) as stopped:
        publish.main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and "looks at no number" in text and "Predictions, recordings" in text

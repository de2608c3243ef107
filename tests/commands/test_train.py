"""The real script on a tiny corpus: results, two processes, bad input; tests/training/test_kills.py kills it."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from releases import write_release
from safetensors.torch import load_file, save_file
from tiny import tower_folders
from transformers import AutoConfig, AutoModel, AutoProcessor
from warm import run_two

import lemer.train
import lemer.training.folds
import lemer.training.loop
from lemer import LemerModel
from lemer.corpora.iemocap import load_iemocap
from lemer.evaluation.protocol import check_protocol
from lemer.runtime.stopping import Terminated

NO_DROPOUT = [
    f"--set={tower}.{name}=0"
    for tower, names in {
        "speech_config": ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "conformer_conv_dropout")
        + ("activation_dropout", "mask_time_prob"),
        "text_config": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    }.items()
    for name in names
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("corpus") / "release", sessions=3, dialogs_per_session=2)


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """Towers smaller than 'small', for speed; the tests of 'small' itself train it once."""
    return tower_folders(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def arguments(corpus, towers, tmp_path_factory):
    """Everything but the output folder."""
    cache = tmp_path_factory.mktemp("cache")
    return [
        *(
            "--data_dir",
            str(corpus),
            "--cache_dir",
            str(cache),
            "--speech_model",
            str(towers[0]),
            "--text_model",
            str(towers[1]),
        ),
        *("--batch_size", "4", "--epochs", "2", "--warmup_steps", "2", "--speech_lr", "1e-3", "--text_lr", "1e-3"),
        *("--validation_share", "0.3", "--codes", "5", "--words", "3", "--second_stage", "none"),
    ]


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory):
    """A run of two folds."""
    output = tmp_path_factory.mktemp("runs") / "C1"
    assert lemer.train.main([*arguments, "--output_dir", str(output), "--folds", "1", "3"]) == 0
    return output


def read_predictions(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_hold_every_utterance_of_the_session_held_out_once(finished, corpus, tmp_path):
    dataset, _ = load_iemocap(corpus, cache_dir=tmp_path)
    for fold in (1, 3):
        expected = [row["id"] for row in dataset if row["session"] == fold and row["label"] >= 0]
        assert [row["id"] for row in read_predictions(finished / f"fold{fold}/seed0/predictions.csv")] == expected


def test_scores_are_recomputed_from_the_predictions(finished):
    for fold in (1, 3):
        folder = finished / f"fold{fold}/seed0"
        rows, results = read_predictions(folder / "predictions.csv"), json.loads((folder / "results.json").read_text())
        assert results["wa"] == pytest.approx(np.mean([row["label"] == row["prediction"] for row in rows]))
        recalls = [
            np.mean([row["prediction"] == name for row in rows if row["label"] == name]) for name in results["labels"]
        ]
        assert results["ua"] == pytest.approx(np.mean(recalls))
        for row in rows:
            assert row["prediction"] == max(results["labels"], key=lambda name: float(row[name]))


def test_the_row_is_the_mean_over_its_folds(finished):
    folds = [json.loads((finished / f"fold{fold}/seed0/results.json").read_text()) for fold in (1, 3)]
    row = json.loads((finished / "results.json").read_text())
    assert row["mean"]["ua"] == pytest.approx(np.mean([fold["ua"] for fold in folds]))
    assert row["paper"] == {"wa": None, "ua": None}  # fewer words and codes than the paper's row, and no second stage


def test_the_checkpoint_gives_the_predictions(finished, corpus, tmp_path):
    folder = finished / "fold3/seed0"
    model = AutoModel.from_pretrained(folder / "checkpoint", trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder / "checkpoint", trust_remote_code=True)
    rows = {row["id"]: row for row in load_iemocap(corpus, cache_dir=tmp_path)[0]}
    for line in read_predictions(folder / "predictions.csv")[:3]:
        row = rows[line["id"]]
        with torch.no_grad():
            logits = model(**processor(row["audio"], row["text"], row["history"], return_tensors="pt")).logits[0]
        written = [float(line[name]) for name in model.config.id2label.values()]
        np.testing.assert_allclose(logits.numpy(), written, rtol=1e-4, atol=1e-5)


def test_the_checkpoint_shows_words_and_codes_of_its_labels(finished):
    config = LemerModel.from_pretrained(finished / "fold1/seed0/checkpoint").config
    assert all(1 <= len(words) <= 3 for words in config.label_words.values())
    assert all(1 <= len(codes) <= 5 for codes in config.label_codes.values())


def test_validation_and_test_dialogs_are_not_trained_on(corpus, tmp_path):
    dataset, _ = load_iemocap(corpus, cache_dir=tmp_path)
    dataset = dataset.filter(lambda label: label >= 0, input_columns="label")
    train, validation, test, _ = lemer.training.folds.split_rows(dataset, fold=2, share=0.3, seed=0)
    assert set(test["session"]) == {2} and 2 not in {*train["session"], *validation["session"]}
    assert len(validation) and not set(train["dialog"]) & set(validation["dialog"])
    assert len(train) + len(validation) + len(test) == len(dataset)


def test_only_what_is_finished_is_left(finished):
    names = {path.name for path in (finished / "fold1/seed0").iterdir()}
    assert {"checkpoint", "predictions.csv", "results.json", "log.jsonl"} <= names
    assert not names & {"states", "start"} and not list(finished.rglob("*.tmp"))


def test_a_finished_run_is_left_alone(finished, arguments):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("fold*/seed*/*.*")}
    assert lemer.train.main([*arguments, "--output_dir", str(finished), "--folds", "1", "3"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("fold*/seed*/*.*")}


def test_a_run_of_other_settings_is_refused(finished, arguments, capsys):
    assert lemer.train.main([*arguments, "--output_dir", str(finished), "--folds", "1", "--words", "4"]) == 1
    assert "words was 3, is 4" in capsys.readouterr().err


def test_two_processes_go_on_from_a_state_of_one_and_score_like_it(arguments, tmp_path, monkeypatch):
    # 12 test utterances in batches of 10: the last batch does not fill both processes.
    options = ["--folds", "2", "--epochs", "3", "--batch_size", "10", "--validation_share", "0"]
    arguments = [*arguments, *options, *NO_DROPOUT]
    assert lemer.train.main([*arguments, "--output_dir", str(tmp_path / "one")]) == 0

    def save_and_stop(states, progress, save=lemer.training.loop.States.save):
        save(states, progress)
        raise Terminated

    with monkeypatch.context() as patch:
        patch.setattr(lemer.training.loop.States, "save", save_and_stop)
        assert lemer.train.main([*arguments, "--checkpoint_steps", "1", "--output_dir", str(tmp_path / "two")]) == 143
    assert len((tmp_path / "two/fold2/seed0/log.jsonl").read_text().splitlines()) == 1
    assert run_two("lemer.train", [*arguments, "--output_dir", str(tmp_path / "two")]) == [0, 0]
    logs = [(tmp_path / run / "fold2/seed0/log.jsonl").read_text().splitlines() for run in ("one", "two")]
    losses = [[json.loads(line).get("loss") for line in log] for log in logs]
    assert len(losses[0]) == len(losses[1]) == 6
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    one, two = (read_predictions(tmp_path / run / "fold2/seed0/predictions.csv") for run in ("one", "two"))
    assert [row["id"] for row in one] == [row["id"] for row in two]
    assert json.loads((tmp_path / "two/fold2/seed0/results.json").read_text())["processes"] == 2


def test_processes_that_load_audio_change_nothing(arguments, tmp_path):
    for workers in ("0", "2"):
        options = ["--folds", "2", "--num_workers", workers, "--epochs", "2"]
        assert lemer.train.main([*arguments, *options, "--output_dir", str(tmp_path / workers)]) == 0
    for name in ("predictions.csv", "log.jsonl"):
        alone, helped = ((tmp_path / workers / "fold2/seed0" / name).read_text() for workers in ("0", "2"))
        assert alone == helped


def test_one_modality_alone_trains_without_the_other(arguments, tmp_path):
    for modality, absent in (("speech", "text_model"), ("text", "speech_model")):
        output = tmp_path / modality
        options = ["--output_dir", str(output), "--folds", "1", "--epochs", "1", "--set", f"modality={modality}"]
        assert lemer.train.main([*arguments, *options]) == 0
        model = LemerModel.from_pretrained(output / "fold1/seed0/checkpoint")
        assert getattr(model, absent) is None


def test_every_command_of_a_row_is_kept(tmp_path):
    settings = {"epochs": 1}
    check_protocol(tmp_path, {**settings, "command": "train --folds 1"})
    (tmp_path / "fold1/seed0/checkpoint").mkdir(parents=True)
    for command in ("train --folds 2", "train --folds 1"):
        check_protocol(tmp_path, {**settings, "command": command})
    assert json.loads((tmp_path / "protocol.json").read_text()) == {
        **settings,
        "command": "train --folds 1\ntrain --folds 2",
    }


def test_a_tower_can_be_named_for_each_fold_and_seed(arguments, towers, tmp_path, capsys):
    for fold in (1, 3):
        tower = shutil.copytree(towers[0], tmp_path / f"towers/{fold}-7")
        weights = load_file(tower / "model.safetensors")
        for name, weight in weights.items():
            if "feature_extractor.conv_layers" in name and name.endswith("conv.weight"):
                weights[name] = weight * fold
        save_file(weights, tower / "model.safetensors", {"format": "pt"})
    options = ["--speech_model", str(tmp_path / "towers/{fold}-{seed}"), "--folds", "1", "3", "--seeds", "7"]
    options += ["--freeze_feature_encoder", "--epochs", "1", "--set", "modality=speech"]
    assert lemer.train.main([*arguments, "--output_dir", str(tmp_path / "run"), *options]) == 0
    norms = []
    for fold in (1, 3):
        model = LemerModel.from_pretrained(tmp_path / f"run/fold{fold}/seed7/checkpoint")
        norms.append(model.speech_model.feature_extractor.conv_layers[0].conv.weight.norm().item())
    assert norms[1] == pytest.approx(3 * norms[0])

    options += ["--output_dir", str(tmp_path / "staged"), "--second_stage", str(tmp_path / "stage")]
    assert lemer.train.main([*arguments, *options]) == 1
    assert "give --second_stage none" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm", "unispeech-sat"])
def test_the_cnn_encoder_of_every_family_can_stay_as_it_is(family, arguments, towers, tmp_path, capsys):
    tower, run = tmp_path / "tower", tmp_path / "run"
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    AutoModel.from_config(AutoConfig.for_model(family, **size, conv_dim=(16,) * 7)).save_pretrained(tower)
    shutil.copy(towers[0] / "preprocessor_config.json", tower)
    options = [*arguments, "--speech_model", str(tower), "--set", "modality=speech", "--epochs", "1", "--folds", "1"]
    assert lemer.train.main([*options, "--output_dir", str(tmp_path / "of_codes")]) == 1
    assert "tonal_labels=semantic with speech_label_space=semantic" in capsys.readouterr().err
    options += ["--freeze_feature_encoder", "--tonal_labels", "semantic", "--set", "speech_label_space=semantic"]
    assert lemer.train.main([*options, "--output_dir", str(run)]) == 0
    model = LemerModel.from_pretrained(run / "fold1/seed0/checkpoint")
    assert model.config.speech_config.model_type == family
    before, after = (one.feature_extractor.state_dict() for one in (AutoModel.from_pretrained(tower), model.speech_model))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_tower_that_has_seen_the_test_is_refused(finished, arguments, tmp_path, capsys):
    """Of the finished run of folds 1 and 3, that of fold 1 was trained on session 3."""
    options = [*arguments, "--set", "modality=speech", "--epochs", "1", "--speech_model"]
    fixed, by_fold = (str(finished / fold / "seed0/checkpoint") for fold in ("fold1", "fold{fold}"))
    assert lemer.train.main([*options, fixed, "--folds", "1", "3", "--output_dir", str(tmp_path / "run")]) == 1
    assert "for fold 1, and so on what fold 3 is tested on" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert lemer.train.main([*options, fixed, "--folds", "1", "--output_dir", str(tmp_path / "one")]) == 0
    assert lemer.train.main([*options, by_fold, "--folds", "1", "3", "--output_dir", str(tmp_path / "both")]) == 0


def test_small_towers_need_no_checkpoint(corpus, tmp_path):
    options = [
        "--speech_model",
        "small",
        "--text_model",
        "small",
        "--epochs",
        "1",
        "--folds",
        "1",
        "--validation_share",
        "0",
        "--batch_size",
        "4",
    ]
    options += [
        "--second_stage",
        "none",
        "--data_dir",
        str(corpus),
        "--cache_dir",
        str(tmp_path),
        "--output_dir",
        str(tmp_path / "run"),
    ]
    assert lemer.train.main(options) == 0
    assert json.loads((tmp_path / "run/protocol.json").read_text())["speech_lr"] == 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data_dir", "nowhere"], "nowhere"),
        (["--recipe", "Z9"], "C1"),
        (["--set", "fusoin=sum"], "fusion"),
        (["--set", "fusion=add"], "constraint"),
        (["--set", "speech_config.depth=3"], "depth: no such field"),
        (["--folds", "7"], "sessions [1, 2, 3]"),
        (["--speech_model", "no/such-tower"], "no/such-tower"),
    ],
)
def test_bad_input_is_one_clear_error_and_nothing_half_written(options, message, arguments, tmp_path, capsys):
    output = tmp_path / "run"
    assert lemer.train.main([*arguments, "--output_dir", str(output), *options]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train.py: ") and message in error
    assert not list(output.rglob("checkpoint*")) and not list(output.rglob("*.tmp"))


@pytest.mark.parametrize("option", ["--words", "--codes", "--batch_size", "--epochs"])
def test_zero_of_what_must_be_counted_is_refused(option, arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        lemer.train.main([*arguments, "--output_dir", str(tmp_path / "run"), option, "0"])
    assert stopped.value.code == 2 and f"{option} cannot be 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_with_the_ids(arguments, tmp_path, capsys):
    options = ["--output_dir", str(tmp_path / "run"), "--folds", "1", "--new_lr", "1e37", "--warmup_steps", "0"]
    assert lemer.train.main([*arguments, *options, "--max_grad_norm", "1e30"]) == 1
    error = capsys.readouterr().err
    assert "loss is not finite" in error and "Ses0" in error
    assert not (tmp_path / "run/fold1/seed0/results.json").exists()


@pytest.mark.parametrize("command", ["train --help", "train --list", "pretrain --help"])
def test_help_and_list_load_no_library(command):
    name, option = command.split()
    code = (
        f"import sys, lemer.{name}\n"
        f"try:\n    code = lemer.{name}.main([{option!r}])\nexcept SystemExit as stopped:\n    code = stopped.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'numpy'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, heavy"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert option == "--list" or f"python {name}.py --" in answer.stdout.splitlines()[0]


def test_the_list_of_recipes_names_each_with_the_papers_figures(capsys):
    assert lemer.train.main(["--list"]) == 0
    rows = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    assert ["C1", "82.40", "83.11", "LE-MER: attention constraint"] in rows


def test_weights_of_a_warm_up_that_began_at_0_are_not_selected(arguments, tmp_path):
    """With one update an epoch, the model after the first epoch is still the one that nothing has trained."""
    options = [*arguments, "--folds", "1", "--batch_size", "1000", "--epochs", "2", "--warmup_steps", "1", "--recipe", "A1"]
    assert lemer.train.main([*options, "--validation_share", "0.3", "--output_dir", str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run/fold1/seed0/results.json").read_text())
    assert results["updates"] == 2 and results["selected"] == "best UA on validation, update 2"


@pytest.mark.parametrize("share", ["0", "0.3"])
def test_a_training_that_learned_nothing_is_an_error(share, arguments, tmp_path, capsys):
    options = [*arguments, "--folds", "1", "--batch_size", "1000", "--epochs", "1", "--warmup_steps", "1", "--recipe", "A1"]
    assert lemer.train.main([*options, "--validation_share", share, "--output_dir", str(tmp_path / "run")]) == 1
    assert "nothing was learned" in capsys.readouterr().err
    assert not (tmp_path / "run/fold1/seed0/checkpoint").exists()

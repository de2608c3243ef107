"""`Trainer` on our model: the documented script as a practitioner runs it, and every trap on its way."""

import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import torch
from hub_server import Account, HubServer
from strangers import run_strangers
from tiny import perturb, tiny_batch, tiny_model, tiny_processor
from transformers import AutoModel, AutoProcessor, Trainer, TrainingArguments
from warm import two_ranks

from lemer import LemerModel, LemerProcessor

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune_with_trainer.py"
CLASSES = ["joy", "ang", "calm"]
WITHOUT_PACKAGE = "import runpy, sys; sys.modules['lemer'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of the four emotions, and parquet files of recordings of three others."""
    folder = tmp_path_factory.mktemp("trainer")
    tiny_model().save_pretrained(folder / "checkpoint")
    tiny_processor().save_pretrained(folder / "checkpoint")
    rng, audio = np.random.default_rng(0), datasets.Audio(decode=False)
    text = datasets.Value("string")
    label = datasets.ClassLabel(names=CLASSES)
    features = datasets.Features(audio=audio, text=text, label=label, history=datasets.List(text))
    (folder / "data").mkdir()
    for split, count in (("train", 13), ("validation", 5), ("test", 7)):
        rows = []
        for number in range(count):
            file = io.BytesIO()
            soundfile.write(file, rng.normal(0, 0.1, 1600 + 100 * number), 16_000, format="WAV")
            said = ("we won", "i hate this", "the table")[number % 3]
            row = {"audio": {"bytes": file.getvalue(), "path": None}, "text": said, "label": number % 3}
            rows.append({**row, "history": ["hello"] * (number % 2)})
        datasets.Dataset.from_list(rows).cast(features).to_parquet(folder / "data" / f"{split}.parquet")
    return folder


def finetune(folder, output, *options, environments=({},), fresh=None) -> None:
    """Run the script as strangers, one for each environment, or fresh with variables that are read at import."""
    command = [str(SCRIPT), "--checkpoint", str(folder / "checkpoint"), "--dataset", str(folder / "data"), "--use_cpu"]
    command += ["--output_dir", str(output), "--num_train_epochs", "2", "--per_device_train_batch_size", "2"]
    command += ["--report_to", "none", "--disable_tqdm", "true", *options]
    if fresh is None:
        processes = run_strangers(WITHOUT_PACKAGE, command, folder, list(environments))
    else:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **fresh}
        command = [sys.executable, "-c", WITHOUT_PACKAGE, *command]
        processes = [subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=180)]
    for done in processes:
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def tuned(folder):
    """What the script leaves when two processes run it; an unused parameter would stop them."""
    finetune(folder, folder / "tuned", "--learning_rate", "1e-3", environments=two_ranks())
    return folder / "tuned"


def test_the_script_has_at_most_75_lines():
    assert len(SCRIPT.read_text().splitlines()) <= 75


def test_the_script_names_recordings_that_datasets_overlooks(tmp_path, monkeypatch):
    for path in ("train/joy/0.wav", "train/ang/0.wav", "test/joy/0.wav", "train/joy/1.m4a"):
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "data" / path, np.zeros(400), 16_000, format="WAV")
    monkeypatch.setattr(datasets.Audio, "encode_example", datasets.Audio.encode_example)  # put back afterwards
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    options = [
        "--checkpoint",
        "none",
        "--dataset",
        str(tmp_path / "data"),
        "--output_dir",
        str(tmp_path / "out"),
        "--use_cpu",
    ]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    with pytest.raises(SystemExit, match="1 recordings were not read, such as .*1.m4a"):
        runpy.run_path(str(SCRIPT))


def test_the_script_leaves_a_checkpoint_of_the_new_labels(tuned):
    model, processor = LemerModel.from_pretrained(tuned), LemerProcessor.from_pretrained(tuned)
    assert model.config.id2label == dict(enumerate(CLASSES)) and model.untrained == []
    assert model.config.label_words["joy"] == ["joy"] and model.config.label_codes["calm"]
    assert model(**processor(audio=np.ones(900, np.float32), text="we won", sampling_rate=16_000, return_tensors="pt"))


def test_the_script_scores_the_test_split_and_keeps_the_best_epoch_of_validation(tuned, folder):
    scores = json.loads((tuned / "test_results.json").read_text())
    model, processor = LemerModel.from_pretrained(tuned), LemerProcessor.from_pretrained(tuned)
    rows = datasets.Dataset.from_parquet(str(folder / "data" / "test.parquet"), cache_dir=str(folder / "cache"))
    right = []
    for row in rows.cast_column("audio", datasets.Audio(decode=False)):
        with torch.no_grad():
            logits = model(**processor(row["audio"], row["text"], row["history"], return_tensors="pt")).logits
        right.append((row["label"], logits.argmax().item() == row["label"]))
    assert scores["test_wa"] == pytest.approx(np.mean([hit for _, hit in right]))
    recalls = [np.mean([hit for label, hit in right if label == one]) for one in range(3)]
    assert scores["test_ua"] == pytest.approx(np.mean(recalls))
    states = sorted(tuned.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((states[-1] / "trainer_state.json").read_text())
    epochs = [line["eval_ua"] for line in history["log_history"] if "eval_ua" in line]
    assert len(epochs) == 2 and history["best_metric"] == max(epochs)
    best = LemerModel.from_pretrained(states[epochs.index(max(epochs))])  # a folder that Trainer saved, by itself
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in best.state_dict().items())


def test_two_processes_share_the_batches(tuned):
    state = json.loads((next(tuned.glob("checkpoint-*")) / "trainer_state.json").read_text())
    assert state["max_steps"] == 8  # two epochs of 13 rows in batches of 2 x 2


def test_the_script_reads_folders_of_recordings_without_torchcodec(tmp_path):
    tiny_model(modality="speech").save_pretrained(tmp_path / "checkpoint")
    tiny_processor().save_pretrained(tmp_path / "checkpoint")
    noise = np.random.default_rng(0).normal(0, 0.1, 4000)
    for split, count in (("train", 6), ("test", 2)):
        for emotion in ("joy", "rage"):
            (tmp_path / "data" / split / emotion).mkdir(parents=True)
            for number in range(count):
                soundfile.write(tmp_path / "data" / split / emotion / f"{number}.wav", noise[: 2000 + 100 * number], 16_000)
    finetune(tmp_path, tmp_path / "tuned", "--num_train_epochs", "1")
    assert LemerModel.from_pretrained(tmp_path / "tuned").config.id2label == {0: "joy", 1: "rage"}


def test_what_the_script_pushes_without_the_package_is_whole(folder):
    with HubServer({"hf_ann": Account("ann")}) as hub:
        client = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_ann", "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        client["HF_HOME"] = str(folder / "hub_home")
        push = ("--push_to_hub", "--hub_model_id", "ann/tuned", "--num_train_epochs", "1")
        finetune(folder, folder / "pushed", *push, fresh=client)
        files = hub.repositories["ann/tuned"].files
    code = {"configuration", "modeling", "processing", "pipeline", "speech_encoder", "labels", "towers"}
    assert {f"{part}_lemer.py" for part in code} <= set(files)
    (folder / "from_hub").mkdir()
    for name, content in files.items():
        (folder / "from_hub" / name).write_bytes(content)
    model = AutoModel.from_pretrained(folder / "from_hub", trust_remote_code=True)
    assert list(model.config.label2id) == CLASSES and model.untrained == []
    assert AutoProcessor.from_pretrained(folder / "from_hub", trust_remote_code=True).max_history == 10


def test_the_script_reads_a_plain_folder_of_recordings_without_torchcodec(folder):
    rng = np.random.default_rng(1)
    for split in ("train", "validation", "test"):
        for name in ("ang", "joy"):
            (folder / "recordings" / split / name).mkdir(parents=True)
            for number in range(2):
                path = folder / "recordings" / split / name / f"{number}.wav"
                soundfile.write(path, rng.normal(0, 0.1, 1600 + 100 * number), 16_000)
    options = ("--dataset", str(folder / "recordings"), "--num_train_epochs", "1")
    finetune(folder, folder / "of_recordings", *options)
    assert LemerModel.from_pretrained(folder / "of_recordings").config.id2label == {0: "ang", 1: "joy"}


# -------------------------------------------------------------------------------------------------- the traps, one by one


class Rows(torch.utils.data.Dataset):
    """Rows of equal lengths, so that any of them stack to a batch."""

    def __init__(self, count: int, modality: str = "multimodal"):
        batch = tiny_batch((2000,) * count, (6,) * count, labels=True, modality=modality)
        self.rows = [{name: values[index] for name, values in batch.items()} for index in range(count)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return self.rows[index]


def stack(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def trainer(model, folder, rows, collate=stack, **settings) -> Trainer:
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "remove_unused_columns": False, **settings}
    metrics = settings.pop("compute_metrics", None)
    arguments = TrainingArguments(output_dir=str(folder), **settings)
    return Trainer(model, arguments, collate, rows, rows, compute_metrics=metrics)


@pytest.mark.parametrize("modality", ["multimodal", "speech", "text"])
def test_accumulated_batches_are_one_batch(modality, tmp_path):
    weights, losses = [], []
    for size, steps in ((4, 1), (1, 4)):
        model = tiny_model(modality=modality)
        settings = {"max_steps": 1, "logging_steps": 1, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}
        sizes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "save_strategy": "no"}
        run = trainer(model, tmp_path, Rows(4, modality), **settings, **sizes)
        run.train()
        losses.append(run.state.log_history[0]["loss"])
        weights.append(model.state_dict())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    before = tiny_model(modality=modality).state_dict()
    assert any(not torch.equal(weights[0][name], before[name]) for name in before)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-4, atol=1e-6)


def test_predictions_are_one_array_and_labels_are_found(tmp_path):
    seen = []
    run = trainer(
        tiny_model(), tmp_path, Rows(5), per_device_eval_batch_size=2, compute_metrics=lambda p: seen.append(p) or {"n": 1}
    )
    metrics = run.evaluate()
    assert metrics["eval_n"] == 1 and metrics["eval_loss"] > 0
    assert seen[0].predictions.shape == (5, 4) and seen[0].label_ids.tolist() == [0, 1, 2, 3, 0]


def test_batches_of_other_lengths_are_evaluated(tmp_path):
    batches = [tiny_batch(samples, tokens, labels=True) for samples, tokens in (((900, 3000), (3, 9)), ((500, 700), (4, 5)))]
    run = trainer(tiny_model(), tmp_path, batches, collate=lambda rows: rows[0], per_device_eval_batch_size=1)
    assert run.predict(batches).predictions.shape == (4, 4)


def test_rows_are_grouped_by_the_column_length(tmp_path):
    rows, met = Rows(8), []

    def collate(chosen):
        met.append({row["length"] for row in chosen})
        return stack([rows[row["row"]] for row in chosen])

    # Trainer sorts runs of 16 rows, here: at most one batch of each mixes the two lengths.
    table = datasets.Dataset.from_list([{"row": index % 8, "length": [500, 2000][index % 2]} for index in range(64)])
    settings = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 2, "num_train_epochs": 1}
    trainer(tiny_model(), tmp_path, table, collate, save_strategy="no", **settings).train()
    assert len(met) == 32 and sum(len(lengths) > 1 for lengths in met) <= 4


def test_a_run_goes_on_from_a_checkpoint_of_new_labels(tmp_path):
    def model():
        one = perturb(tiny_model())
        one.set_labels(["ang", "hap", "neu", "proud"], words={"proud": ["won"]}, processor=tiny_processor())
        torch.nn.init.ones_(one.classifier.weight)
        return one

    settings = {"save_steps": 2, "max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-3}
    whole, resumed = model(), model()
    trainer(whole, tmp_path / "whole", Rows(8), **settings).train()
    trainer(resumed, tmp_path / "again", Rows(8), **settings).train(str(tmp_path / "whole" / "checkpoint-2"))
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=1e-5, atol=1e-7)

"""Every command and snippet of the README, run as it stands, with small stand-ins for what it names."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from datasets import Dataset
from releases import wav_file, write_release
from tiny import perturb, seeded, tiny_config, tiny_processor, tower_folders
from transformers import AutoModel

import lemer
from lemer import LemerModel, predict, publish, train
from lemer.corpora import dialogs, iemocap
from lemer.evaluation import attention_figure, report

ROOT = Path(lemer.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SNIPPETS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    shlex.split(line, comments=True)
    for language, text in BLOCKS
    for line in text.replace("\\\n", "").splitlines()
    if not language and re.match(r"(python|make|pip|torchrun) ", line)
]
# Run by others: by CI, by tests/test_demo.py, test_train.py, test_trainer.py; test_app.py and test_export.py need extras.
ELSEWHERE = ("make", "pip", "python app.py", "python export.py", "python examples/finetune_with_trainer.py")
SCRIPTS = {
    "train.py": train.main,
    "predict.py": predict.main,
    "publish.py": publish.main,
    "lemer.corpora.iemocap": iemocap.main,
    "lemer.corpora.dialogs": dialogs.main,
    "lemer.evaluation.report": report.main,
    "lemer.evaluation.attention_figure": attention_figure.main,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with everything that the README names."""
    folder = tmp_path_factory.mktemp("readme")
    release = write_release(folder / "IEMOCAP_full_release", sessions=2)
    model = perturb(seeded(lambda: LemerModel(tiny_config())))
    model.save_pretrained(folder / "CHECKPOINT")
    tiny_processor().save_pretrained(folder / "CHECKPOINT")
    shutil.copy(wav_file(release, "Ses01F_impro01_F000"), folder / "recording.wav")
    (folder / "recordings").mkdir()
    shutil.copy(folder / "recording.wav", folder / "recordings" / "another.wav")
    (folder / "utterances.csv").write_text("audio,text\nrecording.wav,you are late\nrecordings/another.wav,great day\n")
    samples, rate = soundfile.read(folder / "recording.wav")
    (folder / "my_dataset").mkdir()
    rows = [{"file_name": f"{i}.wav", "emotion": ("calm", "angry")[i % 2], "speaker": f"s{i // 4}"} for i in range(8)]
    for row in rows:
        soundfile.write(folder / "my_dataset" / row["file_name"], samples, rate)
    Dataset.from_list(rows).to_json(folder / "my_dataset" / "metadata.jsonl")
    turns = [{"speaker": "F", "text": f"line {i} of it", "emotion": ("neu", "sad")[i % 2]} for i in range(4)]
    lines = [{"turns": [{**turn, "text": f"{turn['text']}, {n}"} for turn in turns]} for n in range(4)]
    (folder / "dialogs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    speech, _ = tower_folders(folder / "towers")
    seeded(lambda: AutoModel.from_config(tiny_config(speech={"model_type": "hubert"}).speech_config)).save_pretrained(
        folder / "HUBERT"
    )
    shutil.copy(speech / "preprocessor_config.json", folder / "HUBERT")
    return folder


def options_of(command: list[str], place: Path) -> list[str]:
    """What makes a training small: nothing that the README says is changed."""
    if command[1] != "train.py":
        return []
    options = ["--cache_dir", place / "cache"]
    for tower in ("speech", "text"):
        if f"--{tower}_model" not in command:
            options += [f"--{tower}_model", place / "towers" / tower]
    options += ["--epochs", 1, "--warmup_steps", 0, "--batch_size", 4, "--codes", 3, "--words", 2]
    return [str(option) for option in options]


def test_the_readme_has_commands_and_snippets_of_every_kind():
    named = {" ".join(command[1:3]) if command[1] == "-m" else command[1] for command in COMMANDS if command[0] == "python"}
    assert {"train.py", "predict.py", "publish.py", "app.py", "-m lemer.evaluation.report"} <= named
    assert len(SNIPPETS) >= 3


def test_commands_run_one_after_the_other(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for command in COMMANDS:
        if not " ".join(command).startswith(ELSEWHERE):
            script, arguments = (command[2], command[3:]) if command[1] == "-m" else (command[1], command[2:])
            assert SCRIPTS[script]([*arguments, *options_of(command, place)]) == 0, (command, capsys.readouterr().err)
    assert (place / "runs/report/report.html").exists() and (place / "answers.csv").exists()
    assert AutoModel.from_pretrained(place / "runs/C1/fold1/seed0/checkpoint").untrained == []


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(number, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    torch.manual_seed(0)
    exec(compile(SNIPPETS[number], f"README snippet {number}", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_options_that_the_text_names_exist():
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    options = set(re.findall(r"`(--\w+)", text)) - {"--nproc_per_node"}
    helps = "".join((ROOT / name).read_text() for name in ("train.py", "predict.py", "corpora/command_line.py"))
    assert options and all(f'"{option}"' in helps or option == "--help" for option in options)


def test_every_file_of_the_map_is_there_and_the_other_way_round():
    (tree,) = [text for language, text in BLOCKS if not language and "configuration_lemer.py" in text]
    named = set(re.findall(r"\b[\w/]+\.(?:py|md)\b", tree))
    here = {path.name for path in ROOT.glob("*.py")} - {"__init__.py"}
    assert here <= named
    folders = ("", "corpora/", "evaluation/", "benchmarks/", "tests/")
    for name in named - {"report*.py"}:
        assert any((ROOT / folder / name).exists() for folder in folders), name
    assert sys.version_info >= (3, 11)

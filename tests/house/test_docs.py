"""The documentation: its commands and snippets run, with small stand-ins for what they name; names and links exist."""

import importlib
import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from datasets import Dataset
from known_layouts import write_crema_d, write_ravdess
from releases import wav_file, write_release
from tiny import perturb, seeded, tiny_config, tiny_processor, tower_folders
from transformers import AutoModel

import lemer
from lemer import LemerModel
from lemer.corpora.known import KNOWN
from lemer.corpora.known_row import format_sources, format_table
from lemer.recipes import RECIPES

ROOT = Path(lemer.__file__).parent
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
REPORTS = {"real_data.md", "small_corpora.md"}  # of runs on data that is not here; hours each
RUN = {name: text for name, text in PAGES.items() if name not in REPORTS}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SNIPPETS = [
    pytest.param(name, text, id=f"{name}-{number}")
    for name, page in RUN.items()
    for number, (language, text) in enumerate(BLOCK.findall(page))
    if language == "python"
]
# Run by other tests: of the Makefile by CI, the others by those in tests/commands.
ELSEWHERE = ("make", "pip", "lemer app", "lemer export", "python examples/")
# The sub-commands of `lemer` and the modules whose `main` they run.
MODULES = {
    ("train",): "lemer.train",
    ("pretrain",): "lemer.pretrain",
    ("predict",): "lemer.predict",
    ("evaluate",): "lemer.score",
    ("publish",): "lemer.publish",
    ("report",): "lemer.evaluation.report",
    ("corpus", "iemocap"): "lemer.corpora.iemocap",
    ("corpus", "dialogs"): "lemer.corpora.dialogs",
    ("figure", "attention"): "lemer.evaluation.attention_figure",
    ("figure", "labels"): "lemer.evaluation.label_figure",
}
UNION = "".join(RUN.values())


def commands_of(page: str) -> list[list[str]]:
    """The words of every command in the blocks of a page that name no language."""
    lines = [
        line
        for language, text in BLOCK.findall(page)
        if not language
        for line in text.replace("\\\n", "").splitlines()
        if line.strip()
    ]
    return [shlex.split(line, comments=True) for line in lines]


def run(command: list[str]) -> int:
    """A command of the documentation in this process, through the command `lemer` where there is one."""
    assert command[0] == "lemer", command
    if importlib.util.find_spec("lemer.__main__"):
        return importlib.import_module("lemer.__main__").main(command[1:])
    name = next(name for name in MODULES if tuple(command[1 : 1 + len(name)]) == name)
    return importlib.import_module(MODULES[name]).main(command[1 + len(name) :])


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with everything that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
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
    for number, row in enumerate(rows, start=1):  # no two recordings are the same
        soundfile.write(folder / "my_dataset" / row["file_name"], samples * (1 - number / 20), rate)
    Dataset.from_list(rows).to_json(folder / "my_dataset" / "metadata.jsonl")
    turns = [{"speaker": "F", "text": f"line {i} of it", "emotion": ("neu", "sad")[i % 2]} for i in range(4)]
    lines = [{"turns": [{**turn, "text": f"{turn['text']}, {n}"} for turn in turns]} for n in range(4)]
    (folder / "dialogs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write_ravdess(folder / "RAVDESS")
    write_crema_d(folder / "CREMA-D")
    speech, _ = tower_folders(folder / "towers")
    seeded(lambda: AutoModel.from_config(tiny_config(speech={"model_type": "hubert"}).speech_config)).save_pretrained(
        folder / "HUBERT"
    )
    shutil.copy(speech / "preprocessor_config.json", folder / "HUBERT")
    demo = write_release(folder / "demo" / "corpus", sessions=5, dialogs_per_session=1)
    answered = demo / "Session5/sentences/wav/Ses05F_impro02/Ses05F_impro02_M005.wav"
    answered.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "recording.wav", answered)
    shutil.copytree(folder / "CHECKPOINT", folder / "demo/runs/speech_and_words/fold5/seed0/checkpoint")
    return folder


@pytest.fixture
def place(things, tmp_path, monkeypatch):
    """A folder for one page or snippet, with links to everything that is named."""
    for path in things.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small_options(command: list[str], things: Path) -> list[str]:
    """What makes a training small: nothing that the page says is changed."""
    if command[1] not in ("train", "pretrain"):
        return []
    options = ["--cache_dir", things / "cache"]
    if "small_corpus" in command:  # it has no tower, and trains nothing by gradients
        return [str(option) for option in options]
    for tower in ("speech", "text") if command[1] == "train" else ("speech",):
        if f"--{tower}_model" not in command:
            options += [f"--{tower}_model", things / "towers" / tower]
    if command[1] == "train":
        options += ["--epochs", 1, "--warmup_steps", 0, "--batch_size", 4, "--codes", 3, "--words", 2]
    return [str(option) for option in options]


def test_the_pages_have_commands_and_snippets_of_every_kind():
    commands = [command for page in RUN.values() for command in commands_of(page)]
    named = {command[1] for command in commands if command[0] == "lemer"}
    assert named == {"train", "pretrain", "predict", "evaluate", "publish", "export", "app", "report", "corpus", "figure"}
    assert {command[0] for command in commands} == {"lemer", "python", "make", "pip"}
    assert len(SNIPPETS) >= 7 and len(commands_of(RUN["README.md"])) >= 3


@pytest.mark.parametrize("name", [name for name, page in RUN.items() if commands_of(page)])
def test_commands_run_one_after_the_other(name, things, place, capsys):
    for command in commands_of(RUN[name]):
        if not " ".join(command).startswith(ELSEWHERE):
            assert run([*command, *small_options(command, things)]) == 0, (command, capsys.readouterr().err)
    if name == "training.md":
        assert (place / "runs/report/report.html").exists()
        assert AutoModel.from_pretrained(place / "runs/C1/fold1/seed0/checkpoint").untrained == []
        assert (place / "figure4.png").exists() and (place / "figure1/labels.png").exists()
    if name == "using.md":
        assert (place / "answers.csv").exists() and (place / "attention.png").exists()


@pytest.mark.parametrize(("name", "snippet"), SNIPPETS)
def test_a_snippet_runs(name, snippet, place, capsys):
    torch.manual_seed(0)
    exec(compile(snippet, name, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_a_snippet_names_what_it_imports():
    """None leans on another one above it."""
    assert all("import" in parameters.values[1].splitlines()[0] for parameters in SNIPPETS)


def test_options_that_the_text_names_exist(capsys):
    text = re.sub(r"```.*?```", "", UNION, flags=re.DOTALL)
    others = {"--nproc_per_node", "--num_processes", "--dynamo_backend", "--cpu", "--logdir"}  # of launchers
    others |= {"--gradient_checkpointing", "--workers", "--rows", "--requests"}  # of examples and benchmarks
    options = set(re.findall(r"`[^`\n]*?(--[a-z]\w*)", text)) - others
    for name in ("train", "pretrain", "predict", "publish", "export"):
        with pytest.raises(SystemExit):
            run(["lemer", name, "--help"])
    helps = set(re.findall(r"--[a-z]\w*", capsys.readouterr().out))
    assert options and options <= helps | {"--help"}


def test_targets_of_make_that_the_pages_name_exist():
    pages = UNION + "".join((ROOT / name).read_text() for name in ("CONTRIBUTING.md", ".github/workflows/ci.yml"))
    named = set(re.findall(r"(?:^|`|run: )make ([\w-]+)", pages, re.MULTILINE))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"test", "docs", "demo", "install"} <= named <= targets


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/LOG.md", "docs"])
def test_links_lead_to_files(name):
    pages = [ROOT / name] if name.endswith(".md") else sorted((ROOT / name).rglob("*.md"))
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            target = link.split("#")[0]
            if target and "://" not in target:
                linked = (page.parent / target).resolve()
                assert linked.exists(), (page, link)
                # The site has the pages of docs/ alone.
                assert name != "docs" or linked.is_relative_to((ROOT / "docs").resolve()), (page, link)


def test_tests_that_the_promises_name_exist():
    named = re.findall(r"test_\w+\.py", RUN["promises.md"])
    here = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert named and set(named) <= here
    assert all((ROOT / path).exists() for path in re.findall(r"tests/\w+/\w+\.py", RUN["promises.md"]))


def test_the_table_of_recipes_is_that_of_the_code():
    rows = re.findall(r"^\| (\w+) \| (.+?) \| ([\d.]+) \| ([\d.]+) \|", RUN["training.md"], re.MULTILINE)
    written = {name: (what, float(wa), float(ua)) for name, what, wa, ua in rows}
    known = {name: recipe for name, recipe in RECIPES.items() if recipe.paper_wa is not None}
    assert written == {name: (recipe.description, recipe.paper_wa, recipe.paper_ua) for name, recipe in known.items()}
    assert all(name in RUN["training.md"] for name in RECIPES)


def test_the_table_of_corpora_is_that_of_the_rows():
    page = RUN["corpora.md"]
    assert f"\n\n{format_table(KNOWN)}\n\n" in page and page.endswith(f"\n\n{format_sources(KNOWN)}\n")


def test_the_map_names_every_file_of_the_root_and_every_room():
    text = RUN["design.md"]
    files = {path.name for path in ROOT.glob("*.py")}
    folders = {
        f"{path.parent.relative_to(ROOT)}/"
        for room in ROOT.iterdir()
        if room.is_dir() and room.name.isidentifier() and room.name not in ("build", "dist", "site", "tests")
        for path in room.rglob("__init__.py")
    }
    named = set(re.findall(r"`([\w/.]+(?:\.py|/))`", text))
    assert files <= named
    assert {folder for folder in folders if folder.count("/") == 1} <= named
    gone = {name for name in named if not (ROOT / name).exists()}
    assert not gone

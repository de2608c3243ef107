"""The command `lemer`: its help, its mistakes, its names, and the wheel in an environment of its own."""

import configparser
import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import tiny_model, tiny_processor

import lemer
from lemer import LemerPipeline
from lemer.__main__ import COMMANDS, main
from lemer.runtime.command import called_as, command_parser, program

ROOT = Path(lemer.__file__).resolve().parent
FILES = ("train", "pretrain", "predict", "evaluate", "publish", "export", "app")
NEXT = {"corpus": {"iemocap", "dialogs", "demo"}, "figure": {"attention", "labels"}}
HEAVY = {"torch", "transformers", "datasets", "numpy"}


def stopped(capsys, *argv) -> tuple[int, str, str]:
    """Exit status, output and errors of a command line that ends the process."""
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    return stop.value.code, *capsys.readouterr()


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


# ------------------------------------------------------------------------------------------------------ help and mistakes


def test_help_fits_a_screen_and_names_every_command(capsys):
    code, out, _ = stopped(capsys, "--help")
    assert code == 0 and len(out.splitlines()) <= 24 and max(map(len, out.splitlines())) <= 80
    assert all(f"  {words} " in out for words in COMMANDS) and "lemer predict CHECKPOINT recording.wav" in out
    assert main([]) == 0 and capsys.readouterr().out == out
    assert {words.split()[0] for words in COMMANDS} == {*FILES, "report", *NEXT}


def test_the_version_is_that_of_setup_cfg(capsys):
    assert lemer.__version__ == setup()["metadata"]["version"]
    assert stopped(capsys, "--version")[:2] == (0, f"lemer {lemer.__version__}\n")


@pytest.mark.parametrize(("word", "nearest"), [("predcit", "predict"), ("reports", "report"), ("Train", "train")])
def test_an_unknown_command_names_the_choices_and_the_nearest(capsys, word, nearest):
    code, out, err = stopped(capsys, word, "--help")
    assert code == 2 and out == "" and f"Did you mean `lemer {nearest}`?" in err
    assert "train, pretrain, predict, evaluate, publish, export, app, report, corpus, figure" in err


def test_a_group_names_its_members(capsys):
    for group, members in NEXT.items():
        for argv, status in (([group], 2), ([group, "--help"], 0)):
            code, out, _ = stopped(capsys, *argv)
            assert code == status and all(f"lemer {group} {member} " in out for member in members)
    code, _, err = stopped(capsys, "figure", "label")
    assert code == 2 and "Did you mean `lemer figure labels`? Choose one of: attention, labels" in err


@pytest.mark.parametrize("words", COMMANDS)
def test_the_help_of_a_command_begins_with_an_example_of_how_it_was_called(capsys, words):
    code, out, _ = stopped(capsys, *words.split(), "--help")
    usage = out.splitlines()[0]
    assert code == 0 and usage.startswith(f"usage: lemer {words} ") and usage.endswith(" [options]")
    assert f"python {COMMANDS[words][0].removeprefix('lemer.')}.py" not in out
    assert f"python -m {COMMANDS[words][0]}" not in out.split("OUT_DIR/demo.json")[0]
    module = importlib.import_module(COMMANDS[words][0])
    with pytest.raises(SystemExit):
        module.main(["--help"])
    assert capsys.readouterr().out.startswith("usage: python ")  # as a file it has its old name


def test_errors_have_the_name_that_the_user_typed(capsys, tmp_path):
    arguments = [str(tmp_path / "gone"), "user/name", "--dry-run", "--output_dir", str(tmp_path / "out")]
    assert main(["publish", *arguments]) == 1 and capsys.readouterr().err.startswith("lemer publish: ")
    assert importlib.import_module("lemer.publish").main(arguments) == 1
    assert capsys.readouterr().err.startswith("publish.py: ")
    assert stopped(capsys, "predict", "x")[2].splitlines()[-1].startswith("lemer predict: error: ")


def test_a_name_ends_with_its_context():
    with called_as("lemer predict"):
        assert program("predict.py") == "lemer predict"
        parser = command_parser("predict.py", "A", "see `python predict.py A`, and python train.py")
        assert parser.description == "see `lemer predict A`, and python train.py"
    assert program("predict.py") == "predict.py"


@pytest.mark.parametrize(
    "argv", [["predict"], ["predict", "CHECKPOINT", "a.wav"], ["export", "CHECKPOINT", "m.onnx"], ["app"]]
)
def test_without_a_checkpoint_the_ways_to_one_are_named(capsys, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEMER_CHECKPOINT", raising=False)
    code, _, err = stopped(capsys, *argv)
    assert code == 2 and all(way in err for way in ("make demo", "lemer train", "on the Hub"))


def test_help_imports_nothing_heavy():
    """In one process: the help of `lemer` and of the commands at the root."""
    code = f"""
import sys
from lemer.__main__ import main
for argv in [["--help"], ["--version"], ["predcit"], *([name, "--help"] for name in {FILES}), ["predict"]]:
    try:
        main(argv)
    except SystemExit:
        pass
    assert not {{"torch", "transformers", "datasets"}} & set(sys.modules), argv
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    light = "import sys, lemer.__main__ as m\nm.make_parser().format_help()\n"
    light += f"assert not {HEAVY} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True)


def test_train_runs_as_a_file_from_any_folder(tmp_path):
    """torchrun starts a file."""
    done = subprocess.run([sys.executable, ROOT / "train.py", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "usage: python train.py" in done.stdout


# -------------------------------------------------------------------------------------------------------------- old names


@pytest.mark.parametrize(
    ("module", "home", "names"),
    [("memory", "process", ["keep_freed_memory", "EVERYTHING"]), ("onednn", "onednn", ["multiply_by_onednn"])],
)
def test_an_old_name_works_with_a_warning(module, home, names):
    sys.modules.pop(f"lemer.{module}", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old = importlib.import_module(f"lemer.{module}")
    (warning,) = [one for one in caught if issubclass(one.category, DeprecationWarning) and "lemer" in str(one.message)]
    assert f"lemer.runtime.{home}" in str(warning.message)
    new = importlib.import_module(f"lemer.runtime.{home}")
    assert old.__all__ and all(getattr(old, name) is getattr(new, name) for name in names)


# -------------------------------------------------------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder `bin` of a fresh environment with the wheel, which finds the libraries of this one."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("wheel")
    source, wheels, environment = folder / "source", folder / "wheels", folder / "environment"
    source.mkdir()
    # A copy, since a build writes beside its sources.
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
        elif path.name in {name.split(".")[1] for name in setup()["options"]["packages"].split() if "." in name}:
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-cache-dir"]
    build = [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", wheels, source]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = wheels.iterdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))
    subprocess.run([*pip, "--python", environment / "bin/python", "install", "--no-deps", "--no-index", wheel], check=True)
    libraries = [path for path in sys.path if path.endswith("-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries))
    return environment / "bin"


def run(command: list, place: Path) -> str:
    """Output of a command in a folder that has nothing of ours."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_from_any_folder(installed, tmp_path):
    command = installed / "lemer"
    assert run([command, "--version"], tmp_path) == f"lemer {lemer.__version__}\n"
    assert run([installed / "python", "-m", "lemer", "--help"], tmp_path) == run([command, "--help"], tmp_path)
    assert run([command, "predict", "--help"], tmp_path).startswith("usage: lemer predict CHECKPOINT")
    home = Path(run([installed / "python", "-c", "import lemer; print(lemer.__file__)"], tmp_path).strip()).parent
    assert home.is_relative_to(installed.parent)
    assert (home / "py.typed").is_file() and (home / "model_card.md").read_text() == (ROOT / "model_card.md").read_text()

    LemerPipeline(tiny_model(), tiny_processor(), device="cpu").save_pretrained(tmp_path / "checkpoint")
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16_000)
    run([command, "predict", "checkpoint", "a.wav", "--device", "cpu", "--output", "out.jsonl"], tmp_path)
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["id"] == "a.wav" and sum(row["scores"].values()) == pytest.approx(1, abs=1e-5)

"""The papers' rows on real voices and real dialogs, to a finished report of each.

    python benchmarks/real_data.py --text_model BERT --voices RELEASE [--folder real_data]
    python benchmarks/real_data.py --text_model BERT --dialogs DIALOGS.jsonl [--folder real_data]

RELEASE is a corpus in IEMOCAP's layout, DIALOGS.jsonl written dialogs as `corpora/dialogs.py` reads them, BERT a
pre-trained one. The folder gets `voices/` and `dialogs/`, each with one folder a row in `runs/` and the report in
`runs/report/`. Two trainings run side by side with one thread each; the same command goes on where it was stopped.

Every number is of the last epoch: nothing is chosen on what it is measured on. The settings are those of the demo corpus
and of habit but for the two learning rates of C1, and what a machine of two cores allows: fewer epochs than would be good,
short histories, few of the neutral turns.
"""

import argparse
import os
import time
from pathlib import Path

from lemer.benchmarks.table import HALVES, HERE, finish, halves, run, run_all
from lemer.corpora.iemocap import load_iemocap
from lemer.recipes import RECIPES, get_recipe

COMMON = ["--validation_share", "0", "--warmup_steps", "20"]

# Voices: a few hundred recordings, so the speech tower is from scratch; the words have no dialog around them.
SPEECH = ["--speech_model", "small-log-mel", "--speech_lr", "1e-3", "--no-freeze_feature_encoder"]
VOICES_SETTINGS = [*COMMON, "--set", "max_history=0", "--seeds", "0"]
STAGE_EPOCHS = "40"
FAST, SLOW = ["--text_lr", "5e-5", "--new_lr", "1e-3"], ["--text_lr", "5e-6", "--new_lr", "1e-4"]
# One modality: a pre-trained tower needs fewer epochs. Both: at the rates of one modality the words are learnt by heart
# before the speech says anything; those of the paper and of train.py's defaults are ten times slower, and were taken for it
# on validation dialogs of the first fold's training sessions (LOG.md).
VOICES = {
    "A5": [*FAST, "--epochs", "8"],
    **dict.fromkeys(("B1", "B2", "B3", "B4", "B5"), [*FAST, "--epochs", "60"]),
    **dict.fromkeys(("C1", "C2", "C3", "C4"), [*SLOW, "--epochs", "20"]),
    "C1_fast": [*FAST, "--epochs", "20"],
    "cross_modal": [*SLOW, "--epochs", "20"],
    "cross_modal_speech": ["--new_lr", "3e-4", "--epochs", "60"],  # the rate that the demo corpus needs
    "cross_modal_text": ["--text_lr", "5e-5", "--new_lr", "3e-4", "--epochs", "8"],
    "C1_halves": HALVES,
}

# Dialogs: nearly every turn of daily talk is neutral. So many turns of a class keep their label, the others are history.
TURNS = ["--labels", "ang", "hap", "neu", "sad", "--max_per_class", "150", "--folds", "3"]
DIALOGS_SETTINGS = [*COMMON, "--new_lr", "1e-3", "--text_lr", "1e-4", "--epochs", "3", "--set", "max_text_length=64"]
DIALOGS_SETTINGS += ["--mixed_precision", "bf16", "--folds", "1", "--seeds", "0", "1", "2"]
DIALOGS = {
    **{"A1": [], "A2": [], "A3": [], "A4": [], "A5": []},
    **{"A2_1_turn": ["--set", "max_history=1"], "A5_0_turns": ["--set", "max_history=0"]},
    **{f"{name}_current": ["--set", "pooled_tokens=current"] for name in ("A2", "A5")},
    **{"A5_K1": ["--words", "1"], "A5_K30": ["--words", "30"]},
}


def commands_of_voices(release: Path, text_model: str, folder: Path) -> dict[str, list[str]]:
    """The second stage and the rows of both modalities, by name; first a row that does not need the stage."""
    corpus = ["--data_dir", str(release), "--cache_dir", str(folder / "cache")]
    stage = ["pretrain.py", *corpus, *SPEECH[:2], "--epochs", STAGE_EPOCHS]
    made = {"second_stage": [*stage, "--output_dir", str(folder / "runs" / "second_stage")]}
    for name, own in VOICES.items():
        recipe = name if name in RECIPES else name.split("_")[0]
        tower = list(SPEECH)
        if get_recipe(recipe).model == "cross_modal":  # starts from a pre-trained tower: that of the second stage
            tower[1] = str(folder / "runs" / "second_stage" / "fold{fold}" / "checkpoint")
        settings = [*tower, "--text_model", text_model, *VOICES_SETTINGS, *own]
        if name == "C1_halves":
            settings += halves(folder / "runs")
        settings += ["--output_dir", str(folder / "runs" / name)]
        made[name] = ["train.py", "--recipe", recipe, *corpus, *settings]
    return made


def commands_of_dialogs(text_model: str, folder: Path) -> dict[str, list[str]]:
    """The rows of the words alone, by name."""
    corpus = ["--corpus", str(folder / "turns.jsonl"), "--cache_dir", str(folder / "cache")]
    corpus += ["--fold_column", "fold", "--dialog_column", "dialog", "--order_column", "order"]
    made = {}
    for name, own in DIALOGS.items():
        settings = ["--text_model", text_model, *DIALOGS_SETTINGS, *own, "--output_dir", str(folder / "runs" / name)]
        made[name] = ["train.py", "--recipe", name.split("_")[0], *corpus, *settings]
    return made


def voices(release: Path, text_model: str, folder: Path) -> None:
    load_iemocap(release, cache_dir=folder / "cache")  # once, before two processes ask for it
    run_all(commands_of_voices(release, text_model, folder), folder / "logs")
    finish(folder / "runs", folder / "logs")


def dialogs(source: Path, text_model: str, folder: Path) -> None:
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    run("turns", ["-m", "lemer.corpora.dialogs", str(source), str(folder / "turns.jsonl"), *TURNS], folder / "logs")
    run_all(commands_of_dialogs(text_model, folder), folder / "logs")
    run("report", ["-m", "lemer.evaluation.report", str(folder / "runs")], folder / "logs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", type=Path, help="folder of a corpus in IEMOCAP's layout")
    parser.add_argument("--dialogs", type=Path, help="file of dialogs, one a line")
    parser.add_argument("--text_model", required=True, help="folder or Hub name of a BERT")
    parser.add_argument("--folder", type=Path, default=Path("real_data"), help="what is made (default: real_data)")
    args = parser.parse_args()
    begin, folder = time.monotonic(), Path(os.path.relpath(args.folder, HERE))  # no path of the machine in reports
    for part, source in ((voices, args.voices), (dialogs, args.dialogs)):
        if source is not None:
            part(Path(os.path.relpath(source, HERE)), args.text_model, folder / part.__name__)
    print(f"{folder} after {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()

"""Train the papers' rows on real voices and on real dialogs, and write a report of each.

    python benchmarks/real_data.py --text_model BERT --voices RELEASE [--folder real_data]
    python benchmarks/real_data.py --text_model BERT --dialogs DIALOGS.jsonl [--folder real_data]

RELEASE is a corpus in IEMOCAP's layout. DIALOGS.jsonl holds written dialogs in the format of `corpora/dialogs.py`. BERT is
a pre-trained BERT. The folder gets `voices/` and `dialogs/`, each with one folder for each row in `runs/` and the report in
`runs/report/`. Two trainings run side by side with one thread each. The same command goes on where it was stopped.

Every number is that of the last epoch, so that nothing is chosen on the data it is measured on. The settings are usual
values and those of the demo corpus, except for the two learning rates of C1. They are kept small enough for a machine of
two cores: fewer epochs than would be good, short histories, and few of the neutral turns.
"""

import argparse
import os
import time
from pathlib import Path

from lemer.benchmarks.table import HALVES, ROOT, finish, halves, run, run_all
from lemer.corpora.iemocap import load_iemocap
from lemer.recipes import RECIPES, get_recipe

COMMON = ["--validation_share", "0", "--warmup_steps", "20"]

# Voices are a few hundred recordings, so the speech tower starts from scratch. There are no dialogs, so no history.
SPEECH = ["--speech_model", "small-log-mel", "--speech_lr", "1e-3", "--no-freeze_feature_encoder"]
VOICES_SETTINGS = [*COMMON, "--set", "max_history=0"]
STAGE_EPOCHS = "40"
BRANCHES = ["--set", "branch_loss_weight=0.5"]  # chosen on the demo corpus (LOG.md)
BAND, CENTERED = ["--set", "speech_config.mel_normalization=band"], ["--set", "label_centering=labels"]
FAST, SLOW = ["--text_lr", "5e-5", "--new_lr", "1e-3"], ["--text_lr", "5e-6", "--new_lr", "1e-4"]
# With one modality, a pre-trained tower needs fewer epochs than one from scratch. With both, the rates of one modality let
# the model learn the words by heart before the speech tower has learnt anything. The paper's rates, train.py's defaults,
# are ten times slower; they were chosen on validation dialogs of the first fold's training sessions (LOG.md).
VOICES = {
    "A5": [*FAST, "--epochs", "8"],
    **dict.fromkeys(("B1", "B2", "B3", "B4", "B5"), [*FAST, "--epochs", "60"]),
    **dict.fromkeys(("C1", "C2", "C3", "C4"), [*SLOW, "--epochs", "20"]),
    "C1_fast": [*FAST, "--epochs", "20"],
    "cross_modal": [*SLOW, "--epochs", "20"],
    "cross_modal_speech": ["--new_lr", "3e-4", "--epochs", "60"],  # the rate that the demo corpus needs
    "cross_modal_text": ["--text_lr", "5e-5", "--new_lr", "3e-4", "--epochs", "8"],
    "C1_halves": HALVES,
    # A classifier for each modality alone, which is compared with A5 and B5.
    "C1_branches": [*SLOW, "--epochs", "20", *BRANCHES],
    "C1_fast_branches": [*FAST, "--epochs", "20", *BRANCHES],
    "C1_halves_branches": [*HALVES, *BRANCHES],
    # What the log-Mel is normalised over, without and with long silence. Before there was a choice it was each band.
    "B1_band": [*FAST, "--epochs", "60", *BAND],
    "B1_band_silence": [*FAST, "--epochs", "60", *BAND, "--set", "max_silence=null"],
    # Label embeddings without what all classes share.
    "A5_centered": [*FAST, "--epochs", "8", *CENTERED],
    "B5_centered": [*FAST, "--epochs", "60", *CENTERED],
}
# What a model of both modalities answers from one differs with the seed, so the rows of that comparison have three.
THREE_SEEDS = ("A5", "B5", "C1_halves", "C1_halves_branches")

# Nearly every turn of a daily dialog is neutral. At most 150 turns of a class keep their label; the others are history.
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
    """The command of every run on voices, by name. The second stage comes first, since other rows start from its tower."""
    corpus = ["--data_dir", str(release), "--cache_dir", str(folder / "cache")]
    stage = ["pretrain.py", *corpus, *SPEECH[:2], "--epochs", STAGE_EPOCHS]
    commands = {"second_stage": [*stage, "--output_dir", str(folder / "runs" / "second_stage")]}
    for name, settings_of_row in VOICES.items():
        recipe = name if name in RECIPES else name.split("_")[0]
        tower = list(SPEECH)
        if get_recipe(recipe).model == "cross_modal":  # starts from the pre-trained tower of the second stage
            tower[1] = str(folder / "runs" / "second_stage" / "fold{fold}" / "checkpoint")
        settings = [*tower, "--text_model", text_model, *VOICES_SETTINGS, *settings_of_row]
        settings += ["--seeds", *(("0", "1", "2") if name in THREE_SEEDS else ("0",))]
        if name.startswith("C1_halves"):
            settings += halves(folder / "runs")
        settings += ["--output_dir", str(folder / "runs" / name)]
        commands[name] = ["train.py", "--recipe", recipe, *corpus, *settings]
    functionals = ["train.py", "--recipe", "small_corpus", *corpus, "--seeds", "0", "1", "2"]
    commands["small_corpus"] = [*functionals, "--output_dir", str(folder / "runs" / "small_corpus")]
    return commands


def commands_of_dialogs(text_model: str, folder: Path) -> dict[str, list[str]]:
    """The command of every run on dialogs, by name. They train on the words alone."""
    corpus = ["--corpus", str(folder / "turns.jsonl"), "--cache_dir", str(folder / "cache")]
    corpus += ["--fold_column", "fold", "--dialog_column", "dialog", "--order_column", "order"]
    commands = {}
    for name, settings_of_row in DIALOGS.items():
        settings = ["--text_model", text_model, *DIALOGS_SETTINGS, *settings_of_row]
        settings += ["--output_dir", str(folder / "runs" / name)]
        commands[name] = ["train.py", "--recipe", name.split("_")[0], *corpus, *settings]
    return commands


def voices(release: Path, text_model: str, folder: Path) -> None:
    """Run all rows on voices, and write their report."""
    load_iemocap(release, cache_dir=folder / "cache")  # once, before two processes need it at the same time
    run_all(commands_of_voices(release, text_model, folder), folder / "logs")
    runs = folder / "runs"
    fused = ["--fuse", str(runs / "A5"), str(runs / "small_corpus"), "--output_dir", str(runs / "small_corpus_and_A5")]
    run("small_corpus_and_A5", ["train.py", "--recipe", "score_fusion", *fused], folder / "logs")
    finish(runs, folder / "logs")


def dialogs(source: Path, text_model: str, folder: Path) -> None:
    """Run all rows on dialogs, and write their report."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    run("turns", ["-m", "lemer.corpora.dialogs", str(source), str(folder / "turns.jsonl"), *TURNS], folder / "logs")
    run_all(commands_of_dialogs(text_model, folder), folder / "logs")
    run("report", ["-m", "lemer.evaluation.report", str(folder / "runs")], folder / "logs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", type=Path, help="folder of a corpus in IEMOCAP's layout, to train on voices")
    parser.add_argument("--dialogs", type=Path, help="file of dialogs, one on each line, to train on dialogs")
    parser.add_argument("--text_model", required=True, help="folder or Hub name of a BERT")
    parser.add_argument("--folder", type=Path, default=Path("real_data"), help="folder to write to (default: real_data)")
    args = parser.parse_args()
    begin = time.monotonic()
    folder = Path(os.path.relpath(args.folder, ROOT))  # relative, so that reports hold no path of this machine
    for part, source in ((voices, args.voices), (dialogs, args.dialogs)):
        if source is not None:
            part(Path(os.path.relpath(source, ROOT)), args.text_model, folder / part.__name__)
    print(f"{folder} after {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()

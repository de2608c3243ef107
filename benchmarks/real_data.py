"""The papers' rows on real voices and real dialogs, to a finished report of each.

    python benchmarks/real_data.py --text_model BERT --voices RELEASE [--folder real_data]
    python benchmarks/real_data.py --text_model BERT --dialogs DIALOGS.jsonl [--folder real_data]

RELEASE is a corpus in IEMOCAP's layout, DIALOGS.jsonl written dialogs as `corpora/dialogs.py` reads them, BERT a
pre-trained one. The folder gets `voices/` and `dialogs/`, each with one folder a row in `runs/` and the report in
`runs/report/`. Two trainings run side by side with one thread each; the same command goes on where it was stopped.

All five folds, each by the last epoch: no number is chosen on what it is measured on. What the settings were chosen on,
benchmarks/LOG.md says.
"""

import argparse
import os
import time
from pathlib import Path

from lemer.benchmarks.table import HERE, finish, run, run_all
from lemer.corpora.iemocap import load_iemocap

THREE, ONE = ["0", "1", "2"], ["0"]
COMMON = ["--validation_share", "0", "--warmup_steps", "50"]

# Of a few hundred recordings: a speech tower from scratch, words without a dialog around them.
SPEECH = ["--speech_model", "small-log-mel", "--speech_lr", "1e-3", "--no-freeze_feature_encoder"]
VOICES_SETTINGS = [*COMMON, "--new_lr", "1e-3", "--text_lr", "5e-5", "--epochs", "50", "--set", "max_history=0"]
VOICES = {
    **dict.fromkeys(("A1", "A5", "B1", "B2", "B5", "C1", "C4"), THREE),
    **dict.fromkeys(("B3", "B4", "C2", "C3", "cross_modal", "cross_modal_speech", "cross_modal_text"), ONE),
}

# Nearly every turn of daily talk is neutral: so many turns of a class keep their label, the others are history only.
TURNS = ["--labels", "ang", "hap", "neu", "sad", "--max_per_class", "250"]
DIALOGS_SETTINGS = [*COMMON, "--new_lr", "1e-3", "--text_lr", "5e-5", "--epochs", "5"]
DIALOGS = {
    **{"A1": [], "A2": [], "A3": [], "A4": [], "A5": []},
    **{"A2_3_turns": ["--set", "max_history=3"], "A5_K1": ["--words", "1"], "A5_K30": ["--words", "30"]},
}


def voices(release: Path, text_model: str, folder: Path) -> None:
    """Rows of both modalities."""
    corpus = ["--data_dir", str(release), "--cache_dir", str(folder / "cache")]
    load_iemocap(release, cache_dir=folder / "cache")  # once, before two processes ask for it
    runs = folder / "runs"
    stage = ["pretrain.py", *corpus, *SPEECH[:2], "--epochs", "40", "--output_dir", str(runs / "second_stage")]
    run_all({"second_stage": stage}, folder / "logs")
    todo = {}
    for name, seeds in VOICES.items():
        settings = [*SPEECH, "--text_model", text_model, *VOICES_SETTINGS]
        todo[name] = ["train.py", "--recipe", name, *corpus, *settings, "--output_dir", str(runs / name), "--seeds", *seeds]
    run_all(todo, folder / "logs")
    finish(runs, folder / "logs")


def dialogs(source: Path, text_model: str, folder: Path) -> None:
    """Rows of the words alone."""
    table, runs = folder / "turns.jsonl", folder / "runs"
    run("turns", ["-m", "lemer.corpora.dialogs", str(source), str(table), *TURNS], folder / "logs")
    corpus = ["--corpus", str(table), "--cache_dir", str(folder / "cache")]
    corpus += ["--fold_column", "fold", "--dialog_column", "dialog", "--order_column", "order"]
    todo = {}
    for name, settings in DIALOGS.items():
        settings = ["--text_model", text_model, *DIALOGS_SETTINGS, *settings, "--seeds", *THREE]
        todo[name] = ["train.py", "--recipe", name.split("_")[0], *corpus, *settings, "--output_dir", str(runs / name)]
    run_all(todo, folder / "logs")
    run("report", ["-m", "lemer.evaluation.report", str(runs)], folder / "logs")


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

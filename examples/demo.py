"""Make a small spoken corpus, train on it, and use the checkpoint: `python examples/demo.py [FOLDER]`, minutes on two cores.

LE-MER, its speech branch and text branch are trained from scratch for one fold, with session 5 held out, and their scores
are printed side by side. A fresh process outside the project then opens the checkpoint with `AutoModel`. A second call goes
on where the first one stopped.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lemer.corpora.demo import make_demo
from lemer.corpora.iemocap import load_iemocap

HERE = Path(__file__).resolve().parents[1]
FOLD = 5
# Chosen on session 4 of the corpus of seed 1, never on what is printed here (corpus of seed 0, session 5).
DIALOGS = 8  # a session
LAST_DIALOGS = 32  # of the session held out: on 128 utterances three points are chance
SETTINGS = ["--epochs", "20", "--set", "max_history=3", "--second_stage", "none"]
ROWS = {  # the same recipe and settings, with both modalities and with one
    "speech and words": [],
    "speech alone": ["--set", "modality=speech"],
    "words alone": ["--set", "modality=text"],
}


def train_command(name: str, folder: Path) -> list[str]:
    """The command that trains one of the rows; the results are in `results_file`."""
    command = [sys.executable, str(HERE / "train.py"), "--recipe", "C1", *ROWS[name], *SETTINGS]
    command += ["--data_dir", str(folder / "corpus"), "--cache_dir", str(folder / "cache"), "--folds", str(FOLD)]
    command += ["--validation_share", "0", "--speech_model", "small-log-mel", "--text_model", "small"]
    return [*command, "--output_dir", str(folder / "runs" / name.replace(" ", "_"))]


def results_file(name: str, folder: Path) -> Path:
    return folder / "runs" / name.replace(" ", "_") / f"fold{FOLD}" / "seed0" / "results.json"


def train_all(folder: Path) -> dict[str, dict]:
    """
    Train both modalities together on one core, and each alone on another one. This is faster than both cores for each.

    With one thread each, the scores are the same on any number of cores.
    """
    both, *halves = ROWS
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ROWS:
        print(f"\n{name}:\n  {' '.join(train_command(name, folder)[1:])}", flush=True)
    print(f"\nprogress of {both}; the halves log to {folder / 'halves.log'}", flush=True)
    with open(folder / "halves.log", "w") as log:
        together = subprocess.Popen(train_command(both, folder), stdout=subprocess.DEVNULL, env=environment)
        try:
            for name in halves:
                subprocess.run(train_command(name, folder), stdout=log, stderr=log, env=environment, check=True)
            if together.wait():
                raise SystemExit(f"demo.py: training of {both} failed, see above")
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"demo.py: training failed, see {folder / 'halves.log'}") from error
        finally:
            together.kill()
    return {name: json.loads(results_file(name, folder).read_text()) for name in ROWS}


def recognise(checkpoint: Path, corpus: Path, cache: Path) -> None:
    """Answer eight recordings of the held-out session with examples/recognise.py, which does not import this project."""
    dataset, _ = load_iemocap(corpus, cache_dir=cache)
    names = dataset.features["label"].names
    rows = [row for row in dataset.filter(lambda s, y: s == FOLD and y >= 0, input_columns=["session", "label"])]
    lines = [
        json.dumps(
            {
                "audio": str(Path(row["audio"]["path"]).resolve()),
                "text": row["text"],
                "history": row["history"],
                "truth": names[row["label"]],
            }
        )
        for row in rows[:: len(rows) // 8][:8]
    ]
    with tempfile.TemporaryDirectory() as elsewhere:
        subprocess.run(
            [sys.executable, "-I", HERE / "examples" / "recognise.py", checkpoint.resolve()],
            input="\n".join(lines),
            text=True,
            cwd=elsewhere,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            check=True,
        )


def main() -> None:
    begin = time.monotonic()
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    make_demo(folder / "corpus", dialogs=DIALOGS, last_dialogs=LAST_DIALOGS)
    load_iemocap(folder / "corpus", cache_dir=folder / "cache")  # once, before two processes ask for it
    results = train_all(folder)

    print(f"\nsession {FOLD} held out, {results['words alone']['utterances']} utterances, per cent")
    print(f"{'':<18}{'WA':>7}{'UA':>7}   recall of {', '.join(results['words alone']['labels'])}")
    for name, result in results.items():
        recalls = "  ".join(f"{100 * recall:5.1f}" for recall in result["recall"].values())
        print(f"{name:<18}{100 * result['wa']:7.1f}{100 * result['ua']:7.1f}   {recalls}")
    checkpoint = results_file("speech and words", folder).with_name("checkpoint")
    print(f"\n{checkpoint} in a fresh process, with AutoModel and AutoProcessor:\n", flush=True)
    recognise(checkpoint, folder / "corpus", folder / "cache")
    activate = Path(sys.prefix, "bin", "activate")
    print(f"\n{time.monotonic() - begin:.0f} s in all. To go on with recordings of your own:\n")
    if sys.prefix != sys.base_prefix and activate.exists():
        print(f"  . {os.path.relpath(activate)}   # so that this shell finds the command lemer")
    print(f'  lemer predict {checkpoint} RECORDING --text "what is said in it"')
    print(f"  lemer app {checkpoint}")


if __name__ == "__main__":
    main()

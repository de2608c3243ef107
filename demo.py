"""The main job from end to end, on a corpus of its own: `python demo.py [FOLDER]`, in minutes on two cores.

Makes the spoken demo corpus, trains LE-MER and its two halves from scratch for one fold (session 5 held out), prints the
three side by side, and opens the checkpoint with `AutoModel` in a fresh process outside the project. A second call goes on
where the first one stopped.
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

HERE = Path(__file__).resolve().parent
FOLD = 5
ROWS = {  # the same recipe and settings, with both modalities and with one
    "speech and words": [],
    "speech alone": ["--set", "modality=speech"],
    "words alone": ["--set", "modality=text"],
}


def train(name: str, options: list[str], folder: Path) -> dict:
    """Run train.py as anybody would; returns the results of the fold."""
    output = folder / "runs" / name.replace(" ", "_")
    command = [sys.executable, HERE / "train.py", "--recipe", "C1", *options, "--data_dir", folder / "corpus"]
    command += ["--cache_dir", folder / "cache", "--output_dir", output, "--folds", str(FOLD), "--validation_share", "0"]
    command += ["--speech_model", "small", "--text_model", "small"]
    print(f"\n--- {name}: {' '.join(os.path.relpath(part) if isinstance(part, Path) else part for part in command[1:])}")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((output / f"fold{FOLD}" / "seed0" / "results.json").read_text())


def recognise(checkpoint: Path, corpus: Path, cache: Path) -> None:
    """A few recordings of the held-out session through examples/recognise.py, which does not know this project."""
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
    make_demo(folder / "corpus")
    results = {name: train(name, options, folder) for name, options in ROWS.items()}

    print(f"\nsession {FOLD} held out, {results['words alone']['utterances']} utterances, per cent")
    print(f"{'':<18}{'WA':>7}{'UA':>7}   recall of {', '.join(results['words alone']['labels'])}")
    for name, result in results.items():
        recalls = "  ".join(f"{100 * recall:5.1f}" for recall in result["recall"].values())
        print(f"{name:<18}{100 * result['wa']:7.1f}{100 * result['ua']:7.1f}   {recalls}")
    checkpoint = folder / "runs" / "speech_and_words" / f"fold{FOLD}" / "seed0" / "checkpoint"
    print(f"\n{checkpoint} in a fresh process, with AutoModel and AutoProcessor:\n", flush=True)
    recognise(checkpoint, folder / "corpus", folder / "cache")
    print(f"\n{time.monotonic() - begin:.0f} s in all")


if __name__ == "__main__":
    main()

"""Compare a checkpoint with its ONNX files, with weights as they are and rounded to 8 bits: size, accuracy, speed.

    python benchmarks/onnx_files.py RUN --data_dir demo/corpus --cache_dir demo/cache
    python benchmarks/onnx_files.py                    towers of base size and random weights: size and speed alone

RUN is a run folder of train.py, such as demo/runs/speech_and_words; the other options say what corpus it was trained on.
The utterances are those of the run's test session, answered one at a time with their words and history on one thread. The
seconds are those of the forward pass alone, the best of five rounds, in which the forms take turns. UA is the mean recall
over the classes.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lemer import LemerModel, LemerProcessor
from lemer.benchmarks.speed.setup import write_checkpoint
from lemer.corpora.load import load_unsplit
from lemer.corpora.options import add_source_options
from lemer.evaluation.scorecard import score_logits
from lemer.export import export
from lemer.prediction.onnx_model import OnnxModel

ROUNDS = 5


@torch.no_grad()
def answer(model, batches: list[dict]) -> tuple[np.ndarray, float]:
    """Logits (N, C) of utterances in batches of one, and the seconds that they took."""
    begin = time.perf_counter()
    logits = [model(**batch)["logits"] for batch in batches]
    return torch.cat(logits).numpy(), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="run folder of train.py")
    parser.add_argument("--folds", nargs="+", help="folders of folds (default: all that RUN has)")
    add_source_options(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.run is None:
        measure_base()
        return
    rows, _ = load_unsplit(args)
    for fold in args.folds or sorted(path.name for path in args.run.glob("fold*")):
        for seed in sorted((args.run / fold).glob("seed*")):
            compare(seed, rows)


def compare(folder: Path, rows) -> None:
    """Print a line for each form of the checkpoint of a finished fold."""
    with open(folder / "predictions.csv", encoding="utf-8", newline="") as file:
        test = {row["id"] for row in csv.DictReader(file)}
    rows = rows.select([place for place, name in enumerate(rows["id"]) if name in test])
    checkpoint = folder / "checkpoint"
    model, processor = LemerModel.from_pretrained(checkpoint).eval(), LemerProcessor.from_pretrained(checkpoint)
    names = rows.features["label"].names
    labels = np.array([model.config.label2id[names[label]] for label in rows["label"]])
    inputs = {"speech": ("audio",), "text": ("text", "history")}.get(model.config.modality, ("audio", "text", "history"))
    batches = [dict(processor(**{name: row[name] for name in inputs}, return_tensors="pt")) for row in rows]
    run(str(folder), model, processor, batches, labels)


def measure_base() -> None:
    """Print the same, without the accuracy, for towers of base size and an utterance of four seconds and twenty words."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), "base")
        model = LemerModel.from_pretrained(Path(folder, "whole")).eval()
        processor = LemerProcessor.from_pretrained(Path(folder, "whole"))
    noise = {"array": np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32), "sampling_rate": 16_000}
    batch = dict(processor(audio=noise, text="word " * 20, return_tensors="pt"))
    run("base towers", model, processor, [batch])


def run(title: str, model, processor, batches: list[dict], labels: np.ndarray | None = None) -> None:
    """Export a model twice, and print a line for each of its three forms."""
    with tempfile.TemporaryDirectory() as staging:
        plain, rounded = Path(staging, "plain.onnx"), Path(staging, "int8.onnx")
        export(model, processor, plain)
        export(model, processor, rounded, int8=True)
        sizes = [4 * sum(weight.numel() for weight in model.parameters()), plain.stat().st_size, rounded.stat().st_size]
        model.set_attn_implementation("sdpa")  # export has changed it
        forms = {"checkpoint": model, "ONNX": OnnxModel(plain), "ONNX int8": OnnxModel(rounded)}
        # By turns, so that what else the machine does meets every form.
        rounds = [{name: answer(form, batches) for name, form in forms.items()} for _ in range(ROUNDS)]
    first = min(answers["checkpoint"][1] for answers in rounds)
    for name, size in zip(forms, sizes, strict=True):
        seconds, accuracy = min(answers[name][1] for answers in rounds), ""
        if labels is not None:
            scores = score_logits(rounds[0][name][0], labels, list(model.config.id2label.values()))
            accuracy = f"UA {100 * scores['ua']:5.1f}  "
        speed = f"{1000 * seconds / len(batches):.2f} ms, {first / seconds:.2f} times as fast as the checkpoint"
        print(f"{title}: {name:10} {size / 2**20:6.1f} MiB  {accuracy}{speed}", flush=True)


if __name__ == "__main__":
    main()

"""Time and memory of everything that depends on the number of rows, for corpora of growing size.

    python -m lemer.benchmarks.scale --rows 1000 10000 100000 1000000

The corpora are tables in the folder --folder. Their rows name a few short recordings again and again, so that only the
number of rows grows; a dialog has 2,000 turns. Every stage runs in a process of its own, which reports its wall time and the
most memory that it and its children had. The table goes to benchmarks/results/scale.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from lemer.runtime.files import format_csv, write_atomically

SPEAKERS, RECORDINGS, SECONDS, TURNS = 4, 20, 0.5, 2_000  # recordings of all speakers, their length; turns of a dialog
RESULTS = Path(__file__).with_name("results") / "scale.md"
STAGES = {
    "libraries": "the libraries alone",
    "first": "first read of the corpus",
    "start": "start from the cache",
    "split": "start, and split of a fold",
    "epoch": "start, and the batches of an epoch drawn",
    "manifest": "the table read by `lemer predict`, and its shards",
}


def write_corpus(folder: Path, rows: int) -> Path:
    """A table of so many rows, and its recordings; left as it is where it is there."""
    table = folder / f"{rows}.csv"
    if table.exists():
        return table
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(RECORDINGS):
        soundfile.write(folder / f"{number}.wav", random.normal(0, 0.1, int(SECONDS * 16_000)), 16_000)
    cells = []
    for row in range(rows):
        dialog = row // min(TURNS, max(1, rows // 8))
        speaker, label = dialog % SPEAKERS, ("ang", "hap", "neu", "sad")[row % 4]
        audio = f"{speaker + SPEAKERS * (row % (RECORDINGS // SPEAKERS))}.wav"  # no two speakers have one in common
        cells.append([row, audio, f"some words of turn {row}", label, f"s{speaker}", dialog])
    text = format_csv(["id", "audio", "text", "label", "speaker", "dialog"], cells)
    write_atomically(table, text)
    return table


def run_stage(stage: str, table: Path, cache: Path) -> dict[str, float]:
    """Seconds of a stage, and the most memory of this process and its children in MiB."""
    from lemer.corpora.any_dataset import load_any_dataset
    from lemer.corpora.manifest import read_inputs
    from lemer.corpora.shards import shards
    from lemer.training.batches import LengthBuckets
    from lemer.training.folds import split_rows

    begin = time.perf_counter()
    if stage == "manifest":
        list(shards(read_inputs([str(table)], one_dialog=False), 8))
    elif stage != "libraries":
        options = {"fold_column": "speaker", "dialog_column": "dialog", "max_history": 10, "progress": False}
        dataset, report = load_any_dataset(table, cache_dir=cache, **options)
        if stage == "split":
            split_rows(dataset, min(report.folds), 0.1, 0)
        elif stage == "epoch":
            list(LengthBuckets(dataset["num_frames"][:], 16, 0))
    seconds = time.perf_counter() - begin
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": seconds, "memory": max(peaks)}


def format_results(results: dict[int, dict[str, dict[str, float]]]) -> str:
    """A table with a row for each stage and a column for each number of rows."""
    lines = [
        "# Time and memory by the number of rows",
        "",
        f"Written by `python -m lemer.benchmarks.scale` with {os.cpu_count()} cores. Wall time in seconds, and the peak of "
        "one process's memory in MiB, libraries included.",
        "",
        "| stage | " + " | ".join(f"{rows:,} rows" for rows in results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for stage, name in STAGES.items():
        cells = [f"{parts[stage]['seconds']:.1f} s, {parts[stage]['memory']:.0f} MiB" for parts in results.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path(".cache/scale"))
    parser.add_argument("--stage", choices=STAGES, help="run one stage of the first of --rows here, and print its figures")
    args = parser.parse_args(argv)
    cache = args.folder / "prepared"
    if args.stage:
        print(json.dumps(run_stage(args.stage, write_corpus(args.folder, args.rows[0]), cache)))
        return 0
    results: dict[int, dict] = {}
    for rows in args.rows:
        write_corpus(args.folder, rows)
        results[rows] = {}
        for stage in STAGES:
            command = [sys.executable, "-m", "lemer.benchmarks.scale", "--stage", stage]
            command += ["--rows", str(rows), "--folder", str(args.folder)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results[rows][stage] = json.loads(output.splitlines()[-1])
            print(rows, stage, results[rows][stage], flush=True)
    RESULTS.write_text(format_results(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

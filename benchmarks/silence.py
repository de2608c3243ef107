"""Measure what silence around and within recordings, and their level, change in the answers of checkpoints.

    python benchmarks/silence.py CHECKPOINT [CHECKPOINT ...] --data_dir RELEASE [--few] [--relative]
    python benchmarks/silence.py CHECKPOINT [CHECKPOINT ...] --corpus DATASET --fold_column COLUMN

A CHECKPOINT is one that train.py wrote into fold<k>/seed<s>/checkpoint. It is tested on the utterances of the fold k that it
has not seen, through the pipeline, as they are and with silence added to every recording: digital zeros, white noise at -70,
-60 and -50 dBFS, and room tone (noise at -55 dBFS, mostly below 300 Hz), for 0.5, 1 and 2 s, before, after, on both sides of
the recording, and in its middle; then with gains of -30, -20, -10 and 6 dB. It prints a table with UA in per cent and, in
brackets, the difference from the recordings as they are. Of several checkpoints every number is the mean, and ± is the
deviation over them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoProcessor

from lemer import LemerPipeline
from lemer.audio_lemer import SAMPLING_RATE, load_audio
from lemer.corpora.load import load_corpus
from lemer.corpora.options import add_corpus_options
from lemer.evaluation.run_folder import read_json
from lemer.evaluation.ser_metrics import emotion_scores

SILENCES = {"zeros": None, "noise at -70 dBFS": -70, "noise at -60 dBFS": -60, "noise at -50 dBFS": -50, "room tone": -55}
PLACES = ("before", "after", "both sides", "within")
SECONDS = (0.5, 1.0, 2.0)
GAINS = (-30, -20, -10, 6)  # dB
SPEECH_LEVEL = -20.0  # dBFS, to which recordings are brought where the silence is to be relative to the speech
ROOM_POLE = 0.89  # of a low-pass at about 300 Hz


def make_silence(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Samples (count,) of one of `SILENCES`."""
    level = SILENCES[name]
    if level is None:
        return np.zeros(count, dtype=np.float32)
    noise = rng.standard_normal(count + 200)
    if name == "room tone":
        response = ROOM_POLE ** np.arange(200)
        noise = np.convolve(noise, response / np.linalg.norm(response))[200 : count + 200]
    return (noise[:count] * 10 ** (level / 20)).astype(np.float32)


def add_silence(samples: np.ndarray, name: str, place: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Samples (N,) with a silence before, after, on both sides or in the middle."""
    count = round(seconds * SAMPLING_RATE)
    first, second = make_silence(name, count, rng), make_silence(name, count, rng)
    middle = len(samples) // 2
    return {
        "before": lambda: np.concatenate([first, samples]),
        "after": lambda: np.concatenate([samples, first]),
        "both sides": lambda: np.concatenate([first, samples, second]),
        "within": lambda: np.concatenate([samples[:middle], first, samples[middle:]]),
    }[place]()


def at_level(samples: np.ndarray, level: float) -> np.ndarray:
    """Samples (N,) at a level in dBFS."""
    return samples * np.float32(10 ** (level / 20) / np.sqrt(np.mean(np.square(samples))))


def conditions(few: bool) -> list[tuple]:
    """Every silence by its name, place and seconds, and every gain; of the short list one length and two places."""
    places, seconds = (("both sides", "within"), (1.0,)) if few else (PLACES, SECONDS)
    silences = [(name, place, length) for name in SILENCES for place in places for length in seconds]
    return [("as they are",), *silences, *(("gain", decibels) for decibels in GAINS)]


def changed(samples: np.ndarray, condition: tuple, rng: np.random.Generator) -> np.ndarray:
    """Samples (N,) under one of `conditions`."""
    if condition[0] == "gain":
        return samples * np.float32(10 ** (condition[1] / 20))
    return samples if len(condition) == 1 else add_silence(samples, *condition, rng)


def scores(pipe: LemerPipeline, rows: list[dict], condition: tuple) -> float:
    """UA in per cent of the rows under a condition."""
    rng, multimodal = np.random.default_rng(0), pipe.model.config.uses_text
    names = list(pipe.model.config.id2label.values())
    inputs = []
    for row in rows:
        audio = {"array": changed(row["samples"], condition, rng), "sampling_rate": SAMPLING_RATE}
        inputs.append({"audio": audio, **({"text": row["text"], "history": row["history"]} if multimodal else {})})
    order = np.argsort([len(one["audio"]["array"]) for one in inputs], kind="stable")
    answers = pipe([inputs[index] for index in order], batch_size=16, window_seconds=pipe.processor.max_audio_seconds)
    predicted = np.zeros(len(rows), dtype=int)
    predicted[order] = [names.index(answer[0]["label"]) for answer in answers]
    return 100 * emotion_scores([row["label"] for row in rows], predicted, names)["ua"]


def measure(checkpoint: Path, samples, wanted: list[tuple], relative: bool) -> np.ndarray:
    """UA (conditions,) of a checkpoint on the test rows of its fold."""
    fold = read_json(checkpoint.parent / "results.json")["fold"]
    pipe = LemerPipeline(
        AutoModel.from_pretrained(checkpoint).eval(), processor=AutoProcessor.from_pretrained(checkpoint), device="cpu"
    )
    rows = []
    for row in samples.select(np.flatnonzero(np.asarray(samples["session"]) == fold)):
        clip = load_audio(row["audio"])
        rows.append({**row, "samples": at_level(clip, SPEECH_LEVEL) if relative else clip})
    return np.array([scores(pipe, rows, condition) for condition in wanted])


def format_table(wanted: list[tuple], ua: np.ndarray) -> str:
    """A table in Markdown of UA (checkpoints, conditions)."""
    lines = ["| condition | UA | worst of the checkpoints |", "|---|---|---|"]
    differences = ua - ua[:, :1]
    for condition, values, difference in zip(wanted, ua.T, differences.T, strict=True):
        name = " ".join(
            f"{part:g} {'dB' if condition[0] == 'gain' else 's'}" if isinstance(part, (int, float)) else f"{part}"
            for part in condition
        )
        spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
        lines.append(f"| {name} | {values.mean():.1f}{spread} ({difference.mean():+.1f}) | {difference.min():+.1f} |")
    lines.append(f"\nlargest fall of a mean: {differences.mean(0).min():.1f} points")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", metavar="CHECKPOINT", nargs="+", type=Path, help="folder that train.py wrote")
    parser.add_argument("--few", action="store_true", help="one second alone, on both sides and within")
    parser.add_argument(
        "--relative",
        action="store_true",
        help=f"bring every recording to {SPEECH_LEVEL:g} dBFS first, so that noise is so many dB below its speech",
    )
    add_corpus_options(parser)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    samples, wanted = load_corpus(args).samples, conditions(args.few)
    ua = np.stack([measure(checkpoint, samples, wanted, args.relative) for checkpoint in args.checkpoints])
    print(format_table(wanted, ua))


if __name__ == "__main__":
    main()

"""The release of one dialog that the loader's tests are written around, and ways to damage it."""

from pathlib import Path

import numpy as np
import soundfile
from releases import Turn, wav_file

from lemer.corpora.iemocap import load_iemocap

REAL = Path(__file__).parents[1] / ".." / "shared" / "data" / "emodb_dailytalk"
DIALOG = "Ses01F_impro01"
TURNS = [
    Turn("F000", 0.0, 0.5, "neu", "one"),
    Turn("M000", 0.4, 0.9, "ang", "two: with a colon"),
    Turn("F001", 0.8, 1.3, "fru", "three"),
    Turn("M001", 1.2, 1.7, "sad", "four"),
]
LABELS = f"Session1/dialog/EmoEvaluation/{DIALOG}.txt"
TRANSCRIPTS = f"Session1/dialog/transcriptions/{DIALOG}.txt"


def load(root, **options):
    return load_iemocap(root, cache_dir=Path(root).parent / "cache", **options)


def names(*turns):
    return [f"{DIALOG}_{turn}" for turn in turns]


def samples(dataset):
    return [utterance for utterance, label in zip(dataset["id"], dataset["label"], strict=True) if label >= 0]


def append(path, text, encoding="utf-8"):
    with open(path, "ab") as file:
        file.write(text.encode(encoding))


ZEROS = np.zeros(8000)

ALL = ("F000", "M000", "M001")


def replace_in(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def recording(turn, samples, rate=16_000, subtype="FLOAT"):
    return lambda root: soundfile.write(wav_file(root, names(turn)[0]), samples, rate, subtype=subtype)


def wav(turn):
    return lambda root: wav_file(root, names(turn)[0])

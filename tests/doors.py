"""Both doors of the tests: what training reads of a source (`read`), and what prediction reads of it (`answer`)."""

import io
from pathlib import Path

import numpy as np
import soundfile

from lemer.audio_lemer import load_audio
from lemer.corpora.any_dataset import load_any_dataset
from lemer.corpora.manifest import Utterance, read_inputs

RATE = 16_000
# Three seconds in steps of 2 ** -15, so that 16 bits hold them.
SPEECH = (np.random.default_rng(0).integers(-8000, 8000, 3 * RATE) / 32768).astype(np.float32)


def wav(samples: np.ndarray = SPEECH, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype="PCM_16", format="WAV")
    return file.getvalue()


def write_clips(folder: Path, *names: str) -> Path:
    """Recordings of different lengths."""
    for number, name in enumerate(names, start=1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(wav(SPEECH[: 1000 * number]))
    return folder


def read(cache: Path, source, **options) -> tuple:
    """What train.py would read: the rows and the report. Half of the rows are held out unless options say otherwise."""
    if not {"fold_column", "test_split"} & set(options):
        options = {"test_share": 0.5, **options}
    return load_any_dataset(source, cache_dir=cache, progress=False, **options)


def answer(*sources, **options) -> list[Utterance]:
    """The utterances that predict.py would answer."""
    return [turn for dialog in read_inputs([str(source) for source in sources], False, **options) for turn in dialog]


def heard(turn: Utterance) -> np.ndarray:
    return load_audio(turn.recording()[0])


def by_id(dataset) -> dict[str, dict]:
    return {row["id"]: row for row in dataset}

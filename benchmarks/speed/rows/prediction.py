"""Rows g and h: the time to the first prediction, and predictions over a folder of recordings."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm.auto import tqdm
from transformers import (
    AutoFeatureExtractor,
    AutoProcessor,
    AutoTokenizer,
    BertForSequenceClassification,
    Wav2Vec2ConformerForSequenceClassification,
    pipeline,
)

from lemer import LemerModel, LemerPipeline
from lemer.corpora.manifest import Utterance
from lemer.prediction.answering import predict_shard
from lemer.speech_encoder_lemer import encode_speech

from .. import speechbrain
from ..children import OURS_STARTS, THEIRS_STARTS, child, import_times
from ..setup import IEMOCAP_SECONDS, PREDICTED, Bench, as_predicted, make_model, write_recordings
from ..timing import DEVICE, Entry, alternate, as_entry, compare, difference

ONE_BY_ONE = speechbrain.ONE_BY_ONE


def first_prediction(bench: Bench) -> Iterator[Entry]:
    """Process start to first prediction, over loading the two towers with transformers alone."""
    recording = write_recordings(bench.folder / "first", [2.0])[0]["audio"]
    arguments = [str(bench.checkpoint), recording, DEVICE]

    def timer(code):
        begin = time.time()
        return float(child("-c", code, *arguments)) - begin

    times = alternate(OURS_STARTS, THEIRS_STARTS, bench.pairs(9, on_gpu=2), timer)
    same = "the same weights of both towers are loaded; ours answers too"
    entry = as_entry("g", "start to first prediction / loading the towers", times, ("at most", 1.15), same)
    if not entry.met:
        entry.measured = import_times(OURS_STARTS, THEIRS_STARTS, arguments)
    yield entry


def stock_pipelines(checkpoint: Path):
    """transformers' pipelines "audio-classification" and "text-classification" over the same towers."""
    speech, text = str(checkpoint / "speech"), str(checkpoint / "text")
    hear = pipeline(
        "audio-classification",
        model=Wav2Vec2ConformerForSequenceClassification.from_pretrained(speech, num_labels=4),
        feature_extractor=AutoFeatureExtractor.from_pretrained(speech),
        device=DEVICE,
    )
    model, tokenizer = BertForSequenceClassification.from_pretrained(text, num_labels=4), AutoTokenizer.from_pretrained(text)
    return hear, pipeline("text-classification", model=model, tokenizer=tokenizer, device=DEVICE)


@torch.no_grad()
def compare_frames(models: list[LemerModel], processor, hear, path: str) -> float:
    """How far the frames of one recording differ between our models and the stock pipeline; see `difference`."""
    samples = soundfile.read(path, dtype="float32")[0]
    ours = processor(audio=samples, sampling_rate=16_000, return_tensors="pt").to(DEVICE)
    theirs = {name: values.to(DEVICE) for name, values in hear.preprocess(samples).items()}
    states = hear.model.wav2vec2_conformer(theirs["input_values"]).last_hidden_state
    return max(
        difference(encode_speech(model.speech_model, ours["input_values"])[0].last_hidden_state, states) for model in models
    )


def read_clips(rows: list[dict]) -> Iterator[dict]:
    """Recordings as arrays: without ffmpeg the stock audio pipeline cannot read a file."""
    for row in rows:
        samples, rate = soundfile.read(row["audio"], dtype="float32")
        yield {"array": samples, "sampling_rate": rate}


def over_a_folder(bench: Bench) -> Iterator[Entry]:
    """Prediction over a folder of recordings with words, over transformers' audio and text classification pipelines."""
    count = 4 if bench.quick else 2 * PREDICTED
    seconds = np.random.default_rng(0).permutation(np.quantile(IEMOCAP_SECONDS, (np.arange(count) + 0.5) / count))
    rows = write_recordings(bench.folder / "folder", seconds.clip(max=2.0 if bench.quick else None))
    model = make_model(bench.size)
    processor = AutoProcessor.from_pretrained(bench.checkpoint / "whole")
    prepared = as_predicted(model)
    pipe, predicted = LemerPipeline(model, processor), LemerPipeline(prepared, processor)
    halved = LemerPipeline(as_predicted(model, torch.bfloat16), processor)
    hear, read = stock_pipelines(bench.checkpoint)
    same = f"frames of a recording alone: {compare_frames([model, prepared], processor, hear, rows[0]['audio']):.0e}"
    inputs = [{"audio": row["audio"], "text": row["text"]} for row in rows]

    def run_theirs(batch_size):
        chosen = rows[:ONE_BY_ONE] if batch_size == 1 else rows
        heard = list(hear(read_clips(chosen), batch_size=batch_size))
        return heard, read([row["text"] for row in chosen], batch_size=batch_size)

    def run_predict(pipe):
        dialogs = [[Utterance(row["audio"], row["audio"], row["text"])] for row in rows]
        failed: dict[str, str] = {}
        predict_shard(pipe, dialogs, {}, PREDICTED, failed, tqdm(disable=True))
        assert not failed, failed

    theirs = f"transformers' pipelines, batches of {PREDICTED}"
    for what, run, size, target, pairs in (
        ("LemerPipeline / transformers' pipelines, one by one", lambda: pipe(inputs[:ONE_BY_ONE]), 1, 1.0, 9),
        (f"LemerPipeline / {theirs}", lambda: pipe(inputs, batch_size=PREDICTED), PREDICTED, 1.0, 3),
        (f"predict.py / {theirs}", lambda: run_predict(predicted), PREDICTED, 1.0, 3),
        (f"predict.py --dtype bfloat16 / {theirs}", lambda: run_predict(halved), PREDICTED, 2.0, 3),
    ):
        run_stock = lambda size=size: run_theirs(size)  # noqa: E731
        yield compare("h", what, run, run_stock, bench.pairs(pairs), ("at least", target), same, speed=True)
    yield from over_speechbrain(bench, [row["audio"] for row in rows])


def over_speechbrain(bench: Bench, files: list[str]) -> Iterator[Entry]:
    """Speech alone: ours over SpeechBrain's wav2vec 2.0 emotion classifier, if `make bench` has installed it."""
    if not (speechbrain.FOLDER / "ready").exists():  # the last file that is written
        tqdm.write(f"h  without SpeechBrain, which `make bench` installs into {speechbrain.FOLDER.name}", file=sys.stderr)
        return
    if DEVICE == "cuda":
        torch.cuda.empty_cache()  # the other process needs it
    command = ["-m", speechbrain.__name__, bench.size, str(bench.pairs(7)), str(bench.folder), *files]
    measured = json.loads(child(*command))
    same = f"frames of a recording alone, speech alone: {measured['difference']:.0e}"
    for what, times in measured["seconds"].items():
        target = ("at least", 2.0 if "bfloat16" in what else 1.0)
        yield as_entry("h", f"{what} / SpeechBrain's classifier", times, target, same, speed=True)

"""SpeechBrain's wav2vec 2.0 emotion classifier, with which row h compares predictions; in a process of its own.

    python -m lemer.benchmarks.speed.speechbrain SIZE PAIRS FOLDER [FILE ...]

`make bench` puts SpeechBrain into `.speechbrain`, outside of the environment: it needs torchaudio, whose last release was
compiled for another torch. torchaudio can be imported without its compiled part, which the classifier does not use.

The classifier is built of SpeechBrain's modules as speechbrain/emotion-recognition-wav2vec2-IEMOCAP describes it: a tower
with normalised output, the mean over the frames, one linear layer. It gets the same tower as our model, which takes speech
alone here too. Shapes: B batch, S samples.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import AutoTokenizer, Wav2Vec2FeatureExtractor
from transformers.utils import logging

from lemer import LemerModel, LemerPipeline, LemerProcessor
from lemer.corpora.manifest import Utterance
from lemer.prediction.answering import predict_shard
from lemer.runtime.process import EVERYTHING, set_up_process
from lemer.speech_encoder_lemer import encode_speech
from lemer.training.small_towers import make_small_text_tower

from .results import ROOT
from .setup import PREDICTED, WORDS, as_predicted, make_model
from .timing import DEVICE, alternate, clock, difference

FOLDER = ROOT / ".speechbrain"
ONE_BY_ONE = 16  # recordings that are enough where they are taken one by one


def make_classifier(tower: Path, save_path: Path, width: int, labels: int):
    """SpeechBrain's classifier around the tower in a folder."""
    from speechbrain.inference.interfaces import Pretrained
    from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2
    from speechbrain.nnet.linear import Linear
    from speechbrain.nnet.pooling import StatisticsPooling

    class Classifier(Pretrained):
        def classify(self, samples, shares):  # (B, S), and the share of S that is real (B,)
            frames = self.mods.tower(samples.to(self.device), shares.to(self.device))
            logits = self.mods.output(self.mods.pool(frames, shares.to(self.device)).flatten(1))
            return logits.softmax(-1).max(-1)

    modules = {
        "tower": Wav2Vec2(str(tower), str(save_path), output_norm=True, freeze=True),
        "pool": StatisticsPooling(return_std=False),
        "output": Linear(input_size=width, n_neurons=labels, bias=False),
    }
    return Classifier(modules, {}, {"device": DEVICE})


def make_ours(folder: Path, size: str) -> tuple[LemerModel, LemerProcessor]:
    """Our model of speech alone, and its processor. The tower is written to `tower` in the folder."""
    model = make_model(size, modality="speech")
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    model.speech_model.save_pretrained(folder / "tower")
    extractor.save_pretrained(folder / "tower")
    # A processor needs a tokenizer; this one is never asked for tokens.
    tokenizer = AutoTokenizer.from_pretrained(make_small_text_tower(folder / "tokenizer", [" ".join(WORDS)] * 2))
    return model, LemerProcessor(extractor, tokenizer)


@torch.no_grad()
def compare_frames(model: LemerModel, processor: LemerProcessor, classifier, path: str) -> float:
    """How far the frames of one recording differ between the two sides; see `difference`."""
    samples = classifier.load_audio(path)[None]
    theirs = classifier.mods.tower(samples.to(DEVICE), torch.ones(1, device=DEVICE))
    inputs = processor(audio=samples[0].cpu().numpy(), sampling_rate=16_000, return_tensors="pt").to(DEVICE)
    states = encode_speech(model.speech_model, inputs["input_values"])[0].last_hidden_state
    return difference(torch.nn.functional.layer_norm(states, states.shape[1:]), theirs)


def measure(size: str, pairs: int, folder: Path, files: list[str]) -> dict:
    """
    Time predictions of ours and of SpeechBrain's classifier over some files.

    Returns:
        `difference`: how far the frames of a recording differ; `seconds`: (ours, theirs) of every pair, by comparison.
    """
    from speechbrain.utils.data_utils import batch_pad_right

    model, processor = make_ours(folder, size)
    config = model.config
    classifier = make_classifier(folder / "tower", folder / "saved", config.speech_config.hidden_size, config.num_labels)
    pipe = LemerPipeline(model, processor)
    predicted = LemerPipeline(as_predicted(model), processor)
    halved = LemerPipeline(as_predicted(model, torch.bfloat16), processor)

    def run_predict(pipe):
        failed: dict[str, str] = {}
        predict_shard(pipe, [[Utterance(path, path)] for path in files], {}, PREDICTED, failed, tqdm(disable=True))
        assert not failed, failed

    @torch.no_grad()
    def run_theirs(batch_size):
        paths = files[:ONE_BY_ONE] if batch_size == 1 else files
        for start in range(0, len(paths), batch_size):
            samples = [classifier.load_audio(path) for path in paths[start : start + batch_size]]
            classifier.classify(*batch_pad_right(samples))

    worst = compare_frames(model, processor, classifier, files[0])
    sides = {
        "LemerPipeline, one by one": (lambda: pipe([{"audio": path} for path in files[:ONE_BY_ONE]]), 1),
        f"predict.py, batches of {PREDICTED}": (lambda: run_predict(predicted), PREDICTED),
        f"predict.py --dtype bfloat16, batches of {PREDICTED}": (lambda: run_predict(halved), PREDICTED),
    }
    times = {name: alternate(run, lambda size=size: run_theirs(size), pairs, clock) for name, (run, size) in sides.items()}
    return {"difference": worst, "seconds": times}


if __name__ == "__main__":
    sys.path.append(str(FOLDER))
    set_up_process(EVERYTHING)  # for both sides, as in the other rows
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=sys.argv[3]) as folder:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), Path(folder), sys.argv[4:])))

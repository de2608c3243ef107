"""Row h's other side: SpeechBrain's wav2vec 2.0 emotion classifier, in a process of its own.

    python benchmarks/speed_speechbrain.py SIZE PAIRS FOLDER [FILE ...]

`make bench` puts SpeechBrain into `.speechbrain`, away from the environment: it needs torchaudio, whose last release was
compiled for another torch. Without its compiled part torchaudio can be imported, and the classifier uses nothing of that.

The classifier is what speechbrain/emotion-recognition-wav2vec2-IEMOCAP describes, built of SpeechBrain's modules: tower with
normalised output, mean over frames, one linear layer. It gets the very tower of our model, which hears speech alone too.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import AutoTokenizer, Wav2Vec2FeatureExtractor
from transformers.utils import logging

from lemer import LemerPipeline, LemerProcessor
from lemer.benchmarks.speed import DEVICE, alternate, clock, difference
from lemer.benchmarks.speed_setup import PREDICTED, WORDS, as_predicted, make_model
from lemer.corpora.manifest import Utterance
from lemer.predict import predict_shard
from lemer.runtime.process import EVERYTHING, set_up_process
from lemer.speech_encoder_lemer import encode_speech
from lemer.training.small_towers import make_small_text_tower

FOLDER = Path(__file__).resolve().parents[1] / ".speechbrain"


def make_classifier(tower: Path, save_path: Path, width: int, labels: int):
    """SpeechBrain's classifier around the tower that a folder holds."""
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


def measure(size: str, pairs: int, folder: Path, files: list[str]) -> dict:
    """Seconds of every pair (ours, theirs) of each comparison, and how far the frames of a recording alone differ."""
    from speechbrain.utils.data_utils import batch_pad_right

    model = make_model(size, modality="speech")
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    model.speech_model.save_pretrained(folder / "tower")
    extractor.save_pretrained(folder / "tower")
    classifier = make_classifier(
        folder / "tower", folder / "saved", model.config.speech_config.hidden_size, model.config.num_labels
    )
    # A processor has both parts; this one's words are never asked for.
    tokenizer = AutoTokenizer.from_pretrained(make_small_text_tower(folder / "tokenizer", [" ".join(WORDS)] * 2))
    processor = LemerProcessor(extractor, tokenizer)
    prepared, half = as_predicted(model), as_predicted(model, torch.bfloat16)
    ours, predicted, halved = (LemerPipeline(one, processor) for one in (model, prepared, half))

    def run_predict(pipe):
        failed: dict[str, str] = {}
        predict_shard(pipe, [[Utterance(path, path)] for path in files], {}, PREDICTED, failed, tqdm(disable=True))
        assert not failed, failed

    few = 16  # recordings that are enough one by one

    @torch.no_grad()
    def run_theirs(batch_size):
        some = files[:few] if batch_size == 1 else files
        for start in range(0, len(some), batch_size):
            samples = [classifier.load_audio(path) for path in some[start : start + batch_size]]
            classifier.classify(*batch_pad_right(samples))

    with torch.no_grad():
        samples = classifier.load_audio(files[0])[None]
        theirs = classifier.mods.tower(samples.to(DEVICE), torch.ones(1, device=DEVICE))
        alone = processor(audio=samples[0].cpu().numpy(), sampling_rate=16_000, return_tensors="pt").to(DEVICE)
        states = encode_speech(model.speech_model, alone["input_values"])[0].last_hidden_state
        worst = difference(torch.nn.functional.layer_norm(states, states.shape[1:]), theirs)
    sides = {
        "LemerPipeline, one by one": (lambda: ours([{"audio": path} for path in files[:few]]), 1),
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
    with tempfile.TemporaryDirectory(dir=sys.argv[3]) as own:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), Path(own), sys.argv[4:])))

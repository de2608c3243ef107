"""Inputs of the speed table: models of a size, batches, recordings on disk, checkpoints, training steps.

Shapes: B batch, S samples, T tokens, F frames, d_t and d_s hidden sizes of the text and the speech tower.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn
from transformers import BertTokenizer, Wav2Vec2FeatureExtractor

from lemer import LemerConfig, LemerModel, LemerProcessor
from lemer.export import export
from lemer.prediction.answering import LARGEST
from lemer.runtime.onednn import multiply_by_onednn
from lemer.speech_encoder_lemer import encode_speech
from lemer.training.small_towers import make_tokenizer

from .timing import DEVICE, precision

RATE = 16_000  # Hz
BATCH = 16  # utterances, as in the paper
COPIES = 4 if DEVICE == "cuda" else 1  # of each length: a batch of 4 does not fill a GPU, one of 16 takes a CPU minutes
LIKE_LENGTHS = [3.4, 3.5, 3.6, 3.7] * COPIES  # seconds, as one batch of LengthBuckets around the median
MIXED_LENGTHS = [1.5, 2.5, 3.6, 6.0] * COPIES  # seconds
PREDICTED = LARGEST[DEVICE][0]  # utterances that predict.py takes at once
WORDS = "well you never said that to me before and now it is so late what do we want here no yes".split()


def _size(width: int, layers: int, heads: int, conv: int, vocabulary: int = 30_522, inner: int = 4) -> tuple[dict, dict]:
    """Settings of the speech tower and of the text tower."""
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    shape["intermediate_size"] = inner * width
    # As in the published conformers; LayerDrop is off in train.py too.
    speech = {"feat_extract_norm": "layer", "conv_bias": True, "conv_dim": (conv,) * 7, "layerdrop": 0.0}
    return {"model_type": "wav2vec2-conformer", **shape, **speech}, {"model_type": "bert", "vocab_size": vocabulary, **shape}


SIZES = {
    "tiny": _size(32, 1, 2, 16, 1000, inner=2),
    "narrow": _size(192, 4, 3, 128),  # for row c on a CPU, which compares whole epochs of batches
    "small": _size(384, 4, 6, 512),
    "base": _size(768, 12, 12, 512),
    "large": _size(1024, 24, 16, 512),
}


@dataclass
class Bench:
    """
    How a row is to be measured.

    Attributes:
        size: Size of the towers, a key of `SIZES`.
        repeats: Pairs of runs for every ratio, or None for each row's own number.
        folder: Where the row may write files.
    """

    size: str
    repeats: int | None
    folder: Path

    @property
    def quick(self) -> bool:
        """Whether this is a trial of the code alone, on as little data as it can run on."""
        return self.size == "tiny"

    @cached_property
    def checkpoint(self) -> Path:
        """The folder of `write_checkpoint`, written on first use."""
        write_checkpoint(self.folder / "checkpoint", self.size)
        return self.folder / "checkpoint"

    def pairs(self, default: int, on_gpu: int | None = None) -> int:
        """Pairs of runs; `on_gpu` replaces `default` where a GPU saves no time, as in starting a process."""
        if self.repeats is not None:
            return self.repeats
        return on_gpu if on_gpu is not None and DEVICE == "cuda" else default

    def batch(self, seconds=LIKE_LENGTHS, tokens: int | None = None, **settings) -> dict[str, torch.Tensor]:
        """`make_batch` with texts of so many tokens each, by default of about 100."""
        counts = [90 + 5 * (n % 4) if tokens is None else tokens for n in range(len(seconds))]
        return make_batch(seconds, counts, self.size, **settings)


# ------------------------------------------------------------------------------------------------------------- models


def make_model(size: str, norm: str = "layer", padding_safe: bool = True, modality: str = "multimodal") -> LemerModel:
    """A model of random weights in evaluation mode, with label embeddings, its CNN encoder frozen as in train.py."""
    speech, text = SIZES[size]
    towers = {"speech_config": {**speech, "feat_extract_norm": norm}}
    if modality != "speech":
        towers["text_config"] = text
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = LemerModel(LemerConfig(**towers, padding_safe=padding_safe, modality=modality)).to(DEVICE)
    with torch.no_grad():
        embeddings = [values for name, values in model.named_buffers() if name.endswith("label_embeddings")]
        for values in (*embeddings, model.classifier.bias):
            values.normal_()
    model.speech_model.freeze_feature_encoder()
    return model.eval()


def as_predicted(model: LemerModel, dtype: torch.dtype = torch.float32) -> LemerModel:
    """A copy of a model, prepared as predict.py prepares it for a precision."""
    prepared = copy.deepcopy(model).to(dtype)
    multiply_by_onednn(prepared)
    return prepared


def run_towers(model: LemerModel, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """The two towers and nothing else, in the order in which the model runs them: H_t (B, T, d_t), H_s (B, F, d_s)."""
    text = model.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    speech, _ = encode_speech(model.speech_model, batch["input_values"], batch["input_values_mask"])
    return text, speech.last_hidden_state


def towers_loss(states: Iterable[torch.Tensor]) -> torch.Tensor:
    """The cheapest loss that has a gradient at every position of the hidden states."""
    return sum(values.float().square().mean() for values in states)


def train_step(loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """One update as train.py makes it; `loss` is called to compute the loss, which is returned."""
    with precision():
        value = loss()
    value.backward()
    nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return value.detach()


def make_optimizer(*modules: nn.Module, learning_rate: float = 1e-9, capturable: bool = False) -> torch.optim.Optimizer:
    """Adam over the parameters that train, by default at a rate that leaves the weights where they are."""
    weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    return torch.optim.Adam(weights, lr=learning_rate, fused=True, capturable=capturable)


def start_onnxruntime(model: LemerModel, processor: LemerProcessor, path: Path):
    """Export a model to a file, and open it in onnxruntime with as many threads as torch has."""
    import onnxruntime

    export(model, processor, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_onnxruntime(session, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits of a batch (B, C)."""
    given = {"token_type_ids": torch.zeros_like(batch["input_ids"]), **batch}
    inputs = {argument.name: given[argument.name].numpy() for argument in session.get_inputs()}
    return torch.from_numpy(session.run(["logits"], inputs)[0])


# --------------------------------------------------------------------------------------------------------- utterances


def iemocap_seconds(count: int = 5531, seed: int = 0) -> np.ndarray:
    """Lengths like IEMOCAP's: lognormal with median 3.58 s, mean 4.55 s and 90 % below 8.69 s, from 0.58 to 34 s."""
    logarithms = np.random.default_rng(seed).normal(np.log(3.58), np.sqrt(2 * np.log(4.55 / 3.58)), count)
    return np.exp(logarithms).clip(0.58, 34.0)


IEMOCAP_SECONDS = iemocap_seconds()


def make_samples(seconds: float, emotion: int, rng: np.random.Generator, rate: int = RATE) -> np.ndarray:
    """A buzz with the pitch and the timbre of its class, in noise; zero mean, unit variance, (S,) float32."""
    time_axis = np.arange(int(seconds * rate)) / rate
    pitch = (90, 140, 200, 290)[emotion] * np.exp(rng.normal(0.0, 0.1))
    samples = 0.3 * rng.standard_normal(len(time_axis))
    for harmonic in range(1, 9):
        samples += harmonic ** (-0.5 * (1 + emotion)) * np.sin(2 * np.pi * harmonic * pitch * time_axis)
    return ((samples - samples.mean()) / samples.std()).astype(np.float32)


def make_batch(
    seconds, tokens, size: str, seed: int = 0, emotions=None, multiple: int | None = None
) -> dict[str, torch.Tensor]:
    """
    A padded batch: the model's inputs, and `labels`.

    Args:
        seconds: Length of every recording.
        tokens: Number of tokens of every text.
        size: Size of the towers, which decides the vocabulary.
        emotions: Class of every utterance; random by default.
        multiple: The samples are padded to a multiple of this many.
    """
    rng = np.random.default_rng(seed)
    emotions = rng.integers(4, size=len(seconds)) if emotions is None else np.asarray(emotions)
    clips = [torch.from_numpy(make_samples(length, emotion, rng)) for length, emotion in zip(seconds, emotions, strict=True)]
    vocabulary = SIZES[size][1]["vocab_size"]
    texts = []
    for count, emotion in zip(tokens, emotions, strict=True):  # half of the tokens come from the class's quarter of all
        of_class = rng.integers(vocabulary // 4, size=count) * 4 + emotion
        texts.append(torch.from_numpy(np.where(rng.random(count) < 0.5, rng.integers(vocabulary, size=count), of_class)))
    batch = {}
    for name, mask, rows in (("input_values", "input_values_mask", clips), ("input_ids", "attention_mask", texts)):
        batch[name] = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        batch[mask] = nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
        if multiple is not None and name == "input_values":
            missing = (0, -batch[name].shape[1] % multiple)
            batch.update({each: nn.functional.pad(batch[each], missing) for each in (name, mask)})
    return {name: values.to(DEVICE) for name, values in {**batch, "labels": torch.from_numpy(emotions)}.items()}


def without_labels(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs of a batch, for a forward pass that computes no loss."""
    return {name: values for name, values in batch.items() if name != "labels"}


def write_recordings(folder: Path, seconds, rate: int = RATE, channels: int = 1) -> list[dict]:
    """Write recordings of 16 bits, and return their rows in the schema of the corpora, with ten earlier turns each."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), []
    for index, length in enumerate(seconds):
        samples = np.stack([make_samples(length, index % 4, rng, rate)] * channels, axis=1)
        soundfile.write(folder / f"{index:04d}.wav", 0.1 * samples, rate, subtype="PCM_16")
        turns = [" ".join(rng.choice(WORDS, int(count))) for count in rng.integers(4, 24, 11)]
        row = {"audio": str(folder / f"{index:04d}.wav"), "text": turns[0], "history": turns[1:], "label": index % 4}
        rows.append({**row, "num_frames": int(length * RATE)})
    return rows


def write_checkpoint(folder: Path, size: str) -> None:
    """Write a checkpoint to `whole`, and its towers as transformers' own classes to `speech` and `text` beside it."""
    vocabulary = make_tokenizer([" ".join(WORDS)] * 2).get_vocab()
    unused = range(len(vocabulary), SIZES[size][1]["vocab_size"])  # a checkpoint whose tokenizer knows too few is refused
    vocabulary.update((f"[unused{index}]", index) for index in unused)
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=512)
    processor = LemerProcessor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer)
    model = make_model(size).cpu()
    for part, name in ((model, "whole"), (model.speech_model, "speech"), (model.text_model, "text")):
        part.save_pretrained(folder / name)
        (processor if name == "whole" else processor.feature_extractor).save_pretrained(folder / name)
    processor.tokenizer.save_pretrained(folder / "text")

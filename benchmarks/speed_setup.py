"""What speed.py measures on: models of a size, batches, recordings on disk, and what its child processes run.

    torchrun --nproc_per_node 2 benchmarks/speed_setup.py SIZE SECONDS        training steps of several processes

Shapes: B batch, S samples, T tokens.
"""

import copy
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn
from transformers import (
    AutoFeatureExtractor,
    AutoTokenizer,
    BertForSequenceClassification,
    Wav2Vec2ConformerForSequenceClassification,
    Wav2Vec2FeatureExtractor,
    pipeline,
)

from lemer import LemerConfig, LemerModel, LemerProcessor
from lemer.benchmarks.speed import DEVICE, clock, forward, precision
from lemer.export import export
from lemer.predict import LARGEST, batches
from lemer.runtime.onednn import multiply_by_onednn
from lemer.runtime.process import EVERYTHING, keep_freed_memory, leave_process_group
from lemer.speech_encoder_lemer import encode_speech
from lemer.training.small_towers import make_small_text_tower

RATE = 16_000  # Hz
BATCH = 16  # utterances, as in the paper
COPIES = 4 if DEVICE == "cuda" else 1  # of each length: a batch of 4 does not fill a GPU, one of 16 takes a CPU minutes
LIKE_LENGTHS = [3.4, 3.5, 3.6, 3.7] * COPIES  # seconds, as one batch of LengthBuckets around the median
MIXED_LENGTHS = [1.5, 2.5, 3.6, 6.0] * COPIES
PREDICTED = LARGEST[DEVICE][0]  # utterances, as predict.py takes them at once
WORDS = "well you never said that to me before and now it is so late what do we want here no yes".split()


def _size(width: int, layers: int, heads: int, conv: int, vocabulary: int = 30_522, inner: int = 4) -> tuple[dict, dict]:
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    shape["intermediate_size"] = inner * width
    # As in the published conformers; LayerDrop is off in train.py too.
    speech = {"feat_extract_norm": "layer", "conv_bias": True, "conv_dim": (conv,) * 7, "layerdrop": 0.0}
    return {"model_type": "wav2vec2-conformer", **shape, **speech}, {"model_type": "bert", "vocab_size": vocabulary, **shape}


SIZES = {
    "tiny": _size(32, 1, 2, 16, 1000, inner=2),
    "narrow": _size(192, 4, 3, 128),  # of row c on a CPU, where whole epochs of batches are compared
    "small": _size(384, 4, 6, 512),
    "base": _size(768, 12, 12, 512),
    "large": _size(1024, 24, 16, 512),
}


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
    """A copy of a model as predict.py runs it in a precision."""
    prepared = copy.deepcopy(model).to(dtype)
    multiply_by_onednn(prepared)
    return prepared


# --------------------------------------------------------------------------------------------------------- utterances


def iemocap_seconds(count: int = 5531, seed: int = 0) -> np.ndarray:
    """Lengths like IEMOCAP's: lognormal with median 3.58 s, mean 4.55 s and 90 % below 8.69 s, from 0.58 to 34 s."""
    drawn = np.random.default_rng(seed).normal(np.log(3.58), np.sqrt(2 * np.log(4.55 / 3.58)), count)
    return np.exp(drawn).clip(0.58, 34.0)


def make_samples(seconds: float, emotion: int, rng: np.random.Generator, rate: int = RATE) -> np.ndarray:
    """A buzz with a pitch and a timbre of its class, in noise; zero mean, unit variance, (S,) float32."""
    time_axis = np.arange(int(seconds * rate)) / rate
    pitch = (90, 140, 200, 290)[emotion] * np.exp(rng.normal(0.0, 0.1))
    samples = 0.3 * rng.standard_normal(len(time_axis))
    for harmonic in range(1, 9):
        samples += harmonic ** (-0.5 * (1 + emotion)) * np.sin(2 * np.pi * harmonic * pitch * time_axis)
    return ((samples - samples.mean()) / samples.std()).astype(np.float32)


def make_batch(seconds, tokens, size: str, seed: int = 0, emotions=None, multiple=None) -> dict[str, torch.Tensor]:
    """
    A padded batch of the model's inputs and `labels`; `seconds` and `tokens` are one number an utterance, `multiple` what
    the samples are padded to a multiple of.
    """
    rng = np.random.default_rng(seed)
    emotions = rng.integers(4, size=len(seconds)) if emotions is None else np.asarray(emotions)
    clips = [torch.from_numpy(make_samples(length, emotion, rng)) for length, emotion in zip(seconds, emotions, strict=True)]
    vocabulary = SIZES[size][1]["vocab_size"]
    texts = []
    for count, emotion in zip(tokens, emotions, strict=True):  # a class has a quarter of the vocabulary for every other word
        own = rng.integers(vocabulary // 4, size=count) * 4 + emotion
        texts.append(torch.from_numpy(np.where(rng.random(count) < 0.5, rng.integers(vocabulary, size=count), own)))
    batch = {}
    for name, mask, rows in (("input_values", "input_values_mask", clips), ("input_ids", "attention_mask", texts)):
        batch[name] = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        batch[mask] = nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
        if multiple is not None and name == "input_values":
            missing = (0, -batch[name].shape[1] % multiple)
            batch.update({each: nn.functional.pad(batch[each], missing) for each in (name, mask)})
    return {name: values.to(DEVICE) for name, values in {**batch, "labels": torch.from_numpy(emotions)}.items()}


def write_recordings(folder: Path, seconds, rate: int = RATE, channels: int = 1) -> list[dict]:
    """Recordings of 16 bits on disk, and their rows in the schema of the corpora, with ten earlier turns each."""
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
    """A checkpoint, and its towers as transformers' own in `speech` and `text` beside it."""
    tokenizer = make_small_text_tower(folder / "tokenizer", [" ".join(WORDS)] * 2)
    processor = LemerProcessor(
        Wav2Vec2FeatureExtractor(return_attention_mask=True), AutoTokenizer.from_pretrained(tokenizer)
    )
    model = make_model(size).cpu()
    for part, name in ((model, "whole"), (model.speech_model, "speech"), (model.text_model, "text")):
        part.save_pretrained(folder / name)
        (processor if name == "whole" else processor.feature_extractor).save_pretrained(folder / name)
    processor.tokenizer.save_pretrained(folder / "text")


@dataclass
class Bench:
    """Size of the towers, pairs of a ratio (None: the row's own), a folder for what is written."""

    size: str
    repeats: int | None
    folder: Path

    @property
    def quick(self) -> bool:
        return self.size == "tiny"

    @cached_property
    def checkpoint(self) -> Path:
        write_checkpoint(self.folder / "checkpoint", self.size)
        return self.folder / "checkpoint"

    def pairs(self, default: int, on_gpu: int | None = None) -> int:
        """`on_gpu`: instead of `default` there, where starting a process, or computing in float32, takes most time."""
        if self.repeats is not None:
            return self.repeats
        return on_gpu if on_gpu is not None and DEVICE == "cuda" else default

    def batch(self, seconds=LIKE_LENGTHS, **settings) -> dict:
        return make_batch(seconds, [90 + 5 * (n % 4) for n in range(len(seconds))], self.size, **settings)


# --------------------------------------------------------------------------------------------------------- what is run


@cache
def matrices(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Two matrices whose product runs at the machine's rate."""
    side = 2048 if DEVICE == "cpu" else 8192
    return tuple(torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))


def run_towers(model: LemerModel, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """The two towers and nothing else, in the order in which the model runs them: H_t (B, T, d_t), H_s (B, F, d_s)."""
    text = model.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    speech, _ = encode_speech(model.speech_model, batch["input_values"], batch["input_values_mask"])
    return text, speech.last_hidden_state


def towers_loss(states) -> torch.Tensor:
    """The cheapest loss with a gradient at every position."""
    return sum(one.float().square().mean() for one in states)


def train_step(loss, optimizer: torch.optim.Optimizer) -> None:
    """One update as train.py does it; `loss` is called for the loss."""
    with precision():
        value = loss()
    value.backward()
    nn.utils.clip_grad_norm_([one for group in optimizer.param_groups for one in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad()


def make_optimizer(*modules: nn.Module) -> torch.optim.Optimizer:
    """Adam over what trains, at a rate that leaves the weights where they are."""
    return torch.optim.Adam([p for module in modules for p in module.parameters() if p.requires_grad], lr=1e-9, fused=True)


def logits_in_order(model: LemerModel, singles: list[dict], batches) -> torch.Tensor:
    """Logits (N, C) of batches of one, put together to padded batches by their indices."""
    logits = torch.zeros(len(singles), model.config.num_labels)
    for rows in batches:
        parts = {name: [singles[row][name][0] for row in rows] for name in singles[0]}
        batch = {name: nn.utils.rnn.pad_sequence(values, batch_first=True) for name, values in parts.items()}
        with torch.no_grad():
            logits[rows] = model(**batch).logits.cpu()
    return logits


def spaced(batches: list[list[int]], frames: np.ndarray, count: int, offset: float) -> list[list[int]]:
    """Full batches at even spaces of the order by their longest utterance: their times are those of all, scaled down."""
    full = sorted((rows for rows in batches if len(rows) == BATCH), key=lambda rows: max(frames[rows]))
    return [full[int((index + offset) * len(full) / count)] for index in range(count)]


@torch.no_grad()
def fit_classifier(model: LemerModel, bench: Bench, fitted: int, tested: int) -> tuple[list[dict], torch.Tensor, float]:
    """
    Set the classifier to the ridge regression of the classes on `fitted` utterances of a second.

    Returns:
        Batches of `tested` others, the logits (N, C) that the model gives them, and the share of them that is right.
    """
    batches = []
    for part in np.array_split(np.arange(fitted + tested) % 4, (fitted + tested) // 4):
        batches.append(bench.batch([1.0] * len(part), seed=len(batches), emotions=part))
    labels = torch.cat([one.pop("labels") for one in batches])
    vectors = torch.cat([model(**one).pooler_output for one in batches])  # (N, D)
    mean, deviation = vectors[:fitted].mean(0), vectors[:fitted].std(0) + 1e-6
    standard = (vectors[:fitted] - mean) / deviation
    targets = nn.functional.one_hot(labels[:fitted], model.config.num_labels).float()
    gram = standard @ standard.T + fitted * torch.eye(fitted, device=vectors.device)
    weight = (standard.T @ torch.linalg.solve(gram, targets - targets.mean(0))).T / deviation  # (C, D)
    model.classifier.weight.copy_(weight)
    model.classifier.bias.copy_(targets.mean(0) - weight @ mean)
    logits = model.classifier(vectors[fitted:])
    return batches[fitted // 4 :], logits, (logits.argmax(1) == labels[fitted:]).float().mean().item()


def start_onnxruntime(model: LemerModel, processor: LemerProcessor, path: Path):
    """A session of onnxruntime with the model in it, and with as many threads as torch has."""
    import onnxruntime

    export(model, processor, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_onnxruntime(session, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits of a batch (B, C)."""
    given = {"token_type_ids": torch.zeros_like(batch["input_ids"]), **batch}
    inputs = {taken.name: given[taken.name].numpy() for taken in session.get_inputs()}
    return torch.from_numpy(session.run(["logits"], inputs)[0])


def stock_pipelines(checkpoint: Path):
    """transformers' pipelines over the same towers: "audio-classification" and "text-classification"."""
    speech, text = str(checkpoint / "speech"), str(checkpoint / "text")
    hear = pipeline(
        "audio-classification",
        model=Wav2Vec2ConformerForSequenceClassification.from_pretrained(speech, num_labels=4),
        feature_extractor=AutoFeatureExtractor.from_pretrained(speech),
        device=DEVICE,
    )
    model, tokenizer = BertForSequenceClassification.from_pretrained(text, num_labels=4), AutoTokenizer.from_pretrained(text)
    return hear, pipeline("text-classification", model=model, tokenizer=tokenizer, device=DEVICE)


# ---------------------------------------------------------------------------------------------------- child processes


_HOME = tempfile.TemporaryDirectory(prefix="lemer_speed_")
OURS_STARTS = """
import sys, time
from transformers import pipeline
from transformers.utils import logging
logging.disable_progress_bar(), logging.set_verbosity_error()
pipe = pipeline("speech-emotion-recognition", model=sys.argv[1] + "/whole", trust_remote_code=True)
pipe({"audio": sys.argv[2], "text": "you never said that"})
print(time.time())
"""
THEIRS_STARTS = """
import sys, time
from transformers import AutoModel
from transformers.utils import logging
logging.disable_progress_bar(), logging.set_verbosity_error()
for tower in ("speech", "text"):
    AutoModel.from_pretrained(f"{sys.argv[1]}/{tower}").to(sys.argv[3])
print(time.time())
"""


def _environment() -> dict:
    """Of a child: no network, and the copies that transformers makes of remote code in a folder that is removed."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": _HOME.name}


def child(*command: str) -> str:
    """Last line that a Python process prints."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=_environment())
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        raise RuntimeError(f"a process of {Path(command[0]).name} failed: {(done.stderr.splitlines() or [''])[-1]}")
    return done.stdout.strip().splitlines()[-1]


def import_times(ours: str, theirs: str, arguments: list[str]) -> str:
    """Packages whose imports cost most in ours and not in theirs."""
    own = []
    for code in (ours, theirs):
        command = [sys.executable, "-X", "importtime", "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        sums: dict[str, float] = {}
        for line in done.stderr.splitlines():
            if line.startswith("import time:") and "self [us]" not in line:
                spent, _, name = line.removeprefix("import time:").split("|")
                top = name.strip().split(".")[0]
                sums[top] = sums.get(top, 0.0) + float(spent) / 1e6
        own.append(sums)
    more = {name: spent - own[1].get(name, 0.0) for name, spent in own[0].items()}
    largest = sorted(more, key=lambda name: -more[name])[:4]
    return "imports, ours less theirs: " + ", ".join(f"{name} {more[name]:+.2f} s" for name in largest)


def _status(field: str) -> float:
    """A field of /proc/self/status in MiB. `ru_maxrss` would begin with what the parent had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def _memory(restart: bool = False) -> float:
    """MiB held now, from where the peak is counted, or the peak since: of a GPU what torch gave out, else of the process."""
    if DEVICE == "cpu":
        return _status("VmRSS" if restart else "VmHWM")
    if restart:
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
    return (torch.cuda.memory_allocated() if restart else torch.cuda.max_memory_allocated()) / 2**20


def memory_of_a_step(whole: bool, checkpointing: bool, size: str, seconds: float) -> float:
    """Memory in MiB that two training steps need at their peak: weights, gradients, Adam, activations."""
    if DEVICE == "cpu":  # in a process of its own, whose memory tells it
        keep_freed_memory()
    batch = make_batch([seconds] * 4, [100] * 4, size)
    before = _memory(restart=True)
    model = make_model(size).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = make_optimizer(model if whole else nn.ModuleList([model.speech_model, model.text_model]))
    for _ in range(2):  # Adam's moments are there from the second on
        train_step(lambda: model(**batch).loss if whole else towers_loss(run_towers(model, batch)), optimizer)
    return _memory() - before


def memory_of_predictions(seconds_of_a_batch: float, keep: bool, size: str) -> None:
    """Print the memory in MiB that forward passes over windows and utterances take at their peak, and their time."""
    if keep:
        keep_freed_memory(EVERYTHING)
    model, rng = make_model(size), np.random.default_rng(0)
    before, spent, heard = _memory(restart=True), 0.0, 0.0
    for lengths in ([30.0] * 8, sorted(rng.uniform(2, 30, 8), reverse=True), [30.0] * 8):
        for part in batches([{"audio": range(int(length * RATE))} for length in lengths], 8, seconds_of_a_batch * RATE):
            seconds = [len(piece["audio"]) / RATE for piece in part]
            batch = make_batch(seconds, [100] * len(part), size)
            spent += clock(forward(lambda batch=batch: model(**batch)))
            heard += sum(seconds)
    print(f"{_memory() - before:.0f} MiB, {1000 * spent / heard:.2f} ms a second of speech")


def seconds_of_a_forward(keep: bool, size: str, seconds: list[float], passes: int = 3) -> None:
    """Print the median seconds of a forward pass, with freed memory kept or given back to the system."""
    if keep and not keep_freed_memory(EVERYTHING):
        raise RuntimeError("this system's C library cannot be told to keep freed memory")
    model, batch = make_model(size), make_batch(seconds, [100] * len(seconds), size)
    times = [clock(forward(lambda: model(**batch))) for _ in range(passes + 1)]
    print(np.median(times[1:]))


def train_on_processes(size: str, seconds: float, steps: int = 3) -> None:
    """Print the utterances a second of all processes of torchrun together, 4 a process and step; a thread each."""
    torch.set_num_threads(1)
    keep_freed_memory()
    cuda = DEVICE == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = nn.parallel.DistributedDataParallel(make_model(size).train())
    batch, optimizer = make_batch([seconds] * 4, [100] * 4, size, seed=rank), make_optimizer(model)
    for step in range(steps + 1):
        train_step(lambda: model(**batch).loss, optimizer)
        torch.distributed.barrier()
        if step == 0:  # warm-up
            begin = time.perf_counter()
    if rank == 0:
        print(json.dumps(4 * processes * steps / (time.perf_counter() - begin)), flush=True)
    torch.distributed.barrier()
    leave_process_group()


if __name__ == "__main__":
    train_on_processes(sys.argv[1], float(sys.argv[2]))

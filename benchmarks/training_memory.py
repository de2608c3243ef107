"""The memory that a training is estimated to take, beside what a few updates took.

    python -m lemer.benchmarks.training_memory

Each row is a process of its own: a model of random weights, noise as speech, random words, three updates of Adam. On a CPU
the peak is that of the process's resident memory above what it had after a tiny training, which loads the libraries; on a
GPU it is the peak of torch's allocator.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import torch
from transformers import BertConfig, BertModel

from lemer import LemerModel
from lemer.training.memory_estimate import GB, estimate_memory
from lemer.training.small_towers import make_small_speech_tower

# Speech tower, whether a BERT of base size reads words beside it (C1), batch size, seconds, gradient checkpointing, mixed
# precision.
ROWS = [
    ("small", False, 16, 10, False, "no"),
    ("small-log-mel", False, 16, 10, False, "no"),
    ("small-log-mel", False, 16, 10, True, "no"),
    ("log-mel-base", False, 2, 8, False, "no"),
    ("log-mel-base", False, 2, 8, True, "no"),
    ("small-log-mel", True, 4, 8, False, "no"),
    ("log-mel-base", True, 4, 4, False, "no"),
    ("log-mel-base", True, 4, 4, True, "no"),
]
TOKENS = 128  # of an utterance with its history


class Noise:
    """A training split of utterances of one length, and its collator."""

    def __init__(self, seconds: int, words: bool = False):
        self.samples, self.words = 16_000 * seconds, words

    def __getitem__(self, key):
        return [self.samples] if key == "num_frames" else {}

    def collate(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        count = len(rows)
        values = 0.1 * torch.randn(count, self.samples, generator=torch.Generator().manual_seed(0))
        mask = torch.ones(count, self.samples, dtype=torch.int32)
        places = torch.arange(count)
        batch = {"input_values": values, "input_values_mask": mask, "labels": places % 4, "rows": places}
        if self.words:
            tokens = torch.randint(1000, 20_000, (count, TOKENS), generator=torch.Generator().manual_seed(0))
            batch.update(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        return batch


def make_model(tower: str, words: bool = False) -> LemerModel:
    """A model of speech, or C1 with a BERT of base size."""
    with tempfile.TemporaryDirectory() as folder:
        speech, text = f"{folder}/speech", f"{folder}/text"
        make_small_speech_tower(Path(speech), 0, tower)
        if not words:
            return LemerModel.from_towers(speech, None, modality="speech", use_label_embeddings=False, fusion="cross")
        BertModel(BertConfig(), add_pooling_layer=False).save_pretrained(text)
        return LemerModel.from_towers(speech, text)


def train(model: LemerModel, rows: Noise, batch_size: int, precision: str) -> None:
    """Three updates."""
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], fused=True)
    batch = rows.collate([{}] * batch_size)
    batch.pop("rows")
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    model.train()
    for _ in range(3):
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def measure(tower: str, words: bool, batch_size: int, seconds: int, checkpointing: bool, precision: str) -> dict:
    """Estimate and peak in bytes of one training."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train(make_model("small-log-mel").to(device), Noise(1), 1, precision)
    before = psutil.Process().memory_info().rss
    model, rows = make_model(tower, words).to(device), Noise(seconds, words)
    memory = estimate_memory(model, rows.collate, rows, batch_size, precision)
    if checkpointing:
        model.gradient_checkpointing_enable()
    train(model, rows, batch_size, precision)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return {"estimate": memory.total(checkpointing=checkpointing), "peak": peak, "device": str(device)}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
        return
    heads = f"{'estimate':>9}{'peak':>7}{'ratio':>7}  GB"
    print(f"{'tower':<21}{'batch':>6}{'seconds':>8}  {'checkpointing':<14}{'precision':<10}{heads}")
    for row in ROWS:
        command = [sys.executable, "-m", "lemer.benchmarks.training_memory", json.dumps(row)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        result = json.loads(answer)
        tower, words, batch_size, seconds, checkpointing, precision = row
        tower += ", BERT" * words
        ratio = result["estimate"] / result["peak"]
        figures = f"{result['estimate'] / GB:>9.2f}{result['peak'] / GB:>7.2f}{ratio:>7.2f}"
        kind = "yes" if checkpointing else "no"
        print(f"{tower:<21}{batch_size:>6}{seconds:>8}  {kind:<14}{precision:<10}{figures}  {result['device']}", flush=True)


if __name__ == "__main__":
    main()

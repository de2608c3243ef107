"""How much memory a training will take, before it begins, and what would fit.

    memory = estimate_memory(model, collator, rows, batch_size=16)
    print(describe_memory(memory, free_memory(device), checkpointing=False))

What a forward pass keeps for the backward pass is counted tensor by tensor, on one utterance cut to a few seconds, and
carried over to the longest one by a parabola: convolutions and layers grow with the length, attention with its square.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

SECONDS = (2, 4, 6)  # of the utterances that are counted
GB = 1e9
# What intermediate results, copies of weights in other layouts and the allocator's gaps take beside what is counted: a
# share, and bytes. Fitted to five peaks on a CPU (benchmarks/LOG.md), from which the estimates then differ by -11 to +30 %.
SHARE_BESIDE, BYTES_BESIDE = 0.25, 0.4e9


class Kept(NamedTuple):
    """
    Bytes that the forward pass of one utterance keeps.

    Attributes:
        all: of everything.
        layers: of what is inside layers that can be checkpointed.
        inputs: of the inputs of these layers.
        largest: of the largest one of these layers.
    """

    all: float
    layers: float
    inputs: float
    largest: float

    def checkpointed(self) -> float:
        """Bytes with gradient checkpointing: a layer is computed again while its gradient is."""
        return self.all - self.layers + self.inputs + self.largest


class Memory(NamedTuple):
    """
    An estimate in bytes.

    Attributes:
        weights, gradients, optimizer: of the model, for all parameters and for those that train.
        utterance, checkpointed: of the activations of one utterance, without and with gradient checkpointing.
        batch_size: utterances of a batch in one process.
        seconds: of the longest utterance; 0 for words alone.
    """

    weights: float
    gradients: float
    optimizer: float
    utterance: float
    checkpointed: float
    batch_size: int
    seconds: float

    def total(self, batch_size: int | None = None, checkpointing: bool = False) -> float:
        """Bytes of a training with batches of this size."""
        return (1 + SHARE_BESIDE) * sum(self.parts(batch_size, checkpointing).values()) + BYTES_BESIDE

    def parts(self, batch_size: int | None = None, checkpointing: bool = False) -> dict[str, float]:
        """What is counted, in bytes."""
        each = self.checkpointed if checkpointing else self.utterance
        parts = {"weights": self.weights, "gradients": self.gradients, "Adam": self.optimizer}
        return {**parts, "activations": (batch_size or self.batch_size) * each}


def estimate_memory(
    model: torch.nn.Module,
    collator,
    rows,
    batch_size: int,
    mixed_precision: str = "no",
    complete: Callable[[dict], dict] = dict,
) -> Memory:
    """
    Estimate the memory of a training with Adam in float32. The model is left as it was; SpecAugment draws from numpy's
    generator, which the loop sets before a training.

    Args:
        model: on the CPU or a GPU, with the parameters that will not train frozen, and without gradient checkpointing.
        collator: of the training split.
        rows: the training split, rows of the corpus schema.
        batch_size: utterances of a batch in one process.
        mixed_precision: "no", "bf16" or "fp16".
        complete: makes the arguments of `forward` of a batch of the collator, where these are not the same.
    """
    device = next(model.parameters()).device
    longest = int(np.argmax(rows["num_frames"]))
    batch = collator([{**rows[longest], "row": 0}])
    batch.pop("rows")
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    kept = np.array([_kept(model, complete(part), mixed_precision) for part in _shorter(batch)])  # (lengths, fields of Kept)
    samples = batch["input_values"].shape[1] if "input_values" in batch else 0
    if len(kept) > 1:
        curves = np.polyfit(np.array(SECONDS) * 16_000, kept, len(SECONDS) - 1)  # (3, fields)
        kept = np.array([np.polyval(curve, samples) for curve in curves.T])[None]
    one = Kept(*kept[0].tolist())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Memory(
        weights=4.0 * sum(parameter.numel() for parameter in model.parameters()),
        gradients=4.0 * trained,
        optimizer=8.0 * trained,
        utterance=one.all,
        checkpointed=one.checkpointed(),
        batch_size=batch_size,
        seconds=samples / 16_000,
    )


def _shorter(batch: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """The batch cut to each of `SECONDS`, or as it is where it is no longer."""
    if "input_values" not in batch or batch["input_values"].shape[1] <= 16_000 * SECONDS[-1]:
        yield batch
        return
    for seconds in SECONDS:
        cut = {name: batch[name][:, : 16_000 * seconds] for name in ("input_values", "input_values_mask")}
        yield {**batch, **cut}


def _kept(model: torch.nn.Module, batch: dict[str, torch.Tensor], mixed_precision: str) -> Kept:
    """What the forward pass of a batch keeps for the backward pass, without the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    layers, inputs, begun = [], [], []

    def begin(module, arguments):
        inputs.append(sum(part.nbytes for part in arguments if isinstance(part, torch.Tensor)))
        begun.append(sum(storages.values()))

    def end(module, arguments, output):
        layers.append(sum(storages.values()) - begun.pop())

    hooks = []
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mixed_precision, torch.float32)
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)
    try:
        with _unchanged(model), autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(**batch)  # held until all is counted, so that no storage is used twice
    finally:
        for hook in hooks:
            hook.remove()
    counted = Kept(sum(storages.values()), sum(layers), sum(inputs), max(layers, default=0))
    del output
    return counted


@contextmanager
def _unchanged(model: torch.nn.Module) -> Iterator[None]:
    """
    Train the model for a while, and leave it, its statistics and torch's random numbers as they were.

    LayerDrop is off meanwhile: a layer that it happens to leave out would be missing from what is counted.
    """
    training = model.training
    configs: dict[int, Any] = {
        id(part.config): part.config for part in model.modules() if getattr(part, "config", None) is not None
    }
    dropping = [(config, config.layerdrop) for config in configs.values() if getattr(config, "layerdrop", 0.0)]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            model.train()
            for config, _ in dropping:
                config.layerdrop = 0.0
            yield
    finally:
        model.train(training)
        for config, layerdrop in dropping:
            config.layerdrop = layerdrop
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers and buffers[name].shape == buffer.shape:
                    buffer.copy_(buffers[name])


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a GPU, or in the machine."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def describe_memory(memory: Memory, free: float, checkpointing: bool = False) -> str:
    """The estimate in one line, and what would fit where it does not."""
    total = memory.total(checkpointing=checkpointing)
    parts = memory.parts(checkpointing=checkpointing)
    listed = ", ".join(f"{name} {size / GB:.1f}" for name, size in parts.items())
    listed += f", beside them {(total - sum(parts.values())) / GB:.1f}"
    length = f" of up to {memory.seconds:.1f} s" if memory.seconds else ""
    line = (
        f"memory: about {total / GB:.1f} GB for batches of {memory.batch_size} utterances{length} ({listed}); "
        f"{free / GB:.1f} GB are free"
    )
    if total <= free:
        return f"{line}: fits"
    ways = what_would_fit(memory, free, checkpointing)
    advice = "What would: " + "; or ".join(ways) if ways else "Take smaller towers, or lemer train --lora 8"
    return f"{line}: does not fit. {advice}"


def what_would_fit(memory: Memory, free: float, checkpointing: bool = False) -> Sequence[str]:
    """Options with which a training fits; its updates are of as many utterances as before."""
    ways = []
    for checkpointed in sorted({checkpointing, True}):
        extra = ["--gradient_checkpointing"] if checkpointed and not checkpointing else []
        sizes = [size for size in range(memory.batch_size, 0, -1) if memory.batch_size % size == 0]
        fitting = [size for size in sizes if memory.total(size, checkpointed) <= free]
        if fitting:
            steps = memory.batch_size // fitting[0]
            smaller = [] if steps == 1 else [f"--batch_size {fitting[0]} --gradient_accumulation_steps {steps}"]
            ways.append(" ".join([*extra, *smaller]))
    return ways

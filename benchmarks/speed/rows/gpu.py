"""Rows m, n and o: what might bring a training step nearer to the limit of a GPU. train.py does none of it.

They need a GPU. No GPU has run them yet. Towers of the size "tiny" run on a CPU too, as a trial of the code.
"""

import json
import sys
from collections.abc import Callable, Iterator

import torch
from torch import nn
from tqdm.auto import tqdm

from lemer import LemerModel

from ..children import call_in_child, train_on_mixed_lengths
from ..setup import COPIES, Bench, make_model, make_optimizer, train_step
from ..timing import DEVICE, Entry, clock, compare, difference, forward

BUCKETS = [(2.0, 64), (3.5, 96), (5.0, 128)]  # seconds of every utterance, and tokens of every text
UPDATES = 8  # whose losses row n compares
LEARNING_RATE = 1e-4  # of these updates

Step = Callable[[], torch.Tensor]  # makes an update and returns its loss


def runs_here(row: str, bench: Bench) -> bool:
    """Whether a row is measured on this machine; where it is not, say so."""
    if DEVICE == "cuda" or bench.quick:
        return True
    tqdm.write(f"{row}  not measured: it needs a GPU", file=sys.stderr)
    return False


# ------------------------------------------------------------------------------------------------------------- graphs


def capture(step: Step) -> Step:
    """The call recorded as one CUDA graph, and replayed; on a CPU, which has no graphs, the call itself."""
    if DEVICE == "cpu":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # what the first calls set up cannot be recorded
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return loss

    return replay


def in_graphs(bench: Bench) -> Iterator[Entry]:
    """Training step in CUDA graphs, one for each of three lengths, and by reduce-overhead, over the step as it is."""
    if not runs_here("m", bench):
        return
    model = make_model(bench.size)
    model.speech_model.config.apply_spec_augment = False  # the number of masked frames differs, so no graph can hold it
    optimizer = make_optimizer(model, capturable=DEVICE == "cuda")
    buckets = BUCKETS if not bench.quick else [(seconds / 10, tokens) for seconds, tokens in BUCKETS]
    batches = [bench.batch([seconds] * 4 * COPIES, tokens=tokens) for seconds, tokens in buckets]

    def step_of(model: nn.Module, batch: dict) -> Step:
        return lambda: train_step(lambda: model(**batch).loss, optimizer)

    steps = [step_of(model, batch) for batch in batches]
    # Without dropout both sides have one loss. A graph keeps the mode that it was recorded in.
    worst = max(difference(capture(step)(), step()) for step in steps)
    same = f"loss of every length, without dropout: {worst:.0e}"
    model.train()
    graphs = [capture(step) for step in steps]
    ours, theirs = (lambda calls=calls: [call() for call in calls] for calls in (graphs, steps))
    what = f"CUDA graphs / as it is, training steps of {len(BUCKETS)} lengths"
    yield compare("m", what, ours, theirs, bench.pairs(7), None, same)
    yield compiled_to_graphs(bench, model, step_of, batches[1])


def compiled_to_graphs(bench: Bench, model: LemerModel, step_of: Callable, batch: dict) -> Entry:
    """The training step of one length as `torch.compile(mode="reduce-overhead")` runs it, over the step as it is."""
    torch._dynamo.reset()
    how = {"mode": "reduce-overhead"} if DEVICE == "cuda" else {"backend": "eager"}
    compiled = torch.compile(model, dynamic=False, **how)
    generated, plain = step_of(compiled, batch), step_of(model, batch)

    def ours() -> torch.Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return generated()

    first = clock(ours)
    model.eval()
    logits = [forward(lambda model=model: model(**batch).logits)() for model in (compiled, model)]
    model.train()
    same = f"logits: {difference(*logits):.0e}"
    entry = compare("m", "reduce-overhead / as it is, training step", ours, plain, bench.pairs(7), None, same)
    entry.measured = f"first call {first:.0f} s"
    return entry


# ---------------------------------------------------------------------------------------------------------- precision


class MasterWeights:
    """
    Adam on float32 copies of the weights of a model, which it turns into bf16.

    Args:
        model: In float32.
    """

    def __init__(self, model: nn.Module, learning_rate: float):
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.masters = [weight.detach().clone() for weight in self.weights]
        for master in self.masters:
            master.grad = torch.zeros_like(master)
        self.optimizer = torch.optim.Adam(self.masters, learning_rate, fused=True)
        model.to(torch.bfloat16)

    def update(self, loss: torch.Tensor) -> torch.Tensor:
        """Update the copies by the gradients of a loss, round them into the model, and return the loss."""
        loss.backward()
        pairs = zip(self.masters, self.weights, strict=True)
        used = [(master.grad, weight.grad) for master, weight in pairs if weight.grad is not None]
        with torch.no_grad():
            torch._foreach_copy_(*map(list, zip(*used, strict=True)))
            nn.utils.clip_grad_norm_(self.masters, 1.0)
            self.optimizer.step()
            torch._foreach_copy_(self.weights, self.masters)
        for weight in self.weights:
            weight.grad = None
        return loss.detach()


def with_master_weights(bench: Bench) -> Iterator[Entry]:
    """Training step with bf16 weights and float32 copies of them, over autocast; the losses of a few updates of both."""
    if not runs_here("n", bench):
        return
    model, rounded = make_model(bench.size), make_model(bench.size)
    optimizer, masters = make_optimizer(model, learning_rate=LEARNING_RATE), MasterWeights(rounded, LEARNING_RATE)
    batch = bench.batch() if not bench.quick else bench.batch([0.3, 0.4])
    in_half = {**batch, "input_values": batch["input_values"].bfloat16()}

    def ours() -> torch.Tensor:
        return masters.update(rounded(**in_half).loss.float())

    def theirs() -> torch.Tensor:
        return train_step(lambda: model(**batch).loss, optimizer)

    # Without dropout and masked frames, which would differ between the sides.
    losses = [torch.stack([step() for _ in range(UPDATES)]).tolist() for step in (ours, theirs)]
    shown = ["; ".join(f"{loss:.4f}" for loss in side) for side in losses]
    model.train(), rounded.train()
    same = f"losses of {UPDATES} updates on one batch at {LEARNING_RATE:g}, without dropout: {shown[0]} and {shown[1]}"
    yield compare("n", "bf16 weights, float32 copies / autocast, training step", ours, theirs, bench.pairs(7), None, same)


# ------------------------------------------------------------------------------------------------------------- memory


def in_expandable_segments(bench: Bench) -> Iterator[Entry]:
    """Reserved memory and time of training steps of mixed lengths, with `expandable_segments` over without."""
    if not runs_here("o", bench):
        return
    updates, sides = (2 if bench.quick else 60), []
    for _ in range(bench.pairs(2)):
        pair = [
            call_in_child(train_on_mixed_lengths, bench.size, updates, PYTORCH_ALLOC_CONF=f"expandable_segments:{on}")
            for on in (True, False)
        ]
        sides.append([json.loads(numbers) for numbers in pair])
    same = f"the same {updates} batches of a training in IEMOCAP's lengths, each side in a process of its own"
    for name, unit in (("seconds", "s"), ("reserved", "MiB"), ("allocated", "MiB")):
        values = [ours[name] / theirs[name] for ours, theirs in sides]
        what = f"expandable_segments / without, {name} of mixed lengths"
        measured = "; ".join(f"{ours[name]:.1f} and {theirs[name]:.1f} {unit}" for ours, theirs in sides)
        yield Entry("o", what, values, same=same, measured=measured)

"""Rows a, b, e and l: the model, its encoder, the pass for label embeddings and torch.compile, on batches in memory."""

from collections.abc import Iterator

import torch
from transformers import set_seed

from lemer.labels_lemer import frame_codes
from lemer.speech_encoder_lemer import encode_speech, extract_features

from ..setup import (
    MIXED_LENGTHS,
    Bench,
    make_model,
    make_optimizer,
    run_towers,
    towers_loss,
    train_step,
    without_labels,
)
from ..timing import DEVICE, Entry, clock, compare, difference, flops, forward


def over_its_towers(bench: Bench) -> Iterator[Entry]:
    """LemerModel over its two towers alone, forward pass and training step."""
    model, batch = make_model(bench.size).train(), bench.batch()
    set_seed(0)  # of dropout and SpecAugment
    states = run_towers(model, batch)
    set_seed(0)
    out = model(**batch)
    both = zip((out.text_model_output, out.speech_model_output), states, strict=True)
    worst = max(difference(ours.last_hidden_state, theirs) for ours, theirs in both)
    same = f"hidden states of both towers, in training mode: {worst:.0e}"
    inputs = without_labels(batch)
    model.eval()
    ours, theirs = forward(lambda: model(**inputs)), forward(lambda: run_towers(model, batch))
    yield compare("a", "model / towers, forward", ours, theirs, bench.pairs(15), ("at most", 1.02), same)
    model.train()
    whole = make_optimizer(model)
    towers = make_optimizer(model.speech_model, model.text_model)
    yield compare(
        "a",
        "model / towers, training step",
        lambda: train_step(lambda: model(**batch).loss, whole),
        lambda: train_step(lambda: towers_loss(run_towers(model, batch)), towers),
        bench.pairs(25),
        ("at most", 1.03),
        same,
    )


def over_the_stock_encoder(bench: Bench) -> Iterator[Entry]:
    """Padding-safe encoder over transformers' stock encoder on the same padded batch, forward pass and training step."""
    for norm in ("layer", "group"):
        yield from _with_norm(bench, norm)


def _with_norm(bench: Bench, norm: str) -> Iterator[Entry]:
    """The ratios of row b with one kind of norm in the CNN encoder."""
    ours, theirs = (make_model(bench.size, norm, safe).speech_model for safe in (True, False))
    theirs.load_state_dict(ours.state_dict())
    whole, padded = bench.batch([2.0, 2.0]), bench.batch(MIXED_LENGTHS)

    def run_ours(batch=padded):
        return encode_speech(ours, batch["input_values"], batch["input_values_mask"])[0].last_hidden_state

    def run_theirs(batch=padded):
        return theirs(batch["input_values"], attention_mask=batch["input_values_mask"]).last_hidden_state

    with torch.no_grad():
        worst = difference(run_ours(whole), run_theirs(whole))
        counts = [flops(run) for run in (run_ours, run_theirs)]
    same = f"frames where nothing is padded: {worst:.0e}; operations of the padded batch {counts[0] / counts[1]:.4f}"
    what = f"padding-safe / stock encoder, {norm} norm"
    at_most = ("at most", 1.0)
    yield compare("b", f"{what}, forward", forward(run_ours), forward(run_theirs), bench.pairs(5), at_most, same)
    our_optimizer, their_optimizer = make_optimizer(ours.train()), make_optimizer(theirs.train())
    yield compare(
        "b",
        f"{what}, training step",
        lambda: train_step(lambda: towers_loss([run_ours()]), our_optimizer),
        lambda: train_step(lambda: towers_loss([run_theirs()]), their_optimizer),
        bench.pairs(3),
        at_most,
        same,
    )


def pass_for_labels(bench: Bench) -> Iterator[Entry]:
    """The speech pass that label embeddings need, over the CNN encoder alone and over the whole conformer."""
    model, batch = make_model(bench.size), bench.batch()
    speech, values, mask = model.speech_model, batch["input_values"], batch["input_values_mask"]
    ours = forward(lambda: frame_codes(model, values, mask))
    cnn = forward(lambda: speech.feature_extractor(values))
    conformer = forward(lambda: encode_speech(speech, values, mask)[0])
    with torch.no_grad():
        normed = speech.feature_projection.layer_norm(speech.feature_extractor(values).transpose(1, 2))
        worst = difference(extract_features(speech, values, mask)[0], normed)
    same = f"features of the CNN encoder: {worst:.0e}"
    yield compare("e", "frame codes / CNN encoder", ours, cnn, bench.pairs(11), ("at most", 1.1), same)
    yield compare("e", "frame codes / whole conformer", ours, conformer, bench.pairs(7), ("at most", 0.4), same)


def compiled(bench: Bench) -> Iterator[Entry]:
    """torch.compile over the model as it is: forward pass, and with a GPU a training step."""
    model = make_model(bench.size)
    torch._dynamo.reset()
    generated = torch.compile(model, dynamic=True, backend="eager" if bench.quick else "inductor")
    batch, longer = bench.batch(), bench.batch(MIXED_LENGTHS)
    ours, theirs = (forward(lambda model=model: model(**batch).logits) for model in (generated, model))
    first, worst = clock(ours), difference(ours(), theirs())
    again = clock(forward(lambda: generated(**longer)))
    same = f"logits: {worst:.0e}"
    entry = compare("l", "torch.compile / as it is, forward", ours, theirs, bench.pairs(7), None, same, speed=True)
    entry.measured = f"first call {first:.0f} s, first call with other lengths {again:.1f} s"
    yield entry
    if DEVICE == "cuda":
        model.train()
        optimizer = make_optimizer(model)
        ours, theirs = (
            lambda model=model: train_step(lambda: model(**batch).loss, optimizer) for model in (generated, model)
        )
        first = clock(ours)
        entry = compare("l", "torch.compile / as it is, training step", ours, theirs, bench.pairs(7), None, same, speed=True)
        entry.measured = f"first call {first:.0f} s"
        yield entry

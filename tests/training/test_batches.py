"""Batches, states and atomic writes: the parts of a training run that a kill or a second process could break."""

import json

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_processor

import lemer.training.batches
from lemer.runtime.files import whole_folder, write_atomically
from lemer.training.batches import Collator, LengthBuckets, token_multiple
from lemer.training.fine_tuning import optimizer_groups
from lemer.training.states import JsonLinesTracker

LENGTHS = list(range(1000, 4700, 100))  # 37 utterances


def test_an_epoch_holds_full_batches_of_different_utterances():
    batches = list(LengthBuckets(LENGTHS, 8, seed=0))
    assert [len(batch) for batch in batches] == [8] * 4
    assert len({index for batch in batches for index in batch}) == 32


def test_every_utterance_is_met_in_some_epoch():
    sampler = LengthBuckets(LENGTHS, 8, seed=0)
    met = set()
    for epoch in range(30):
        sampler.start(epoch)
        met.update(index for batch in sampler for index in batch)
    assert met == set(range(37))


def test_order_depends_on_seed_and_epoch_alone():
    first, second = LengthBuckets(LENGTHS, 8, seed=3), LengthBuckets(LENGTHS, 8, seed=3)
    list(first)
    first.start(5)
    second.start(5)
    assert list(first) == list(second)
    second.start(6)
    assert list(first) != list(second)


def test_a_resumed_epoch_goes_on_with_the_batches_not_done():
    sampler = LengthBuckets(LENGTHS, 8, seed=0)
    sampler.start(2)
    whole = list(sampler)
    sampler.start(2, first_batch=3)
    assert list(sampler) == whole[3:]


def test_an_utterance_meets_others_in_every_epoch():
    lengths = np.random.default_rng(0).lognormal(0, 0.7, 5531)  # as IEMOCAP's
    median, met = int(np.argsort(lengths)[len(lengths) // 2]), set()
    sampler = LengthBuckets(lengths, 16, seed=0)
    for epoch in range(20):
        sampler.start(epoch)
        met.update(*(batch for batch in sampler if median in batch))
    assert len(met - {median}) > 0.85 * 20 * 15


def test_batches_hold_like_lengths():
    lengths = np.random.default_rng(0).lognormal(0, 0.7, 1600)
    sampler = LengthBuckets(lengths, 16, seed=0)
    padded = sum(16 * lengths[batch].max() for batch in sampler)
    shuffled = sum(16 * batch.max() for batch in np.random.default_rng(1).permutation(lengths).reshape(-1, 16))
    assert padded < 0.6 * shuffled


def test_a_corpus_below_the_batch_size_is_one_batch():
    assert sorted(next(iter(LengthBuckets([5, 6, 7], 16, seed=0)))) == [0, 1, 2]


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_batches_of_a_gpu_are_padded_to_a_multiple_and_answered_alike(train, monkeypatch):
    model, processor, rng = tiny_model().train(train), tiny_processor(), np.random.default_rng(0)
    clips = [{"array": rng.normal(size=length), "sampling_rate": 16_000} for length in (5000, 3700)]
    rows = [{"audio": clip, "text": "so", "history": [], "label": row, "row": row} for row, clip in enumerate(clips)]
    answers, widths = [], []
    for samples, tokens in ((None, None), (4000, 8)):
        monkeypatch.setattr(lemer.training.batches, "PAD_TO_MULTIPLE_OF", samples)
        monkeypatch.setattr(lemer.training.batches, "TOKEN_MULTIPLE", tokens)
        batch = Collator(processor, "multimodal")(rows)
        widths.append((batch["input_values"].shape[1], batch["input_ids"].shape[1]))
        del batch["rows"]
        with torch.no_grad():
            answers.append(model(**batch))
    assert widths == [(5000, 3), (8000, 8)]
    for name in ("logits", "loss"):
        torch.testing.assert_close(answers[1][name], answers[0][name], rtol=1e-5, atol=1e-5)


def test_no_text_is_padded_beyond_the_positions_of_its_tower(monkeypatch):
    processor = tiny_processor(max_text_length=30)
    monkeypatch.setattr(lemer.training.batches, "TOKEN_MULTIPLE", 8)
    multiples = []
    for positions in (32, 31):
        processor.tokenizer.model_max_length = positions
        multiples.append(token_multiple(processor))
    assert multiples == [8, None]


def test_groups_hold_every_trained_parameter_once_at_its_rate():
    model = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in ("speech_model", "text_model", "classifier")})
    model["text_model"].bias.requires_grad_(False)
    groups = {group["name"]: group for group in optimizer_groups(model, 1.0, 2.0, 3.0)}
    assert {name: (group["lr"], len(group["params"])) for name, group in groups.items()} == {
        "speech_model": (1.0, 2),
        "text_model": (2.0, 1),
        "new": (3.0, 2),
    }


def test_a_group_without_trained_parameters_is_left_out():
    model = torch.nn.ModuleDict({"speech_model": torch.nn.Linear(2, 2)})
    assert [group["name"] for group in optimizer_groups(model, 1.0, 2.0, 3.0)] == ["speech_model"]


def test_a_folder_takes_its_name_only_when_it_is_whole(tmp_path):
    target = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt), whole_folder(target) as temporary:
        (temporary / "half").touch()
        raise KeyboardInterrupt
    assert not target.exists()
    with whole_folder(target) as temporary:
        (temporary / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoint", "whole"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"


def test_the_log_forgets_what_comes_after_the_state(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(5)) + '{"step": 5, "lo')
    tracker = JsonLinesTracker(path)
    tracker.rewind(2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2]

"""Fusion as laws over random batches: alone as in company, classes in any order, attention that is one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import VARIANTS, alone, tiny_batch, tiny_model

FUSIONS = ["C1", "C2", "C3", "C4", "C1 codebook"]
UTTERANCES = st.lists(st.tuples(st.integers(1, 6000), st.integers(1, 12)), min_size=1, max_size=5)
FIELDS = ("logits", "text_label_logits", "speech_label_logits", "pooler_output")


def batch_of(utterances, labels: bool = False):
    samples, tokens = zip(*utterances, strict=True)
    return tiny_batch(samples, tokens, labels=labels)


@pytest.fixture(scope="module")
def models():
    return {name: tiny_model(**VARIANTS[name]) for name in FUSIONS}


@settings(max_examples=40)
@given(utterances=UTTERANCES, name=st.sampled_from(FUSIONS), data=st.data())
def test_an_utterance_gets_the_same_answer_alone_and_in_any_batch_and_order(models, utterances, name, data):
    order = data.draw(st.permutations(range(len(utterances))))
    batch = batch_of(utterances)
    shuffled = {key: tensor[list(order)] for key, tensor in batch.items()}
    with torch.no_grad():
        together = models[name](**shuffled)
        for position, index in enumerate(order):
            single = models[name](**alone(batch, index))
            for field in FIELDS:
                torch.testing.assert_close(together[field][position], single[field][0], rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(utterances=UTTERANCES, name=st.sampled_from(["C1", "C2", "C4"]))
def test_tokens_attend_to_real_frames_alone_and_wholly(models, utterances, name):
    with torch.no_grad():
        out = models[name](**batch_of(utterances), output_attentions=True)
    attention = out.cross_attentions  # (B, T, F)
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]))
    assert not attention.masked_select(~out.frame_mask[:, None].expand_as(attention)).any()


@settings(max_examples=20)
@given(utterances=UTTERANCES, name=st.sampled_from(FUSIONS), order=st.permutations(range(4)))
def test_classes_in_another_order_are_the_same_classes(models, utterances, name, order):
    model, order = models[name], list(order)
    with torch.no_grad():
        before = model(**batch_of(utterances, labels=True))
        kept = {key: value.clone() for key, value in model.state_dict().items()}
        for tensor in (model.semantic_label_embeddings, model.tonal_label_embeddings, *model.classifier.parameters()):
            tensor.copy_(tensor[order].clone())
        batch = batch_of(utterances, labels=True)
        batch["labels"] = torch.from_numpy(np.argsort(order))[batch["labels"]]
        after = model(**batch)
        model.load_state_dict(kept)
    for field in FIELDS[:3]:
        torch.testing.assert_close(after[field], before[field][:, order])
    torch.testing.assert_close(after.loss, before.loss)

"""LoRA: adapters start as nothing, train alone in the towers, and merge into an ordinary model. Skipped without peft."""

import pytest
import torch
from tiny import tiny_batch, tiny_model

from lemer.training.lora import add_lora

pytest.importorskip("peft")


def test_adapters_start_as_nothing_train_alone_and_merge():
    model, batch = tiny_model(), tiny_batch(labels=True)
    with torch.no_grad():
        before = model(**batch).logits
    tuner = add_lora(model, rank=2, seed=0)
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    towers = {name for name in trained if name.startswith(("speech_model.", "text_model."))}
    # Two layers a tower: four linear layers of attention in a conformer, three in BERT; two matrices each.
    assert len(towers) == 2 * 2 * (4 + 3) and all("lora_" in name for name in towers)
    assert {"classifier.weight", "cross_attention.weight"} <= trained
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    with torch.no_grad():
        learned = model(**batch).logits
    assert not torch.allclose(learned, before, atol=1e-3)
    tuner.merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, learned, rtol=0, atol=1e-5)
    assert set(model.state_dict()) == set(tiny_model().state_dict())

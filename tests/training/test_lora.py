"""LoRA: adapters start as nothing, train alone in the towers, and merge into an ordinary model. Skipped without peft."""

import pytest
import torch
from tiny import tiny_batch, tiny_model
from transformers import AutoModel

from lemer.training.lora import add_lora

peft = pytest.importorskip("peft")


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


def test_an_adapter_of_peft_over_a_checkpoint_opens_as_a_model(tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    model = AutoModel.from_pretrained(tmp_path / "base")
    towers = r"(speech_model|text_model)\..*\.(query|value|linear_q|linear_v)"
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=towers, modules_to_save=["classifier"]))
    optimizer = torch.optim.Adam([parameter for parameter in adapted.parameters() if parameter.requires_grad], lr=1e-2)
    batch = tiny_batch(labels=True)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(**batch).loss.backward()
        optimizer.step()
    adapted.save_pretrained(tmp_path / "adapter")
    opened = AutoModel.from_pretrained(tmp_path / "adapter")
    assert not opened.untrained and not opened.damage
    with torch.no_grad():
        assert torch.equal(opened(**batch).logits, adapted.eval()(**batch).logits)
        assert not torch.allclose(opened(**batch).logits, tiny_model()(**batch).logits, atol=1e-3)

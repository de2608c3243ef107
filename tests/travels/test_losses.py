"""The losses by hand: distributions of classes, weights of classes, concordance; and both models with them."""

import math

import numpy as np
import pytest
import torch
from tiny import tiny_batch, tiny_cross_modal, tiny_model

from lemer.evaluation.attribute_scores import ccc
from lemer.losses_lemer import class_loss, concordance, concordance_loss

LOGITS = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # probabilities 1/4 and 3/4, 1/2 and 1/2


def test_the_divergence_by_hand():
    votes = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert class_loss(LOGITS, votes).item() == pytest.approx((first + math.log(2)) / 2)
    assert class_loss(LOGITS, 4 * votes).item() == pytest.approx((first + math.log(2)) / 2)  # counts of votes
    assert class_loss(LOGITS, torch.tensor([[0.25, 0.75], [0.5, 0.5]])).item() == pytest.approx(0, abs=1e-7)
    assert class_loss(LOGITS, torch.tensor([[0.0, 0.0], [1.0, 0.0]])).item() == pytest.approx(math.log(2))  # one left out


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0], [0.5, 2.0, 0.0]])
def test_a_distribution_that_is_all_in_one_class_is_its_index(weights):
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 2, 0, 2])
    hard, soft = class_loss(logits, labels, weights), class_loss(logits, torch.eye(3)[labels], weights)
    assert hard.item() == pytest.approx(soft.item(), rel=1e-6)
    entropies = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = (entropies * torch.tensor(weights or [1.0] * 3)[labels]).mean()
    assert hard.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_distribution_has_the_gradient_of_its_votes_one_by_one():
    weights, votes = [0.5, 2.0, 1.0], torch.tensor([[2.0, 1.0, 1.0]])
    logits = torch.tensor([[0.3, -0.2, 0.5]], requires_grad=True)
    class_loss(logits, votes, weights).backward()
    soft, logits.grad = logits.grad.clone(), None
    class_loss(logits.expand(4, 3), torch.tensor([0, 0, 1, 2]), weights).backward()
    torch.testing.assert_close(soft, logits.grad)


def test_weighted_losses_of_parts_of_a_batch_average_to_that_of_the_whole():
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 2, 0, 2])
    parts = [class_loss(logits[part], labels[part], [0.5, 2.0, 1.0]) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(sum(parts) / 2, class_loss(logits, labels, [0.5, 2.0, 1.0]))


def test_concordance_by_hand():
    one, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 5.0])
    # means 2 and 3; variances 2/3 and 2; covariance (-1 * -1 + 0 + 1 * 2) / 3 = 1
    assert concordance(one, other).item() == pytest.approx(2 / (2 / 3 + 2 + 1))
    assert ccc(one.double().numpy(), other.double().numpy()) == pytest.approx(2 / (2 / 3 + 2 + 1))
    assert concordance(one, one).item() == pytest.approx(1) and concordance(one, -one + 4).item() == pytest.approx(-1)
    assert concordance(torch.ones(3), torch.ones(3)).item() == 0 == ccc(np.ones(3), np.arange(3.0))
    nothing = torch.nan
    target = torch.tensor([[2.0, nothing], [2.0, nothing], [5.0, 1.0], [nothing, nothing]])
    predicted = torch.stack([torch.cat([one, torch.zeros(1)]), torch.zeros(4)], 1).requires_grad_()
    loss = concordance_loss(predicted, target)  # the second attribute is known once
    assert loss.item() == pytest.approx(1 - 2 / (2 / 3 + 2 + 1))
    loss.backward()
    assert predicted.grad.isfinite().all()
    assert concordance_loss(predicted, torch.full((4, 2), nothing)).item() == 0


@pytest.mark.parametrize("make", [tiny_model, tiny_cross_modal])
def test_both_models_learn_distributions_and_attributes(make, tmp_path):
    model = make(attributes={"valence": [3.0, 0.5], "arousal": [0.0, 1.0]}, class_weights=[1.0, 2.0, 0.5, 1.0])
    batch = tiny_batch(labels=True)
    hard = model(**batch)
    soft = model(**{**batch, "labels": torch.eye(4)[batch["labels"]]})
    assert hard.loss.item() == pytest.approx(soft.loss.item(), rel=1e-6) and hard.attribute_loss is None
    targets = torch.tensor([[1.0, 3.0], [torch.nan, 2.0], [-1.0, 4.0]])  # arousal, valence: in alphabetical order
    both = model(**batch, attribute_values=targets)
    head = hard.pooler_output @ model.attribute_head.weight.T + model.attribute_head.bias
    torch.testing.assert_close(both.attributes, torch.tensor([0.0, 3.0]) + torch.tensor([1.0, 0.5]) * head)
    torch.testing.assert_close(both.attribute_loss, concordance_loss(both.attributes, targets))
    torch.testing.assert_close(both.loss, hard.loss + both.attribute_loss)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(type(model).from_pretrained(tmp_path)(**batch).attributes, both.attributes)
    assert make().attribute_head is None and make()(**batch).attributes is None


@pytest.mark.parametrize(
    "change", [{"class_weights": [1.0]}, {"class_weights": [1, 1, 1, -1]}, {"attributes": {"valence": [1.0]}}]
)
def test_settings_that_no_loss_can_use_are_refused(change):
    with pytest.raises(Exception, match=r"class_weights must be 4 numbers|a mean and a deviation"):
        tiny_model(**change)

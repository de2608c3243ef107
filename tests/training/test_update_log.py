"""The log of updates: each is logged once, with its own numbers, at the latest when the next one has ended."""

from types import SimpleNamespace

import pytest
import torch

from lemer.training.update_log import UpdateLog


@pytest.fixture
def log():
    lines, bar = [], SimpleNamespace(set_postfix=lambda **shown: None)
    accelerator = SimpleNamespace(reduce=lambda tensor, how: tensor, log=lambda values, step: lines.append((step, values)))
    log = UpdateLog("fold 1", accelerator, ["a", "b", "c", "d"], bar)
    log.lines = lines
    return log


def test_an_update_is_logged_with_the_means_of_its_batches_when_the_next_one_ends(log):
    for loss, rows in ((1.0, [0, 1]), (3.0, [2, 3])):
        log.add_batch(torch.tensor(loss), {"loss": torch.tensor(loss)}, rows)
    log.end_update(1, 0, torch.tensor(5.0), {"lr": 0.1})
    assert log.lines == []
    log.add_batch(torch.tensor(7.0), {"loss": torch.tensor(7.0)}, [0])
    log.end_update(2, 0, torch.tensor(6.0), {"lr": 0.2})
    assert log.lines == [(1, {"epoch": 0, "loss": 2.0, "gradient_norm": 5.0, "lr": 0.1})]
    for _ in range(2):  # nothing is logged twice
        log.flush()
    assert log.lines[1:] == [(2, {"epoch": 0, "loss": 7.0, "gradient_norm": 6.0, "lr": 0.2})]


def test_a_loss_that_is_not_finite_names_its_batch_and_its_update(log):
    for loss, rows in ((1.0, [0, 1]), (float("nan"), [2, 3])):
        log.add_batch(torch.tensor(loss), {"loss": torch.tensor(loss)}, rows)
    log.end_update(4, 0, torch.tensor(5.0), {})
    with pytest.raises(FloatingPointError, match="fold 1: the loss is not finite after 3 updates.*of the batch: c, d"):
        log.flush()
    assert log.lines == []

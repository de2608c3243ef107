"""The numbers of every update, read from the device while the next update runs.

To read a number from a GPU is to wait until all that was asked of it is done, and meanwhile nothing new is asked. So the
numbers of an update are copied in the background, and read after the next update was begun.
"""

import math
from dataclasses import dataclass, field
from typing import cast

import torch
from accelerate import Accelerator


class HostCopy:
    """A tensor on its way from the device."""

    def __init__(self, tensor: torch.Tensor):
        self.event = None
        if tensor.is_cuda:
            self.values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self.values.copy_(tensor, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        else:
            self.values = tensor

    def tolist(self) -> list[float]:
        """The values, once they are there."""
        if self.event is not None:
            self.event.synchronize()
        return self.values.tolist()


@dataclass
class Update:
    """
    An update, or its batches so far.

    Attributes:
        losses: of its batches, in this process.
        rows: of each batch, in this process.
        values: what is logged, of each batch.
        numbers: the means of `values` over batches and processes, the norm of the gradients, and `losses`, in this order.
    """

    losses: list[torch.Tensor] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    values: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    step: int = 0
    epoch: int = 0
    described: dict[str, float] = field(default_factory=dict)
    numbers: HostCopy | None = None


class UpdateLog:
    """
    Log the updates of a training.

    Args:
        name: of the training, for messages.
        ids: of the utterances of the training split.
        bar: progress bar that shows the loss.
    """

    def __init__(self, name: str, accelerator: Accelerator, ids, bar):
        self.name, self.accelerator, self.ids, self.bar = name, accelerator, ids, bar
        self.update = Update()  # the one that is being computed
        self.unread: Update | None = None

    def add_batch(self, loss: torch.Tensor, values: dict[str, torch.Tensor], rows: list[int]) -> None:
        """Note what a step returned."""
        self.update.losses.append(loss.detach())
        self.update.rows.append(rows)
        for name, value in values.items():
            self.update.values.setdefault(name, []).append(value)

    def end_update(self, step: int, epoch: int, gradient_norm: torch.Tensor, described: dict[str, float]) -> None:
        """
        End an update, and log the one before.

        Args:
            step: how many updates are done.
            gradient_norm: before clipping.
            described: further numbers to log.
        """
        update, self.update = self.update, Update()
        update.step, update.epoch, update.described = step, epoch, described
        means = torch.stack([torch.stack(parts).mean() for parts in update.values.values()])
        means = cast(torch.Tensor, self.accelerator.reduce(means, "mean"))
        norm, losses = gradient_norm.detach().reshape(1).to(means), torch.stack(update.losses).to(means)
        update.numbers = HostCopy(torch.cat([means, norm, losses]))
        self.flush()
        self.unread = update

    def flush(self) -> None:
        """
        Log what was not yet logged.

        Raises:
            FloatingPointError: a loss was not finite.
        """
        update, self.unread = self.unread, None
        if update is None or update.numbers is None:
            return
        numbers = update.numbers.tolist()
        count = len(update.values)
        means, norm, losses = dict(zip(update.values, numbers[:count], strict=True)), numbers[count], numbers[count + 1 :]
        for loss, rows in zip(losses, update.rows, strict=True):
            if not math.isfinite(loss):
                parts = {name: value for name, value in means.items() if name.endswith("loss")}
                raise FloatingPointError(
                    f"{self.name}: the loss is not finite after {update.step - 1} updates: {parts}; utterances of the "
                    f"batch: {', '.join(self.ids[row] for row in rows)}. Try a lower learning rate, or --mixed_precision no"
                )
        self.accelerator.log({"epoch": update.epoch, **means, "gradient_norm": norm, **update.described}, step=update.step)
        self.bar.set_postfix(loss=f"{means['loss']:.3f}")

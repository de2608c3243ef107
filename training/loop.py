"""Parts of the training loop: optimiser groups, losses over several processes, predictions."""

import numpy as np
import torch
from torch.utils.data import DataLoader


def optimizer_groups(model, speech_lr: float, text_lr: float, new_lr: float) -> list[dict]:
    """Parameters that train, with the learning rate of their tower, or of the layers that no checkpoint had."""
    rates = {"speech_model": speech_lr, "text_model": text_lr}
    groups = {name: {"name": name, "params": [], "lr": rates.get(name, new_lr)} for name in (*rates, "new")}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.get(name.split(".")[0], groups["new"])["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def share_pairs(out, config, accelerator) -> None:
    """
    Weight the attention constraint of this process's share, so that the mean over processes is the mean over the batch.

    Eq. 10 is a mean over pairs of tokens and frames, of which the shares of a batch have unequal numbers.
    """
    if out.get("constraint_loss") is None or accelerator.num_processes == 1:
        return
    pairs = (out.token_mask.sum(1) * out.frame_mask.sum(1)).sum().float()
    weight = pairs / accelerator.reduce(pairs.clone(), "mean")
    out.loss = out.loss + config.constraint_loss_weight * (weight - 1) * out.constraint_loss
    out.constraint_loss = out.constraint_loss * weight


@torch.no_grad()
def predict(model, loader: DataLoader, accelerator) -> tuple[np.ndarray, np.ndarray]:
    """
    Logits of every row of a prepared [`evaluation_loader`], each counted once however many processes there are.

    Returns:
        labels (N,) and logits (N, C) in the order of the dataset's rows.
    """
    model.eval()
    gathered = []
    for batch in loader:
        rows = batch.pop("rows")
        labels = batch.pop("labels")
        logits = model(**batch).logits.float()
        gathered.append([part.cpu() for part in accelerator.gather_for_metrics((rows, labels, logits))])
    rows, labels, logits = (torch.cat(parts).numpy() for parts in zip(*gathered, strict=True))
    rows, first = np.unique(rows, return_index=True)
    if len(rows) != len(loader.dataset):
        raise RuntimeError(f"predicted {len(rows)} of {len(loader.dataset)} utterances")
    return labels[first], logits[first]


def stop_on_loss(out, ids: list[str], step: int):
    parts = {name: value.item() for name, value in out.items() if name.endswith("loss")}
    raise FloatingPointError(
        f"loss is not finite after {step} updates: {parts}; utterances of the batch: {', '.join(ids)}. "
        "Try a lower learning rate, or --mixed_precision no"
    )

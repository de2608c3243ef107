"""LoRA: low-rank adapters in the attention of both towers instead of all their weights (Hu et al. 2021), by peft."""

import torch
from torch import nn

# The linear layers of the attention of BERT's family, of conformers, and of wav2vec 2.0's other encoders.
NAMES = "query|key|value|linear_q|linear_k|linear_v|linear_out|q_proj|k_proj|v_proj|out_proj"
LAYERS = rf"(speech_model|text_model)\..*\.({NAMES})"
SCALE = 2  # lora_alpha / rank


def add_lora(model: nn.Module, rank: int, seed: int):
    """
    Put adapters into the attention of a model's towers, in place, and freeze all else in the towers.

    What lies on top of the towers trains as before. The adapters start as nothing: the model answers the same until the
    first update.

    Args:
        rank: of the adapters.
        seed: of their weights.

    Returns:
        peft's tuner: `merge_and_unload()` adds the adapters to the weights, and the model is an ordinary one again.

    Raises:
        ValueError: peft is not installed; the towers have no layer of that kind.
    """
    try:
        from peft import LoraConfig  # pyright: ignore[reportMissingImports]
        from peft.tuners.lora import LoraModel  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("--lora needs peft: pip install 'lemer[lora]'") from error
    on_top = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith(("speech_model.", "text_model."))
    ]
    config = LoraConfig(r=rank, lora_alpha=SCALE * rank, lora_dropout=0.0, target_modules=LAYERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tuner = LoraModel(model, config, "default")
    for parameter in on_top:  # peft froze them
        parameter.requires_grad_(True)
    return tuner

"""Tiny models, processors and batches for tests: random weights, no download, a forward pass in milliseconds.

    model = tiny_model(fusion="sum", speech={"feat_extract_norm": "layer"})
    batch = tiny_batch(labels=True)
    out = model(**batch, output_attentions=True)
    slow_forward(model, out, batch)      # the same by the paper's equations, one number at a time in float64

and `tiny_cross_modal`, `slow_cross_modal` for the model after Krishna 2021.

Nothing is drawn from a global generator, and nothing in a tiny model is at its neutral start: norms, biases, running
statistics and label embeddings are perturbed, so that a term left out of a sum is seen.
"""

import math
import string
import unittest.mock

import numpy as np
import torch
from transformers import BertTokenizerFast, Wav2Vec2FeatureExtractor

from lemer import CrossModalConfig, CrossModalModel, LemerConfig, LemerModel, LemerProcessor
from lemer.training import small_towers
from lemer.training.settings import SECOND_STAGE

# Default kernels and strides of the CNN encoder: a frame reads 400 samples, and one comes every 320. No dropout, no
# LayerDrop, no SpecAugment: training mode is as deterministic as evaluation.
SPEECH = {
    "model_type": "wav2vec2-conformer",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8,) * 7,
    "conv_depthwise_kernel_size": 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevector_groups": 2,
    "num_codevectors_per_group": 6,
    "codevector_dim": 12,
    "proj_codevector_dim": 10,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "hidden_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0,
    "conformer_conv_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
}
TEXT = {
    "model_type": "bert",
    "vocab_size": 160,
    "hidden_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 160,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
WORDS = ("hello", "you", "are", "so", "late", "again", "i", "hate", "this", "great", "day", "we", "won", "the", "table")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# Every variant of the model, by what differs from LE-MER with the attention constraint (row C1).
VARIANTS = {
    "C1": {},
    "C2": {"fusion": "sum"},
    "C3": {"fusion": "label"},
    "C4": {"fusion": "cross"},
    "C4 without labels": {"fusion": "cross", "use_label_embeddings": False},
    "C1 current tokens": {"pooled_tokens": "current"},
    "C1 codebook": {"speech_label_space": "codebook", "speech": {"codevector_dim": 16}},
    "C1 centered branches": {"label_centering": "labels", "branch_loss_weight": 0.5},
    "C4 without labels branches": {"fusion": "cross", "use_label_embeddings": False, "branch_loss_weight": 0.3},
    "speech": {"modality": "speech"},
    "speech centered": {"modality": "speech", "label_centering": "labels"},
    "speech codebook": {"modality": "speech", "speech_label_space": "codebook", "speech": {"codevector_dim": 16}},
    "speech without labels": {"modality": "speech", "use_label_embeddings": False},
    "text": {"modality": "text"},
    "text current tokens": {"modality": "text", "pooled_tokens": "current"},
    "text without labels": {"modality": "text", "use_label_embeddings": False},
}

# The same of the model after Krishna 2021.
CROSS_MODAL_VARIANTS = {
    "cross": {},
    "self": {"attention": "self"},
    "wide kernel": {"kernel_size": 5, "num_attention_heads": 4},
    "speech": {"modality": "speech"},
    "text": {"modality": "text"},
}


def tiny_towers(modality: str, speech: dict | None = None, text: dict | None = None) -> dict:
    """Configurations of the towers that a modality has; `speech` and `text` are changes to them."""
    towers = {"speech_config": {**SPEECH, **(speech or {})}, "text_config": {**TEXT, **(text or {})}}
    unused = {"speech": "text_config", "text": "speech_config"}.get(modality)
    return {name: config for name, config in towers.items() if name != unused}


def tiny_config(speech: dict | None = None, text: dict | None = None, **changes) -> LemerConfig:
    """A config of tiny towers; `speech` and `text` are changes to theirs, the rest are fields of LemerConfig."""
    return LemerConfig(**tiny_towers(changes.get("modality", "multimodal"), speech, text), **changes)


def tower_folders(folder) -> tuple:
    """Checkpoints of a speech and a text tower, smaller than the scripts' "small", with their dropout and masking."""
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    lines = ["what you say to me now", "this is one more line of words"] * 20
    with unittest.mock.patch.multiple(
        small_towers, SPEECH={**small_towers.SPEECH, **size, "conv_dim": (16,) * 7}, TEXT=size
    ):
        speech = small_towers.make_small_speech_tower(folder / "speech")
        return speech, small_towers.make_small_text_tower(folder / "text", lines)


def shorten_second_stage() -> None:
    """Let the second stage of trainings in this process have three epochs by default. Twenty teach no test more."""
    for defaults in SECOND_STAGE.values():
        defaults["epochs"] = 3


def perturb(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Move every parameter and floating buffer away from its start, in place; variances stay above 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
            if name.endswith("label_embeddings"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and not name.endswith(("inv_freq", ".pe")):
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model


def seeded(make, seed: int = 0):
    """What `make()` returns, from torch's generator at `seed`, which is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def tiny_model(config: LemerConfig | None = None, seed: int = 0, **changes) -> LemerModel:
    """A perturbed model in evaluation mode, the same one for the same arguments (those of `tiny_config`)."""
    config = tiny_config(**changes) if config is None else config
    return perturb(seeded(lambda: LemerModel(config), seed), seed).eval()


def tiny_cross_modal(speech: dict | None = None, text: dict | None = None, seed: int = 0, **changes) -> CrossModalModel:
    """The same of the model after Krishna 2021; `changes` are fields of CrossModalConfig."""
    towers = tiny_towers(changes.get("modality", "multimodal"), speech, text)
    config = CrossModalConfig(**{**towers, "hidden_size": 12, "num_attention_heads": 2, "dropout": 0.0, **changes})
    return perturb(seeded(lambda: CrossModalModel(config), seed), seed).eval()


def tiny_tokenizer(words=WORDS) -> BertTokenizerFast:
    """Word pieces: the given words, and every letter and digit, so that no lower-case English is unknown."""
    letters = string.ascii_lowercase + string.digits + ".,!?'"
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    pieces += [word for word in words if word not in pieces]
    return BertTokenizerFast(vocab={piece: index for index, piece in enumerate(pieces)}, model_max_length=512)


def tiny_processor(words=WORDS, **settings) -> LemerProcessor:
    return LemerProcessor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tiny_tokenizer(words), **settings)


def tiny_batch(
    samples=(5000, 3700, 900), tokens=(9, 6, 3), labels: bool = False, modality: str = "multimodal", seed: int = 0
) -> dict[str, torch.Tensor]:
    """
    A batch padded on the right with zeros, and both masks.

    Args:
        samples, tokens: how many each utterance has.
        labels: add `labels`, utterance i of class i modulo 4.
        modality: "speech" and "text" leave the other one out.
        seed: of the samples and tokens.
    """
    batch = {}
    if modality != "text":
        values = torch.randn(len(samples), max(samples), generator=torch.Generator().manual_seed(seed))
        mask = (torch.arange(max(samples)) < torch.tensor(samples)[:, None]).long()
        batch.update(input_values=values * mask, input_values_mask=mask)
    if modality != "speech":
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(5, TEXT["vocab_size"], (len(tokens), max(tokens)), generator=generator)
        mask = (torch.arange(max(tokens)) < torch.tensor(tokens)[:, None]).long()
        types = (torch.arange(max(tokens)) >= torch.tensor(tokens)[:, None] // 2).long() * mask
        batch.update(input_ids=ids * mask, attention_mask=mask, token_type_ids=types)
    if labels:
        batch["labels"] = torch.arange(len(samples)) % 4
    return batch


def alone(batch: dict[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
    """One utterance of a batch of both modalities, its padding cut off."""
    samples, tokens = int(batch["input_values_mask"][index].sum()), int(batch["attention_mask"][index].sum())
    return {
        name: tensor[index : index + 1, : samples if name.startswith("input_values") else tokens]
        for name, tensor in batch.items()
    }


def tiny_variant(name: str, labels: bool = False, **changes) -> tuple[LemerModel, dict]:
    """A model of one of VARIANTS, and a batch of its modality."""
    variant = {**VARIANTS[name], **changes}
    return tiny_model(**variant), tiny_batch(labels=labels, modality=variant.get("modality", "multimodal"))


# ------------------------------------------------------------------------------ the paper's equations, slowly


def frames_of(samples: int) -> int:
    for kernel, stride in ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)):
        samples = (samples - kernel) // stride + 1
    return samples


def cosine(one, other) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.sqrt(sum(one * one) * sum(other * other))


def cross_entropy(scores, label: int) -> float:
    return math.log(sum(math.exp(score) for score in scores)) - scores[label]


def slow_labels(hidden, embeddings, positions):
    """G and its mean over the positions of every utterance, one cosine at a time."""
    attention = np.array([[[cosine(h, label) for label in embeddings] for h in row] for row in hidden])
    scores = np.array([sum(attention[b, n] for n in real) / len(real) for b, real in enumerate(positions)])
    return attention, scores


def slow_alignment(hidden_text, hidden_speech, weight, frames):
    """A_r: H_t W^T H_s^T one score at a time, softmax over an utterance's real frames."""
    cross = np.zeros((len(hidden_text), hidden_text.shape[1], hidden_speech.shape[1]))
    for b, real in enumerate(frames):
        for t, token in enumerate(hidden_text[b]):
            scores = [sum(hidden_speech[b, f] * (weight @ token)) for f in real]
            total = sum(math.exp(score) for score in scores)
            cross[b, t, real] = [math.exp(score) / total for score in scores]
    return cross


def slow_forward(model, out, batch) -> dict[str, np.ndarray | float]:
    """Every field of the output but the towers', in float64, from the towers' last hidden states."""
    config, expected = model.config, {}
    weights = {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}
    labels, losses = batch["labels"].tolist(), {}
    if config.label_centering == "labels":
        for name in [name for name in weights if name.endswith("label_embeddings")]:
            weights[name] = np.array([label - sum(weights[name]) / len(weights[name]) for label in weights[name]])
    hidden = {}
    if config.uses_text:
        hidden["text"] = out.text_model_output.last_hidden_state.detach().double().numpy()
        first = batch["token_type_ids"].argmax(1).tolist() if config.pooled_tokens == "current" else [0] * len(labels)
        tokens = [range(*span) for span in zip(first, batch["attention_mask"].sum(1).tolist(), strict=True)]
        expected["token_mask"] = np.array([[t in span for t in range(hidden["text"].shape[1])] for span in tokens])
        if config.use_label_embeddings:
            expected["label_token_attentions"], expected["text_label_logits"] = slow_labels(
                hidden["text"], weights["semantic_label_embeddings"], tokens
            )
    if config.uses_speech:
        hidden["speech"] = out.speech_model_output.last_hidden_state.detach().double().numpy()
        frames = [range(frames_of(samples)) for samples in batch["input_values_mask"].sum(1).tolist()]
        expected["frame_mask"] = np.array([[f in span for f in range(hidden["speech"].shape[1])] for span in frames])
        if config.use_label_embeddings:
            compared = hidden["speech"]
            if config.speech_label_space == "projected":
                projection = weights["speech_label_projection.weight"], weights["speech_label_projection.bias"]
                compared = np.array([[projection[0] @ frame + projection[1] for frame in row] for row in compared])
            expected["label_frame_attentions"], expected["speech_label_logits"] = slow_labels(
                compared, weights["tonal_label_embeddings"], frames
            )
    if config.modality == "multimodal":
        joined = slow_fusion(model, expected, hidden, weights, tokens, frames)
        pooled = tokens
        if config.fusion == "constraint":
            squares = [
                (expected["label_guided_attentions"][b, t, f] - expected["cross_attentions"][b, t, f]) ** 2
                for b in range(len(labels))
                for t in tokens[b]
                for f in frames[b]
            ]
            losses["constraint_loss"] = sum(squares) / len(squares)
    else:
        joined, pooled = (hidden["text"], tokens) if config.uses_text else (hidden["speech"], frames)
    expected["pooler_output"] = np.array(
        [[max(joined[b, n, d] for n in pooled[b]) for d in range(joined.shape[2])] for b in range(len(labels))]
    )
    classify = weights["classifier.weight"], weights["classifier.bias"]
    expected["logits"] = np.array([classify[0] @ v + classify[1] for v in expected["pooler_output"]])
    for loss, logits in (
        ("classification_loss", "logits"),
        ("text_label_loss", "text_label_logits"),
        ("speech_label_loss", "speech_label_logits"),
    ):
        if logits in expected:
            entropies = [cross_entropy(row, label) for row, label in zip(expected[logits], labels, strict=True)]
            losses[loss] = sum(entropies) / len(entropies)
    if "text_classifier.weight" in weights:
        losses["branch_loss"] = 0.0
        for branch, positions in (("text", tokens), ("speech", frames)):
            classify = weights[f"{branch}_classifier.weight"], weights[f"{branch}_classifier.bias"]
            states = [hidden[branch][b, list(positions[b])].max(0) for b in range(len(labels))]
            scores = expected[f"{branch}_branch_logits"] = np.array([classify[0] @ v + classify[1] for v in states])
            entropies = [cross_entropy(row, label) for row, label in zip(scores, labels, strict=True)]
            losses["branch_loss"] += sum(entropies) / len(entropies)
    loss = sum(getattr(config, f"{name}_weight") * value for name, value in losses.items())
    return {**expected, **losses, "loss": loss}


def slow_fusion(model, expected, hidden, weights, tokens, frames):
    """[H_t, H_s'] (B, T, d_t + d_s); adds the attentions to `expected`. Only real tokens and frames are asked for."""
    config = model.config
    if config.fusion != "label":
        expected["cross_attentions"] = slow_alignment(
            hidden["text"], hidden["speech"], weights["cross_attention.weight"], frames
        )
    if config.use_label_embeddings:
        token, frame = expected["label_token_attentions"], expected["label_frame_attentions"]
        expected["label_guided_attentions"] = np.array(
            [[[sum(g_t * g_s) for g_s in frame[b]] for g_t in token[b]] for b in range(len(tokens))]
        )
    cross, guided = expected.get("cross_attentions"), expected.get("label_guided_attentions")
    use = {"constraint": (cross,), "cross": (cross,), "sum": (cross, guided), "label": (guided,)}[config.fusion]
    joined = np.zeros((*hidden["text"].shape[:2], hidden["text"].shape[2] + hidden["speech"].shape[2]))
    for b in range(len(tokens)):
        for t in tokens[b]:
            aligned = sum(sum(part[b, t, f] for part in use) * hidden["speech"][b, f] for f in frames[b])
            joined[b, t] = np.concatenate([hidden["text"][b, t], aligned])
    return joined


# ----------------------------------------------------------------------------------- after Krishna 2021, slowly


def slow_linear(weights, name, vector):
    return weights[f"{name}weight"] @ vector + weights[f"{name}bias"]


def slow_convolution(weights, name, rows):
    """Same-padded convolution of (N, d), one tap at a time."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]  # (D, d, taps)
    convolved = np.tile(bias, (len(rows), 1))
    for n in range(len(rows)):
        for tap in range(kernel.shape[2]):
            read = n + tap - kernel.shape[2] // 2
            if 0 <= read < len(rows):
                convolved[n] += kernel[:, :, tap] @ rows[read]
    return convolved


def slow_attending(weights, name, rows, others, heads, eps=1e-5):
    """Attention of (N, D) onto (M, D), residual and layer norm; and the maps (h, N, M)."""
    size = rows.shape[1]
    into = {"weight": weights[f"{name}.attention.in_proj_weight"], "bias": weights[f"{name}.attention.in_proj_bias"]}
    query, key, value = (
        [into["weight"][part : part + size] @ row + into["bias"][part : part + size] for row in source]
        for part, source in ((0, rows), (size, others), (2 * size, others))
    )
    maps, attended = np.zeros((heads, len(rows), len(others))), np.zeros((len(rows), size))
    for head in range(heads):
        columns = slice(head * size // heads, (head + 1) * size // heads)
        for n in range(len(rows)):
            scores = [sum(query[n][columns] * one[columns]) / math.sqrt(size / heads) for one in key]
            total = sum(math.exp(score) for score in scores)
            maps[head, n] = [math.exp(score) / total for score in scores]
            attended[n, columns] = sum(weight * one[columns] for weight, one in zip(maps[head, n], value, strict=True))
    normed = []
    for n in range(len(rows)):
        summed = rows[n] + slow_linear(weights, f"{name}.attention.out_proj.", attended[n])
        centred = summed - sum(summed) / size
        deviation = math.sqrt(sum(centred**2) / size + eps)
        normed.append(centred / deviation * weights[f"{name}.layer_norm.weight"] + weights[f"{name}.layer_norm.bias"])
    return normed, maps


def slow_statistics(rows, eps=1e-5):
    mean = sum(rows) / len(rows)
    return [*mean, *np.sqrt(sum((row - mean) ** 2 for row in rows) / len(rows) + eps)]


def slow_cross_modal(model, out, batch) -> dict[str, np.ndarray | float | list]:
    """
    Every field of the output but the towers', in float64, from the towers' last hidden states.

    Attentions are lists of each utterance's real part, (h, N, M).
    """
    config = model.config
    weights = {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}
    hidden, counts = {}, {}
    if config.uses_text:
        hidden["text"] = out.text_model_output.last_hidden_state.detach().double().numpy()
        counts["text"] = batch["attention_mask"].sum(1).tolist()
    expected = {}
    if config.uses_speech:
        hidden["speech"] = out.speech_model_output.last_hidden_state.detach().double().numpy()
        counts["speech"] = [frames_of(samples) for samples in batch["input_values_mask"].sum(1).tolist()]
        expected["frame_mask"] = np.arange(hidden["speech"].shape[1]) < np.array(counts["speech"])[:, None]
    others = {"text": "speech", "speech": "text"} if len(hidden) == 2 and config.attention == "cross" else {}
    pooled, logits = [], []
    for b in range(len(batch["labels"])):
        real = {name: hidden[name][b, : counts[name][b]] for name in hidden}
        rows = {name: slow_convolution(weights, f"{name}_convolution", real[name]) for name in hidden}
        statistics = []
        for name in hidden:
            other = rows[others.get(name, name)]
            attended, maps = slow_attending(weights, f"{name}_attends", rows[name], other, config.num_attention_heads)
            expected.setdefault(f"{name}_attentions", []).append(maps)
            statistics += slow_statistics(attended)
        pooled.append(statistics)
        rectified = np.maximum(slow_linear(weights, "classifier.0.", statistics), 0)
        logits.append(slow_linear(weights, "classifier.3.", rectified))
    entropies = [cross_entropy(row, label) for row, label in zip(logits, batch["labels"].tolist(), strict=True)]
    loss = sum(entropies) / len(entropies)
    expected.update(pooler_output=np.array(pooled), logits=np.array(logits), loss=loss, classification_loss=loss)
    return expected

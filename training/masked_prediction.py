"""The pre-training losses of wav2vec 2.0 (arXiv 2006.11477, eq. 3 and 4).

Spans of frames are masked. For each masked position the tower has to tell the quantized frame from distractors, which are
other masked frames of the same utterance. Padding is never masked, never a distractor, and in no loss.

Masks and distractors depend on seed, epoch and utterance alone, so they are the same with any number of processes, and in
a run that was killed and resumed.

Shapes: B batch, S samples, F frames, M masked frames of the batch, K distractors, G groups of the codebook, V code vectors a
group, D the space in which frames and codes are compared.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import Wav2Vec2ConformerForPreTraining, Wav2Vec2ForPreTraining
from transformers.modeling_outputs import ModelOutput
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import Wav2Vec2ConformerGumbelVectorQuantizer

from ..speech_encoder_lemer import encode_speech, make_padding_safe
from ..towers_lemer import freeze_unused_in_speech_tower

SEED = 0
# For the type checker. Models of other families of transformers with the same parts may be given too.
PretrainingModel = Wav2Vec2ForPreTraining | Wav2Vec2ConformerForPreTraining
Quantizer = Wav2Vec2GumbelVectorQuantizer | Wav2Vec2ConformerGumbelVectorQuantizer


def draw_mask(frames: int, probability: float, length: int, rng: np.random.Generator) -> np.ndarray:
    """
    Mask spans of one utterance, (F,), True where a frame is masked; the number of spans is rounded at random.

    Spans may overlap. There is at least one, and in short clips it is at most half of the frames. In an utterance of fewer
    than four frames nothing is masked, since its masked frames would have no distractor.
    """
    masked = np.zeros(frames, dtype=bool)
    if frames < 4:
        return masked
    length = min(length, frames // 2)
    spans = max(1, int(probability * frames / length + rng.random()))
    starts = rng.choice(frames - length + 1, size=min(spans, frames - length + 1), replace=False)
    masked[(starts[:, None] + np.arange(length)).ravel()] = True
    return masked


def draw_negatives(masked: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw distractors of each masked frame of an utterance from its others, with replacement, (masked, count)."""
    if masked < 2:
        return np.zeros((masked, count), dtype=np.int64)
    others = rng.integers(masked - 1, size=(masked, count))
    return others + (others >= np.arange(masked)[:, None])


def draw_batch(
    rows: list[int], frame_counts: list[int], frames: int, epoch: int, settings: dict
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Draw masks and distractors of a batch.

    Args:
        rows: indices of the utterances in the training split.
        frame_counts: number of real frames of each.
        frames: F of the padded batch.
        epoch: number of the epoch.
        settings: `mask_probability`, `mask_length` and `negatives` of the second stage.

    Returns:
        masked (B, F), and for every masked frame, in the order of `masked.nonzero()`, the indices of its distractors among
        the masked frames (M, K).
    """
    masked, negatives, total = np.zeros((len(rows), frames), dtype=bool), [], 0
    for index, (row, count) in enumerate(zip(rows, frame_counts, strict=True)):
        rng = np.random.default_rng([SEED, epoch, row])
        masked[index, :count] = draw_mask(count, settings["mask_probability"], settings["mask_length"], rng)
        chosen = int(masked[index].sum())
        negatives.append(total + draw_negatives(chosen, settings["negatives"], rng))
        total += chosen
    return torch.from_numpy(masked), torch.from_numpy(np.concatenate(negatives))


def quantize(quantizer: Quantizer, features: torch.Tensor, sample: bool):
    """
    Give every frame its code vectors.

    Args:
        quantizer: that of wav2vec 2.0, in any model family of transformers.
        features (M, conv_dim[-1]): layer-normed output of the CNN encoder.
        sample: draw the codes with Gumbel noise, differentiably; otherwise take the best ones.

    Returns:
        vectors (M, codevector_dim), codes (M, G), the perplexity of the codes' mean probabilities, summed over groups (from
        G to G * V), and how many frames have each code as the best one (G, V).
    """
    scores = quantizer.weight_proj(features).float().unflatten(-1, (quantizer.num_groups, quantizer.num_vars))  # (M, G, V)
    best = nn.functional.one_hot(scores.argmax(-1), quantizer.num_vars)
    if sample:
        chosen = nn.functional.gumbel_softmax(scores, tau=quantizer.temperature, hard=True)
        probabilities = scores.softmax(-1)
    else:
        chosen = probabilities = best.float()
    codebook = quantizer.codevectors[0].unflatten(0, (quantizer.num_groups, quantizer.num_vars))  # (G, V, d / G)
    vectors = torch.einsum("mgv,gvd->mgd", chosen, codebook.float()).flatten(1)
    perplexity = usage_perplexity(probabilities.sum(0))
    return vectors, chosen.argmax(-1), perplexity, best.sum(0)


def usage_perplexity(counts: torch.Tensor) -> torch.Tensor:
    """Codes in use: exp of the entropy of each group's counts or summed probabilities (G, V), summed over groups."""
    shares = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    return torch.exp(-torch.xlogy(shares, shares).sum(-1)).sum()


def contrastive_logits(
    predicted: torch.Tensor, targets: torch.Tensor, codes: torch.Tensor, negatives: torch.Tensor, temperature: float
) -> torch.Tensor:
    """
    Compare the prediction of each masked frame (M, D) with its target and its distractors.

    The logits (M, 1 + K) are cosines, divided by the temperature.

    A distractor with the same codes (M, G) as the target does not count: its logit is minus infinity.
    """
    similarity = nn.functional.normalize(predicted.float(), dim=-1) @ nn.functional.normalize(targets.float(), dim=-1).T
    positives = torch.arange(len(targets), device=targets.device)[:, None]
    logits = similarity.gather(1, torch.cat([positives, negatives], 1)) / temperature  # (M, 1 + K)
    same = (codes[negatives] == codes[:, None]).all(-1)  # (M, K)
    return torch.cat([logits[:, :1], logits[:, 1:].masked_fill(same, float("-inf"))], 1)


@dataclass
class PretrainingOutput(ModelOutput):
    """
    Sums over the masked frames of a batch, to be divided by their number.

    Attributes:
        loss: contrastive_loss + weight * diversity_loss.
        contrastive_loss: cross-entropy of the target among the distractors.
        diversity_loss: share of the codebook that is not in use.
        correct: number of frames whose target is the most similar.
        code_perplexity: codes in use by probability, times the number of frames.
        best_codes (G, V): how many frames have each code as the best one.
    """

    loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    diversity_loss: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    code_perplexity: torch.Tensor | None = None
    best_codes: torch.Tensor | None = None


class MaskedPrediction(nn.Module):
    """A `...ForPreTraining` model of wav2vec 2.0, as `model`, with a padding-safe forward and losses of real frames only."""

    def __init__(self, model: PretrainingModel, diversity_loss_weight: float):
        super().__init__()
        self.model = model
        self.diversity_loss_weight = diversity_loss_weight
        make_padding_safe(model.base_model)
        freeze_unused_in_speech_tower(model.base_model)

    def freeze_codes(self):
        """Freeze everything that decides the code of a frame."""
        self.model.freeze_feature_encoder()
        self.model.base_model.get_submodule("feature_projection.layer_norm").requires_grad_(False)
        self.model.quantizer.requires_grad_(False)

    def forward(self, input_values, input_values_mask, masked, negatives) -> PretrainingOutput:
        """
        Args:
            input_values, input_values_mask (B, S): samples, and 1 where they are real.
            masked (B, F), negatives (M, K): as `draw_batch` makes them.
        """
        model = self.model
        output, _ = encode_speech(model.base_model, input_values, input_values_mask, mask_time_indices=masked)
        predicted = model.project_hid(output.last_hidden_state[masked])  # (M, D)
        features = output.extract_features[masked]  # (M, conv_dim[-1])
        sample = self.training and model.quantizer.codevectors.requires_grad
        if sample:
            features = model.dropout_features(features)
        vectors, codes, perplexity, best_codes = quantize(model.quantizer, features, sample)
        targets = model.project_q(vectors.to(model.project_q.weight.dtype))  # (M, D)
        logits = contrastive_logits(predicted, targets, codes, negatives, model.config.contrastive_logits_temperature)
        contrastive = nn.functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long), reduction="sum")
        diversity = (1 - perplexity / best_codes.numel()) * len(logits)
        return PretrainingOutput(
            loss=contrastive + self.diversity_loss_weight * diversity,
            contrastive_loss=contrastive,
            diversity_loss=diversity,
            correct=(logits[:, 1:] < logits[:, :1]).all(-1).sum(),
            code_perplexity=perplexity * len(logits),
            best_codes=best_codes,
        )

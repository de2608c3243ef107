"""Draw the label attention of one utterance over its waveform and its tokens (figure 4 of the LE-MER paper).

    python -m lemer.evaluation.attention_figure CHECKPOINT recording.wav --text "I was so happy!" --output attention.png

It writes attention.png and the arrays that it shows, attention.npz. The figure shows G_s (equation 4) and G_t (equation 1):
the cosine between each frame or token and the label embeddings, averaged over the classes, or for the class of `--label`.

Shapes: N samples, F frames, T tokens, C classes.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig
from transformers.utils import logging

from .. import LemerModel, LemerProcessor
from ..activity_lemer import in_recording
from ..audio_lemer import load_audio
from ..integrity_lemer import opening, refusal
from ..runtime.command import command_parser
from ..runtime.files import replace_files
from ..runtime.locks import hold
from ..runtime.stopping import run_command
from ..speech_encoder_lemer import receptive_field
from .plots import BLUE, GREY, ORANGE, new_figure, npz, plain, png


def frame_times(speech_config, frames: int, sampling_rate: int = 16_000) -> np.ndarray:
    """The centre (F,) in seconds of each frame's receptive field; for published towers 0.0125, 0.0325 and so on."""
    stride = int(np.prod(speech_config.conv_stride))
    return (np.arange(frames) * stride + receptive_field(speech_config) / 2) / sampling_rate


@torch.no_grad()
def label_attentions(model, processor, audio=None, text: str | None = None, history: list[str] | None = None) -> dict:
    """
    Compute the label attentions G_s and G_t of one utterance.

    Args:
        model: a `LemerModel` with label embeddings. A modality that it does not use is left out.
        processor: its `LemerProcessor`.
        audio: one recording in any form that the processor takes, or None.
        text: the current utterance, or None.
        history: the earlier turns, oldest first, or None.

    Returns:
        arrays by name. `labels` (C,) and `scores` (C,), the probabilities of the classes; if only one label branch answers,
        they are the softmax of its cosines. With audio `samples` (N,), `sampling_rate` in Hz, `frame_times` (F,) in seconds
        of the recording and `label_frame_attentions` (F, C). With text `tokens` (T,), `is_current` (T,), which is False in
        the history, and `label_token_attentions` (T, C).

    Raises:
        ValueError: the model has no label embeddings, or there is no input that it uses.
    """
    config = model.config
    if not getattr(config, "use_label_embeddings", False):
        raise ValueError(
            "the model has no label embeddings, so there is no label attention to draw: use a model of another recipe"
        )
    audio, text = (audio if config.uses_speech else None), (text if config.uses_text else None)
    if audio is None and text is None:
        needed = {"speech": "a recording", "text": "a text", "multimodal": "a recording or a text"}[config.modality]
        raise ValueError(f"a model with modality={config.modality!r} needs {needed}, got none")
    batch = processor(audio=audio, text=text, history=history if text is not None else None, return_tensors="pt")
    was_training = model.training
    out = model.eval()(**batch.to(model.device, model.dtype))
    model.train(was_training)
    arrays = {
        "labels": np.array(list(config.id2label.values())),
        "scores": out.logits[0].float().softmax(-1).cpu().numpy(),
    }
    if audio is not None:
        rate = processor.feature_extractor.sampling_rate
        clip = audio[0] if isinstance(audio, (list, tuple)) and len(audio) == 1 else audio
        attention = out.label_frame_attentions[0, out.frame_mask[0]].float().cpu().numpy()  # (F, C)
        samples = load_audio(clip, None, rate)
        heard = frame_times(config.speech_config, len(attention), rate) * rate  # samples, without what was left out
        arrays.update(
            samples=samples,
            sampling_rate=np.array(rate),
            frame_times=in_recording(heard, processor.heard_spans(samples)) / rate,
            label_frame_attentions=attention,
        )
    if text is not None:
        tokens = processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
        segments = batch["token_type_ids"][0].cpu().numpy() if "token_type_ids" in batch else np.zeros(len(tokens))
        arrays.update(
            tokens=np.array(tokens),
            is_current=segments == segments.max(),
            label_token_attentions=out.label_token_attentions[0].float().cpu().numpy(),  # (T, C)
        )
    return arrays


def draw_label_attentions(arrays: dict, label: str | None = None):
    """
    Draw figure 4 of the paper from the arrays of [`label_attentions`].

    Args:
        label: draw the attention to this class; None draws the mean over the classes.

    Returns:
        the figure, and the axes of the waveform, of the tokens, or of both.
    """
    names = arrays["labels"].tolist()
    if label is not None and label not in names:
        raise ValueError(f"there is no label {label!r}: choose one of {', '.join(names)}")

    def of_label(attention: np.ndarray) -> np.ndarray:  # (F or T, C) -> (F or T,)
        return attention.mean(1) if label is None else attention[:, names.index(label)]

    legend = "mean over classes" if label is None else f"class {plain(label)}"
    drawn = [name for name in ("label_frame_attentions", "label_token_attentions") if name in arrays]
    tokens = arrays.get("tokens", [])
    width = float(np.clip(0.2 * len(tokens) + 2, 8, 30))
    fig, axes = new_figure(width, 2.9 * len(drawn) + 0.3, len(drawn), 1, squeeze=False)
    axes = axes[:, 0]
    best = int(arrays["scores"].argmax())
    axes[0].set_title(f"predicted: {plain(names[best])} ({arrays['scores'][best]:.2f})", fontsize=10)
    if "label_frame_attentions" in arrays:
        _draw_speech(axes[0], arrays, of_label(arrays["label_frame_attentions"]), legend)
    if "label_token_attentions" in arrays:
        _draw_text(axes[-1], arrays, of_label(arrays["label_token_attentions"]), legend)
    return fig, axes


def _draw_speech(ax, arrays: dict, attention: np.ndarray, legend: str):
    samples, rate = arrays["samples"], int(arrays["sampling_rate"])
    ax.plot(np.arange(len(samples)) / rate, samples, color=GREY, linewidth=0.5)
    ax.set_xlim(0, len(samples) / rate)
    peak = max(float(np.abs(samples).max()), 1e-6)
    ax.set_ylim(-1.05 * peak, 1.05 * peak)
    ax.set_xlabel("time (s)")
    ax.set_ylabel("waveform", color="#666666")
    over = ax.twinx()
    over.plot(arrays["frame_times"], attention, color=BLUE, linewidth=1.8, marker="." if len(attention) < 60 else None)
    over.set_ylabel(f"$G_s$, cosine,\n{legend}", color=BLUE)


def _draw_text(ax, arrays: dict, attention: np.ndarray, legend: str):
    tokens, current = arrays["tokens"], arrays["is_current"]
    places = np.arange(len(tokens))
    for mask, colour, name in ((~current, GREY, "earlier turns"), (current, ORANGE, "current utterance")):
        if mask.any():
            ax.bar(places[mask], attention[mask], color=colour, width=0.8, label=name)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_xticks(places, [plain(token) for token in tokens], rotation=90, fontsize=8)
    ax.set_xlim(-0.7, len(tokens) - 0.3)
    ax.set_xlabel("token")
    ax.set_ylabel(f"$G_t$, cosine,\n{legend}", color=ORANGE)
    if not current.all():
        ax.legend(fontsize=8, frameon=False)


def label_attention_figure(model, processor, audio=None, text=None, history=None, label: str | None = None):
    """
    Draw figure 4 of the paper: G_s over the waveform and G_t over the tokens of one utterance.

    The arguments are those of [`label_attentions`] and [`draw_label_attentions`].

    Returns:
        the figure, and the arrays of [`label_attentions`].
    """
    arrays = label_attentions(model, processor, audio, text, history)
    return draw_label_attentions(arrays, label)[0], arrays


def load_checkpoint(folder: str):
    """A `LemerModel` in evaluation mode and its processor, from a folder or a Hub name."""
    logging.disable_progress_bar()  # loading the weights takes a moment only
    with opening(folder):
        kind = AutoConfig.from_pretrained(folder).model_type
    if kind != "lemer":
        raise ValueError(
            f"{folder} is a checkpoint of the type {kind!r}, which has no label attention: give one of the type 'lemer'"
        )
    model: Any = LemerModel.from_pretrained(folder)  # a tuple only where loading info is asked for
    if model.damage:
        raise ValueError(refusal(model.damage))
    processor = LemerProcessor.from_pretrained(folder)
    processor.check_fits(model.config)
    return model.eval(), processor


def main(argv: list[str] | None = None) -> int:
    example = 'CHECKPOINT recording.wav --text "I was so happy!" --output attention.png'
    parser = command_parser("python -m lemer.evaluation.attention_figure", example, __doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub name of a LE-MER checkpoint")
    parser.add_argument("recording", metavar="RECORDING", nargs="?", help="audio file; leave it out to draw the text only")
    parser.add_argument("--text", help="transcript of the current utterance; leave it out to draw the speech only")
    parser.add_argument("--history", nargs="+", metavar="TURN", help="earlier turns of the dialog, oldest first")
    parser.add_argument("--label", help="draw the attention to this class (default: the mean over the classes)")
    parser.add_argument("--output", required=True, metavar="FILE.png", help="file of the figure; the arrays go to FILE.npz")
    args = parser.parse_args(argv)
    output = Path(args.output)

    def work() -> None:
        if output.suffix != ".png":
            raise ValueError(f"--output must end in .png, got {output}")
        if args.history and args.text is None:
            raise ValueError("--history needs --text, the utterance that it precedes")
        with hold(output):
            model, processor = load_checkpoint(args.checkpoint)
            fig, arrays = label_attention_figure(model, processor, args.recording, args.text, args.history, args.label)
            replace_files({output: png(fig), output.with_suffix(".npz"): npz(arrays)})
        print(f"{output}\n{output.with_suffix('.npz')}")

    return run_command(parser.prog, work, f"{output} is what it was before")


if __name__ == "__main__":
    sys.exit(main())

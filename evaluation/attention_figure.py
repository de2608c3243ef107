"""Draw what decided the answer for one utterance: its attention to the labels, and what leaving out a part changes.

    python -m lemer.evaluation.attention_figure CHECKPOINT recording.wav --text "I was so happy!" --output attention.png

It writes attention.png and the arrays that it shows, attention.npz. Two maps show which label each moment and each word is
near to: the cosines G_s (equation 4 of the LE-MER paper) and G_t (equation 1), each without its mean over the labels. Bars
in colour show how much the log-odds of the answer, log2(score / (1 - score)), lose when a word, half a second or an earlier
turn is left out: by 1 where the odds are half as high without it. The number at a bar is the score without the part, in per
cent; half a second has the mean of the two seconds that it lies in. Grey bars show the score when that word, second or turn
alone is kept, with a line where there is none, which is silence in the place of the recording: where several say the
same, each is enough and none is needed. Words and turns that are too long for the model to read are not shown. The paper's
figure 4 draws the cosines alone. The maps show what the label branches see, and the classifier need not follow it. The bars
are of the answer.

Shapes: S samples, F frames, T tokens, W words of the current utterance, P parts of the recording, C classes.
"""

import sys
import textwrap
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
from .occlusion import occlusion, read_part, word_spans
from .occlusion_html import SMALLEST_REACH, percent, shortened, stretches_drawn, without
from .plots import BLUE, GREY, ORANGE, OUTLINED, new_figure, npz, plain, png

LONGEST_BESIDE = 12  # letters of a label beside its bars
DIVERGING = "RdBu_r"  # of values around 0


def frame_times(speech_config, frames: int, sampling_rate: int = 16_000) -> np.ndarray:
    """The centre (F,) in seconds of each frame's receptive field; for published towers 0.0125, 0.0325 and so on."""
    stride = int(np.prod(speech_config.conv_stride))
    return (np.arange(frames) * stride + receptive_field(speech_config) / 2) / sampling_rate


def words_of_tokens(tokenizer, text: str, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Which tokens belong to which word of the current utterance, as `word_spans` counts them.

    Args:
        text: the current utterance.
        ids: (T,) the tokens of the whole input, with earlier turns and special tokens.

    Returns:
        positions of the word pieces of the current utterance among the T tokens, and for each of them the index of its
        word. Of a text that is too long for the model the last words have none.
    """
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    others = np.array([position for position, token in enumerate(ids) if token not in special], dtype=int)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    starts = word_spans(text)[:, 0]
    # Some tokenizers count the blank before a word as a part of it.
    first = [begin + len(text[begin:end]) - len(text[begin:end].lstrip()) for begin, end in offsets]
    words = np.searchsorted(starts, first, side="right") - 1
    count = min(len(words), len(others))
    return others[len(others) - count :], words[:count]


def _of_text(tokenizer, text: str, batch, attentions: torch.Tensor) -> dict[str, np.ndarray]:
    """The arrays of `label_attentions` that are of the words, from G_t (1, T, C)."""
    ids = batch["input_ids"][0].tolist()
    segments = batch["token_type_ids"][0].cpu().numpy() if "token_type_ids" in batch else np.zeros(len(ids))
    attention = attentions[0].float().cpu().numpy()  # (T, C)
    positions, words = words_of_tokens(tokenizer, text, ids)
    of_words = np.full((len(word_spans(text)), attention.shape[1]), np.nan, dtype=attention.dtype)
    for word in np.unique(words):
        of_words[word] = attention[positions[words == word]].mean(0)
    return {
        "tokens": np.array(tokenizer.convert_ids_to_tokens(ids)),
        "is_current": segments == segments.max(),
        "label_token_attentions": attention,
        "label_word_attentions": of_words,
    }


@torch.no_grad()
def label_attentions(model, processor, audio=None, text: str | None = None, history: list[str] | None = None) -> dict:
    """
    Compute the label attentions G_s and G_t of one utterance, and what leaving out its parts changes.

    Args:
        model: a `LemerModel` with label embeddings. A modality that it does not use is left out.
        processor: its `LemerProcessor`.
        audio: one recording in any form that the processor takes, or None.
        text: the current utterance, or None.
        history: the earlier turns, oldest first, or None.

    Returns:
        arrays by name: `labels` (C,), and those of `occlusion`. With audio also `samples` (S,), `sampling_rate` in Hz,
        `frame_times` (F,) in seconds of the recording and `label_frame_attentions` (F, C). With text also `tokens` (T,),
        `is_current` (T,), which is False in the history, `label_token_attentions` (T, C), and `label_word_attentions`
        (W, C), the mean over the pieces of each word.

    Raises:
        ValueError: the model has no label embeddings, or there is no input that it uses.
    """
    config = model.config
    if not getattr(config, "use_label_embeddings", False):
        raise ValueError(
            "the model has no label embeddings, so there is no label attention to draw: use a model of another recipe"
        )
    audio, text = (audio if config.uses_speech else None), (text if config.uses_text else None)
    text = text if text is not None and processor.has_words(text) else None  # as in the pipeline, a blank text is none
    if audio is None and text is None:
        needed = {"speech": "a recording", "text": "a text", "multimodal": "a recording or a text"}[config.modality]
        raise ValueError(f"a model with modality={config.modality!r} needs {needed}, got none")
    history, rate = (history if text is not None else None), processor.feature_extractor.sampling_rate
    samples = None
    if audio is not None:
        samples = load_audio(audio[0] if isinstance(audio, (list, tuple)) and len(audio) == 1 else audio, None, rate)
    batch = processor(audio=samples, text=text, history=history, sampling_rate=rate, return_tensors="pt")
    was_training = model.training
    out = model.eval()(**batch.to(model.device, model.dtype))
    model.train(was_training)
    arrays = {"labels": np.array(list(config.id2label.values())), **occlusion(model, processor, samples, text, history)}
    if samples is not None:
        attention = out.label_frame_attentions[0, out.frame_mask[0]].float().cpu().numpy()  # (F, C)
        heard = frame_times(config.speech_config, len(attention), rate) * rate  # samples, without what was left out
        arrays.update(
            samples=samples,
            sampling_rate=np.array(rate),
            frame_times=in_recording(heard, processor.heard_spans(samples)) / rate,
            label_frame_attentions=attention,
        )
    if text is not None:
        arrays.update(_of_text(processor.tokenizer, read_part(processor, text, [])[0], batch, out.label_token_attentions))
    return arrays


def draw_label_attentions(arrays: dict, label: str | None = None):
    """
    Draw the arrays of `label_attentions`.

    Args:
        label: the label whose log-odds the bars are of; None for the one that was answered.

    Returns:
        the figure, and its axes from the top: for the recording and for the words each a map, bars of what is left out and
        bars of what is kept alone; for the earlier turns the two kinds of bars.
    """
    names = arrays["labels"].tolist()
    if label is not None and label not in names:
        raise ValueError(f"there is no label {label!r}: choose one of {', '.join(names)}")
    answered = int(arrays["scores"].argmax())
    shown = answered if label is None else names.index(label)
    drawn = [kind for kind, array in (("part", "part_bounds"), ("word", "words"), ("turn", "turns")) if array in arrays]
    height = 0.4 + 0.24 * len(names)
    heights = [h for kind in drawn for h in ([] if kind == "turn" else [height]) + [1.5, 1.0]]
    words, parts = len(arrays.get("words", ())), len(arrays.get("part_evidence", ()))
    width = float(np.clip(max(0.55 * words + 3, 0.4 * parts + 2), 8, 24))  # with room for a number at each bar
    ratios = {"height_ratios": heights}
    fig, axes = new_figure(width, sum(heights) + 0.3 * len(drawn) + 0.4, len(heights), 1, squeeze=False, gridspec_kw=ratios)
    panels = iter(axes[:, 0])
    for kind in drawn:
        places, widths, limits, of_bars = _places(arrays, kind)
        lines = [] if kind == "turn" else [next(panels)]
        if lines:
            attention = arrays[{"part": "label_frame_attentions", "word": "label_word_attentions"}[kind]]
            _draw_map(fig, lines[0], attention, names, shown, limits)
        lines += [next(panels), next(panels)]
        _draw_left_out(lines[-2], places, widths, of_bars, arrays, kind, shown)
        _draw_alone(lines[-1], places, widths, of_bars, arrays, kind, shown)
        for ax in lines:
            ax.set_xlim(*limits)
            ax.tick_params(labelbottom=ax is lines[-1])
            if kind != "part":
                ax.set_xticks(places)
        _name_places(lines[-1], places, arrays, kind)
    title = f"answer: {plain(names[answered])}, score {percent(arrays['scores'][answered])} %"
    axes[0, 0].set_title(f"{title}\n{axes[0, 0].get_title()}".strip(), fontsize=10)
    return fig, axes[:, 0]


def _places(arrays: dict, kind: str) -> tuple[np.ndarray, np.ndarray, tuple[float, float], np.ndarray]:
    """
    The middles and the widths (N,) of the bars of one kind, the limits of their axis in seconds, words or turns, and the
    index (N,) of the part, word or turn that each bar is of: a part with a silence that was left out has several bars.
    """
    if kind == "part":
        of_bars, begins, ends = map(np.array, zip(*stretches_drawn(arrays), strict=True))
        return (begins + ends) / 2, ends - begins, (0.0, float(arrays["seconds"])), of_bars
    count = np.arange(len(arrays[f"{kind}s"]))
    return count, np.full(len(count), 0.8), (-0.5, len(count) - 0.5), count


def _name_places(ax, places: np.ndarray, arrays: dict, kind: str) -> None:
    if kind == "part":
        ax.set_xlabel("time (s)")
        return
    names = [shortened(name) if kind == "word" else str(name) for name in arrays[f"{kind}s"]]
    inches = ax.figure.get_size_inches()[0] - 1.5
    if kind == "turn":
        width = max(6, int(12 * inches / len(names)) - 1)  # letters that there is room for under each bar
        names = ["\n".join(textwrap.wrap(name, width, max_lines=3, placeholder=" ...")) for name in names]
    names = [plain(name) for name in names]
    turned = {"rotation": 90} if kind == "word" and sum(map(len, names)) + 2 * len(names) > 12 * inches else {}
    ax.set_xticks(places, names, fontsize=9 if kind == "word" else 8, **turned)
    unread = int(arrays["unread"]) if kind == "word" else 0
    told = f"word; the last {unread} of the text are not read, since it is too long for the model" if unread else kind
    ax.set_xlabel("earlier turn" if kind == "turn" else told)


def _draw_map(fig, ax, attention: np.ndarray, names: list[str], shown: int, extent: tuple[float, float]):
    """Which label each position is near to: cosines (F or W, C) without their mean over the labels, labels downwards."""
    nearness = attention - attention.mean(1, keepdims=True)
    reach = max(float(np.nanmax(np.abs(nearness), initial=0.0)), 1e-6)
    spread = (*extent, len(names) - 0.5, -0.5)
    image = ax.imshow(nearness.T, cmap=DIVERGING, vmin=-reach, vmax=reach, aspect="auto", extent=spread)
    image.set_interpolation("nearest")
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
    ax.get_yticklabels()[shown].set_fontweight("bold")
    ax.axhspan(shown - 0.5, shown + 0.5, fill=False, color="black", linewidth=1.2)
    ax.set_ylabel("label")
    fig.colorbar(image, ax=ax, label="nearer than\nto the others", pad=0.01)


def _draw_left_out(ax, places, widths, of_bars, arrays: dict, kind: str, shown: int) -> None:
    """Bars of the weights of evidence of the parts, words or turns ("part", "word" or "turn"), and scores without them."""
    evidence, name = arrays[f"{kind}_evidence"][:, shown], str(arrays["labels"][shown])
    colours = [ORANGE if evidence[piece] > 0 else BLUE for piece in of_bars]
    if kind == "part":
        _draw_waveform(ax, arrays)
    opacity = 0.6 if kind == "part" else 1.0  # the waveform is seen through
    bars = ax.bar(places, evidence[of_bars], width=widths, color=colours, edgecolor="white", alpha=opacity, zorder=2)
    scores = without(arrays["scores"][shown], arrays[f"{kind}_effects"][:, shown])
    _label_bars(ax, bars, scores, of_bars, widths)
    ax.axhline(0, color="black", linewidth=0.6)
    reach = max(float(np.abs(evidence).max(initial=0.0)), SMALLEST_REACH) * 1.3  # with room for the numbers
    ax.set_ylim(-reach, reach)
    # The panel is 1.5 inches high, so a long name has no room beside it. The panel's title has all of it.
    short = name if len(name) <= LONGEST_BESIDE else f"{name[:LONGEST_BESIDE]} ..."
    ax.set_ylabel(f"log$_2$-odds that {plain(short)}\nloses without it", fontsize=9)
    mean = " (mean of the two stretches that it lies in)" if len(arrays.get("stretch_bounds", ())) > 2 else ""
    told = f"left out; at each bar the score of {name} without it, in per cent{mean * (kind == 'part')}"
    _name_panel(ax, told, arrays["labels"])


def _draw_alone(ax, places, widths, of_bars, arrays: dict, kind: str, shown: int) -> None:
    """Bars of the score with one part, word or turn alone, and a line of the score with none."""
    name, alone, nothing = arrays["labels"][shown], arrays[f"{kind}_alone"][:, shown], arrays[f"no_{kind}"][shown]
    bars = ax.bar(places, 100 * alone[of_bars], width=widths, color=GREY, edgecolor="white", zorder=2)
    _label_bars(ax, bars, [percent(float(score)) for score in alone], of_bars, widths)
    ax.axhline(100 * nothing, color="black", linewidth=0.9, linestyle="--", zorder=3)
    ax.set_ylim(0, 125)
    ax.set_yticks([0, 50, 100])
    ax.set_ylabel("score (%)\nwith it alone", fontsize=9)
    none = {"part": "with silence", "word": "with no word", "turn": "with no earlier turn"}[kind]
    _name_panel(ax, f"kept alone: the score of {name}; dashed: {percent(float(nothing))} % {none}", arrays["labels"])


def _name_panel(ax, told: str, labels: np.ndarray) -> None:
    inches = ax.figure.get_size_inches()[0] - 1.7 - 0.085 * max(map(len, labels.tolist()))  # long labels narrow the panels
    ax.set_title(plain(textwrap.fill(told, max(40, int(15 * inches)))), fontsize=8, loc="left")


def _label_bars(ax, bars, scores: list[str], of_bars, widths) -> None:
    """The score of each piece at the widest of its bars, smaller where there are many."""
    widest = {piece: max(np.flatnonzero(of_bars == piece), key=lambda bar: widths[bar]) for piece in of_bars}
    texts = [scores[piece] if widest[piece] == bar else "" for bar, piece in enumerate(of_bars)]
    ax.bar_label(bars, texts, fontsize=7 if len(scores) <= 12 else 6, padding=1, path_effects=OUTLINED)


def _draw_waveform(ax, arrays: dict) -> None:
    samples, rate = arrays["samples"], int(arrays["sampling_rate"])
    under = ax.twinx()
    under.plot(np.arange(len(samples)) / rate, samples, color=GREY, linewidth=0.4, alpha=0.7)
    peak = max(float(np.abs(samples).max()), 1e-6)
    under.set_ylim(-1.05 * peak, 1.05 * peak)
    under.set_yticks([])
    under.set_ylabel("waveform", color="#666666")
    ax.set_zorder(under.get_zorder() + 1)
    ax.patch.set_visible(False)


def label_attention_figure(model, processor, audio=None, text=None, history=None, label: str | None = None):
    """
    Draw what decided the answer for one utterance.

    The arguments are those of `label_attentions` and `draw_label_attentions`.

    Returns:
        the figure, and the arrays of `label_attentions`.
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
    parser.add_argument(
        "--label", help="draw what this label loses without each part (default: the label that was answered)"
    )
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

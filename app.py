"""Serve a page in the browser: record or upload an utterance, add its words, see which emotion the model hears and why.

    python app.py runs/C1/fold5/seed0/checkpoint                then open http://127.0.0.1:7860
    python app.py user/name --asr openai/whisper-base           a checkpoint of the Hub; words left blank are transcribed
    python app.py CHECKPOINT --examples lines.jsonl             with examples of your own to click on

CHECKPOINT is a folder that train.py wrote, or a name on the Hub; one that is not trained is refused. --examples is a .csv or
.jsonl as predict.py reads it, with audio (a path relative to it), text and history, such as
    {"audio": "late.wav", "text": "You are so late again!", "history": ["Sorry, the train stood still."]}
Show no recording there that may not be given away. Without it there are four sentences of a speech synthesiser.

The page has up to three tabs. The first answers one utterance of at most 30 seconds, and shows which words and which half
seconds its answer rests on. The second takes a dialog turn by turn. The third listens to the microphone and answers every
two seconds; a model that does not answer from speech alone has no such tab. predict.py takes longer recordings and folders.
The page loads nothing from elsewhere and sends nothing away. Each recording is kept in a temporary folder for about an hour,
at most until the server ends. Only this machine can open the page; --host 0.0.0.0 opens it to the network, where browsers
allow the microphone over https alone, and uploads always.

As a Hugging Face Space (SDK: Gradio): put this file there, and a requirements.txt that names this package with its extra
"app", as in `lemer[app] @ git+https://...`, and set the Space's variables LEMER_CHECKPOINT and, where wanted, LEMER_ASR and
LEMER_EXAMPLES, which stand for the arguments.
"""

import argparse
import html
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lemer.runtime.command import check_checkpoint, command_parser
from lemer.runtime.stopping import run_command

if TYPE_CHECKING:  # imported where they are used, since that takes seconds: `--help` answers at once
    import numpy as np

    from lemer import LemerPipeline

MAX_SECONDS, MIN_SECONDS = 30.0, 0.1  # what Whisper hears at once; no word is shorter
SILENCE = 1e-4  # of full scale, -80 dB: a muted microphone stays below
MAX_CHARACTERS = 5_000  # of words and earlier turns: more than the model reads, little for a shared server
MAX_TURNS = 100  # of a dialog
MAX_UPLOAD = "64mb"  # 30 seconds of stereo at 192 kHz
THREADS = 8  # of the server; each may keep memory of its own
DELETE_EVERY, DELETE_AFTER = 600, 3600  # seconds
SURE = 0.5  # a highest score below this is more often wrong than right, where scores mean what they say
LIVE_EVERY, LIVE_SECONDS, LIVE_SHOWN = 2.0, 4.0, 10  # seconds between answers, seconds of each, answers shown

CSS = """
.dark {--color-accent: var(--primary-400)}
.gradio-container :is(time, .controls *) {color: var(--body-text-color-subdued) !important}
.scores {list-style: none; padding: 0; margin: 0.75rem 0; display: grid; gap: 0.5rem}
.scores li {display: grid; grid-template-columns: 1fr auto; margin: 0; overflow-wrap: anywhere}
.scores i {grid-column: 1 / 3; height: 0.4rem; min-width: 2px; border-radius: 2px; background: var(--primary-600)}
#state h2, #dialog h2, #live h2 {font-size: 1.6rem; margin: 0 0 0.3rem}
#state p {margin: 0 0 0.5rem}
#dialog ol, #live ol {padding-left: 1.6rem; margin: 0.5rem 0}
#dialog li, #live li {margin: 0.35rem 0; overflow-wrap: anywhere}
#dialog ol {list-style: decimal}
"""
TASKS = {  # of the person at the page, by the model's modality
    "multimodal": "Record or upload a sentence and type its words and, where there are any, the turns before it",
    "speech": "Record or upload a sentence",
    "text": "Type a sentence and, where there are any, the turns before it",
}
WAITING = "<p>The answer will stand here.</p>"
DECIDED = """<h2>What decided</h2>
<p>A bar says how much the log-odds of the answer, log<sub>2</sub>(score / (1 − score)), fall when that word, that part of
the recording or that earlier turn is left out: by 1 where the odds are half as high without it, by 2 where they are a
quarter. Each half second has the mean of the two seconds that it lies in. The number under a word is the score without it,
in per cent, and “alone” the score with no other word. Orange bars point up and speak for the answer, blue bars point down
and speak against it.</p>"""
LIMITS = """## What this is, and what it is not
- The model tells how an utterance **sounds and reads**, among these emotions only. It does not know what anybody feels.
- Models like this one learn from emotions that were **acted**, by few speakers, mostly in English. Real life, other
  languages, children, accents and noise may mislead it.
- The scores add up to 100 %. How often a high score is right was measured on other recordings at best.
- It is made for research and for trying out. Do not judge people by it.
- Recordings stay on the machine that runs this page and are deleted after about an hour."""


class Refused(ValueError):
    """The page cannot answer; the message is for the person who looks at it, and quotes nothing of the input."""


def parse_args(argv=None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = command_parser("app.py", "CHECKPOINT", __doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help="folder, or name on the Hub")
    parser.add_argument("--asr", metavar="MODEL", help="speech recognition model that transcribes where no words are given")
    parser.add_argument("--examples", metavar="FILE", help="examples to click on, .csv or .jsonl")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME, else 127.0.0.1)")
    parser.add_argument("--port", type=int, help="default: GRADIO_SERVER_PORT, else the first free one from 7860")
    parser.set_defaults(**{name: os.environ.get(f"LEMER_{name.upper()}") for name in ("checkpoint", "asr", "examples")})
    args = parser.parse_args(argv)
    check_checkpoint(parser, args.checkpoint, "LEMER_CHECKPOINT in the environment may name it too")
    return parser, args


def read_examples(path: Path) -> list[dict]:
    """Rows of a table -> what fills the page's inputs: `audio`, `text`, `history`."""
    from lemer.corpora.manifest import read_manifest

    examples = []
    for number, row in enumerate(read_manifest(path), 1):
        audio, text = row.audio, row.text
        if audio is not None and not (isinstance(audio, str) and Path(audio).is_file()):
            raise ValueError(f"{path}, row {number}: there is no recording {audio!s:.200}")
        if row.start is not None and row.end is not None:
            raise ValueError(
                f"{path}, row {number}: an example is a whole recording: cut it out, and leave start and end out"
            )
        examples.append({"audio": audio, "text": text or "", "history": "\n".join(row.history or [])})
    return examples


def read_recording(path: str, rate: int, longest: float) -> "np.ndarray":
    """Samples (N,) at `rate` Hz of a recording of at most `longest` seconds that has something in it."""
    import numpy as np

    from lemer.audio_lemer import TooLong, load_audio

    try:
        samples = load_audio(path, target_rate=rate, max_seconds=longest)  # nothing longer is decoded to its end
    except TooLong as error:
        raise Refused(
            f"The recording is longer than the {longest:g} seconds that this page takes: cut out one utterance."
        ) from error
    except (OSError, ValueError) as error:
        raise Refused(
            "That file cannot be read as a recording. WAV, FLAC, OGG, MP3, m4a and webm can, unless they are damaged."
        ) from error
    if len(samples) / rate < MIN_SECONDS:
        raise Refused("The recording is too short to hear anything in it: less than a tenth of a second.")
    if np.ptp(samples) < SILENCE:
        raise Refused("The recording is silent. Is the microphone on, and may the browser use it?")
    return samples


def recognise(pipe: "LemerPipeline", asr, audio: str | None = None, text: str = "", history: str = "") -> dict:
    """
    Answer the inputs of the page: a recording, its words, and earlier turns, one on each line.

    Returns:
        `scores` as the pipeline returns them; `audio`, `text` and `history` as the model got them; `emotion` says the answer
        in words, and `answered` which inputs it is from; `warnings` name inputs that had no effect.

    Raises:
        Refused: there is nothing to answer, or the recording cannot be heard.
    """
    from lemer.pipeline_lemer import transcribe

    config, processor = pipe.model.config, pipe.processor
    text, history = (text or "").strip(), (history or "").strip()
    if len(text) + len(history) > MAX_CHARACTERS:
        raise Refused(f"Words and earlier turns have more than {MAX_CHARACTERS:,} characters: give one utterance.")
    if audio is None and not text:
        wanted = {"speech": "a recording", "text": "words"}.get(config.modality, "a recording, words, or both")
        raise Refused(f"There is nothing to answer yet: give {wanted}.")
    heard = None
    if audio is not None:
        rate = processor.feature_extractor.sampling_rate
        audio = {"array": read_recording(audio, rate, min(MAX_SECONDS, processor.max_audio_seconds)), "sampling_rate": rate}
        if asr and not text:
            text = heard = (transcribe(asr, audio["array"], rate) or "").strip()
    if not text and not config.uses_speech:
        raise Refused("No words were heard in the recording, and this model reads words only: type them.")
    if config.modality == "multimodal" and not has_labels(config) and (audio is None or not text):
        raise Refused("This model answers a recording and its words together only: give both.")
    warnings = []
    if history and not text:
        warnings.append("Earlier turns go before words. Without words they changed nothing.")
    if text and len(processor.tokenizer(text, verbose=False)["input_ids"]) > processor.max_text_length:
        warnings.append(f"Not all words were read, only the first {processor.max_text_length} pieces of them.")
    one = {"audio": audio, "text": text or None, "history": [turn for turn in history.splitlines() if turn.strip()]}
    scores = pipe(one)
    modality, flat = scores[0]["modality"], config.scores_are_flat(scores[0]["modality"])
    answered = {"multimodal": "Speech and words together.", "speech": "Speech alone.", "text": "Words alone."}[modality]
    if flat:
        missing = "words" if modality == "speech" else "a recording"
        answered += f" Without {missing} the scores are flat: their order counts, not their size."
    if heard is not None:
        answered += f"\nHeard: {heard}" if heard else "\nNo words were heard in the recording."
    emotion = spelled_out(scores[0]["label"])
    if flat or scores[0]["score"] < SURE:
        emotion = f"not sure, perhaps {emotion}"
    return {**one, "scores": scores, "emotion": emotion, "answered": answered, "warnings": warnings}


def has_labels(config) -> bool:
    """If a model has label embeddings, and so a branch that answers without the other modality."""
    return getattr(config, "use_label_embeddings", False)


def spelled_out(label: str) -> str:
    """A class in words: IEMOCAP's labels are abbreviations."""
    from lemer.labels.descriptions import LABEL_NAMES

    return LABEL_NAMES.get(label, label)


def explain(pipe: "LemerPipeline", answer: dict) -> str:
    """What decided an answer of `recognise`, as HTML."""
    from lemer.evaluation.occlusion import occlusion
    from lemer.evaluation.occlusion_html import occlusion_html

    config = pipe.model.config
    modality = answer["scores"][0]["modality"]  # what answered: words that are no words to the tokenizer are not among it
    samples = None if modality == "text" else answer["audio"]["array"]
    text = None if modality == "speech" else answer["text"]
    arrays = occlusion(pipe.model, pipe.processor, samples, text, answer["history"])
    label = answer["scores"][0]["label"]
    return occlusion_html(arrays, config.label2id[label], spelled_out(label), samples)


def said(answer: dict) -> str:
    """An answer of `recognise` as HTML: the emotion, what answered, what had no effect, and all scores."""
    told = [*answer["answered"].split("\n"), *(f"Please note: {warning}" for warning in answer["warnings"])]
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in told)
    scores = "".join(
        f"<li><span>{html.escape(spelled_out(one['label']))}</span><span>{one['score']:.0%}</span>"
        f'<i style="width: {one["score"]:.1%}"></i></li>'
        for one in answer["scores"]
    )
    return f'<h2>{html.escape(answer["emotion"].capitalize())}</h2>{paragraphs}<ul class="scores">{scores}</ul>'


class Closed:
    """The page's server without Gradio's routes that neither browsers nor Gradio's client need."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"].endswith(("/gradio_api/openapi.json", "/gradio_api/deep_link")):
            from starlette.responses import PlainTextResponse

            await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def refuse_wrong_fields(page, names: list[str]) -> None:
    """
    Let the page refuse an input of a wrong type by its name, which programs see that use its API.

    Gradio makes a text of any value, a list of earlier turns too, and tells programs nothing of other mistakes.
    """
    import gradio as gr

    preprocess = page.preprocess_data

    async def checked(block_fn, inputs, *args, **kwargs):
        if block_fn.api_name == "recognise":
            for name, value in zip(names, inputs, strict=False):
                if name != "audio" and not isinstance(value, str | None):
                    raise gr.Error(f"{name} must be a text, got a {type(value).__name__}", print_exception=False)
        try:
            return await preprocess(block_fn, inputs, *args, **kwargs)
        except ValueError:  # pydantic's, and those of files that were not uploaded
            raise gr.Error("audio must be a recording that was uploaded to this page", print_exception=False) from None

    page.preprocess_data = checked


def speaking_region(gr, value: str, name: str):
    """HTML whose changes a screen reader says."""
    return gr.HTML(value, html_template='<div role="status">${value}</div>', elem_id=name)


def make_inputs(gr, pipe: "LemerPipeline", asr) -> dict:
    """The fields for the recording and the words, as far as the model takes them."""
    config, inputs = pipe.model.config, {}
    if config.uses_speech or asr:
        inputs["audio"] = gr.Audio(type="filepath", label="Recording", editable=False, buttons=[])
    if config.uses_text:
        hint = "What is said in it. Enter sends it." + (" Left blank, it is transcribed by machine." if asr else "")
        inputs["text"] = gr.Textbox(label="Words", info=hint, lines=1, max_lines=4)
    return inputs


def utterance_tab(gr, pipe: "LemerPipeline", asr, examples: list[dict]) -> list[str]:
    """The tab that answers one utterance; returns the names of its inputs, which are those of the page's API."""
    from lemer.runtime.process import return_freed_memory

    def answer_of(filled) -> dict:
        return_freed_memory()  # of the answer before
        return recognise(pipe, asr, **dict(zip(names, filled, strict=True)))

    def for_people(*filled):
        try:
            answer = answer_of(filled)
        except Refused as error:
            yield f"<p><strong>{html.escape(str(error))}</strong></p>", ""
            return
        yield said(answer), "<p>Words and parts of the recording are left out in turn, to see what the answer rests on.</p>"
        yield gr.skip(), DECIDED + explain(pipe, answer)

    def for_programs(*filled):
        try:
            answer = answer_of(filled)
        except Refused as error:
            raise gr.Error(str(error), print_exception=False) from None
        scores = {spelled_out(one["label"]): one["score"] for one in answer["scores"]}
        return scores, "\n".join([answer["answered"], *answer["warnings"]]), explain(pipe, answer)

    with gr.Row():
        with gr.Column():
            clickable = show_examples(gr, examples)
            inputs = make_inputs(gr, pipe, asr)
            if pipe.model.config.uses_text:
                inputs["history"] = gr.Textbox(label="Earlier turns", info="One a line, the oldest first.", lines=2)
            button = gr.Button("Recognise", variant="primary")
        with gr.Column():
            state = speaking_region(gr, WAITING, "state")
            decided = gr.HTML(elem_id="decided")
    names, fields = list(inputs), list(inputs.values())
    sent = {"inputs": fields, "outputs": [state, decided], "concurrency_id": "model"}
    sent |= {"api_visibility": "private", "show_progress_on": state}
    gr.on([button.click, *(inputs[name].submit for name in ("text",) if name in inputs)], for_people, **sent)
    if clickable is not None:
        for field in fields:  # delete_cache would take the examples' recordings with the uploads
            field.keep_in_cache |= {example["audio"] for example in examples if example["audio"]}
        filled = clickable.click(
            lambda number: [examples[number][name] for name in names] if len(names) > 1 else examples[number][names[0]],
            clickable,
            fields,
            api_visibility="private",
        )
        filled.then(for_people, **sent)
    outputs = [gr.Label(visible=False), gr.Textbox(visible=False), decided]
    gr.Button(visible=False).click(for_programs, fields, outputs, api_name="recognise", concurrency_id="model")
    return names


def show_examples(gr, examples: list[dict]):
    """Buttons, one for each example, or None without any; copies their recordings to where the page may read them."""
    if not examples:
        return None
    from gradio.processing_utils import save_file_to_cache
    from gradio.utils import get_upload_folder

    labels = []
    for number, example in enumerate(examples, 1):
        if example["audio"]:
            example["audio"] = save_file_to_cache(example["audio"], get_upload_folder())
        labels.append([example["shown"] or f"Recording {number}"])
    return gr.Dataset(
        components=["textbox"], samples=labels, type="index", layout="gallery", label="Try one of these", samples_per_page=20
    )


def dialog_tab(gr, pipe: "LemerPipeline", asr) -> None:
    """The tab that takes a dialog turn by turn: the words of a turn are the history of those after it."""

    def shown(turns: list[dict], refusal: str = "") -> str:
        items = [
            f"<li><strong>{html.escape(turn['emotion'])}</strong> {turn['score']:.0%}: {html.escape(turn['words'])}<br>"
            f"<small>{html.escape(turn['answered'])}</small></li>"
            for turn in turns
        ]
        refused = f"<p><strong>{html.escape(refusal)}</strong></p>" if refusal else ""
        return refused + (f"<ol>{''.join(items)}</ol>" if items else "<p>The turns will stand here.</p>")

    def add(turns: list[dict], *filled):
        given = dict(zip(inputs, filled, strict=True))
        if len(turns) >= MAX_TURNS:
            return turns, shown(turns, f"This page takes {MAX_TURNS} turns: start again."), *filled
        given["text"] = " ".join((given.get("text") or "").split())
        history = [turn["text"] for turn in turns if turn["text"]]
        while history and sum(map(len, history)) + len(history) + len(given["text"]) > MAX_CHARACTERS:
            history.pop(0)  # the oldest, which counts least
        try:
            answer = recognise(pipe, asr, **given, history="\n".join(history) if pipe.model.config.uses_text else "")
        except Refused as error:
            return turns, shown(turns, str(error)), *filled
        turn = {"text": answer["text"], "words": answer["text"] or "a recording", "emotion": answer["emotion"]}
        turn |= {"score": answer["scores"][0]["score"], "answered": " ".join([answer["answered"], *answer["warnings"]])}
        turns = [*turns, turn]
        return turns, shown(turns), *(None for _ in filled)

    def keep(turns: list[dict]):
        return turns, shown(turns)

    turns = gr.State([], time_to_live=DELETE_AFTER)
    gr.Markdown("Add the turns of a dialog from its beginning. What was said before helps to understand what is said next.")
    with gr.Row():
        with gr.Column():
            inputs = make_inputs(gr, pipe, asr)
            button = gr.Button("Add this turn", variant="primary")
            with gr.Row():
                back, again = gr.Button("Take the last turn back"), gr.Button("Start again")
        with gr.Column():
            state = speaking_region(gr, shown([]), "dialog")
    fields = list(inputs.values())
    hidden = {"api_visibility": "private", "show_progress_on": state}
    sent = {"inputs": [turns, *fields], "outputs": [turns, state, *fields], "concurrency_id": "model", **hidden}
    gr.on([button.click, *(inputs[name].submit for name in ("text",) if name in inputs)], add, **sent)
    back.click(lambda turns: keep(turns[:-1]), turns, [turns, state], **hidden)
    again.click(lambda: keep([]), None, [turns, state], **hidden)


def listen(pipe: "LemerPipeline", heard: dict | None, chunk: "tuple[int, np.ndarray] | None") -> dict | None:
    """
    Answer the newest seconds of a microphone from the sound alone.

    Args:
        heard: what this function returned for the chunk before, or None at the beginning.
        chunk: the sampling rate in Hz and the samples (N,) or (N, channels) since then, as 16-bit integers.

    Returns:
        `rate`, the newest `samples` at this rate, the `seconds` heard so far, and `answers`, the newest first, each as its
        first and last second and the emotion, or None where nothing was heard. There is a new answer once
        `LIVE_EVERY` seconds have passed since the last one: browsers send many shorter chunks.
    """
    import numpy as np

    if chunk is None or not len(chunk[1]):
        return heard
    rate, samples = chunk[0], np.asarray(chunk[1], dtype=np.float32) / 32_768
    samples = samples.mean(1) if samples.ndim == 2 else samples
    if heard is None or heard["rate"] != rate:
        heard = {"rate": rate, "samples": samples[:0], "seconds": 0.0, "answers": []}
    newest = np.concatenate([heard["samples"], samples])[-round(LIVE_SECONDS * rate) :]
    end, emotion = heard["seconds"] + len(samples) / rate, None
    heard = {**heard, "samples": newest, "seconds": end}
    if end - (heard["answers"][0][1] if heard["answers"] else 0.0) < LIVE_EVERY:
        return heard
    if np.ptp(newest) >= SILENCE:
        best = pipe({"array": newest, "sampling_rate": rate})[0]
        unsure = best["score"] < SURE or pipe.model.config.scores_are_flat("speech")
        emotion = f"{'not sure, perhaps ' * unsure}{spelled_out(best['label'])}"
    answers = [(end - len(newest) / rate, end, emotion), *heard["answers"]][:LIVE_SHOWN]
    return {**heard, "answers": answers}


def live_tab(gr, pipe: "LemerPipeline") -> None:
    """The tab that answers the microphone while somebody speaks."""

    def shown(heard: dict | None) -> str:
        if heard is None or not heard["answers"]:
            return WAITING
        items = [
            f"<li>{begin:.1f} to {end:.1f} s: {html.escape(emotion or 'nothing is heard')}</li>"
            for begin, end, emotion in heard["answers"]
        ]
        newest = heard["answers"][0][2] or "nothing is heard"
        return f"<h2>{html.escape(newest.capitalize())}</h2><ul>{''.join(items)}</ul>"

    def hear(chunk, heard):
        heard = listen(pipe, heard, chunk)
        return heard, shown(heard)

    heard = gr.State(None, time_to_live=DELETE_AFTER)
    gr.Markdown(
        f"Press Record and speak. Every {LIVE_EVERY:g} seconds the newest {LIVE_SECONDS:g} seconds are answered, from the "
        "sound alone: no words are read."
    )
    with gr.Row():
        with gr.Column():
            microphone = gr.Audio(sources="microphone", type="numpy", streaming=True, label="Microphone", buttons=[])
        with gr.Column():
            state = speaking_region(gr, WAITING, "live")
    hidden = {"outputs": [heard, state], "api_visibility": "private", "show_progress": "hidden"}
    microphone.start_recording(lambda: (None, WAITING), None, **hidden)
    microphone.stream(hear, [microphone, heard], stream_every=0.5, concurrency_id="model", **hidden)


def make_page(pipe: "LemerPipeline", asr=None, examples: list[dict] | None = None):
    """The page, a `gradio.Blocks` that is not served yet."""
    import gradio as gr

    from lemer.evaluation.report.page import escape_markdown

    config = pipe.model.config
    takes = {"audio": config.uses_speech or asr, "text": config.uses_text, "history": config.uses_text}
    usable = [
        {"shown": example["text"], **{name: example[name] if takes[name] else None for name in takes}}
        for example in examples or []
        if any(example[name] and takes[name] for name in ("audio", "text"))
    ]
    settings = {"title": "Emotion of an utterance", "analytics_enabled": False, "delete_cache": (DELETE_EVERY, DELETE_AFTER)}
    with gr.Blocks(**settings) as page:
        emotions = ", ".join(escape_markdown(spelled_out(label)) for label in config.id2label.values())
        gr.Markdown(f"# Emotion of an utterance\n{TASKS[config.modality]}. The answer is one of {emotions}.")
        with gr.Tab("An utterance"):
            names = utterance_tab(gr, pipe, asr, usable)
        with gr.Tab("A dialog"):
            dialog_tab(gr, pipe, asr)
        if config.modality == "speech" or (config.modality == "multimodal" and has_labels(config)):
            with gr.Tab("Live"):
                live_tab(gr, pipe)
        gr.Markdown(LIMITS)
    refuse_wrong_fields(page, names)
    # One answer at a time uses every core. With `api_open`, programs could go past the queue.
    return page.queue(default_concurrency_limit=1, max_size=32, api_open=False)


def make_theme(gr):
    """Gradio's theme with fonts of the machine, and with colours of enough contrast to be read."""
    theme = gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        color_accent="*primary_700",
        color_accent_soft="*primary_50",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )


def serve(args: argparse.Namespace):
    """
    Load the checkpoint and serve the page.

    Returns:
        The page, which is served until the process ends, and its address.

    Raises:
        ImportError: gradio is missing.
        OSError, ValueError, RuntimeError: an input cannot be used, or the port is taken.
    """
    import gradio as gr
    from transformers import pipeline
    from transformers.utils import logging

    import lemer
    from lemer import LemerPipeline
    from lemer.evaluation.occlusion_html import STYLE
    from lemer.integrity_lemer import opening
    from lemer.runtime.onednn import multiply_by_onednn
    from lemer.runtime.process import set_up_process, share_freed_memory

    logging.disable_progress_bar()
    set_up_process(None)
    share_freed_memory()
    examples = read_examples(Path(args.examples or Path(lemer.__file__).with_name("examples") / "lines.jsonl"))
    asr = args.asr and pipeline("automatic-speech-recognition", model=args.asr)
    with opening(args.checkpoint):
        pipe = pipeline("speech-emotion-recognition", model=args.checkpoint, pipeline_class=LemerPipeline)
    multiply_by_onednn(pipe.model)
    page = make_page(pipe, asr, examples)
    _, url, _ = page.launch(
        server_name=args.host,
        server_port=args.port,
        max_file_size=MAX_UPLOAD,
        theme=make_theme(gr),
        css=CSS + STYLE,
        footer_links=[],
        run_history=False,  # nothing is kept in the browser
        enable_monitoring=False,
        share=False,
        ssr_mode=False,
        prevent_thread_lock=True,
        quiet=True,
        max_threads=THREADS,
        app_kwargs={"openapi_url": None, "docs_url": None, "redoc_url": None, "middleware": [(Closed, (), {})]},
    )
    return page, url


def main(argv=None) -> int:
    parser, args = parse_args(argv)

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="lemer_app_") as folder:  # removed after SIGTERM too
            os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
            # gradio, which `serve` imports, reads the environment.
            page, url = serve(args)
            print(f"The page is at {url} until Ctrl-C.", flush=True)
            page.block_thread()

    return run_command(parser.prog, work, "The page is closed, and its recordings are removed", failure=2)


if __name__ == "__main__":
    sys.exit(main())

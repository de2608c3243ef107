"""Serve a page in the browser: record or upload an utterance, add its words, see which emotion the model hears and why.

    python app.py runs/C1/fold5/seed0/checkpoint                then open http://127.0.0.1:7860
    python app.py user/name --asr openai/whisper-base           a checkpoint of the Hub; words left blank are transcribed
    python app.py CHECKPOINT --examples lines.jsonl             with examples to click on

CHECKPOINT is a folder that train.py wrote, or a name on the Hub; one that is not trained is refused. --examples is a .csv or
.jsonl as predict.py reads it, with audio (a path relative to it), text and history, such as
    {"audio": "late.wav", "text": "You are so late again!", "history": ["Sorry, the train stood still."]}
Show no recording there that may not be given away.

The page answers one utterance of at most 30 seconds at a time; predict.py takes longer recordings, folders and dialogs. It
loads nothing from elsewhere and sends nothing away. Each recording is kept in a temporary folder for about an hour, at most
until the server ends. Only this machine can open the page; --host 0.0.0.0 opens it to the network, where browsers allow
the microphone over https alone, and uploads always.

As a Hugging Face Space (SDK: Gradio): put this file there, and a requirements.txt that names this package with its extra
"app", as in `lemer[app] @ git+https://...`, and set the Space's variables LEMER_CHECKPOINT and, where wanted, LEMER_ASR and
LEMER_EXAMPLES, which stand for the arguments.
"""

import argparse
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
MAX_UPLOAD = "64mb"  # 30 seconds of stereo at 192 kHz
THREADS = 8  # of the server; each may keep memory of its own
DELETE_EVERY, DELETE_AFTER = 600, 3600  # seconds
NAMES = {"ang": "angry", "hap": "happy", "neu": "neutral", "sad": "sad"}

CSS = "#attention :has(> img) {overflow-x: auto; align-items: safe center} #attention img {max-width: none}"
TASKS = {  # of the person at the page, by the model's modality
    "multimodal": "Record or upload a sentence and add its words and, where there are any, the turns before it",
    "speech": "Record or upload a sentence",
    "text": "Type a sentence and, where there are any, the turns before it",
}
ATTENTION = """### What decided
Bars show what the answer's score loses, in points of 100, when a word or half a second is left out. Orange ones speak for
the answer, blue ones against it. The maps show which emotion's description each moment and each word is nearer to (red) than
to the others. The answer need not follow the maps."""
LIMITS = """### What this is, and what it is not
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
        audio, text = row["audio"], row["text"]
        if audio is not None and not (isinstance(audio, str) and Path(audio).is_file()):
            raise ValueError(f"{path}, row {number}: there is no recording {audio!s:.200}")
        if row["start"] is not None and row["end"] is not None:
            raise ValueError(
                f"{path}, row {number}: an example is a whole recording: cut it out, and leave start and end out"
            )
        examples.append({"audio": audio, "text": text or "", "history": "\n".join(row["history"] or [])})
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
            "That file cannot be read as a recording. WAV, FLAC, OGG and MP3 can, and m4a, webm and others where this page "
            "runs with PyAV."
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
        `scores` as the pipeline returns them; `audio`, `text` and `history` as the model got them; `answered` says which
        inputs answered; `warnings` name inputs that had no effect.

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
    modality = scores[0]["modality"]
    answered = {"multimodal": "Speech and words together.", "speech": "Speech alone.", "text": "Words alone."}[modality]
    if config.scores_are_flat(modality):
        missing = "words" if modality == "speech" else "a recording"
        answered += f" For want of {missing} the scores are flat: their order counts, not their size."
    if heard is not None:
        answered += f"\nHeard: {heard}" if heard else "\nNo words were heard in the recording."
    return {**one, "scores": scores, "answered": answered, "warnings": warnings}


def has_labels(config) -> bool:
    """If a model has label embeddings: attention to draw, and a branch that answers without the other modality."""
    return getattr(config, "use_label_embeddings", False)


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


def make_page(pipe: "LemerPipeline", asr=None, examples: list[dict] | None = None):
    """The page, a `gradio.Blocks` that is not served yet."""
    import gradio as gr

    from lemer.evaluation.attention_figure import label_attention_figure
    from lemer.evaluation.report.page import escape_markdown
    from lemer.runtime.process import return_freed_memory

    model, processor = pipe.model, pipe.processor

    def respond(*filled):
        return_freed_memory()  # of the answer before, its drawing included
        try:
            answer = recognise(pipe, asr, **dict(zip(names, filled, strict=True)))
        except Refused as error:
            raise gr.Error(str(error), print_exception=False) from None
        for warning in answer["warnings"]:
            gr.Warning(warning, title="Please note")
        shown = [{NAMES.get(one["label"], one["label"]): one["score"] for one in answer["scores"]}, answer["answered"]]
        if has_labels(model.config):
            figure, _ = label_attention_figure(model, processor, answer["audio"], answer["text"], answer["history"])
            figure.axes[0].set_title("")  # the bars say it already
            shown.append(figure)
        return shown

    settings = {"title": "Emotion of an utterance", "analytics_enabled": False, "delete_cache": (DELETE_EVERY, DELETE_AFTER)}
    with gr.Blocks(**settings) as page:
        emotions = [NAMES.get(label, label) for label in model.config.id2label.values()]
        task = f"{TASKS[model.config.modality]}. The answer is one of {', '.join(map(escape_markdown, emotions))}."
        gr.Markdown(f"# Emotion of an utterance\n{task}")
        with gr.Row():
            with gr.Column():
                inputs = {}
                if model.config.uses_speech or asr:
                    inputs["audio"] = gr.Audio(type="filepath", label="Recording", editable=False, buttons=[])
                if model.config.uses_text:
                    hint = "What is said in it." + (" Left blank, it is transcribed by machine." if asr else "")
                    inputs["text"] = gr.Textbox(label="Words", info=hint, lines=2)
                    inputs["history"] = gr.Textbox(label="Earlier turns", info="One a line, the oldest first.", lines=3)
                button = gr.Button("Recognise", variant="primary")
            with gr.Column():
                outputs = [gr.Label(label="Emotion"), gr.Textbox(label="What answered", lines=2, interactive=False)]
        if has_labels(model.config):
            gr.Markdown(ATTENTION)
            outputs.append(gr.Plot(label="What decided", show_label=False, format="png", elem_id="attention"))
        names = list(inputs)
        if examples:
            rows = [[example[name] for name in names] for example in examples]
            gr.Examples(rows, list(inputs.values()), cache_examples=False)
            for component in inputs.values():  # delete_cache would take the examples' recordings with the uploads
                component.keep_in_cache |= component.temp_files
        gr.Markdown(LIMITS)
        button.click(respond, list(inputs.values()), outputs, api_name="recognise")
    refuse_wrong_fields(page, names)
    # One answer at a time uses every core. With `api_open`, programs could go past the queue.
    return page.queue(default_concurrency_limit=1, max_size=32, api_open=False)


def serve(args: argparse.Namespace):
    """
    Load the checkpoint and serve the page.

    Returns:
        The page, which is served until the process ends, and its address.

    Raises:
        ImportError: gradio or matplotlib is missing.
        OSError, ValueError, RuntimeError: an input cannot be used, or the port is taken.
    """
    import gradio as gr
    from transformers import pipeline
    from transformers.utils import logging

    from lemer import LemerPipeline
    from lemer.integrity_lemer import opening
    from lemer.runtime.onednn import multiply_by_onednn
    from lemer.runtime.process import set_up_process, share_freed_memory

    logging.disable_progress_bar()
    set_up_process(None)
    share_freed_memory()
    examples = read_examples(Path(args.examples)) if args.examples else None
    asr = args.asr and pipeline("automatic-speech-recognition", model=args.asr)
    with opening(args.checkpoint):
        pipe = pipeline("speech-emotion-recognition", model=args.checkpoint, pipeline_class=LemerPipeline)
    multiply_by_onednn(pipe.model)
    page = make_page(pipe, asr, examples)
    _, url, _ = page.launch(
        server_name=args.host,
        server_port=args.port,
        max_file_size=MAX_UPLOAD,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=CSS,
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

"""The pipeline "speech-emotion-recognition": recordings, words and dialogs in, emotions with scores out.

    recognise = pipeline(model="user/name", trust_remote_code=True)        # a folder, or a name on the Hub
    recognise({"audio": "recording.wav", "text": "I was so happy!", "history": ["Did they call you?"]})
    # [{"label": "hap", "score": 0.87, "modality": "multimodal"}, {"label": "neu", "score": 0.06, ...}, ...]

This file travels with every checkpoint.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from numbers import Real
from typing import Any, cast

import numpy as np
from torch.utils.data import DataLoader, Dataset
from transformers.pipelines.base import ChunkPipeline
from transformers.pipelines.pt_utils import PipelineChunkIterator
from transformers.utils import logging

from .audio_lemer import GPU_MULTIPLE, knows_its_rate, load_audio
from .integrity_lemer import check_ready
from .padding_lemer import nearest
from .processing_lemer import LemerProcessor, check_text

logger = logging.get_logger(__name__)

INPUT_KEYS = {"audio", "text", "history", "segments", "turns", "speaker"}
SEGMENT_KEYS = {"start", "end", "text", "history", "speaker"}
AUDIO_KEYS = {"array", "raw", "sampling_rate", "path", "bytes"}  # of a dict that is one recording
WINDOW_SECONDS = 30.0  # what Whisper hears at once; hardly an utterance is longer
END_TOLERANCE = 0.1  # seconds by which a segment may end after its recording, since times are rounded


class LemerPipeline(ChunkPipeline):
    """
    Emotions of utterances, long recordings and dialogs.

    An input is one of these; a list, a column of `datasets`, a `KeyDataset` or a generator holds several of them:

    - a recording: a path, a URL, bytes, an array, `{"array", "sampling_rate"}`, `{"raw", "sampling_rate"}`, and all else
      that `load_audio` takes;
    - `{"audio": recording, "text": words, "history": [earlier turns, oldest first]}`, of which any may be left out. The keys
      of a recording may stand in it in the place of `audio`;
    - `{"audio": recording, "segments": [(start, end), {"start", "end", "text", "history"}, ...]}`, times in seconds;
    - `{"turns": [one of the first two, ...]}`, a dialog from its beginning: every turn's history is the turns before it.

    `text`, `history` and `segments` may also be given as arguments beside a single input. A blank text counts as no text. A
    history has an effect only together with a text. An input, turn or segment may name its `speaker`, which changes no score
    and stands in its answer.

    The answer is `[{"label", "score", "modality"}, ...]`, highest score first; scores sum to 1. `modality` says what
    answered: "multimodal", "speech" or "text". If a multimodal model gets no words or no recording, the branch of the
    other modality answers. Scores are the softmax of the logits, divided by the configuration's `temperatures` where the
    training fitted them. Without these, a label branch has flat scores, since its logits are cosines: one is at most
    e^2 = 7.4 times another, and only their order counts. A unimodal model ignores the other modality. Where `set_labels`
    gave the model a new label, its classifier is new too. Then a branch whose labels are all described answers alone, even
    where both modalities are given, and a warning says so. Where the processor leaves out long silences (`max_silence`),
    `heard` says how many seconds of the recording are left for the model.

    A recording without words that is longer than `window_seconds` is cut into equal windows of at most that length. The
    answer is then, as with segments, a list in time order of `{"start", "end", "text", "label", "score", "modality",
    "scores"}`. `scores` are those of the part alone, and label and score are the first of them. A recording with words is
    never cut, since it is not known which words belong to which part. The answer of a dialog is a list with one per turn.

    Args:
        batch_size (`int`, defaults to 1): Utterances in one forward pass. The scores do not depend on it.
        top_k (`int`, *optional*, defaults to all): Number of labels in an answer.
        asr (`Callable`, *optional*):
            Transcribes recordings without words before anything else: an "automatic-speech-recognition" pipeline, or
            whatever takes `{"raw": samples, "sampling_rate": Hz}` and returns `{"text": words}`.
        window_seconds (`float`, defaults to 30): Longest recording without words taken as one utterance; at most the
            processor's `max_audio_seconds`.
        sampling_rate (`int`, *optional*): Rate of bare arrays in Hz. Every other form of audio knows its own.

    Raises:
        ValueError: the checkpoint is not trained, or the processor is not its own; an input is not one of these, or has
            nothing that the model takes.
    """

    model: Any  # a LemerModel or a CrossModalModel
    processor: LemerProcessor

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, model, processor=None, **kwargs):
        if processor is None:
            raise ValueError("LemerPipeline needs the checkpoint's processor beside the model: processor=...")
        check_ready(model, processor, one_modality=True)
        super().__init__(model, processor=processor, **kwargs)

    def _sanitize_parameters(self, sampling_rate=None, window_seconds=None, asr=None, top_k=None):
        longest = self.processor.max_audio_seconds
        if window_seconds is not None and not 0 < window_seconds <= longest:
            raise ValueError(
                f"window_seconds must be above 0 and at most the processor's max_audio_seconds={longest:g}, "
                f"got {window_seconds}"
            )
        if asr is not None and not callable(asr):
            raise ValueError(f"asr must be a pipeline or another callable, got {asr!r:.80}: pass pipeline(model=...)")
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}")
        preprocess = {"sampling_rate": sampling_rate, "window_seconds": window_seconds, "asr": asr}
        preprocess = {name: value for name, value in preprocess.items() if value is not None}
        return preprocess, {}, {} if top_k is None else {"top_k": top_k}

    def __call__(self, inputs, text=None, history=None, segments=None, **kwargs):
        """One input -> its answer; a list or a column -> a list; a torch dataset or a generator -> a generator."""
        named = {"text": text, "history": history, "segments": segments}
        named = {name: value for name, value in named.items() if value is not None}
        single = knows_its_rate(inputs) or hasattr(inputs, "__array__")
        if named and not single:
            raise ValueError(
                f"{', '.join(named)} beside one input only; for several, put it into each: {{'audio': ..., 'text': ...}}"
            )
        if single:
            return super().__call__({**self.as_input(inputs), **named}, **kwargs)
        if isinstance(inputs, Dataset):
            return super().__call__(inputs, **kwargs)
        if not hasattr(inputs, "__iter__"):
            raise ValueError(f"an input must be a recording or a dict, got {inputs!r:.80}")
        answers = cast(Iterator, super().__call__((row for row in inputs), **kwargs))
        return answers if isinstance(inputs, Iterator) else list(answers)

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """As in the base class, but utterances with words and without may meet in a batch."""
        pieces = PipelineChunkIterator(inputs, self.preprocess, preprocess_params)
        loader = DataLoader(pieces, batch_size=batch_size, num_workers=min(num_workers, 1), collate_fn=list)
        done = []
        for batch in loader:
            for piece in cast(list[dict], self.forward(batch, **forward_params)):
                done.append(piece)
                if piece["is_last"]:
                    yield self.postprocess(done, **postprocess_params)
                    done = []

    # ------------------------------------------------------------------------------- one input -> pieces of one forward

    def preprocess(self, inputs, sampling_rate=None, window_seconds=None, asr=None) -> Iterator[dict]:
        """
        One input -> its pieces, each one row of a batch.

        A piece has `audio` (samples at the processor's rate, or None), `text` (or None), `history`, `start` and `end`
        (seconds; None without audio), `cut` (if it is a part of its recording), `turn` (or None), `is_last`.
        """
        given = self.as_input(inputs)
        settings = {"sampling_rate": sampling_rate, "window_seconds": window_seconds, "asr": asr}
        if given.get("turns") is None:
            yield from self._pieces(given, turn=None, is_last=True, **settings)
            return
        extra = sorted(name for name in given if given[name] is not None and name != "turns")
        turns = given["turns"]
        if extra or not isinstance(turns, (list, tuple)) or not turns:
            raise ValueError(
                f"a dialog is {{'turns': [turn, ...]}} with at least one turn, got {turns!r:.80}"
                + (f" and beside it {', '.join(extra)}, which belong into the turns" if extra else "")
            )
        history = []
        for number, turn in enumerate(turns):
            turn = self.as_input(turn)
            wrong = sorted(name for name in ("history", "segments", "turns") if turn.get(name) is not None)
            if wrong:
                raise ValueError(f"turn {number} of a dialog has {', '.join(wrong)}: a turn takes audio and text alone")
            pieces = list(
                self._pieces({**turn, "history": history}, turn=number, is_last=number == len(turns) - 1, **settings)
            )
            yield from pieces
            spoken = self._nonempty(turn.get("text")) or " ".join(piece["text"] for piece in pieces if piece["text"])
            history = [*history, spoken] if spoken else history

    def as_input(self, given) -> dict:
        """An input in any form -> a dict with INPUT_KEYS."""
        if not isinstance(given, dict) or (given and set(given) <= AUDIO_KEYS):
            return {"audio": given}
        if "audio" not in given and {"array", "raw", "bytes"} & set(given):  # the keys of a recording beside its words
            audio = {name: given[name] for name in given if name in AUDIO_KEYS}
            given = {"audio": audio, **{name: given[name] for name in given if name not in AUDIO_KEYS}}
        unknown = sorted(set(given) - INPUT_KEYS, key=str)
        if unknown or not given:
            raise ValueError(
                f"an input takes {', '.join(sorted(INPUT_KEYS))}, got {', '.join(map(str, unknown)) or 'nothing'}."
                + "".join(f"{nearest(name, sorted(INPUT_KEYS))}" for name in unknown[:1])
                + " Of a dataset with more columns, pass dataset.select_columns(['audio', 'text', 'history'])"
            )
        return given

    def _pieces(self, given: dict, turn, is_last, sampling_rate, window_seconds, asr) -> Iterator[dict]:
        """Pieces of an input that is not a dialog."""
        config, rate = self.model.config, self.processor.feature_extractor.sampling_rate
        text, history, segments = self._words(given)
        samples = None
        if given.get("audio") is not None and (
            config.uses_speech or text is None
        ):  # a text model needs no audio beside words
            samples = self._samples(given["audio"], sampling_rate)
        parts: list[dict] = [{"start": None, "end": None}]
        if segments is not None:
            parts = [self._as_segment(segment, samples) for segment in segments]
        elif samples is not None:
            longest = min(WINDOW_SECONDS, self.processor.max_audio_seconds) if window_seconds is None else window_seconds
            whole = text is not None and config.uses_text
            parts = cut_evenly(len(samples), len(samples) if whole else max(1, int(longest * rate)), rate)
        cut = segments is not None or len(parts) > 1
        for number, part in enumerate(parts):
            piece = {"audio": samples, "text": text, "history": history, "speaker": given.get("speaker"), **part}
            if samples is not None:
                piece["audio"] = self._utterance(samples, part["start"], part["end"])
            if config.uses_text and piece["text"] is None and samples is not None and asr is not None:
                piece["text"] = self._nonempty(transcribe(asr, piece["audio"], rate))
            if not config.uses_text:
                piece["text"] = None
            if not config.uses_speech:
                piece["audio"] = None
            self._check_enough(piece, given)
            self._leave_out_the_untrained(piece)
            yield {**piece, "cut": cut, "turn": turn, "is_last": is_last and number == len(parts) - 1}

    def _words(self, given: dict) -> tuple[str | None, list[str | None], Sequence | None]:
        """Text, history and segments of an input, checked."""
        segments = given.get("segments")
        if segments is not None and not (isinstance(segments, (list, tuple)) and segments):
            raise ValueError(f"segments must be a list of (start, end) or dicts, with at least one, got {segments!r:.80}")
        text = self._nonempty(given.get("text"))
        if text is not None and segments is not None:
            raise ValueError("got text for a whole recording in segments: put each segment's words into it, as 'text'")
        return text, earlier_turns(given.get("history")), segments

    def _nonempty(self, text) -> str | None:
        """A text, checked, or None where it is blank or the tokenizer leaves nothing of it."""
        text = nonblank(text)
        if text is None or (self.model.config.uses_text and not self.processor.has_words(text)):
            return None
        return text

    def _samples(self, audio, sampling_rate) -> np.ndarray:
        rate = self.processor.feature_extractor.sampling_rate
        bare = hasattr(audio, "__array__") or isinstance(audio, (list, tuple))
        if bare and sampling_rate is None:
            logger.warning_once(f"LemerPipeline got samples without sampling_rate and takes them as {rate} Hz")
        if not (bare or knows_its_rate(audio)):
            raise ValueError(f"audio must be a path, bytes, an array or {{'array', 'sampling_rate'}}, got {audio!r:.80}")
        return load_audio(audio, sampling_rate, rate)

    def _as_segment(self, segment, samples: np.ndarray | None) -> dict:
        """(start, end) or a dict of a segment -> what it changes of a piece."""
        if samples is None:
            raise ValueError("got segments without audio: give the recording that they are of")
        seconds = len(samples) / self.processor.feature_extractor.sampling_rate
        fields = {}
        if isinstance(segment, (list, tuple)) and len(segment) == 2:
            fields = {"start": segment[0], "end": segment[1]}
        elif isinstance(segment, dict) and not set(segment) - SEGMENT_KEYS:
            fields = segment
        times = [float(time) for time in (fields.get("start"), fields.get("end")) if isinstance(time, Real)]
        if len(times) != 2 or not (0 <= times[0] < times[1] <= seconds + END_TOLERANCE and times[0] < seconds):
            raise ValueError(
                "a segment must be (start, end) or {'start', 'end', 'text', 'history', 'speaker'} with 0 <= start < end <= "
                f"{seconds:.3f} s, which the recording has, got {segment!r:.120}"
            )
        part = {"start": times[0], "end": min(times[1], seconds), "text": self._nonempty(fields.get("text"))}
        part |= {} if fields.get("history") is None else {"history": earlier_turns(fields["history"])}
        return part if fields.get("speaker") is None else {**part, "speaker": fields["speaker"]}

    def _utterance(self, samples: np.ndarray, start: float, end: float) -> np.ndarray:
        rate, longest = self.processor.feature_extractor.sampling_rate, self.processor.max_audio_seconds
        samples = samples[round(start * rate) : round(end * rate)]
        if len(samples) == 0:
            raise ValueError(f"the segment from {start} to {end} s is shorter than one sample")
        if len(samples) > longest * rate:
            raise ValueError(
                f"an utterance has {len(samples) / rate:.1f} s, above the processor's max_audio_seconds={longest:g}: give "
                "its parts as segments=[{'start': ..., 'end': ..., 'text': ...}, ...], or no words: then windows are cut"
            )
        return samples

    def _check_enough(self, piece: dict, given: dict) -> None:
        """Raise a `ValueError` if the model cannot answer a piece of the input `given`."""
        config = self.model.config
        has = {"speech": piece["audio"] is not None, "words": piece["text"] is not None}
        if all(has.values()) or (any(has.values()) and config.answers_from_one_modality):
            return
        if given.get("audio") is None and self._nonempty(given.get("text")) is None:
            raise ValueError("got neither audio nor words: give at least one")
        takes = "speech and words together" if config.modality == "multimodal" else "words" if config.uses_text else "speech"
        missing = " and ".join(name for name in has if not has[name] and name in takes)
        raise ValueError(
            f"this model takes {takes}, and got no {missing}: give "
            + ("text beside the audio, or an asr that hears some" if missing == "words" else "audio")
        )

    def _leave_out_the_untrained(self, piece: dict) -> None:
        """
        Leave out what a model cannot answer with whose classifier is not trained for its labels.

        Raises:
            ValueError: nothing is left that it can answer from.
        """
        modality = modality_of(piece)
        field = self.model.answering_field(modality)
        if field is None and modality == "multimodal":
            for branch, other in (("text", "audio"), ("speech", "text")):
                field = self.model.answering_field(branch)
                if field is not None:
                    piece[other], modality = None, branch
                    break
        if field is None:
            raise ValueError(
                f"this model cannot answer from {modality} alone: {', '.join(self.model.untrained)} are not trained or set. "
                "Give the other modality, describe the labels to this branch by set_labels, or train the model"
            )
        if field != "logits":
            logger.warning_once(
                f"the classifier of this model is not trained for its labels, so the {modality} branch answers alone: it "
                "compares with what describes each label. " + self.meaning_of_scores(modality)
            )

    def meaning_of_scores(self, modality: str) -> str:
        """One or two sentences that say what the scores of an answer from "multimodal", "speech" or "text" mean."""
        config = self.model.config
        if modality in (config.temperatures or {}):
            return "Scores are fitted on validation utterances of the training corpus to tell how often the answer is right."
        if config.scores_are_flat(modality) or self.model.answering_field(modality) != "logits":
            return "Its scores are flat, a softmax of cosines from -1 to 1: only their order counts."
        return "Scores are not calibrated: a high one does not tell how often the answer is right."

    # ------------------------------------------------------------------------------------------------ pieces -> answer

    def _forward(self, pieces: list[dict]) -> list[dict]:
        """Pieces, in a list -> the same without `audio` and `history`, with `modality`, `heard` and `logits` (C,)."""
        by_modality: dict[str, list[int]] = {}  # a batch has words in all of its rows or in none
        for index, piece in enumerate(pieces):
            by_modality.setdefault(modality_of(piece), []).append(index)
        done = list(pieces)
        for modality, indices in by_modality.items():
            inputs = {}
            if modality != "text":
                inputs["audio"] = [pieces[index]["audio"] for index in indices]
                inputs["sampling_rate"] = self.processor.feature_extractor.sampling_rate
            if modality != "speech":
                inputs["text"] = [pieces[index]["text"] for index in indices]
                inputs["history"] = [pieces[index]["history"] for index in indices]
            # A batch has padding anyway. A single utterance has none, and padding would bring a mask with it.
            multiple = GPU_MULTIPLE if self.device.type != "cpu" and len(indices) > 1 else None
            batch = self.processor(**inputs, return_tensors="pt", pad_to_multiple_of=multiple)
            batch = batch.to(self.device, self.model.dtype)
            heard = [{}] * len(indices)
            if modality != "text" and self.processor.max_silence is not None:
                rate = self.processor.feature_extractor.sampling_rate
                heard = [{"heard": count / rate} for count in batch["input_values_mask"].sum(-1).tolist()]
            output = self.model(**batch)[self.model.answering_field(modality)]
            for index, said, logits in zip(indices, heard, output.float().cpu(), strict=True):
                kept = {name: value for name, value in pieces[index].items() if name not in ("audio", "history")}
                done[index] = {**kept, "modality": modality, **said, "logits": logits}
        return done

    def postprocess(self, pieces: list[dict], top_k: int | None = None) -> list:
        """All pieces of one input, in order -> its answer."""
        answers = []
        for _, group in groupby(pieces, key=lambda piece: piece["turn"]):
            group = list(group)
            parts = []
            for piece in group:
                scores = self.scores(piece)[:top_k]
                parts.append({**{name: piece[name] for name in ("start", "end", "text")}, **scores[0], "scores": scores})
            answers.append(parts if group[0]["cut"] else parts[0]["scores"])
        return answers[0] if pieces[0]["turn"] is None else answers

    def scores(self, piece: dict) -> list[dict]:
        """What `forward` returned for one piece -> label, score and what else an answer says, highest score first."""
        scores = (piece["logits"] / self.model.config.score_temperature(piece["modality"])).softmax(-1).tolist()
        if not all(math.isfinite(score) for score in scores):
            raise ValueError(f"the model's scores are not finite: {scores}. Give dtype='float32', or another recording")
        said = {name: piece[name] for name in ("modality", "heard", "speaker") if piece.get(name) is not None}
        labelled = [
            {"label": self.model.config.id2label[index], "score": score, **said} for index, score in enumerate(scores)
        ]
        return sorted(labelled, key=lambda label: -label["score"])

    def save_pretrained(self, save_directory, **kwargs):
        """Write model, processor and their code into a folder that `pipeline` opens."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


class LemerTextPipeline(LemerPipeline):
    """As [`LemerPipeline`], for the task "text-classification": a bare string is words, and not the path of a recording."""

    def as_input(self, given) -> dict:
        return {"text": given} if isinstance(given, str) else super().as_input(given)


def modality_of(piece: dict) -> str:
    """What a piece is answered from."""
    return "text" if piece["audio"] is None else "speech" if piece["text"] is None else "multimodal"


def nonblank(text) -> str | None:
    """A text, checked, or None where it is blank."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"text must be a string, got {text!r:.80}")
    check_text(text)
    return text if text.strip() else None


def earlier_turns(history) -> list[str | None]:
    """The turns of a history in any container, checked; empty for None."""
    if history is None:
        return []
    if isinstance(history, (str, bytes, dict)) or not isinstance(history, Iterable):
        raise ValueError(f"history must be a list of earlier turns, each a string, got {history!r:.80}")
    return [nonblank(turn) for turn in history]


def cut_evenly(length: int, longest: int, rate: int) -> list[dict]:
    """Start and end in seconds of the fewest equal parts of `length` samples that have at most `longest` each."""
    count = math.ceil(length / longest)
    bounds = [length * index // count / rate for index in range(count + 1)]
    return [{"start": start, "end": end} for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def transcribe(asr, samples: np.ndarray, rate: int) -> str | None:
    """Words that `asr` hears in samples (N,); None where it hears none."""
    answer = asr({"raw": samples, "sampling_rate": rate})
    if not isinstance(answer, dict) or "text" not in answer:
        raise ValueError(f"asr must return {{'text': words}}, got {answer!r:.80}")
    return nonblank(answer["text"])


__all__ = ["LemerPipeline", "LemerTextPipeline"]

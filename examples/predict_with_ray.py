"""Answer many utterances on many machines with Ray Data; needs the extra ray.

    python predict_with_ray.py CHECKPOINT utterances.csv answers/ --workers 2

INPUT is a folder, a recording or a table, as for `lemer predict`; addresses such as s3://... in a table are read by fsspec.
The folder OUTPUT, or such an address, gets parquet files with a row for each utterance, or for each window of a long
recording: id; start and end of a window; prediction; modality; scores, as JSON; and error, for an utterance that cannot be
answered. The answers are those of `lemer predict`. A worker that dies is started again, and does its utterances again.
"""

import argparse
import json
import pickle
from collections.abc import Iterator

import ray
import ray.data
from transformers import pipeline

from lemer import LemerProcessor
from lemer.corpora.manifest import Stored, Utterance, read_inputs
from lemer.processing_lemer import newest_turns

UTTERANCES, BATCH = 64, 8  # utterances that a worker gets at once, and those of one forward pass


def with_history(dialogs: list[list[Utterance]], max_history: int) -> Iterator[dict]:
    """Every utterance as Ray takes it: pickled, with the turns before it that the processor reads."""
    for dialog in dialogs:
        history: list[str] = []
        for turn in dialog:
            given = turn._replace(history=history) if turn.history is None else turn
            if isinstance(given.audio, Stored):  # only this process can read it again
                given = given._replace(audio=given.audio.read())
            yield {"utterance": pickle.dumps(given)}
            if isinstance(turn.text, str) and turn.text.strip():
                history = newest_turns([*history, turn.text], max_history)


class Recogniser:
    """A worker, which holds the model."""

    def __init__(self, checkpoint: str, device: str):
        from lemer import LemerPipeline  # here, in the worker, this also tells transformers about the models

        self.pipeline = pipeline("speech-emotion-recognition", model=checkpoint, pipeline_class=LemerPipeline, device=device)

    def __call__(self, batch: dict) -> dict:
        utterances = [pickle.loads(value) for value in batch["utterance"]]
        try:
            answers = self.pipeline([self.as_input(utterance) for utterance in utterances], batch_size=BATCH)
        except (OSError, ValueError, RuntimeError):  # one of them cannot be answered
            answers = [self.answer_alone(utterance) for utterance in utterances]
        rows = [row for pair in zip(utterances, answers, strict=True) for row in self.rows(*pair)]
        return {name: [row[name] for row in rows] for name in rows[0]}

    @staticmethod
    def as_input(utterance: Utterance) -> dict:
        recording, _ = utterance.recording()
        return {"audio": recording, "text": utterance.text, "history": utterance.history}

    def answer_alone(self, utterance: Utterance) -> list[dict] | str:
        try:
            return self.pipeline(self.as_input(utterance))
        except (OSError, ValueError, RuntimeError) as error:
            return str(error)

    @staticmethod
    def rows(utterance: Utterance, answer: list[dict] | str) -> Iterator[dict]:
        empty = {"id": utterance.id, "start": None, "end": None, "prediction": None, "modality": None, "scores": None}
        if isinstance(answer, str):
            yield {**empty, "error": answer}
            return
        # Windows have times of the part that was heard, and the part begins at a time of its recording.
        begin = utterance.start or 0.0
        windows = answer if "scores" in answer[0] else [{"scores": answer, "modality": answer[0]["modality"]}]
        for window in windows:
            scores = {score["label"]: round(score["score"], 6) for score in window["scores"]}
            yield {
                **empty,
                **{name: None if window.get(name) is None else begin + window[name] for name in ("start", "end")},
                "modality": window.get("modality"),
                "prediction": window["scores"][0]["label"],
                "scores": json.dumps(scores, sort_keys=True),
                "error": None,
            }


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("inputs", metavar="INPUT")
    parser.add_argument("output", metavar="OUTPUT")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a model")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker; 0 computes on the CPU")
    args = parser.parse_args(argv)
    processor = LemerProcessor.from_pretrained(args.checkpoint)
    dialogs = read_inputs([args.inputs], one_dialog=False)
    dataset = ray.data.from_items(list(with_history(dialogs, processor.max_history)))
    answers = dataset.repartition(target_num_rows_per_block=UTTERANCES).map_batches(
        Recogniser,
        fn_constructor_args=(args.checkpoint, "cuda" if args.gpus else "cpu"),
        batch_size=UTTERANCES,
        compute=ray.data.ActorPoolStrategy(size=args.workers),
        num_gpus=args.gpus,
        num_cpus=0.5,  # as Ray counts: it needs room for the tasks that read and write
    )
    answers.write_parquet(args.output)


if __name__ == "__main__":
    main()

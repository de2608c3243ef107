"""Answer requests over HTTP with FastAPI; requests that wait at the same time are answered together. Needs the extra serve.

    python serve_with_fastapi.py CHECKPOINT --port 8000
    curl -F audio=@recording.wav -F text="I was so happy!" -F history="Did they call you?" http://localhost:8000/emotions

A request is a form with an audio file `audio`, the words `text`, and `history` once for each earlier turn, oldest first. Any
may be left out. The answer is that of the pipeline, as JSON, or {"detail": why} with status 422 for a request that cannot be
answered, 413 for a file that is too large, and 503 where too many requests wait. CHECKPOINT is a folder, a name on the Hub,
or an ONNX file of `lemer export`. There is no access control: put a proxy that has one before it.
"""

import argparse
import asyncio
import queue
import threading
from collections import deque
from concurrent.futures import Future
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Form, HTTPException, UploadFile
from fastapi.concurrency import run_in_threadpool
from transformers import pipeline

from lemer import LemerPipeline
from lemer.audio_lemer import SAMPLING_RATE, load_audio
from lemer.integrity_lemer import opening
from lemer.prediction.answering import answer, largest
from lemer.prediction.onnx_model import OnnxModel
from lemer.runtime.onednn import multiply_by_onednn
from lemer.runtime.process import set_up_process, share_freed_memory

MOST_WAITING = 256  # requests; further ones are turned away, since their clients would not wait so long
LOOKED_AT = 4  # times as many requests as a batch has, from which pieces of like lengths are taken
UNLIKE = 1.5  # times as long: such a piece waits for the next batch on a CPU, which computes padding for nothing
MOST_BYTES = 50 * 2**20  # of an audio file


class Request:
    """
    An input of the pipeline, and the answer that its client waits for.

    Attributes:
        answer: becomes the pipeline's answer, or the error that there is instead.
        pieces: utterances and windows of the input that no batch has taken yet.
        answered: those that a batch has answered, in the same order.
    """

    def __init__(self, inputs: dict):
        self.inputs, self.answer = inputs, Future()
        self.pieces: deque[dict] = deque()
        self.answered: list[dict] = []


class Batcher:
    """
    Answers inputs in a thread of its own, all that wait at once in a batch: none waits for a batch to become full.

    Every request in turn gives a piece to a batch, so that a long recording does not keep short ones waiting.

    Args:
        pipe: the pipeline. Its answers do not depend on the batch.
        batch_size: pieces in a batch at most; they have at most as many seconds together as in `lemer predict`.
    """

    def __init__(self, pipe: LemerPipeline, batch_size: int):
        self.pipe, self.batch_size = pipe, batch_size
        self.most_samples = largest(pipe)[1] * SAMPLING_RATE
        self.unlike = UNLIKE if pipe.device.type == "cpu" else float("inf")
        self.arrived: queue.Queue[Request] = queue.Queue(MOST_WAITING)
        self.waiting: deque[Request] = deque()  # those with pieces that no batch has taken yet
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, inputs: dict) -> Future:
        """
        The answer to an input, once it is there.

        Raises:
            queue.Full: too many wait already.
        """
        request = Request(inputs)
        self.arrived.put_nowait(request)
        return request.answer

    def _run(self) -> None:
        while True:
            while not self.waiting or (len(self.waiting) < LOOKED_AT * self.batch_size and not self.arrived.empty()):
                self._receive(self.arrived.get())
            batch = self._next_batch()
            try:
                pieces = answer(self.pipe, [piece for _, piece in batch])
            except Exception as error:  # whatever it is, the clients wait for an answer
                self._fail({request for request, _ in batch}, error)
                continue
            for (request, _), piece in zip(batch, pieces, strict=True):
                self._keep(request, piece)

    def _receive(self, request: Request) -> None:
        """Cut a request into pieces, unless its client has left."""
        if not request.answer.set_running_or_notify_cancel():
            return
        try:
            request.pieces.extend(self.pipe.preprocess(request.inputs, **self.pipe._preprocess_params))
            self.waiting.append(request)
        except Exception as error:
            request.answer.set_exception(error)

    def _next_batch(self) -> list[tuple[Request, dict]]:
        """A piece of every request in turn, as many as fit into a batch: on a CPU those about as long as the first."""
        batch, first, longest, later = [], 0, 0, deque()
        while self.waiting and len(batch) < self.batch_size:
            request = self.waiting.popleft()
            audio = request.pieces[0]["audio"]
            samples = 0 if audio is None else len(audio)
            first, longer = (first if batch else samples), max(longest, samples)
            unlike = max(samples, first) > self.unlike * min(samples, first)
            if batch and (unlike or longer * (len(batch) + 1) > self.most_samples):
                later.append(request)
                continue
            longest = longer
            batch.append((request, request.pieces.popleft()))
            if request.pieces:
                self.waiting.append(request)
        self.waiting.extendleft(reversed(later))  # they come first in the next batch
        return batch

    def _keep(self, request: Request, piece: dict | None) -> None:
        """Keep the answer to a piece; the last one of a request makes its answer."""
        if request.answer.done():  # an earlier piece failed
            return
        if piece is None:
            self._fail({request}, ValueError("too long for the memory of the device: send shorter recordings"))
            return
        request.answered.append(piece)
        if piece["is_last"]:
            try:
                request.answer.set_result(self.pipe.postprocess(request.answered, **self.pipe._postprocess_params))
            except Exception as error:  # scores that are not finite
                request.answer.set_exception(error)

    def _fail(self, requests: set[Request], error: Exception) -> None:
        self.waiting = deque(request for request in self.waiting if request not in requests)
        for request in requests:
            request.answer.set_exception(error)


def make_app(pipe: LemerPipeline, batch_size: int) -> FastAPI:
    """The service, with a thread that answers."""
    app, batcher = FastAPI(title="Emotions of utterances"), Batcher(pipe, batch_size)

    @app.post("/emotions")
    async def emotions(
        audio: Annotated[UploadFile | None, File()] = None,
        text: Annotated[str | None, Form()] = None,
        history: Annotated[tuple[str, ...], Form()] = (),
    ):
        inputs = {"text": text, "history": list(history)}
        try:
            if audio is not None:
                if (audio.size or 0) > MOST_BYTES:
                    raise HTTPException(413, f"audio has {audio.size} bytes: send at most {MOST_BYTES}")
                samples = await run_in_threadpool(load_audio, await audio.read())  # while the model computes
                inputs["audio"] = {"array": samples, "sampling_rate": SAMPLING_RATE}
            return await asyncio.wrap_future(batcher.submit(inputs))
        except queue.Full:
            raise HTTPException(503, f"{MOST_WAITING} requests wait already: try again later") from None
        except (OSError, ValueError) as error:
            raise HTTPException(422, str(error)) from error

    return app


def open_pipeline(checkpoint: str, device: str | None) -> LemerPipeline:
    """The pipeline of a checkpoint or an ONNX file, as fast as `lemer predict` has it."""
    if checkpoint.endswith(".onnx"):
        model = OnnxModel(checkpoint)
        return LemerPipeline(model, model.processor, device="cpu")
    with opening(checkpoint):
        pipe = pipeline("speech-emotion-recognition", model=checkpoint, pipeline_class=LemerPipeline, device=device)
    multiply_by_onednn(pipe.model)
    return pipe


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 answers other machines too (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", help="cpu, cuda:1, ... (default: the first accelerator, else cpu)")
    parser.add_argument("--batch_size", type=int, help="requests in one forward pass (default: 8, on a GPU 64)")
    args = parser.parse_args(argv)
    set_up_process()
    share_freed_memory()
    pipe = open_pipeline(args.checkpoint, args.device)
    uvicorn.run(make_app(pipe, args.batch_size or largest(pipe)[0]), host=args.host, port=args.port, log_level="warning")


if __name__ == "__main__":
    main()

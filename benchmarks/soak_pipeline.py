"""Measure the memory of a process that answers many short requests, as a server does, to find leaks.

    python benchmarks/soak_pipeline.py CHECKPOINT [--calls 10000] [--step 1000]

The calls repeat 40 requests of four kinds: a recording with words and history, a recording alone, words alone, and a batch
of all three. A checkpoint of one modality gets both modalities in every request. The resident memory of the process is
printed after every STEP calls. In the first round libraries fill their caches for every length of recording; memory that
still grows after it is a leak. (With more lengths oneDNN would go on filling its cache, up to the number of entries in
ONEDNN_PRIMITIVE_CACHE_CAPACITY.)
"""

import argparse
import gc
import os
import time

import numpy as np
import torch
from transformers import pipeline
from transformers.utils import logging

from lemer import LemerPipeline

RATE = 16_000  # Hz
REQUESTS = 40
WORDS = "hello you are so late again I hate this great day we won the table".split()


def resident_mib() -> float:
    """Resident memory of this process in MiB (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def live_tensors() -> int:
    """Number of tensors that Python still refers to."""
    gc.collect()
    return sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())


def make_requests(multimodal: bool) -> list:
    """Requests of all kinds, with up to a second of noise and up to eleven words each."""
    rng = np.random.default_rng(0)
    requests = []
    for number in range(REQUESTS):
        samples = rng.normal(0, 0.1, rng.integers(400, RATE)).astype(np.float32)
        audio = {"array": samples, "sampling_rate": RATE}
        text = " ".join(rng.choice(WORDS, rng.integers(1, 12)))
        both = {"audio": audio, "text": text, "history": [text, text]}
        kinds = [both, {"audio": audio}, {"text": text}] if multimodal else [both] * 3
        requests.append(kinds if number % 4 == 3 else kinds[number % 4])
    return requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub name of a checkpoint")
    parser.add_argument("--calls", type=int, default=10_000, help="number of requests (default: %(default)s)")
    parser.add_argument(
        "--step", type=int, default=1000, help="print the memory after every STEP calls (default: %(default)s)"
    )
    args = parser.parse_args()
    logging.disable_progress_bar()
    pipe = pipeline("speech-emotion-recognition", model=args.checkpoint, pipeline_class=LemerPipeline)
    requests = make_requests(pipe.model.config.modality == "multimodal")
    begin = time.monotonic()
    print("  calls  resident MiB  live tensors  calls/s")
    for call in range(args.calls + 1):
        if call % args.step == 0:
            rate = call / (time.monotonic() - begin)
            print(f"{call:7}  {resident_mib():12.1f}  {live_tensors():12}  {rate:7.1f}", flush=True)
        pipe(requests[call % len(requests)], batch_size=3)


if __name__ == "__main__":
    main()

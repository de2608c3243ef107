"""How long clients wait for examples/serve_with_fastapi.py: with dynamic batches, without, and with an ONNX file.

    python -m lemer.benchmarks.serve --towers small --clients 1 4 16

Three servers run at the same time, and take turns, so that what else the machine does meets all of them: torch, torch with
--batch_size 1, and ONNX. Each client sends its next request when it has the answer to the last one. Requests are `short` (a
second of speech and five words) or `usual` (lengths like IEMOCAP's, and twenty words); the towers have random weights. The
table goes to benchmarks/results/serve.md.
"""

import argparse
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import soundfile
import torch

from lemer import LemerModel, LemerProcessor
from lemer.benchmarks.speed.setup import IEMOCAP_SECONDS, RATE, WORDS, make_samples, write_checkpoint
from lemer.export import export

SERVER = Path(__file__).parents[1] / "examples" / "serve_with_fastapi.py"
RESULTS = Path(__file__).with_name("results") / "serve.md"
SERVERS = ("batches", "one by one", "ONNX")
MOST_APART = 1e-3  # scores of one request by two servers
Answers = tuple[list[float], list[list[float]], float]  # seconds of each request, scores of each, and seconds of all


def make_requests(kind: str, count: int) -> list[dict]:
    """Arguments of `httpx.Client.post` for requests of a kind."""
    rng = np.random.default_rng(0)
    requests = []
    for number in range(count):
        seconds, words = (1.0, 5) if kind == "short" else (float(rng.choice(IEMOCAP_SECONDS)), 20)
        file = io.BytesIO()
        soundfile.write(file, 0.1 * make_samples(seconds, number % 4, rng), RATE, format="WAV", subtype="PCM_16")
        requests.append({"files": {"audio": file.getvalue()}, "data": {"text": " ".join(rng.choice(WORDS, words))}})
    return requests


def start_server(stack: ExitStack, checkpoint: Path, *options: str) -> str:
    """Start a server that ends with `stack`; returns its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, SERVER, checkpoint, "--port", str(port), *options])
    stack.callback(process.wait)
    stack.callback(process.terminate)
    address = f"http://127.0.0.1:{port}/emotions"
    while True:
        try:
            httpx.post(address, data={"text": "hello"}, timeout=600).raise_for_status()
            return address
        except httpx.ConnectError:
            if process.poll() is not None:
                raise RuntimeError(f"the server of {checkpoint} ended: its message stands above") from None
            time.sleep(0.2)


def send(address: str, requests: list[dict], clients: int) -> Answers:
    """Send requests from so many clients at once."""
    with httpx.Client(timeout=600) as client:

        def ask(request: dict) -> tuple[float, list[float]]:
            begin = time.perf_counter()
            answer = client.post(address, **request).raise_for_status().json()
            seconds = time.perf_counter() - begin
            return seconds, [score["score"] for score in sorted(answer, key=lambda score: score["label"])]

        begin = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(ask, requests))
        return [seconds for seconds, _ in answers], [scores for _, scores in answers], time.perf_counter() - begin


def row_of(kind: str, clients: int, rounds: list[dict[str, Answers]]) -> str:
    """A row of the table: milliseconds of each server over all rounds, and ratios within each round."""
    cells = [kind, str(clients)]
    for server in SERVERS:
        seconds = [value for one_round in rounds for value in one_round[server][0]]
        cells.append(" / ".join(f"{1000 * value:.0f}" for value in np.percentile(seconds, [50, 95])))
    for other, server, what in (("one by one", "batches", 50), ("one by one", "batches", 95), ("batches", "ONNX", 50)):
        pairs = [[np.percentile(one_round[name][0], what) for name in (other, server)] for one_round in rounds]
        cells.append(ratio([slow / fast for slow, fast in pairs]))
    cells.append(ratio([one_round["one by one"][2] / one_round["batches"][2] for one_round in rounds]))
    return f"| {' | '.join(cells)} |"


def ratio(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def check_same(kind: str, rounds: list[dict[str, Answers]]) -> float:
    """How far apart the scores of one request are at most; raises a `RuntimeError` where that is too far."""
    scores = np.array([one_round[server][1] for one_round in rounds for server in SERVERS])
    apart = float(np.ptp(scores, axis=0).max())
    if apart > MOST_APART:
        raise RuntimeError(f"scores of one {kind} request differ by {apart}: the servers do not answer the same")
    return apart


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towers", default="small", help="their size: tiny, small or base (default: %(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=64, help="of each kind in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    rows, apart = [], 0.0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        checkpoint, onnx = Path(folder, "whole"), Path(folder, "model.onnx")
        write_checkpoint(Path(folder), args.towers)
        export(LemerModel.from_pretrained(checkpoint).eval(), LemerProcessor.from_pretrained(checkpoint), onnx)
        addresses = {
            "batches": start_server(stack, checkpoint),
            "one by one": start_server(stack, checkpoint, "--batch_size", "1"),
            "ONNX": start_server(stack, onnx),
        }
        for kind in ("short", "usual"):
            requests = make_requests(kind, args.requests)
            for clients in args.clients:
                rounds = [
                    {server: send(addresses[server], requests, clients) for server in SERVERS} for _ in range(args.rounds)
                ]
                apart = max(apart, check_same(kind, rounds))
                rows.append(row_of(kind, clients, rounds))
                print(rows[-1], flush=True)
    command = f"python -m lemer.benchmarks.serve --towers {args.towers} --requests {args.requests} --rounds {args.rounds}"
    lines = [
        "# Waiting for the server",
        "",
        f"Written by `{command}` with {torch.get_num_threads()} threads for each server on {os.cpu_count()} cores; load at "
        f"the end {os.getloadavg()[1]:.1f}. Milliseconds are p50 / p95 of all rounds; ratios are medians of the rounds, the "
        f"least and the greatest behind them. Scores of one request differed by at most {apart:.0e} between servers.",
        "",
        "| requests | clients | dynamic batches | one by one | ONNX, dynamic batches | p50, one by one / batches | "
        "p95, one by one / batches | p50, batches by torch / by ONNX | requests a second, batches / one by one |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the memory of the page while several clients use it at once.

    python benchmarks/soak_page.py CHECKPOINT [--requests 1200] [--clients 8] [--step 100]

The page runs in a process of its own, as `lemer app CHECKPOINT` starts it. Every client sends one request after the other
through the page's API: recordings of different lengths, with words and earlier turns, with words alone, or without any. The
resident memory of the page's process is printed after every STEP answers, with its number of threads. The exit status is 1
if a request was not answered.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from gradio_client import Client, handle_file

RATE = 16_000  # Hz
LENGTHS = (0.5, 1, 2, 3, 4, 6, 8, 12)  # seconds
WORDS = "hello you are so late again I hate this great day we won the table".split()


def status_of(process: int) -> tuple[float, float, int]:
    """Resident memory now and at its peak in MiB, and the number of threads of a process (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    resident, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return resident, peak, int(fields["Threads"])


def write_recordings(folder: Path) -> list[str]:
    """A recording of noise for each of `LENGTHS`."""
    rng, paths = np.random.default_rng(0), []
    for seconds in LENGTHS:
        paths.append(str(folder / f"{seconds}.wav"))
        soundfile.write(paths[-1], rng.normal(0, 0.1, round(seconds * RATE)), RATE)
    return paths


def make_requests(recordings: list[str], client: int) -> Iterator[tuple]:
    """Inputs of the page without end: a recording or None, words, and earlier turns."""
    rng = np.random.default_rng(client)
    while True:
        audio = handle_file(recordings[rng.integers(len(recordings))])
        text = " ".join(rng.choice(WORDS, rng.integers(1, 12)))
        yield audio, text, f"{text}\n{text}"
        yield audio, text, ""
        yield audio, "", ""
        yield None, text, text


class Load:
    """Clients that share a number of requests."""

    def __init__(self, url: str, requests: int, recordings: list[str]):
        self.url, self.left, self.recordings = url, requests, recordings
        self.answered, self.failures = 0, []
        self._lock = threading.Lock()

    def run(self, client: int) -> None:
        """Send requests until none is left."""
        api = Client(self.url, verbose=False, download_files=False)
        for inputs in make_requests(self.recordings, client):
            with self._lock:
                if self.left == 0:
                    return
                self.left -= 1
            try:
                api.predict(*inputs, api_name="/recognise")
            except Exception as error:  # a client goes on whatever one answer was, and all failures are reported
                self.failures.append(repr(error))
            self.answered += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub name of a multimodal checkpoint")
    parser.add_argument("--requests", type=int, default=1200, help="number of requests (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="clients at once (default: %(default)s)")
    parser.add_argument(
        "--step", type=int, default=100, help="print the memory after every STEP answers (default: %(default)s)"
    )
    args = parser.parse_args()
    command = [sys.executable, str(Path(__file__).parents[1] / "app.py"), args.checkpoint]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}) as page,
    ):
        try:
            assert page.stdout is not None
            line = page.stdout.readline()
            if "http" not in line:
                return 1  # the page has said why
            url = next(word for word in line.split() if word.startswith("http"))
            load = Load(url, args.requests, write_recordings(Path(folder)))
            watch(load, page.pid, args.clients, args.step)
        finally:
            page.terminate()
    if load.failures:
        print(f"{len(load.failures)} requests were not answered, such as {load.failures[0]:.300}", file=sys.stderr)
    return 1 if load.failures else 0


def watch(load: Load, process: int, clients: int, step: int) -> None:
    """Run the clients, and print the memory of a process meanwhile."""
    threads = [threading.Thread(target=load.run, args=(client,), daemon=True) for client in range(clients)]
    begin, printed = time.monotonic(), 0
    print("answers  resident MiB  peak MiB  threads  answers/s")
    for thread in threads:
        thread.start()
    while printed < load.answered or any(thread.is_alive() for thread in threads):
        if load.answered >= printed + step or not any(thread.is_alive() for thread in threads):
            printed = load.answered
            resident, peak, count = status_of(process)
            rate = printed / (time.monotonic() - begin)
            print(f"{printed:7}  {resident:12.1f}  {peak:8.1f}  {count:7}  {rate:9.2f}", flush=True)
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())

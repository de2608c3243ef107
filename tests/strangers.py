"""Processes that know transformers and not this package, which start at once.

done = run_stranger(code, arguments, folder)     # as subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder)
done = run_strangers(code, arguments, folder, two_ranks())         # the same on two processes, as torchrun starts them

Each is forked from a process that has imported the libraries and cannot import lemer. Tests of what a process reads while it
imports, such as the address of the Hub, start their own: `test_remote_code.py` and `test_hub_round_trip.py` do.
"""

import atexit
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

SERVER = """
import json, os, sys, traceback
sys.modules["lemer"] = None  # an import of the package raises
import datasets, evaluate, safetensors.torch, soundfile, transformers
from transformers import AutoModel, AutoProcessor, BertModel, Trainer, TrainingArguments, Wav2Vec2ConformerModel, pipeline

def start(job):
    process = os.fork()
    if process:
        return process
    code = 1
    for number, path in ((1, job["stdout"]), (2, job["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    sys.argv = ["-c", *job["arguments"]]
    try:
        exec(compile(job["code"], "<stranger>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    processes = [start(job) for job in json.loads(line)]
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]), flush=True)
"""


@cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen([sys.executable, "-I", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.kill)
    return server


def run_strangers(code: str, arguments, folder: Path, environments: list[dict[str, str]]):
    """
    Run code in several processes at the same time, and wait for all.

    Args:
        arguments: `sys.argv[1:]` of the code.
        folder: the working directory; what the code prints goes through files beside it.
        environments: variables of each process, which the code reads after its imports.

    Returns:
        A `subprocess.CompletedProcess` for each environment.
    """
    arguments = [str(part) for part in arguments]
    jobs = []
    for rank, environment in enumerate(environments):
        logs = {name: str(folder.with_name(f"{folder.name}.{rank}.{name}")) for name in ("stdout", "stderr")}
        jobs.append({"code": code, "arguments": arguments, "folder": str(folder), "environment": environment, **logs})
    server = _server()
    server.stdin.write(json.dumps(jobs) + "\n")
    server.stdin.flush()
    exit_codes = json.loads(server.stdout.readline())
    return [
        subprocess.CompletedProcess([code, *arguments], exit_code, *(Path(job[name]).read_text() for name in logs))
        for exit_code, job in zip(exit_codes, jobs, strict=True)
    ]


def run_stranger(code: str, arguments, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a process of its own; see `run_strangers`."""
    return run_strangers(code, arguments, folder, [environment])[0]

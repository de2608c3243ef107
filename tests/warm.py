"""Commands in processes of their own that start at once: each is forked from a process that has imported everything.

process = start("lemer.train", arguments)                 # killed, stopped or waited for as any process
assert run_two("lemer.pretrain", arguments) == [0, 0]     # as torchrun starts two processes
"""

import importlib
import multiprocessing
import os
import resource
import signal
import socket

from tiny import shorten_second_stage

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lemer.train", "lemer.predict", "lemer.training.run"])
LOGGED = 2**40  # bytes: a disk that never fills, with the messages in a file


def run(module: str, arguments: list[str], largest_file: int | None, environment: dict[str, str]):
    """The body of the process; see `start`."""
    os.environ.update(environment)
    shorten_second_stage()
    # As in a terminal: a shell starts background jobs, such as a whole suite of tests, with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        log = os.open(arguments[arguments.index("--output_dir") + 1] + ".log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 2)
    else:
        os.dup2(null, 2)
    raise SystemExit(importlib.import_module(module).main(arguments))


def start(module: str, arguments, largest_file: int | None = None, **environment: str):
    """
    Start the command of a module.

    Args:
        largest_file: bytes that a file may have; stands for a full disk. Messages then go into a file beside `--output_dir`.
        environment: variables that the command reads after its imports.
    """
    process = SERVER.Process(target=run, args=(module, [str(part) for part in arguments], largest_file, environment))
    process.start()
    return process


def two_ranks() -> list[dict[str, str]]:
    """The variables that torchrun sets in each of two processes on this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [{**address, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def run_two(module: str, arguments) -> list[int]:
    """Run a command on two processes with the variables that torchrun sets: the exit codes."""
    ranks = [start(module, arguments, **environment) for environment in two_ranks()]
    for process in ranks:
        process.join(120)
    return [process.exitcode for process in ranks]

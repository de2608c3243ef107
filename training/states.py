"""The states that a stopped training goes on from, and its log."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, on_main_process
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file, save_model

from ..runtime.files import write_atomically, writing


class States:
    """
    The states of one training: folders `step-<n>`, of which the two newest complete ones are kept.

    A state has no pickles. Its files are
        model.safetensors           the weights
        optimizer.safetensors       the optimizer's tensors, named `<number of the parameter>.<name>`
        random-<process>.safetensors  the generators of Python, NumPy and torch of every process
        state.json                  the optimizer's groups, scheduler and gradient scaler; sizes of the other files
        progress.json               updates, epochs, batches done of the epoch, and the best validation score
    Beside the states lies `best-<n>`, the weights with the best validation score.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, model, optimizer, scheduler):
        """
        Args:
            folder: of the states.
            accelerator: the one that prepared the others.
            model, optimizer, scheduler: what a state holds, as `accelerator.prepare` returned them.
        """
        self.folder, self.accelerator = Path(folder), accelerator
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler

    def _complete(self) -> list[Path]:
        states = [path for path in self.folder.glob("step-*") if path.suffix != ".tmp"]
        return sorted(states, key=lambda path: int(path.name.split("-")[1]))

    def load(self) -> dict | None:
        """
        Load the newest state that is whole, and return its progress; None if there is no state.

        Raises:
            ValueError: there are states, and none of them can be read.
        """
        states = self._complete()
        for path in reversed(states):
            try:
                progress = json.loads((path / "progress.json").read_text())
                self._read(path)
            except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                if self.accelerator.is_main_process:
                    print(f"{path} cannot be read, so the state before it is taken: {error}", flush=True)
            else:
                return progress
        if states:
            raise ValueError(
                f"none of the states in {self.folder} can be read: delete this folder to train from the start, or restore "
                "it from a copy"
            )
        return None

    def save(self, progress: dict) -> None:
        """
        Write a new state, then delete the ones before the last two, and best weights that no state names any more.

        Raises:
            OSError: it cannot be written; the states of before are still there.
        """
        target = self.folder / f"step-{progress['step']:06d}"
        temporary = target.with_name(target.name + ".tmp")
        if self.accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            with writing(target):
                temporary.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        with writing(target):
            save_generators(temporary / f"random-{self.accelerator.process_index}.safetensors")
            if self.accelerator.is_main_process:
                self._write(temporary)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            with writing(target):
                self._finish(temporary, target, progress)
            self._delete_old()
        self.accelerator.wait_for_everyone()

    def _write(self, folder: Path) -> None:
        """What all processes have in common."""
        save_model(self._plain_model(), str(folder / "model.safetensors"))
        optimizer, scaler = self.optimizer.state_dict(), self.accelerator.scaler
        tensors, numbers = {}, {}
        for parameter, values in optimizer["state"].items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{parameter}.{name}"] = value.contiguous()
                else:
                    numbers[f"{parameter}.{name}"] = value
        save_file(tensors, folder / "optimizer.safetensors")
        state = {
            "groups": optimizer["param_groups"],
            "numbers": numbers,
            "scheduler": self.scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "accumulated": self.accelerator.step,
            "processes": self.accelerator.num_processes,
        }
        (folder / "state.json").write_text(json.dumps(state))

    def _finish(self, temporary: Path, target: Path, progress: dict) -> None:
        """Give a state its name once every byte of it is on the disk."""
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        (temporary / "progress.json").write_text(json.dumps({**progress, "sizes": sizes}))
        for path in (*temporary.iterdir(), temporary):
            flush_to_disk(path)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        flush_to_disk(self.folder)

    def _delete_old(self) -> None:
        """Delete the states before the last two, and best weights that neither of these names."""
        *old_states, previous, newest = [None, *self._complete()]
        for path in filter(None, old_states):
            shutil.rmtree(path)
        named = [json.loads((path / "progress.json").read_text())["best_step"] for path in (previous, newest) if path]
        for path in self.folder.glob("best-*"):
            if path.name not in [f"best-{step}" for step in named]:
                shutil.rmtree(path)

    def _read(self, folder: Path) -> None:
        if not (folder / "state.json").exists() and (folder / "optimizer.bin").exists():
            self._read_with_pickles(folder)
            return
        sizes = json.loads((folder / "progress.json").read_text())["sizes"]
        for name, size in sizes.items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} has {(folder / name).stat().st_size} bytes and was written with {size}")
        state = json.loads((folder / "state.json").read_text())
        optimizer = {"state": {}, "param_groups": state["groups"]}
        tensors = load_file(folder / "optimizer.safetensors")
        for key, value in {**tensors, **state["numbers"]}.items():
            parameter, name = key.split(".", 1)
            optimizer["state"].setdefault(int(parameter), {})[name] = value
        load_model(self._plain_model(), str(folder / "model.safetensors"))
        self.optimizer.load_state_dict(optimizer)
        self.scheduler.load_state_dict(state["scheduler"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.accelerator.step = state["accumulated"]
        process = self.accelerator.process_index
        if process < state["processes"]:
            load_generators(folder / f"random-{process}.safetensors")
        if state["processes"] != self.accelerator.num_processes and self.accelerator.is_main_process:
            print(
                f"{folder} was written by {state['processes']} processes, and {self.accelerator.num_processes} go on: "
                "dropout will differ from an undisturbed run"
            )

    def _read_with_pickles(self, folder: Path) -> None:
        """A state of lemer 0.1.0, which accelerate wrote. It is loaded without executing code (`weights_only`)."""
        generators = folder / f"random_states_{self.accelerator.process_index}.pkl"
        if not generators.exists():  # accelerate would go on without them, and without a word
            raise ValueError(f"{generators.name} is missing")
        self.accelerator.load_state(str(folder))

    def _plain_model(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_generators(path: Path) -> None:
    """Write the states of this process's random generators."""
    version, internal, gauss = random.getstate()
    name, key, *position = np.random.get_state()  # noqa: NPY002  libraries draw from this generator
    numpy_key = torch.from_numpy(np.asarray(key, dtype=np.int64))
    tensors = {"python": torch.tensor(internal, dtype=torch.int64), "numpy": numpy_key}
    tensors["torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors |= {f"cuda.{device}": state for device, state in enumerate(torch.cuda.get_rng_state_all())}
    others = {"python": json.dumps([version, gauss]), "numpy": json.dumps([name, *position])}
    save_file(tensors, path, metadata=others)


def load_generators(path: Path) -> None:
    """Set this process's random generators as `save_generators` found them."""
    with safe_open(path, framework="pt") as file:
        tensors, others = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    version, gauss = json.loads(others["python"])
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    name, *position = json.loads(others["numpy"])
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), *position))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            if f"cuda.{device}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda.{device}"], device)


class JsonLinesTracker(GeneralTracker):
    """Writes a line with a JSON object for every update and every epoch to log.jsonl, which the reports read."""

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, path: Path):
        super().__init__()
        self.path = Path(path)

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def rewind(self, step: int):
        """Delete what a killed run logged after update `step`, at which it goes on; half a line at the end goes too."""
        if self.path.exists():
            lines = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
            write_atomically(self.path, "".join(line for line in lines if json.loads(line)["step"] <= step))

    @on_main_process
    def store_init_configuration(self, values: dict):
        pass  # they are in protocol.json

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

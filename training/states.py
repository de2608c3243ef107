"""The states that a killed training goes on from, and its log."""

import json
import os
import shutil
from pathlib import Path

from accelerate.tracking import GeneralTracker, on_main_process

from ..runtime.files import write_atomically, writing


class States:
    """
    The states of one training: folders `step-<n>`, of which only the newest complete one is kept.

    A state is what `accelerator.save_state` writes, and `progress.json`: updates, epochs, batches done of the epoch, and the
    best validation score. Beside it lies `best-<n>`, the weights with that score.
    """

    def __init__(self, folder: Path, accelerator):
        self.folder, self.accelerator = Path(folder), accelerator

    def _complete(self) -> list[Path]:
        states = [path for path in self.folder.glob("step-*") if path.suffix != ".tmp"]
        return sorted(states, key=lambda path: int(path.name.split("-")[1]))

    def load(self) -> dict | None:
        """Load the newest state into what the accelerator prepared, and return its progress; None if there is none."""
        complete = self._complete()
        if not complete:
            return None
        self.accelerator.load_state(str(complete[-1]))
        return json.loads((complete[-1] / "progress.json").read_text())

    def save(self, progress: dict):
        """Write a new state beside the old one, then delete the old one and weights that are no longer the best."""
        target = self.folder / f"step-{progress['step']:06d}"
        temporary = target.with_name(target.name + ".tmp")
        if self.accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with writing(target):
            self.accelerator.save_state(str(temporary))
        self.accelerator.wait_for_everyone()  # save_state has no barrier of its own
        if self.accelerator.is_main_process:
            (temporary / "progress.json").write_text(json.dumps(progress))
            shutil.rmtree(target, ignore_errors=True)
            os.replace(temporary, target)
            for old in self._complete()[:-1]:
                shutil.rmtree(old)
            for old in self.folder.glob("best-*"):
                if old.name != f"best-{progress['best_step']}":
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()


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

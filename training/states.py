"""States of a training that survive a kill, and its log."""

import json
import os
import shutil
from pathlib import Path

from accelerate.tracking import GeneralTracker, on_main_process

from ..runtime.files import write_atomically, writing


class States:
    """
    The states of one training run, `step-<n>` folders of which the newest complete one is kept.

    A state is `accelerator.save_state` and `progress.json`: step, epoch, batches of it done, best validation score.
    """

    def __init__(self, folder: Path, accelerator):
        self.folder, self.accelerator = Path(folder), accelerator

    def _complete(self) -> list[Path]:
        found = [path for path in self.folder.glob("step-*") if path.suffix != ".tmp"]
        return sorted(found, key=lambda path: int(path.name.split("-")[1]))

    def load(self) -> dict | None:
        """Go on from the newest state, if there is one; returns its progress."""
        complete = self._complete()
        if not complete:
            return None
        self.accelerator.load_state(str(complete[-1]))
        return json.loads((complete[-1] / "progress.json").read_text())

    def save(self, progress: dict):
        """Write a new state beside the old one, then drop the old one."""
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
    """One JSON object an update, in `log.jsonl`: needs no package and is read by the reports."""

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
        """Forget what a killed run logged after the state that it goes on from."""
        if self.path.exists():
            lines = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
            write_atomically(self.path, "".join(line for line in lines if json.loads(line)["step"] <= step))

    @on_main_process
    def store_init_configuration(self, values: dict):
        pass  # protocol.json of the run has them

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

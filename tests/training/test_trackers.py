"""Trackers beside log.jsonl: a missing package is named, and accelerate's tracker gets what the log has."""

import json
from types import SimpleNamespace

import pytest
from accelerate import tracking
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType

from lemer.training.loop import make_accelerator
from lemer.training.options import FREE, parse_args
from lemer.training.trackers import check_trackers, scalar_settings, start_trackers


class Recorder(GeneralTracker):
    """Stands for a tracker of accelerate, and writes down what it is told."""

    name, requires_logging_directory, made = "trackio", False, []

    def __init__(self, project, **options):
        super().__init__()
        self.heard = [("start", project, options)]
        Recorder.made.append(self)

    @property
    def tracker(self):
        return self.heard

    def store_init_configuration(self, values):
        self.heard.append(("settings", values))

    def log(self, values, step=None, **options):
        self.heard.append((step, values))


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD])
    check_trackers(["jsonl", "tensorboard"])
    with pytest.raises(ValueError, match=r"--report_to wandb: the package wandb is not installed. Try `pip install wandb`"):
        check_trackers(["tensorboard", "wandb"])


@pytest.mark.parametrize("step", [0, 3])
def test_a_tracker_gets_what_the_log_has(step, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TRACKIO])
    monkeypatch.setattr("accelerate.accelerator.LOGGER_TYPE_TO_CLASS", {"trackio": Recorder})
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "trackio", Recorder)
    folder = tmp_path / "C1" / "fold2" / "seed1"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps({"step": number, "loss": 2.0}) + "\n" for number in range(1, 6)))
    accelerator = make_accelerator(folder, report_to=["jsonl", "trackio"])
    start_trackers(accelerator, folder, step, {"epochs": 2})
    accelerator.log({"loss": 1.5}, step=step + 1)
    options = {"name": "C1-fold2-seed1", "resume": "allow" if step else "never"}
    assert Recorder.made[-1].heard == [("start", "lemer", options), ("settings", {"epochs": 2}), (step + 1, {"loss": 1.5})]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, step + 2)) and log[-1]["loss"] == 1.5


def test_settings_that_are_shown_name_no_folder_of_data():
    args = parse_args(["--output_dir", "runs/C1", "--data_dir", "IEMOCAP", "--epochs", "3"])
    shown = scalar_settings(args, FREE)
    assert shown["epochs"] == 3 and shown["recipe"] == "C1" and not {"data_dir", "output_dir", "seeds"} & set(shown)
    assert scalar_settings(SimpleNamespace(a=[1], b=None, c=True), set()) == {"c": True}

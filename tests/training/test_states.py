"""States of a training: a kill or a damaged file loses nothing, nothing is a pickle, what is loaded is what was saved."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from lemer.training import states as module
from lemer.training.states import States, load_generators, save_generators


class Training(SimpleNamespace):
    """A small model that has trained for some updates."""

    def update(self):
        loss = self.model(torch.randn(3, 4)).square().mean()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()

    def numbers(self) -> list[torch.Tensor]:
        states = self.optimizer.state_dict()["state"].values()
        moments = [state[name] for state in states for name in ("step", "exp_avg", "exp_avg_sq")]
        return [tensor.detach().clone() for tensor in (*self.model.parameters(), *moments)]


@pytest.fixture
def begin(tmp_path):
    def begin(updates: int = 0) -> Training:
        torch.manual_seed(0)
        accelerator = Accelerator(cpu=True)
        model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1 / (1 + update))
        model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
        states = States(tmp_path / "states", accelerator, model, optimizer, scheduler)
        training = Training(accelerator=accelerator, model=model, optimizer=optimizer, scheduler=scheduler, states=states)
        for _ in range(updates):
            training.update()
        return training

    return begin


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_state_that_was_loaded_goes_on_to_the_same_bits(begin):
    training = begin(3)
    training.states.save({"step": 3, "best_step": None})
    for _ in range(2):
        training.update()
    resumed = begin()
    assert resumed.states.load()["step"] == 3
    for _ in range(2):
        resumed.update()
    assert all(map(torch.equal, resumed.numbers(), training.numbers()))
    assert resumed.scheduler.get_last_lr() == training.scheduler.get_last_lr()


def test_a_state_holds_no_pickle(begin, tmp_path):
    begin(1).states.save({"step": 1, "best_step": None})
    expected = ["model.safetensors", "optimizer.safetensors", "progress.json", "random-0.safetensors", "state.json"]
    assert names(tmp_path / "states/step-000001") == expected


def test_a_kill_while_saving_leaves_the_state_before(begin, monkeypatch, tmp_path):
    training = begin(1)
    assert training.states.load() is None
    training.states.save({"step": 9, "best_step": None})
    training.states.save({"step": 10, "best_step": None})
    monkeypatch.setattr(module, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        training.states.save({"step": 11, "best_step": None})
    assert training.states.load()["step"] == 10
    monkeypatch.undo()
    training.states.save({"step": 11, "best_step": None})
    assert names(tmp_path / "states") == ["step-000010", "step-000011"]


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "random-0.safetensors", "state.json", "progress.json"]
)
@pytest.mark.parametrize("damage", ["cut", "missing", "empty"])
def test_a_damaged_state_is_named_and_the_one_before_is_taken(begin, tmp_path, capsys, file, damage):
    training = begin(1)
    training.states.save({"step": 1, "best_step": None})
    before = training.numbers()
    training.update()
    training.states.save({"step": 2, "best_step": None})
    path = tmp_path / "states/step-000002" / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    if damage == "missing":
        path.unlink()
    resumed = begin()
    assert resumed.states.load()["step"] == 1
    assert all(map(torch.equal, resumed.numbers(), before))
    assert "step-000002 cannot be read" in capsys.readouterr().out


def test_where_no_state_can_be_read_the_training_stops(begin, tmp_path):
    begin(1).states.save({"step": 1, "best_step": None})
    (tmp_path / "states/step-000001/random-0.safetensors").unlink()
    with pytest.raises(ValueError, match="none of the states in .* can be read: delete this folder"):
        begin().states.load()


def test_a_state_of_the_version_before_opens_and_one_without_generators_does_not(begin, tmp_path):
    training = begin(2)
    folder = tmp_path / "states/step-000002"
    training.accelerator.save_state(str(folder))
    (folder / "progress.json").write_text(json.dumps({"step": 2, "best_step": None}))
    resumed = begin()
    assert resumed.states.load()["step"] == 2
    assert all(map(torch.equal, resumed.numbers(), training.numbers()))
    (folder / "random_states_0.pkl").unlink()
    with pytest.raises(ValueError, match="none of the states"):
        begin().states.load()


def test_best_weights_that_one_of_the_two_states_names_are_kept(begin, tmp_path):
    training, folder = begin(1), tmp_path / "states"
    for step in (5, 10, 12):
        (folder / f"best-{step}").mkdir(parents=True)
    training.states.save({"step": 6, "best_step": 5})
    assert names(folder) == ["best-5", "step-000006"]
    (folder / "best-12").mkdir()
    training.states.save({"step": 12, "best_step": 12})
    assert names(folder) == ["best-12", "best-5", "step-000006", "step-000012"]
    training.states.save({"step": 18, "best_step": 12})
    assert names(folder) == ["best-12", "step-000012", "step-000018"]


def test_generators_go_on_where_they_were(tmp_path):
    def draw():
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()  # noqa: NPY002

    draw()  # an odd number of normal draws: one of each pair is still to be handed out
    save_generators(tmp_path / "generators.safetensors")
    expected = [draw() for _ in range(3)]
    load_generators(tmp_path / "generators.safetensors")
    assert [draw() for _ in range(3)] == expected


def test_a_run_of_other_processes_goes_on_and_says_so(begin, tmp_path, capsys):
    training = begin(1)
    training.states.save({"step": 1, "best_step": None})
    path = tmp_path / "states/step-000001/state.json"
    state = path.read_text().replace('"processes": 1', '"processes": 2')
    path.write_text(state)
    assert begin().states.load()["step"] == 1
    assert "was written by 2 processes, and 1 go on" in capsys.readouterr().out

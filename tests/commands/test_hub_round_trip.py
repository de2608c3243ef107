"""Publishing and opening again over HTTP: the real client and the real Auto classes against a Hub on loopback, with faults.

Three kinds of process take part: this one holds the Hub, one publishes whatever the tests ask for, and fresh ones that have
never heard of the package open what was published, at last without any network.
"""

import json
import os
import subprocess
import sys

import pytest
import soundfile
import torch
from hub_server import FOREVER, Account, HubServer, Refusal
from runs import write_run
from safetensors.torch import load_file, save_file
from tiny import tiny_batch

from lemer import LemerModel

TOKENS = {"hf_ann": Account("ann"), "hf_reader": Account("ann", "read"), "hf_bob": Account("bob")}

# Publishes, in one process for all tests: answers each JSON line with the exit code and what was printed.
PUBLISHER = """
import contextlib, io, json, sys, time

sleep = time.sleep
time.sleep = lambda seconds: sleep(seconds / 100)  # the waits between tries

from transformers import AutoModel, AutoProcessor, Trainer, TrainingArguments
from lemer import publish


def push(checkpoint, name):
    AutoModel.from_pretrained(checkpoint).push_to_hub(name, token="hf_ann")
    AutoProcessor.from_pretrained(checkpoint).push_to_hub(name, token="hf_ann")
    return 0


def push_processor(checkpoint, name, history, in_saving):
    processor = AutoProcessor.from_pretrained(checkpoint)
    processor.max_history = history
    if in_saving:
        processor.save_pretrained("saved", push_to_hub=True, repo_id=name, token="hf_ann")
    else:
        processor.push_to_hub(name, token="hf_ann")
    return 0


def save_model(checkpoint, name):
    AutoModel.from_pretrained(checkpoint).save_pretrained("pushed", push_to_hub=True, repo_id=name, token="hf_ann")
    return 0


def damage(name, revision=None):
    print(AutoModel.from_pretrained(name, revision=revision, token="hf_ann").damage)
    return 0


def train(checkpoint, name, folder):
    processor = AutoProcessor.from_pretrained(checkpoint)
    rows = [{"label": index, "text": "you won the day", "audio": [0.1, -0.1] * 400} for index in range(2)]

    def collate(rows):
        audio, text = ([row[name] for row in rows] for name in ("audio", "text"))
        batch = processor(audio, text, sampling_rate=16_000, return_tensors="pt")
        return {**batch, "labels": torch.tensor([row["label"] for row in rows])}

    arguments = TrainingArguments(
        folder, max_steps=1, use_cpu=True, report_to=[], disable_tqdm=True, remove_unused_columns=False, push_to_hub=True,
        hub_strategy="end", hub_model_id=name, hub_token="hf_ann", save_strategy="no",
    )
    trainer = Trainer(
        AutoModel.from_pretrained(checkpoint), arguments, collate, train_dataset=rows, processing_class=processor
    )
    trainer.train()
    trainer.push_to_hub()
    return 0


import torch

commands = {"publish": publish.main, **{done.__name__: done for done in (push, push_processor, save_model, damage, train)}}
for line in sys.stdin:
    what, *arguments = json.loads(line)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = commands[what](*arguments)
        except SystemExit as stopped:
            code = stopped.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
"""

# Opens repositories in the place of a user: no package, another folder, only a token; prints what was found.
STRANGER = """
import contextlib, io, json, re, sys

sys.modules["lemer"] = None  # an import of the package would raise

import torch
import transformers
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

folder, names = sys.argv[1], sys.argv[2:]
facts = {}
for name in names:
    key = name.replace("/", "--")
    batch = load_file(f"{folder}/{key}.batch.safetensors")
    model = transformers.AutoModel.from_pretrained(name, trust_remote_code=True)
    processor = transformers.AutoProcessor.from_pretrained(name, trust_remote_code=True)
    recognise = transformers.pipeline(model=name, trust_remote_code=True)
    with torch.no_grad():
        save_file({"logits": model(**batch).logits}, f"{folder}/{key}.logits.safetensors")
    state = {tensor: value.contiguous() for tensor, value in model.state_dict().items()}
    save_file(state, f"{folder}/{key}.state.safetensors")
    example = {"audio": "recording.wav"} if "input_values" in batch else {}
    example.update({"text": "we won"} if "input_ids" in batch else {})
    printed = []
    if "publish.py" in (text := ModelCard.load(name).text):
        for code in re.findall("```python\\n(.*?)```", text, re.DOTALL):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(code, {})
            printed.append(out.getvalue())
    facts[name] = {
        "module": [type(thing).__module__.split(".")[0] for thing in (model, processor, recognise)],
        "history": processor.max_history,
        "answer": recognise(example),
        "printed": printed,
    }
autos = ("AutoConfig", "AutoModelForAudioClassification", "AutoModelForSequenceClassification")
found = [type(getattr(transformers, auto).from_pretrained(names[0], trust_remote_code=True)).__name__ for auto in autos]
try:
    transformers.AutoModel.from_pretrained("bob/closed", trust_remote_code=True)
except OSError as error:
    closed = str(error)
print(json.dumps({"opened": facts, "autos": found, "closed": closed}))
"""


@pytest.fixture(scope="module")
def hub():
    with HubServer(TOKENS) as hub:
        yield hub


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where users keep their things: runs, caches, recordings."""
    return tmp_path_factory.mktemp("place")


def user_environment(hub, place, **more) -> dict:
    """Of somebody who has nothing of the tests' environment but the interpreter."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**kept, **quiet, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(place / "home"), **more}


@pytest.fixture(scope="module")
def ask(hub, place):
    """A function that has the publishing process do something: (exit code, stdout, stderr)."""
    (place / "publisher").mkdir()
    with open(place / "publisher.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER],
            cwd=place / "publisher",
            env=user_environment(hub, place / "publisher"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

        def ask(what, *arguments):
            process.stdin.write(json.dumps([what, *arguments]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, (place / "publisher.log").read_text()[-4000:]
            return json.loads(answer)

        yield ask
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def run(place):
    return write_run(place / "runs/C1", seeds=(0,))


@pytest.fixture
def publish(hub, ask, run):
    """publish.py with ann's token; faults end with the test."""
    hub.recover()

    def publish(name, *options, run=run, token="hf_ann"):
        return ask("publish", [str(run), name, *(["--token", token] if token else []), *options])

    yield publish
    hub.recover()


# --------------------------------------------------------------------------------------------------------- publishing


def test_a_run_becomes_a_repository_in_one_commit(publish, hub, run, place):
    code, out, err = publish("ann/first")
    repository = hub.repositories["ann/first"]
    assert (code, err) == (0, "") and f"{hub.url}/ann/first/commit/{repository.head}" in out
    assert repository.messages == ["initial commit", "Publish C1, fold 1, seed 0"] and not repository.private
    assert repository.files["model.safetensors"] == (run / "fold1/seed0/checkpoint/model.safetensors").read_bytes()


def test_what_is_published_is_what_a_dry_run_writes(publish, hub, place):
    publish("ann/same")
    assert publish("ann/same", "--dry-run", "--output_dir", str(place / "dry"))[0] == 0
    written = {path.name: path.read_bytes() for path in (place / "dry").iterdir()}
    assert written == {name: content for name, content in hub.repositories["ann/same"].files.items() if name[0] != "."}


def test_nothing_changed_is_no_commit(publish, hub):
    publish("ann/twice")
    code, out, _ = publish("ann/twice")
    assert code == 0 and "nothing has changed" in out and len(hub.repositories["ann/twice"].commits) == 2


def test_an_update_is_one_commit_and_leaves_other_files(publish, hub, run):
    hub.make("ann/update", files={"notes.txt": b"mine", "README.md": b"---\n---\nold"})
    code, out, _ = publish("ann/update", "--fold", "2")
    repository = hub.repositories["ann/update"]
    assert code == 0 and "left as they were: notes.txt" in out and len(repository.commits) == 2
    assert repository.files["notes.txt"] == b"mine" and b"fold 2" in repository.files["README.md"]
    assert publish("ann/update")[0] == 0 and len(repository.commits) == 3
    assert repository.files["model.safetensors"] == (run / "fold1/seed0/checkpoint/model.safetensors").read_bytes()


def test_a_private_repository(publish, hub):
    code, out, _ = publish("ann/secret", "--private")
    assert code == 0 and "private" in out and hub.repositories["ann/secret"].private


def test_private_is_not_silently_public(publish, hub):
    hub.make("ann/open")
    code, _, err = publish("ann/open", "--private")
    assert code == 1 and "is public" in err and len(hub.repositories["ann/open"].commits) == 1


def test_a_processor_that_is_pushed_alone_keeps_the_checkpoint_whole(publish, ask, hub, run):
    """Its new files' checksums are in the same commit, and what does not fit is refused at any revision."""
    publish("ann/alone")
    checkpoint, repository = str(run / "fold1/seed0/checkpoint"), hub.repositories["ann/alone"]
    for history, in_saving in ((2, False), (4, True)):
        before = len(repository.commits)
        assert ask("push_processor", checkpoint, "ann/alone", history, in_saving)[0] == 0
        assert json.loads(repository.files["processor_config.json"])["max_history"] == history
        assert len(repository.commits) == before + 1 and ask("damage", "ann/alone")[1] == "[]\n"
    whole = repository.head
    repository.commit({**repository.files, "processor_config.json": b"{}"}, "by hand")
    assert ask("damage", "ann/alone")[1] == "['processor_config.json is not the file that was saved']\n"
    assert ask("damage", "ann/alone", whole)[1] == "[]\n"


def test_a_model_that_is_pushed_in_saving_has_its_checksums(ask, hub, run):
    assert ask("save_model", str(run / "fold1/seed0/checkpoint"), "ann/saved")[0] == 0
    assert "checksums" in json.loads(hub.repositories["ann/saved"].files["config.json"])
    assert ask("damage", "ann/saved")[1] == "[]\n"


def test_a_repository_that_is_there_already_without_an_address_is_published_to(publish, hub):
    """As where the Hub answers 409 without one: another process made it between two questions."""

    def race():
        hub.make("ann/raced")
        raise Refusal(409, message="You already created this model repo")

    hub.fail("create", race)
    code, out, _ = publish("ann/raced")
    assert code == 0 and "published in one commit" in out


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("ann/x", None, "no token"),
        ("ann/x", "hf_nobody", "does not know this token"),
        ("ann/x", "hf_reader", "may only read"),
        ("ann/theirs", "hf_bob", "may not write to ann/theirs (403)"),
        ("ann/hidden", "hf_bob", "ann/hidden"),
        ("ann/x", "hf_bob", "may not write to ann/x (403)"),
    ],
)
def test_who_may_not_is_told_so_in_one_line_and_nothing_is_changed(name, token, message, publish, hub):
    hub.make("ann/theirs")
    hub.make("ann/hidden", private=True)
    code, out, err = publish(name, token=token)
    assert (code, out) == (1, "") and len(err.splitlines()) == 1 and err.startswith("publish.py: ") and message in err
    assert "ann/x" not in hub.repositories and not hub.asked["commit"]
    assert all(len(hub.repositories[one].commits) == 1 for one in ("ann/theirs", "ann/hidden"))


def test_somebody_elses_commit_in_between_is_not_mixed_with_ours(publish, hub):
    repository = hub.make("ann/busy")
    hub.fail("commit", lambda: repository.commit({**repository.files, "README.md": b"---\n---\ntheirs"}, "theirs"))
    code, _, err = publish("ann/busy")
    assert code == 1 and "somebody else changed ann/busy" in err
    assert repository.messages == ["initial commit", "theirs"] and "model.safetensors" not in repository.files


def test_a_commit_that_holds_something_else_is_noticed(publish, hub):
    repository = hub.make("ann/wrong")

    def shorten():
        repository.files["config.json"] = b"{}"

    publish("ann/wrong")
    hub.fail("info", lambda: hub.fail("info", shorten))  # the second look is that after the commit
    code, _, err = publish("ann/wrong")
    assert code == 1 and "does not hold what was sent: config.json" in err


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("place_of_fault", "kind"),
    [
        ("whoami", 503),
        ("create", 500),
        ("create", "lost"),
        ("info", "cut"),
        ("validate", 500),
        ("preupload", 500),
        ("batch", 503),
        ("upload", "cut"),
        ("upload", 500),
        ("verify", "lost"),
        ("commit", 500),
        ("commit", 429),
        ("commit", "cut"),
        ("commit", "lost"),
    ],
)
def test_a_fault_of_the_moment_is_overcome_with_one_commit(place_of_fault, kind, publish, hub):
    name = f"ann/once-{place_of_fault}-{kind}"
    hub.stored.clear()
    hub.fail(place_of_fault, kind)
    code, out, err = publish(name)
    assert code == 0 and "published in one commit" in out, err
    assert len(hub.repositories[name].commits) == 2
    # Of a commit whose answer was lost, the second try finds every file there and asks for no other.
    assert hub.asked["preupload" if place_of_fault == "commit" else place_of_fault] >= 2


@pytest.mark.parametrize(
    ("place_of_fault", "kind", "message"),
    [
        ("whoami", "cut", "or it broke again"),
        ("create", 500, "answers 500 again and again"),
        ("info", 502, "answers 502"),
        ("validate", 500, "cannot be read"),
        ("batch", 503, "answers 503"),
        ("upload", "cut", "Error while uploading 'model.safetensors'"),
        ("commit", 500, "answers 500"),
        ("commit", 429, "answers 429"),
        ("commit", "cut", "or it broke again"),
    ],
)
def test_a_fault_that_stays_is_one_clear_line_and_an_untouched_repository(place_of_fault, kind, message, publish, hub):
    name = f"ann/never-{place_of_fault}-{kind}"
    if place_of_fault != "create":
        hub.make(name, files={"README.md": b"---\n---\nas it was"})
    hub.stored.clear()
    hub.fail(place_of_fault, kind, FOREVER)
    code, out, err = publish(name)
    last = err.splitlines()[-1]
    assert (code, out) == (1, "") and last.startswith("publish.py: ") and message in last and "the same command" in last
    assert not [line for line in err.splitlines()[:-1] if "trying again" not in line]
    if name in hub.repositories:
        assert hub.repositories[name].messages == ["initial commit"]
    hub.recover()
    assert publish(name)[0] == 0  # and the same command ends it


def test_answers_lost_for_ever_after_the_commit_still_make_one_commit(publish, hub):
    hub.fail("commit", "lost", FOREVER)
    code, out, _ = publish("ann/unheard")
    assert code == 0 and "published in one commit" in out and len(hub.repositories["ann/unheard"].commits) == 2


# ------------------------------------------------------------------------------------------------------------ opening


@pytest.fixture(scope="module")
def originals(hub, ask, run, place):
    """Everything published in every way: {name: model and batch of the tests}."""
    hub.recover()
    write_run(place / "runs/speech", folds=(1,), seeds=(0,), modality="speech")
    write_run(place / "runs/text", folds=(1,), seeds=(0,), modality="text")
    for name, folder in (("ann/c1", run), ("ann/c1-speech", place / "runs/speech"), ("ann/c1-text", place / "runs/text")):
        assert ask("publish", [str(folder), name, "--token", "hf_ann"])[0] == 0
    assert ask("publish", [str(run), "ann/secret", "--private", "--token", "hf_ann"])[0] == 0
    hub.make("bob/closed", private=True)
    checkpoint = str(run / "fold1/seed0/checkpoint")
    assert ask("push", checkpoint, "ann/pushed")[0] == 0
    assert ask("train", checkpoint, "ann/trained", str(place / "trained"))[0] == 0
    folders = {
        "ann/c1": checkpoint,
        "ann/c1-speech": place / "runs/speech/fold1/seed0/checkpoint",
        "ann/c1-text": place / "runs/text/fold1/seed0/checkpoint",
        "ann/pushed": checkpoint,
        "ann/trained": place / "trained",
        "ann/secret": checkpoint,
    }
    return {name: LemerModel.from_pretrained(folder).eval() for name, folder in folders.items()}


@pytest.fixture(scope="module", params=["over HTTP", "from the cache, without network"])
def opened(request, hub, place, originals):
    """What a fresh process found in the repositories, and the folder of tensors it wrote."""
    elsewhere = place / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    soundfile.write(elsewhere / "recording.wav", 0.1 * torch.randn(6000).numpy(), 8000)
    for name, model in originals.items():
        batch = tiny_batch(modality=model.config.modality)
        save_file(batch, elsewhere / f"{name.replace('/', '--')}.batch.safetensors")
    names, more = list(originals), {"HF_TOKEN": "hf_ann"}
    if request.param != "over HTTP":
        names, more = names[:2], {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    hub.recover()
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, str(elsewhere), *names],
        cwd=elsewhere,
        env=user_environment(hub, place / "stranger", **more),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert bool(hub.asked) == (request.param == "over HTTP")
    return {**json.loads(done.stdout.splitlines()[-1]), "how": request.param, "folder": elsewhere}


def tensors(opened, name, kind) -> dict[str, torch.Tensor]:
    return load_file(opened["folder"] / f"{name.replace('/', '--')}.{kind}.safetensors")


def test_every_tensor_is_equal_to_the_bit(opened, originals):
    for name in opened["opened"]:
        found, expected = tensors(opened, name, "state"), originals[name].state_dict()
        assert found.keys() == expected.keys(), name
        assert all(torch.equal(found[key], expected[key]) for key in expected), name


def test_logits_are_the_trained_models(opened, originals):
    for name in opened["opened"]:
        with torch.no_grad():
            expected = originals[name](**tensors(opened, name, "batch")).logits
        torch.testing.assert_close(tensors(opened, name, "logits")["logits"], expected, rtol=0, atol=1e-6)


def test_model_processor_and_pipeline_are_the_repositorys_own_code(opened):
    for name, facts in opened["opened"].items():
        assert facts["module"] == ["transformers_modules"] * 3 and facts["history"] == 3, name
    assert opened["autos"] == ["LemerConfig", "LemerModel", "LemerModel"]


def test_the_pipeline_answers_with_every_label(opened):
    for facts in opened["opened"].values():
        assert sorted(one["label"] for one in facts["answer"]) == ["ang", "hap", "neu", "sad"]
        assert sum(one["score"] for one in facts["answer"]) == pytest.approx(1, abs=1e-5)


def test_the_commands_of_the_card_work_as_printed(opened):
    printed = {name: facts["printed"] for name, facts in opened["opened"].items() if facts["printed"]}
    assert printed.keys() >= {"ann/c1", "ann/c1-speech"}
    for blocks in printed.values():  # of the pipeline, of AutoModel: a label and its score a line
        by_label, scores = ({line.split()[0]: float(line.split()[1]) for line in out.splitlines()} for out in blocks)
        assert scores == pytest.approx(by_label, abs=0.0101) and sum(by_label.values()) == pytest.approx(1, abs=0.03)


def test_somebody_elses_private_repository_is_not_shown(opened):
    expected = "private repository" if opened["how"] == "over HTTP" else "couldn't connect"
    assert expected in opened["closed"]


def test_push_to_hub_writes_the_same_files_but_for_the_card(hub, originals):
    by_publish, by_push = hub.repositories["ann/c1"].files, hub.repositories["ann/pushed"].files
    changed = ("README.md", "config.json")
    assert {name: content for name, content in by_push.items() if name not in changed} == {
        name: content for name, content in by_publish.items() if name not in changed
    }


def test_a_pushed_model_lists_the_checksums_of_what_was_pushed_with_it(hub, originals):
    published, pushed = (json.loads(hub.repositories[name].files["config.json"]) for name in ("ann/c1", "ann/pushed"))
    files, pushed_files = published["checksums"].pop("files"), pushed["checksums"].pop("files")
    assert published == pushed  # the settings' checksum too
    assert pushed_files == files  # the processor, which was pushed by itself, renewed them
    assert {"tokenizer.json", "processor_config.json"} < set(files)

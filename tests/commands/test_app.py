"""The page: what it refuses and how it says so, its answers, and the server alone, through its API, in a browser."""

import html
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from tiny import tiny_config, tiny_cross_modal, tiny_model, tiny_processor
from tiny_asr import write_tiny_asr
from transformers import pipeline

from lemer import LemerModel, LemerPipeline, app, audio_lemer

RATE = 16_000  # Hz
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
TEXT, HISTORY = "you are so late again", ["hello", "we won this table"]
HTML = "<img src=x onerror=\"document.title='taken'\"><b>you are late</b>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def made(modality="multimodal", **settings) -> LemerPipeline:
    return LemerPipeline(tiny_model(modality=modality), tiny_processor(**settings), device="cpu")


@pytest.fixture(scope="module")
def pipe():
    return made()


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "noise.wav"
    soundfile.write(path, NOISE, RATE, subtype="FLOAT")
    return str(path)


# ------------------------------------------------------------------------------------------------------- what is refused

RECORDINGS = {
    "too short": (NOISE[:1599], "too short"),
    "silent": (0 * NOISE, "silent"),
    "constant": (0 * NOISE + 0.5, "silent"),
    "below a 16-bit step": (NOISE * 1e-5, "silent"),
    "too long": (np.tile(NOISE, 31), "longer than the 30 seconds that this page takes"),
}


@pytest.mark.parametrize("samples, reason", RECORDINGS.values(), ids=RECORDINGS)
def test_a_recording_without_an_utterance_is_refused(pipe, tmp_path, samples, reason):
    soundfile.write(tmp_path / "given.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(app.Refused, match=reason) as refused:
        app.recognise(pipe, None, str(tmp_path / "given.wav"), TEXT)
    assert str(tmp_path) not in str(refused.value)  # nothing of the server is shown


@pytest.mark.parametrize("content", [b"", b"<b>no sound</b>", b"RIFF" + bytes(60)], ids=["empty", "text", "damaged"])
def test_a_file_that_is_no_recording_is_refused(pipe, tmp_path, content):
    (tmp_path / "given.wav").write_bytes(content)
    with pytest.raises(app.Refused, match="cannot be read as a recording") as refused:
        app.recognise(pipe, None, str(tmp_path / "given.wav"), TEXT)
    assert "given" not in str(refused.value)


def test_a_long_recording_is_refused_before_it_is_decoded_to_its_end(pipe, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "long.flac", np.zeros(RATE * 600), RATE)
    decode, decoded = audio_lemer.decode, []

    def counted(*args):
        for rate, samples in decode(*args):
            decoded.append(len(samples))
            yield rate, samples

    monkeypatch.setattr(audio_lemer, "decode", counted)
    with pytest.raises(app.Refused, match="longer than the 30 seconds"):
        app.recognise(pipe, None, str(tmp_path / "long.flac"))
    assert sum(decoded) <= 2**22  # one block


def test_the_processor_may_set_a_lower_limit(tmp_path):
    soundfile.write(tmp_path / "given.wav", np.tile(NOISE, 3), RATE)
    with pytest.raises(app.Refused, match="longer than the 2.5 seconds"):
        app.recognise(made(max_audio_seconds=2.5), None, str(tmp_path / "given.wav"))


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_thirty_seconds_at_any_rate_are_not_too_long(tmp_path, rate):
    soundfile.write(tmp_path / "given.wav", np.random.default_rng(1).normal(0, 0.1, 30 * rate), rate)
    assert len(app.read_recording(str(tmp_path / "given.wav"), RATE, 30.0)) == 30 * RATE


@pytest.mark.parametrize(
    "modality, wanted", [("multimodal", "recording, words"), ("speech", "recording"), ("text", "words")]
)
def test_no_input_is_refused_and_what_is_wanted_is_named(modality, wanted):
    for nothing in ({}, {"text": " \n"}, {"history": "hello"}):
        with pytest.raises(app.Refused, match=f"nothing to answer yet: give (a )?{wanted}"):
            app.recognise(made(modality), None, **nothing)


def test_a_book_is_refused(pipe):
    with pytest.raises(app.Refused, match="more than 5,000 characters"):
        app.recognise(pipe, None, None, "late " * 500, "you " * 1000)


def test_a_model_without_branches_wants_both(wav):
    pipe = LemerPipeline(tiny_cross_modal(), tiny_processor(), device="cpu")
    for one in ({"audio": wav}, {"text": TEXT}):
        with pytest.raises(app.Refused, match="give both"):
            app.recognise(pipe, None, **one)
    assert app.recognise(pipe, None, wav, TEXT)["answered"] == "Speech and words together."


# ------------------------------------------------------------------------------------------------------------- answers


def test_the_answer_is_the_pipelines(pipe, wav):
    answer = app.recognise(pipe, None, wav, f" {TEXT}\n", "hello\n\n  \nwe won this table\n")
    assert answer["scores"] == pipe({"audio": wav, "text": TEXT, "history": HISTORY})
    assert (answer["text"], answer["history"]) == (TEXT, HISTORY)
    assert (answer["answered"], answer["warnings"]) == ("Speech and words together.", [])


def test_one_modality_answers_alone_and_says_that_its_scores_are_flat(pipe, wav):
    speech, words = app.recognise(pipe, None, wav), app.recognise(pipe, None, None, TEXT)
    assert speech["scores"] == pipe({"audio": wav}) and words["scores"] == pipe({"text": TEXT})
    assert speech["answered"].startswith("Speech alone. Without words the scores are flat")
    assert words["answered"].startswith("Words alone. Without a recording the scores are flat")
    assert app.recognise(made("speech"), None, wav)["answered"] == "Speech alone."


def test_words_are_transcribed_only_where_none_are_typed(pipe, wav):
    def asr(one):
        assert one["sampling_rate"] == RATE
        np.testing.assert_array_equal(one["raw"], NOISE)
        return {"text": " we won the day "}

    answer = app.recognise(pipe, asr, wav, " ", "hello")
    assert answer["answered"] == "Speech and words together.\nHeard: we won the day"
    assert answer["scores"] == pipe({"audio": wav, "text": "we won the day", "history": ["hello"]})
    assert "Heard" not in app.recognise(pipe, asr, wav, TEXT)["answered"]


def test_no_words_heard_is_said(pipe, wav):
    answer = app.recognise(pipe, lambda one: {"text": " "}, wav)
    assert answer["answered"].startswith("Speech alone.") and answer["answered"].endswith(
        "No words were heard in the recording."
    )
    with pytest.raises(app.Refused, match="reads words only: type them"):
        app.recognise(made("text"), lambda one: {"text": " "}, wav)


def test_what_has_no_effect_is_warned_of(pipe, wav):
    (warning,) = app.recognise(pipe, None, wav, "", "hello")["warnings"]
    assert warning.startswith("Earlier turns go before words")
    (warning,) = app.recognise(made(max_text_length=6), None, wav, TEXT)["warnings"]
    assert warning == "Not all words were read, only the first 6 pieces of them."
    assert app.recognise(made(max_text_length=7), None, wav, TEXT)["warnings"] == []


def test_an_answer_that_is_more_often_wrong_than_right_is_called_unsure(wav):
    pipe = made("speech")
    for bias, said in ((9.0, "angry"), (0.0, "not sure, perhaps ")):
        with torch.no_grad():
            pipe.model.classifier.bias[0] = bias
        assert app.recognise(pipe, None, wav)["emotion"].startswith(said)
    assert app.recognise(made(), None, wav)["emotion"].startswith("not sure, perhaps ")  # flat scores


@pytest.mark.parametrize("model", [tiny_model, tiny_cross_modal])
def test_what_decided_is_shown_for_every_model(model, wav):
    pipe = LemerPipeline(model(), tiny_processor(), device="cpu")
    shown = app.explain(pipe, app.recognise(pipe, None, wav, HTML))
    assert shown.count("</li>") == len(HTML.split()) and shown.count("<rect") == 2  # a second of noise
    assert html.escape(HTML.split()[-1]) in shown and "<img" not in shown and "<b>" not in shown


def test_what_decided_is_of_what_answered(wav):
    """And not of a classifier that is not trained for the labels, or of words that are none to the tokenizer."""
    from lemer.evaluation.occlusion_html import percent

    pipe = made()
    pipe.model.set_labels(["ang", "proud"], words={"proud": ["great day"]}, processor=pipe.processor)
    answer = app.recognise(pipe, None, wav, "late")
    assert answer["answered"].startswith("Words alone.")
    shown = app.explain(pipe, answer)
    assert "<rect" not in shown and f">alone {percent(answer['scores'][0]['score'])}</span>" in shown
    answer = app.recognise(made(), None, wav, "\u200b")
    assert answer["answered"].startswith("Speech alone.") and "<li " not in app.explain(made(), answer)


def test_the_microphone_is_answered_every_two_seconds_from_the_newest_four(pipe):
    samples = (np.tile(NOISE, 7) * 20_000).astype(np.int16)
    heard = None
    for chunk in np.split(samples, 28):  # quarters of a second
        heard = app.listen(pipe, heard, (RATE, chunk))
    assert [(begin, end) for begin, end, _ in heard["answers"]] == [(2.0, 6.0), (0.0, 4.0), (0.0, 2.0)]
    best = pipe({"array": samples[2 * RATE : 6 * RATE] / np.float32(32_768), "sampling_rate": RATE})[0]["label"]
    assert heard["answers"][0][2] == f"not sure, perhaps {app.spelled_out(best)}"
    silent = app.listen(pipe, None, (RATE, np.zeros((3 * RATE, 2), np.int16)))
    assert silent["answers"] == [(0.0, 3.0, None)] and app.listen(pipe, silent, None) == silent


# ------------------------------------------------------------------------------------------------------ the command line


def refusal(capsys, *arguments) -> str:
    try:
        status = app.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    return capsys.readouterr().err


@pytest.fixture
def main_here(monkeypatch):
    """`app.main` leaves this process as it was, and finds some gradio."""
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in ("CHECKPOINT", "ASR", "EXAMPLES"):
        os.environ.pop(f"LEMER_{name}", None)
    monkeypatch.setitem(sys.modules, "gradio", ModuleType("gradio"))


def test_help_teaches_the_arguments_and_the_space(capsys, main_here):
    with pytest.raises(SystemExit, match="0"):
        app.main(["--help"])
    text = capsys.readouterr().out
    assert all(
        word in text for word in ("CHECKPOINT", "--asr", "--examples", "--port", "--host", "LEMER_CHECKPOINT", "Space")
    )


def test_a_checkpoint_must_be_named(capsys, main_here):
    assert "LEMER_CHECKPOINT" in refusal(capsys)


def test_arguments_stand_in_the_environment_of_a_space_and_are_overruled(main_here):
    os.environ.update(LEMER_CHECKPOINT="user/name", LEMER_ASR="user/asr", LEMER_EXAMPLES="")
    _, args = app.parse_args([])
    assert (args.checkpoint, args.asr, args.examples) == ("user/name", "user/asr", "")
    assert app.parse_args(["other"])[1].checkpoint == "other"


def test_without_gradio_the_way_to_it_is_said(capsys, main_here, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'lemer[app]'" in refusal(capsys, "folder")


def test_an_untrained_checkpoint_is_refused_with_the_reason(capsys, main_here, tmp_path):
    LemerModel(tiny_config()).save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    assert "are not trained, so that its answers would be random" in refusal(capsys, tmp_path)


EXAMPLES = {
    "no such recording": ('{"audio": "gone.wav"}', "row 1: there is no recording"),
    "history as a string": ('{"text": "late", "history": "hello"}', "row 1: history must be a list"),
    "no rows": ("", "has no rows"),
    "no JSON": ('{"text": "late"}\n{"text"', "after 1 row"),
}


@pytest.mark.parametrize("content, reason", EXAMPLES.values(), ids=EXAMPLES)
def test_examples_that_cannot_be_shown_are_refused_at_the_start(capsys, main_here, tmp_path, content, reason):
    (tmp_path / "examples.jsonl").write_text(content)
    assert reason in refusal(capsys, "folder", "--examples", tmp_path / "examples.jsonl")


# ------------------------------------------------------------------------------------------------------------ the server

# Loaded by the server's Python at its start: names every address outside this machine that it asks for.
WATCH = """
import sys
def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.connect"):
        address = args[0] if event == "socket.getaddrinfo" else args[1]
        host = address[0] if isinstance(address, tuple) else address
        if host not in (None, "", "127.0.0.1", "localhost", "0.0.0.0", "::1"):
            print("OUTSIDE", event, address, file=sys.stderr, flush=True)
sys.addaudithook(watch)
"""


class Server:
    """`python app.py` without arguments in a folder that holds nothing else, as on a Space."""

    def __init__(self, folder: Path, **variables):
        self.work, self.temporary, site = folder / "work", folder / "temporary", folder / "site"
        for made in (self.work, self.temporary, site):
            made.mkdir()
        (site / "sitecustomize.py").write_text(WATCH)
        shutil.copy(app.__file__, self.work)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        variables |= {"GRADIO_SERVER_PORT": str(port), "TMPDIR": str(self.temporary), "PYTHONPATH": str(site)}
        self.log = open(folder / "log.txt", "w+")
        self.process = subprocess.Popen(
            [sys.executable, "-B", "app.py"],
            cwd=self.work,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        line = self.process.stdout.readline()  # ends where the process ends, too
        assert self.url in line, self.errors()

    def errors(self) -> str:
        self.log.flush()
        return Path(self.log.name).read_text()

    def end(self):
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory, pipe, wav):
    pytest.importorskip("gradio.route_utils")  # a folder called gradio is not enough
    folder = tmp_path_factory.mktemp("app")
    pipe.save_pretrained(folder / "checkpoint")
    (folder / "examples.csv").write_text(f'audio,text\n{wav},{TEXT}\n,"{HTML.replace(chr(34), chr(34) * 2)}"\n')
    server = Server(
        folder,
        LEMER_CHECKPOINT=str(folder / "checkpoint"),
        LEMER_ASR=write_tiny_asr(folder / "asr"),
        LEMER_EXAMPLES=str(folder / "examples.csv"),
    )
    yield server
    server.process.kill()
    server.process.wait(60)


@pytest.fixture(scope="module")
def client(server):
    from gradio_client import Client

    return Client(server.url, verbose=False, download_files=False)


def ask(client, audio=None, text="", history=""):
    from gradio_client import handle_file

    return client.predict(audio and handle_file(audio), text, history, api_name="/recognise")


def test_the_page_answers_as_the_pipeline_and_says_what_decided(client, pipe, wav):
    label, answered, decided = ask(client, wav, TEXT, "\n".join(HISTORY))
    expected = pipe({"audio": wav, "text": TEXT, "history": HISTORY})
    scores = {one["label"]: one["confidence"] for one in label["confidences"]}
    assert scores == pytest.approx({app.spelled_out(one["label"]): one["score"] for one in expected}, abs=1e-5)
    assert label["label"] == app.spelled_out(expected[0]["label"])
    assert answered == "Speech and words together."
    assert decided == app.explain(pipe, app.recognise(pipe, None, wav, TEXT, "\n".join(HISTORY)))


def test_words_left_blank_are_transcribed_by_the_model_named(server, client, pipe, wav):
    asr = pipeline("automatic-speech-recognition", model=str(server.work.parent / "asr"))
    heard = asr({"raw": NOISE, "sampling_rate": RATE})["text"]
    assert ask(client, wav)[1] == f"Speech and words together.\nHeard: {heard}"


def test_refusals_reach_the_person_in_plain_words(client, server, tmp_path):
    from gradio_client.exceptions import AppError

    (tmp_path / "not_audio.wav").write_text(HTML)
    for arguments, reason in (
        ((), "There is nothing to answer yet"),
        ((str(tmp_path / "not_audio.wav"),), "cannot be read"),
    ):
        with pytest.raises(AppError, match=reason) as error:
            ask(client, *arguments)
        assert str(server.temporary) not in str(error.value)


def test_a_program_is_told_which_field_is_wrong(client):
    from gradio_client.exceptions import AppError

    for arguments, reason in (
        ((None, 5, ""), "text must be a text, got a int"),
        ((None, TEXT, HISTORY), "history must be a text, got a list"),
        (("nothing", TEXT, ""), "audio must be a recording that was uploaded"),
    ):
        with pytest.raises(AppError, match=reason):
            client.predict(*arguments, api_name="/recognise")


def test_the_description_of_the_server_is_closed(server):
    import httpx

    closed = ("openapi.json", "docs", "redoc", "gradio_api/openapi.json", "gradio_api/deep_link?session_hash=a")
    assert {httpx.get(server.url + name).status_code for name in closed} <= {403, 404}
    for name in ("config", "gradio_api/info", "theme.css", ""):  # what browsers and clients read names no folder
        answer = httpx.get(server.url + name)
        assert answer.status_code == 200 and str(server.work.parent) not in answer.text
        assert str(server.temporary.parent) not in answer.text


def test_no_request_goes_past_the_queue(server):
    import httpx

    for name in ("run", "api"):
        answer = httpx.post(f"{server.url}gradio_api/{name}/recognise", json={"data": [None, TEXT, ""]}, timeout=60)
        assert answer.status_code == 404 and "join the queue" in answer.text


def test_files_of_the_server_are_not_read_out(client, server):
    checkpoint = server.work.parent / "checkpoint" / "config.json"
    with pytest.raises(Exception, match="(?i)not|valid|allowed|error") as error:
        client.predict({"path": str(checkpoint), "meta": {"_type": "gradio.FileData"}}, "", "", api_name="/recognise")
    assert "model_type" not in str(error.value)


def test_recordings_of_examples_are_not_deleted_with_the_uploads(pipe, wav, tmp_path, monkeypatch):
    pytest.importorskip("gradio.route_utils")  # a folder called gradio is not enough
    from gradio.route_utils import delete_files_created_by_app

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    page = app.make_page(pipe, examples=[{"audio": wav, "text": TEXT, "history": ""}])
    assert list(tmp_path.rglob("*.wav"))
    delete_files_created_by_app(page, None)
    (kept,) = tmp_path.rglob("*.wav")
    assert kept.read_bytes() == Path(wav).read_bytes()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        # No name is resolved: what is not on this machine cannot be loaded.
        flags = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def open_page(browser, server, width=1280, scheme="light"):
    """The page in a new tab, with the addresses that it asks for and what goes wrong in it."""
    page = browser.new_page(viewport={"width": width, "height": 850}, color_scheme=scheme)
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(server.url)
    page.get_by_role("button", name="Recognise").wait_for()
    return page


def violations(page) -> list[str]:
    """What axe-core calls a serious or critical fault of the page for people who use a screen reader or a keyboard."""
    axe = pytest.importorskip("axe_playwright_python")  # carries axe.min.js
    page.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text())
    found = page.evaluate("axe.run()")["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html']}" for one in grave for node in one["nodes"]]


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_in_a_browser_without_a_network_an_example_is_answered_at_once(server, browser, width, scheme):
    page = open_page(browser, server, width, scheme)
    page.get_by_role("button", name=HTML[:9]).press("Enter")  # the example, by the keyboard
    page.locator("#decided ol").wait_for(timeout=60_000)
    assert page.get_by_label("Words").first.input_value() == HTML
    assert "Words alone." in page.locator("#state").inner_text() and "[UNK]" not in page.locator("body").inner_text()
    assert page.title() == "Emotion of an utterance" and page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in page.asked if not url.startswith((server.url, "data:", "blob:"))] == []
    assert page.wrong == [] and violations(page) == []
    page.close()


def test_in_a_browser_a_refusal_is_shown_and_goes_away_with_the_next_answer(server, browser):
    page = open_page(browser, server)
    assert violations(page) == []
    page.get_by_role("button", name="Recognise").click()
    refused = page.get_by_text("There is nothing to answer yet: give a recording, words, or both.")
    refused.wait_for()
    assert page.get_by_text("Traceback").count() == 0
    page.get_by_label("Words").first.fill(TEXT)
    page.get_by_label("Words").first.press("Enter")
    page.locator("#decided ol").wait_for(timeout=60_000)
    assert refused.count() == 0
    page.close()


def test_in_a_browser_turns_are_added_one_by_one(server, browser):
    page = open_page(browser, server)
    page.get_by_role("tab", name="A dialog").press("Enter")
    words = page.get_by_label("Words").locator("visible=true")
    for number, turn in enumerate((TEXT, HTML)):
        words.fill(turn)
        words.press("Enter")
        page.locator("#dialog li").nth(number).wait_for(timeout=60_000)
    assert HTML in page.locator("#dialog li").nth(1).inner_text() and page.locator("img[src=x]").count() == 0
    assert violations(page) == []
    page.get_by_role("button", name="Take the last turn back").click()
    page.locator("#dialog li").nth(1).wait_for(state="detached")
    assert page.locator("#dialog li").count() == 1
    page.close()


def test_at_its_end_the_server_has_left_nothing_and_talked_to_nobody(server):  # after all others of the server
    assert [path.name.startswith("lemer_app_") for path in server.temporary.iterdir()] == [True]
    server.end()
    assert list(server.temporary.iterdir()) == []
    assert [path.name for path in server.work.iterdir()] == ["app.py"]
    assert "OUTSIDE" not in server.errors() and "Traceback" not in server.errors()

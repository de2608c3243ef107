"""Publish a finished run of train.py as a repository of the Hugging Face Hub, in one commit.

    hf auth login                                        once: a token with write permission, see hf.co/settings/tokens
    python publish.py runs/C1 user/name --dry-run        writes the folder and prints the card; no network, no token
    python publish.py runs/C1 user/name --private        publishes it
    python publish.py runs/C1/fold3/seed0 user/name      publishes that fold and seed

The weights (safetensors), the configuration, the processor, every file of code that they need, and README.md are published.
README.md is the model card, rendered from model_card.md. All of its numbers come from the results.json files of the run.
Predictions, recordings, transcripts and logs are not published. Of a run with several checkpoints, that of the lowest fold
and seed is taken. This rule looks at no number, so nothing is picked on a test session.

The same command updates a repository, in one commit, or in none where nothing has changed. README.md is overwritten; files
that this command does not write are kept. A publication that fails leaves an old repository as it was and a new one empty;
the command can then be repeated. Exit status: 0 done; 1 failed, with one line that says why; 2 wrong usage.
"""

import argparse
import importlib.metadata
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, EvalResult, HfApi, ModelCard, ModelCardData, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import httpx, validate_repo_id

from lemer.recipes import get_recipe
from lemer.runtime.command import command_parser, program
from lemer.runtime.files import whole_folder
from lemer.runtime.locks import hold
from lemer.runtime.stopping import describe_error, run_command
from lemer.training.settings import SMALL_SPEECH_TOWERS

# transformers and the parts of lemer that need it are imported where they are used, since that takes seconds: `--help`
# answers at once.

TEMPLATE = Path(__file__).with_name("model_card.md")
HANDLER = Path(__file__).with_name("handler.py")  # of an inference endpoint
FIGURE = "attention.png"
SAID_ELSEWHERE = ("command", "data_dir", "output_dir", "split", "history", "selection")
METRICS = (("accuracy", "WA", "wa"), ("balanced_accuracy", "UA", "ua"), ("f1", "macro-F1", "macro_f1"))
WAITS = (1, 3, 9)  # seconds before the second, third and fourth try
TRANSIENT = (408, 429, 500, 502, 503, 504)  # statuses after which a try may be repeated
ONE_SEED = re.compile(r"seed\d+")
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
HOMES = re.compile(r"(?<![\w.])(/home/|/Users/|/root/|[A-Za-z]:\\\\?Users\\)[^\s\"',;)]*")


@dataclass(frozen=True)
class FinishedRun:
    """One checkpoint of a finished run: its folder, the run's protocol and row, its own results, why it was taken."""

    folder: Path
    protocol: dict
    row: dict
    results: dict
    choice: str

    @property
    def name(self) -> str:
        return f"{self.row['recipe']}, fold {self.results['fold']}, seed {self.results['seed']}"


def parse_args(argv=None) -> argparse.Namespace:
    parser = command_parser("publish.py", "runs/C1 user/name --dry-run", __doc__)
    parser.add_argument(
        "run", metavar="RUN", help="--output_dir of train.py, or the folder of one fold and seed in it, RUN/fold<k>/seed<s>"
    )
    parser.add_argument("repository", metavar="user/name", help="repository on the Hub; a new one is made")
    parser.add_argument("--fold", type=int, help="publish the checkpoint of this fold (default: the lowest)")
    parser.add_argument("--seed", type=int, help="publish the checkpoint of this seed (default: the lowest)")
    parser.add_argument("--private", action="store_true", help="make a new repository that only its owners can see")
    parser.add_argument("--token", help="default: HF_TOKEN, or that of `hf auth login`; both are safer than a command line")
    parser.add_argument("--dry-run", action="store_true", help="write the folder, print the card, send nothing")
    parser.add_argument("--output_dir", help="of --dry-run: an empty or new folder (default: a new temporary one)")
    parser.add_argument(
        "--endpoint",
        action="store_true",
        help="also publish handler.py and requirements.txt, by which the Hub serves the repository as an inference endpoint",
    )
    card = parser.add_argument_group("what the card says")
    card.add_argument(
        "--licence",
        default="other",
        metavar="ID",
        help="of the weights, as the Hub calls it, such as cc-by-nc-4.0 (default: other; the card says that the code is "
        "under Apache-2.0 and the weights under what the training corpus allows)",
    )
    card.add_argument(
        "--corpus_name",
        metavar="NAME",
        help="corpus that the run was trained and scored on (default: the one of train.py --corpus; IEMOCAP where its "
        "5,531 utterances are the standard ones, else it is called a corpus in its layout)",
    )
    card.add_argument(
        "--left_out",
        type=Path,
        metavar="RUN",
        help="a run of the same settings with --protocol corpus: the card says what each corpus has when it is left out",
    )
    card.add_argument("--language", metavar="CODE", help="of the corpus (default: en of IEMOCAP's layout, else not said)")
    card.add_argument(
        "--figure_audio",
        metavar="FILE",
        help="a recording whose attention to the labels the card shows, as a figure; by default none. The figure shows the "
        "words: take a recording of your own, none of a corpus that may not be given away",
    )
    card.add_argument("--figure_text", metavar="WORDS", help="what is said in it")
    args = parser.parse_args(argv)
    try:
        validate_repo_id(args.repository)
        named = HUB_NAME.fullmatch(args.repository) is not None
    except HFValidationError:
        named = False
    if not named:
        parser.error(f"the repository must be user/name or organisation/name, got {args.repository!r}")
    if args.figure_text is not None and args.figure_audio is None:
        parser.error("--figure_text needs --figure_audio")
    if args.output_dir is not None and not args.dry_run:
        parser.error("--output_dir needs --dry-run")
    if ONE_SEED.fullmatch(Path(args.run).resolve().name) and (args.fold is not None or args.seed is not None):
        parser.error(f"{args.run} names the fold and seed already: give the run's folder, or leave out --fold and --seed")
    return args


# ------------------------------------------------------------------------------------------------------- the run


def find_run(path: str, fold: int | None = None, seed: int | None = None) -> FinishedRun:
    """
    The checkpoint to publish, of a run's folder or of one fold and seed in it.

    Raises:
        ValueError: there is no finished run, it has not that fold and seed, or its results do not fit together.
    """
    from lemer.evaluation.run_folder import read_json, read_run
    from lemer.evaluation.summary import summarise

    path = Path(path).resolve()
    single = ONE_SEED.fullmatch(path.name) is not None
    run = read_run(path.parents[1] if single else path)
    row = read_json(run.folder / "results.json")
    mean = summarise([part.results for part in run.parts.values()], row["paper"])["mean"]
    if not all(math.isclose(row["mean"].get(name, math.nan), value, abs_tol=1e-9) for name, value in mean.items()):
        raise ValueError(
            f"{run.folder / 'results.json'} is not the mean of the {len(run.parts)} folds and seeds beside it: give the "
            "train.py command of the run once more"
        )
    wanted = [
        part
        for key, part in run.parts.items()
        if (part.folder == path if single else fold in (None, key[0]) and seed in (None, key[1]))
    ]
    if not wanted:
        have = ", ".join(f"fold{fold}/seed{seed}" for fold, seed in run.parts)
        raise ValueError(f"{path} has no such fold and seed; there are {have}")
    part = wanted[0]  # they are in order of fold and seed
    if not (part.folder / "checkpoint").is_dir():
        raise ValueError(f"{part.folder} has no checkpoint: what is scored there has no model of its own")
    choice = "it is the first fold of the run and its first seed, a rule that looks at no number"
    if single or fold is not None or seed is not None:
        choice = "whoever published it named this fold and seed"
    return FinishedRun(part.folder, run.protocol, row, part.results, choice)


# ---------------------------------------------------------------------------------------------------- the folder


def write_folder(run: FinishedRun, args: argparse.Namespace, folder: Path) -> None:
    """
    Fill `folder` with everything that is published: opened and saved again, so with the code of this package.

    Raises:
        ValueError: the checkpoint was not trained, or a folder of this machine would be published.
    """
    from transformers import AutoModel, AutoProcessor

    from lemer import LemerModel  # noqa: F401  tells the Auto classes about the package's models
    from lemer.integrity_lemer import opening, refusal

    checkpoint = run.folder / "checkpoint"
    with opening(checkpoint):
        model, loading = AutoModel.from_pretrained(checkpoint, trust_remote_code=False, output_loading_info=True)
        processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)
    if getattr(model, "damage", None):
        raise ValueError(f"{checkpoint}: {refusal(model.damage)}")
    untrained = getattr(model, "untrained", None) or sorted(loading["missing_keys"])
    if untrained:
        raise ValueError(f"{checkpoint} is not trained: {', '.join(untrained)} have no weights or still those of the start")
    processor.check_fits(model.config)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if args.endpoint:
        shutil.copy(HANDLER, folder)
        (folder / "requirements.txt").write_text("\n".join(endpoint_requirements()) + "\n")
    figure = None
    if args.figure_audio is not None:
        figure = draw_figure(model, processor, args.figure_audio, args.figure_text, folder / FIGURE)
    card = make_card(run, args, model, processor, figure)
    (folder / "README.md").write_text(str(card), encoding="utf-8")
    check_folder(folder, run)


def endpoint_requirements() -> list[str]:
    """What an endpoint installs beside torch: the libraries of the files that travel, in the versions of setup.cfg."""
    wanted = {"transformers", "soundfile", "soxr"}
    required = importlib.metadata.requires("lemer") or []
    return sorted(line for line in required if re.split(r"[<>=!~; \[]", line)[0] in wanted and "extra" not in line)


def in_both_forms(label: str) -> str:
    """A class in words, with its name in the model where that is an abbreviation, as IEMOCAP's labels are."""
    from lemer.labels.descriptions import LABEL_NAMES

    return label if LABEL_NAMES.get(label, label) == label else f"{LABEL_NAMES[label]} ({label})"


def draw_figure(model, processor, audio: str, text: str | None, path: Path) -> dict:
    """Draw what decided the answer for one utterance, and return what the card says of it."""
    import numpy as np

    from lemer.evaluation.attention_figure import draw_label_attentions, label_attentions  # need matplotlib
    from lemer.evaluation.occlusion_html import sentences
    from lemer.labels.descriptions import LABEL_NAMES

    arrays = label_attentions(model, processor, audio, text, None)
    names = [LABEL_NAMES.get(label, label) for label in arrays["labels"].tolist()]
    answered = int(arrays["scores"].argmax())
    drawing, _ = draw_label_attentions({**arrays, "labels": np.array(names)})
    drawing.savefig(path, dpi=120)
    said = sentences(arrays, answered, names[answered])
    return {"file": path.name, "recording": Path(audio).name, "text": text, "answer": names[answered], "said": said}


def check_folder(folder: Path, run: FinishedRun) -> None:
    """Check that every file of code that the configurations name is there, and that no file has a path of this machine."""
    places = [Path.home(), Path.cwd(), run.folder, Path(sys.prefix), Path(__file__).resolve().parent]
    here = "|".join(re.escape(str(place)) for place in places if len(place.parts) > 1)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".png"):
            continue
        text = path.read_text(encoding="utf-8")
        for pattern in (HOMES, re.compile(rf"(?<![\w.])(?:{here})(?![\w-])[^\s\"',;)]*")):
            found = pattern.search(text)
            if found:
                line = text.count("\n", 0, found.start()) + 1
                raise ValueError(
                    f"{path.name}, line {line}, would publish a folder of this machine: {found[0]}. Take it out of "
                    f"{run.folder / 'checkpoint' / path.name} or of the run's protocol.json, and publish again"
                )
        if path.name in ("config.json", "processor_config.json"):
            for module in set(re.findall(r'"([a-z]\w*)\.[A-Z]\w*"', text)):  # "modeling_lemer.LemerModel"
                if not (folder / f"{module}.py").is_file():
                    raise ValueError(f"{path.name} names {module}.py, which was not saved with the checkpoint")


def public_settings(protocol: dict) -> dict:
    """The protocol without paths, without what is not set, and without what the card says in words."""

    def public(value):
        if isinstance(value, dict):
            return {name: public(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [public(inner) for inner in value]
        return "(a folder)" if isinstance(value, str) and (value.startswith("~") or os.path.isabs(value)) else value

    settings = {name: value for name, value in protocol.items() if name not in SAID_ELSEWHERE and value is not None}
    for name in ("speech_model", "text_model"):
        if settings.get(name) not in (None, *SMALL_SPEECH_TOWERS) and not is_hub_name(settings[name]):
            settings[name] = "(a folder)"
    return public(settings)


def is_hub_name(tower: str | None) -> bool:
    return bool(tower) and HUB_NAME.fullmatch(tower) is not None and not Path(tower).exists()


def corpus_of(run: FinishedRun, corpus_name: str | None) -> dict:
    """
    What the run was trained and scored on.

    Returns:
        its `name`, `id` and Hub `dataset`; whether it has IEMOCAP's layout (`in_layout`), is `iemocap`, or its `standard`
        utterances; `licences`, a line for each corpus that is known by name. A corpus in IEMOCAP's layout may be any: it is
        called IEMOCAP only where it has its utterances, or where somebody says so.
    """
    from lemer.corpora.known import KNOWN

    said = run.protocol.get("corpus", "iemocap")
    in_layout, standard = said == "iemocap", bool(run.row.get("comparable"))
    known = [] if in_layout and not standard else [KNOWN[name] for name in said.split(",")[0].split(" + ") if name in KNOWN]
    in_words = " and ".join(row.title for row in known) if known else "a corpus in IEMOCAP's layout" if in_layout else said
    name = corpus_name or in_words
    dataset = "iemocap" if standard else said if is_hub_name(said) else None
    return {
        "name": name,
        "id": dataset or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "other",
        "dataset": dataset,
        "in_layout": in_layout,
        "iemocap": "iemocap" in name.lower().replace("iemocap's layout", ""),
        "standard": standard,
        "licences": [f"{row.title}: {row.licence} ({row.page})" for row in known if corpus_name is None],
    }


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def several_parts(run: FinishedRun) -> bool:
    """Whether the run has more than the one fold and seed of this checkpoint, so that its row is another result."""
    return len(run.row["folds"]) * len(run.row["seeds"]) > 1


def worth_of_modalities(results: dict) -> list[str]:
    """What the checkpoint loses on its test utterances without words and without speech, as sentences."""
    by_modality = results.get("by_modality") or {}
    both, told = by_modality.get("multimodal"), []
    for modality, missing in (("speech", "words"), ("text", "speech")):
        if both is None or modality not in by_modality:
            continue
        lost = {name: 100 * (both[name] - by_modality[modality][name]) for name in ("wa", "ua")}
        right, before = percent(by_modality[modality]["wa"]), percent(both["wa"])
        verb = "is" if missing == "speech" else "are"
        told.append(f"Without {missing}, {right} % of the utterances are right instead of {before} %:")
        told.append(f"{missing} {verb} worth {lost['wa']:.2f} points of WA and {lost['ua']:.2f} of UA.")
    return told


def evaluations_of(run: FinishedRun, task: str, corpus: dict, of_the_row: str, of_this: str) -> list[EvalResult]:
    """The scores for the metadata of the card, in per cent: those of the row, and those of this checkpoint."""
    return [
        EvalResult(
            task_type=task,
            task_name="Speech emotion recognition",
            dataset_type=corpus["id"],
            dataset_name=corpus["name"],
            dataset_split=split,
            metric_type=metric,
            metric_name=f"{name}, per cent, {split}",
            metric_value=float(percent(scores[key])),
        )
        for split, scores in ((of_the_row, run.row["mean"]), (of_this, run.results))[0 if several_parts(run) else 1 :]
        for metric, name, key in METRICS
    ]


def make_card(run: FinishedRun, args: argparse.Namespace, model, processor, figure: dict | None) -> ModelCard:
    """The model card: model_card.md with the run's numbers, in per cent."""
    from lemer.evaluation.left_out import left_out_section
    from lemer.evaluation.report.page import escape_markdown
    from lemer.evaluation.summary import MODALITIES, paper_figures, recipe_changes
    from lemer.versions_lemer import OLDEST_TRANSFORMERS

    protocol, row, results, config = run.protocol, run.row, run.results, model.config
    recipe, corpus = get_recipe(row["recipe"]), corpus_of(run, args.corpus_name)
    towers = [protocol.get(f"{kind}_model") for kind in ("speech", "text") if config.modality in ("multimodal", kind)]
    bases = [tower for tower in towers if is_hub_name(tower)]
    folds, fold = ", ".join(map(str, row["folds"])), results["fold"]
    of_the_row = f"mean of folds {folds}" if len(row["folds"]) > 1 else f"fold {folds} alone"
    of_this = f"this checkpoint: fold {fold}{f', session {fold}' if corpus['in_layout'] else ''} held out"
    task = "text-classification" if config.modality == "text" else "audio-classification"
    data = ModelCardData(
        model_name=args.repository.split("/")[1],
        language=args.language or ("en" if corpus["in_layout"] else None),
        license=args.licence,
        library_name="transformers",
        pipeline_tag=task,
        tags=["speech-emotion-recognition", "emotion-recognition", "lemer", *(["multimodal"] * (len(towers) == 2))],
        datasets=[corpus["dataset"]] if corpus["dataset"] else None,
        metrics=[metric for metric, _, _ in METRICS],
        base_model=bases or None,
        eval_results=evaluations_of(run, task, corpus, of_the_row, of_this),
    )
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=data.model_name,
        repository=args.repository,
        source={"speech": "speech", "text": "words"}.get(config.modality, "speech and its words"),
        **example_inputs(config.modality),
        of_the_row=of_the_row,
        of_this=of_this,
        config=config,
        plain=escape_markdown,
        spelled=lambda label: escape_markdown(in_both_forms(label)).replace(r"\(", "(").replace(r"\)", ")"),
        several=several_parts(run),
        worth=worth_of_modalities(results),
        processor=processor,
        parameters=f"{model.num_parameters():,}",
        recipe=recipe,
        changes=recipe_changes(protocol, recipe),
        paper=paper_figures(protocol, recipe) if corpus["in_layout"] else {"wa": None},
        protocol=protocol,
        row=row,
        results=results,
        percent=percent,
        left_out=left_out_section(args.left_out, protocol, results) if args.left_out else "",
        modalities=MODALITIES,
        choice=run.choice,
        corpus=corpus,
        from_scratch=set(towers) <= set(SMALL_SPEECH_TOWERS),
        bases=bases,
        settings=json.dumps(public_settings(protocol), indent=1),
        figure=figure,
        oldest_transformers=".".join(map(str, OLDEST_TRANSFORMERS)),
    )


def example_inputs(modality: str) -> dict[str, str]:
    """Inputs for the snippets of the card: `arguments` of the processor, and an `utterance` for the pipeline."""
    example = {"audio": "recording.wav"} if modality != "text" else {}
    if modality != "speech":
        example.update(text="I was so happy!", history=["Did they call you?"])
    arguments = "".join(f"\n    {name}={json.dumps(value)}," for name, value in example.items())
    utterance = "".join(f"\n    {json.dumps(name)}: {json.dumps(value)}," for name, value in example.items())
    return {"arguments": f"{arguments}\n    ", "utterance": f"{{{utterance}\n}}"}


# ------------------------------------------------------------------------------------------------------- the Hub


def is_transient(error: Exception) -> bool:
    """Whether an error may go away by itself, and is not repeated by the client."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in TRANSIENT
    if isinstance(error, json.JSONDecodeError):  # a page of a gateway instead of an answer
        return True
    return isinstance(error, (httpx.TransportError, ConnectionError)) and not isinstance(error, OfflineModeIsEnabled)


def insist(what: str, call: Callable):
    """Return the result of `call()`, which is tried again after errors that may go away by themselves."""
    for wait in (*WAITS, None):
        try:
            return call()
        except (httpx.HTTPError, OSError, ValueError) as error:
            if wait is None or not is_transient(error):
                raise
            print(f"{what}: {first_line(error)}; trying again in {wait} s", file=sys.stderr)
            time.sleep(wait)


def first_line(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "an answer that cannot be read"
    text = " ".join(str(error).split("\n\n")[0].split()) or " ".join(str(error).split())
    return text or type(error).__name__


def check_token(api: HfApi) -> None:
    """
    Find out before any work whether the token can publish.

    Raises:
        ValueError: there is none, the Hub does not know it, or it may only read.
    """
    way_out = "make one with write permission on https://huggingface.co/settings/tokens, then `hf auth login` or HF_TOKEN"
    if not (api.token or get_token()):
        raise ValueError(f"no token for the Hub: {way_out}")
    try:
        who = insist("token", api.whoami)
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise ValueError(f"the Hub does not know this token: {way_out}") from error
        raise
    if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ValueError(f"the token of {who['name']} may only read: {way_out}")


def create_repository(api: HfApi, repository: str, private: bool) -> None:
    """Make a repository; one that is there already stays as it is."""
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
    except KeyError:  # the Hub says that it is there (409), and not where: the next question shows it
        pass


def publish(api: HfApi, folder: Path, repository: str, private: bool, message: str) -> str:
    """
    Make the repository hold the folder's files, in one commit or none; returns what was done.

    Raises:
        ValueError: the repository is public and should be private, or holds something else than was sent.
        HfHubHTTPError, httpx.HTTPError, OSError, RuntimeError: the Hub refused, or cannot be reached.
    """
    files = {path.name: path for path in sorted(folder.iterdir())}
    try:
        before = insist("repository", lambda: api.model_info(repository))
    except RepositoryNotFoundError:
        insist("repository", lambda: create_repository(api, repository, private))
        before = insist("repository", lambda: api.model_info(repository))
    if private and not before.private:
        raise ValueError(f"{repository} exists and is public: make it private in its settings, or leave out --private")

    def commit():
        # New operations for every try: used ones keep what they knew of the repository. With the parent, a commit of
        # somebody else in between is refused; else files of both could be mixed.
        operations = [CommitOperationAdd(name, path) for name, path in files.items()]
        return api.create_commit(repository, operations, commit_message=message, parent_commit=before.sha)

    try:
        done = insist("commit", commit)
    except RuntimeError as error:  # the client has tried it several times
        raise ConnectionError(
            f"the connection broke again and again: {first_line(error)} ({first_line(error.__cause__ or error)})"
        ) from error
    after = insist("check", lambda: api.model_info(repository, revision=done.oid, files_metadata=True))
    held = {file.rfilename: file.size for file in after.siblings}
    wrong = [name for name, path in files.items() if held.get(name) != path.stat().st_size]
    if wrong:
        raise ValueError(f"{done.commit_url} does not hold what was sent: {', '.join(wrong)} differ. Publish again")
    others = sorted(set(held) - set(files) - {".gitattributes"})
    left = f"\nleft as they were: {', '.join(others)}" if others else ""
    seen = "private" if after.private else "public"
    if done.oid == before.sha:
        return f"nothing has changed: no commit; {seen}: {api.endpoint}/{repository}{left}"
    return f"published in one commit, {seen}: {done.commit_url}{left}"


def explain(error: Exception, repository: str) -> str:
    """One line: what happened on the Hub, and what to do."""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: unset it to publish, or use --dry-run"
    safe = "later the same command can be given again: it publishes all or nothing, and never twice"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 403:
            return f"this token may not write to {repository} (403): is the name right, and has the token write permission?"
        if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
            return f"the Hub shows no {repository} to this token ({status}): is the name right, and may the token see it?"
        if status == 412:
            return f"somebody else changed {repository} meanwhile (412): look at it, then give the same command again"
        if status in TRANSIENT:
            return f"the Hub answers {status} again and again; {safe}"
        return f"the Hub refused: {first_line(error)}"
    if isinstance(error, json.JSONDecodeError):
        return f"the Hub gives {first_line(error)} again and again; {safe}"
    if isinstance(error.__cause__, RuntimeError):
        return f"{first_line(error)}; {safe}"
    if isinstance(error, (httpx.HTTPError, ConnectionError)):
        return f"no connection to the Hub, or it broke again and again: {first_line(error)}; {safe}"
    return first_line(error) if isinstance(error, (OSError, ValueError)) else describe_error(error)


# ------------------------------------------------------------------------------------------------------- the script


def run(args: argparse.Namespace) -> None:
    api = HfApi(token=args.token)
    if not args.dry_run:
        check_token(api)
    elif args.output_dir is not None and Path(args.output_dir).exists() and any(Path(args.output_dir).iterdir()):
        raise ValueError(f"{args.output_dir} is not empty: give another --output_dir")
    finished = find_run(args.run, args.fold, args.seed)
    if args.dry_run:
        name = args.repository.split("/")[1]
        folder = Path(args.output_dir or Path(tempfile.mkdtemp(prefix="lemer-publish-"), name))
        with hold(folder), whole_folder(folder) as temporary:
            write_folder(finished, args, temporary)
        print((folder / "README.md").read_text(encoding="utf-8"))
        print(f"{finished.name}: written to {folder}, nothing was sent:", file=sys.stderr)
        for path in sorted(folder.iterdir()):
            print(f"{path.stat().st_size:>12,}  {path.name}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="lemer-publish-") as folder:
        write_folder(finished, args, Path(folder))
        print(f"{finished.name}: {publish(api, Path(folder), args.repository, args.private, f'Publish {finished.name}')}")


def main(argv=None) -> int:
    args = parse_args(argv)
    from transformers.utils import logging

    logging.set_verbosity_error()  # what is wrong is said below
    logging.disable_progress_bar()
    safe = "A repository has all of a publication or nothing of it, and the same command can be given again"
    return run_command(
        program("publish.py"), lambda: run(args), safe, describe=lambda error: explain(error, args.repository)
    )


if __name__ == "__main__":
    sys.exit(main())

"""The runs of train.py and pretrain.py, once their options are read."""

import argparse
import json
from pathlib import Path

from accelerate import PartialState
from transformers.utils import logging

from ..corpora.load import Corpus, load_corpus
from ..evaluation.protocol import check_protocol, check_unseen
from ..evaluation.score_fusion import fuse_runs
from ..evaluation.summary import format_summary, paper_figures, summarise
from ..processing_lemer import MAX_HISTORY
from ..recipes import Recipe, get_recipe
from ..runtime.files import replace_files
from ..runtime.locks import PATIENCE, hold, hold_for_all
from ..runtime.process import leave_process_group
from .answers import add_silence_scores
from .fine_tuning import train_fold
from .folds import split_rows
from .functional_fit import check_options, fit_runs
from .options import FREE, SCORES, changed_settings, set_defaults, towers_of_fold
from .processes import check_same_corpus, start_processes
from .second_stage import second_stage
from .trackers import check_trackers

# Of a run that was stopped.
CONTINUE = "What is finished and the last state are safe, and the same command goes on from there"


def run_recipe(args: argparse.Namespace, command: str) -> None:
    """
    Train and score a recipe on every fold with every seed, and summarise them; or fuse two finished runs.

    Args:
        args: options of train.py.
        command: the command line, for protocol.json.

    Raises:
        USER_ERRORS of `runtime/stopping.py`.
    """
    logging.disable_progress_bar()  # those of loading and saving weights, which takes moments
    recipe = get_recipe(args.recipe)
    check_trackers(args.report_to)
    if recipe.fuses:
        _fuse(args, recipe)
        return
    config, processor_settings = changed_settings(args.set, recipe)
    modality = config.get("modality", "multimodal")
    if modality == "text" and args.silence is not None:
        raise ValueError("--silence is of recordings, and this row reads words only: leave it out")
    fitted = config.get("speech_encoder") == "functionals"
    if fitted:
        check_options(args, config)
        args.speech_model = args.text_model = args.second_stage = None
        args.validation_share = 0.0  # nothing is chosen, and every training session is trained on
    else:
        set_defaults(args, recipe, modality)
    max_history = 0 if modality == "speech" else processor_settings.get("max_history", MAX_HISTORY)
    processes, corpus = _load_corpus(args, modality, max_history)
    output = Path(args.output_dir)
    protocol = _protocol(args, recipe, config, processor_settings, corpus, command)
    towers = {} if fitted else _towers(args, corpus, protocol, modality)
    if processes.is_main_process:
        check_protocol(output, protocol)
    processes.wait_for_everyone()
    if fitted:
        fit_runs(args, protocol, corpus.samples, corpus.folds, output)

    for (fold, seed), (speech, text) in towers.items():
        folder = output / f"fold{fold}" / f"seed{seed}"
        if (folder / "results.json").exists():
            continue
        if args.second_stage is not None:
            # Before the fold's own Accelerator is made, since the settings of the last one are in force.
            stage = Path(args.second_stage)
            fingerprint = protocol["corpus_fingerprint"]
            speech = second_stage(stage, corpus.samples, fold, speech, fingerprint, mixed_precision=args.mixed_precision)
        with hold_for_all(folder, processes.is_main_process):
            train_fold(args, protocol, corpus.samples, fold, seed, folder, str(speech), text)
    _finish(processes, args, protocol, recipe, corpus)


def run_second_stage(args: argparse.Namespace) -> None:
    """
    Train the speech tower further for every fold.

    Args:
        args: options of pretrain.py.

    Raises:
        USER_ERRORS of `runtime/stopping.py`.
    """
    logging.disable_progress_bar()
    processes, corpus = _load_corpus(args, "speech", max_history=0)
    fingerprint = corpus.report.fingerprints["all"]
    for fold in corpus.folds:
        stage = args.output_dir, corpus.samples, fold, args.speech_model, fingerprint, args.settings, args.mixed_precision
        checkpoint = second_stage(*stage)
        if processes.is_main_process:
            print(checkpoint, flush=True)
    leave_process_group()


def _towers(
    args: argparse.Namespace, corpus: Corpus, protocol: dict, modality: str
) -> dict[tuple[int, int], tuple[str, str]]:
    """The speech and the text tower of every fold and seed, none of which has seen what the fold is tested on."""
    towers = {(fold, seed): towers_of_fold(args, fold, seed) for fold in corpus.folds for seed in args.seeds}
    for (fold, _), (speech, text) in towers.items():
        if modality != "text":
            check_unseen(speech, fold, protocol["corpus_fingerprint"], protocol["corpus"])
        if modality != "speech":
            check_unseen(text, fold, protocol["corpus_fingerprint"], protocol["corpus"])
    return towers


def _load_corpus(args: argparse.Namespace, modality: str, max_history: int) -> tuple[PartialState, Corpus]:
    """Start the processes of the run, and load the corpus and print its report, the main process first."""
    stage = getattr(args, "second_stage", None)
    processes = start_processes([Path(folder) for folder in (args.output_dir, stage) if folder is not None])
    with processes.main_process_first():
        corpus = load_corpus(args, modality, max_history)
    check_same_corpus(corpus.report.fingerprints["all"], processes)
    if processes.is_main_process:
        print(corpus.report.format(), flush=True)
    return processes, corpus


def _protocol(
    args: argparse.Namespace, recipe: Recipe, config: dict, processor_settings: dict, corpus: Corpus, command: str
) -> dict:
    """All that decides what comes out of a run, for protocol.json."""
    return {
        **{name: value for name, value in vars(args).items() if name not in FREE},
        **corpus.protocol,
        "selection": _selection(args, corpus),
        "second_stage": None if args.second_stage is None else "on the utterances of the training sessions, without labels",
        "model": recipe.model,
        "config": config,
        "processor": processor_settings,
        "corpus_fingerprint": corpus.report.fingerprints["all"],
        "command": command,
    }


def _selection(args: argparse.Namespace, corpus: Corpus) -> str:
    """In words, how the epoch is chosen."""
    if not args.validation_share:
        return "last update"
    if "split" in corpus.samples.column_names:
        return f"best {SCORES[args.select_by]} on the publisher's validation split"
    return f"best {SCORES[args.select_by]} on validation {args.validation_by}s of the training sessions"


def _fuse(args: argparse.Namespace, recipe: Recipe) -> None:
    if args.silence is not None:
        raise ValueError(
            "--silence: a score fusion has no checkpoint that could answer recordings with silence, leave it out"
        )
    output = Path(args.output_dir)
    first, second = args.fuse or [output.parent / name for name in recipe.fuses or ()]
    with hold(output):
        fuse_runs(Path(first), Path(second), output)
    results = output / "results.md"
    print(f"{results.read_text()}\n{results}")


def _finish(processes: PartialState, args: argparse.Namespace, protocol: dict, recipe: Recipe, corpus: Corpus) -> None:
    """Summarise a run whose folds are all finished, with silence too if that is asked for, and part from the others."""
    output, silence = Path(args.output_dir), args.silence or 0.0
    for fold in corpus.folds if silence else ():
        rows = split_rows(corpus.samples, fold, 0.0, 0).test
        for seed in args.seeds:
            folder = output / f"fold{fold}" / f"seed{seed}"
            add_silence_scores(folder, rows, silence, args.batch_size, args.mixed_precision)
    if processes.is_main_process:
        _summarise(output, protocol, recipe, corpus.report.is_standard)
    processes.wait_for_everyone()
    leave_process_group()


def _summarise(output: Path, protocol: dict, recipe: Recipe, is_standard: bool) -> None:
    """Write and print the results of all folds and seeds that are finished."""
    with hold(output / "results.json", PATIENCE):  # a run of other folds may end in the same moment
        runs = [json.loads(path.read_text()) for path in sorted(output.glob("fold*/seed*/results.json"))]
        summary, name = summarise(runs, paper_figures(protocol, recipe)), protocol["recipe"]
        text = format_summary(f"{name}: {recipe.description}", runs, summary, is_standard)
        row = {"recipe": name, "comparable": is_standard, **summary}
        replace_files({output / "results.json": json.dumps(row, indent=1), output / "results.md": text})
    print(f"\n{text}\n{output / 'results.md'}")
    for checkpoint in sorted(output.glob("fold*/seed*/checkpoint"))[:1]:
        print(f"`lemer predict {checkpoint} RECORDING` answers recordings of your own.")

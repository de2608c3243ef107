"""The scripts' options on the corpus, and what they name: IEMOCAP's layout, or any dataset."""

import argparse
from typing import NamedTuple

import datasets
import numpy as np

from . import any_dataset, iemocap

COLUMNS = ("audio", "text", "label", "fold", "dialog", "order")
# Options that do not change the rows, or whose effect the protocol has from the loaded corpus.
FREE = {"data_dir", "cache_dir", "max_bad", "streaming", "folds"}


class Corpus(NamedTuple):
    """
    A loaded corpus.

    Attributes:
        samples: its labelled rows.
        report: `format()`, `fingerprints["all"]` and `is_standard`, of its loader.
        folds: numbers of the folds to hold out.
        protocol: in words, what corpus it is, how it is split, and what history a turn has.
    """

    samples: datasets.Dataset
    report: iemocap.Report | any_dataset.Report
    folds: list[int]
    protocol: dict[str, str]


def add_corpus_options(group) -> None:
    """Adds the options that `load_corpus` reads to a parser or a group of one."""
    group.add_argument(
        "--corpus",
        default="iemocap",
        metavar="NAME",
        help="iemocap: a folder of IEMOCAP's layout, given as --data_dir (default); or any dataset: Hub name, folder "
        "(audiofolder, save_to_disk, parquet, CSV, JSON) or file",
    )
    group.add_argument("--data_dir", help="folder of the release")
    group.add_argument("--cache_dir", help="where the prepared corpus is kept (default: the cache of `datasets`)")
    group.add_argument("--max_bad", type=int, help="stop if the corpus has more damaged files, lines and turns than this")
    group.add_argument("--folds", type=int, nargs="+", help="sessions to hold out, one fold each (default: all)")
    helps = {
        "audio": "recordings: audio, or paths in the folder (default: audio, if there is one)",
        "text": "transcripts (default: text, if there is one)",
        "label": "labels: names or numbers (default: label)",
        "fold": "folds: every value (speaker, session ...) is held out once",
        "dialog": "dialogs, for the history (default: none)",
        "order": "place of a turn in its dialog (default: the order of the rows)",
    }
    for name in COLUMNS:
        group.add_argument(f"--{name}_column", metavar="COLUMN", help=f"of any dataset, column of {helps[name]}")
    group.add_argument("--subset", help="of a Hub dataset that has several (its configuration)")
    group.add_argument("--split", dest="splits", nargs="+", metavar="SPLIT", help="splits to read (default: all)")
    group.add_argument("--labels", nargs="+", metavar="LABEL", help="labels to tell apart; others are history only")
    group.add_argument(
        "--test_share",
        type=float,
        help="one fold: hold out this share, by whole values of --fold_column, whole dialogs, or rows",
    )
    group.add_argument("--test_split", metavar="SPLIT", help="one fold: hold out this split")
    group.add_argument("--streaming", action="store_true", help="of a Hub dataset, keep the prepared rows alone")


def load_corpus(args: argparse.Namespace, modality: str = "speech") -> Corpus:
    """
    The corpus that the options name, for models of a modality.

    Raises:
        ValueError, OSError, datasets.exceptions.DatasetsError: of the loaders; options that do not fit the corpus; folds
            or a modality that it does not have.
    """
    options = {f"{name}_column": getattr(args, f"{name}_column") for name in COLUMNS}
    options.update((name, getattr(args, name)) for name in ("subset", "splits", "labels", "test_share", "test_split"))
    options.update(streaming=args.streaming)
    if args.corpus == "iemocap":
        given = [f"--{'split' if name == 'splits' else name}" for name, value in options.items() if value]
        if given:
            raise ValueError(f"{', '.join(given)}: give a dataset as --corpus; that of IEMOCAP's layout has no such option")
        dataset, report = iemocap.load_iemocap(args.data_dir, cache_dir=args.cache_dir, max_bad=args.max_bad)
        protocol = {
            "corpus": "iemocap",
            "split": "leave one session out; speakers of a session occur in no other",
            "history": "every earlier turn of the dialog, both speakers, whatever its label, with the corpus's transcripts",
        }
        held_out = None
    else:
        if args.data_dir is not None:
            raise ValueError("--data_dir is of --corpus iemocap: another dataset's name or folder is given as --corpus")
        dataset, report = any_dataset.load_any_dataset(
            args.corpus, **options, cache_dir=args.cache_dir, max_bad=args.max_bad
        )
        report.check_modality(modality)
        protocol = {"corpus": report.name, "split": report.split, "history": report.history}
        held_out = report.held_out
    samples = dataset.select(np.flatnonzero(np.asarray(dataset["label"]) >= 0))
    sessions = sorted(set(samples["session"])) if held_out is None else held_out
    folds = args.folds or sessions
    unknown = sorted(set(folds) - set(sessions))
    if unknown:
        raise ValueError(f"--folds {unknown}: the corpus has utterances in the sessions {sessions}")
    report.check_folds(folds)
    return Corpus(samples, report, folds, protocol)

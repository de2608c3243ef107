"""The corpus that a script's options name: IEMOCAP's layout, or any dataset."""

import argparse
from typing import NamedTuple

import datasets
import numpy as np

from . import any_dataset, iemocap
from .options import COLUMNS
from .report import Report


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
    report: Report
    folds: list[int]
    protocol: dict[str, str]


def load_corpus(args: argparse.Namespace, modality: str = "speech", max_history: int | None = None) -> Corpus:
    """
    The corpus that the options name, for models of a modality.

    Args:
        args: options of `corpora/options.py`.
        modality: "multimodal", "speech" or "text".
        max_history: of the processor that will read the rows; see `load_any_dataset`.

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
            args.corpus, **options, cache_dir=args.cache_dir, max_bad=args.max_bad, max_history=max_history
        )
        report.check_modality(modality)
        protocol = {"corpus": report.name, "split": report.split, "history": report.history}
        held_out = report.held_out
    samples = dataset.select(np.flatnonzero(np.asarray(dataset["label"][:]) >= 0))
    sessions = sorted(set(samples["session"][:])) if held_out is None else held_out
    folds = args.folds or sessions
    unknown = sorted(set(folds) - set(sessions))
    if unknown:
        raise ValueError(f"--folds {unknown}: the corpus has utterances in the sessions {sessions}")
    report.check_folds(folds)
    return Corpus(samples, report, folds, protocol)

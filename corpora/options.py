"""The options of the scripts on the corpus, which load.py reads. Nothing is imported, so that `--help` answers at once."""

COLUMNS = ("audio", "text", "label", "fold", "dialog", "order")
PROTOCOLS = ("session", "speaker", "official", "random", "corpus")  # what they do: protocols.py
# Options that do not change the rows, or whose effect the protocol has from the loaded corpus.
FREE = {"data_dir", "cache_dir", "max_bad", "streaming", "folds"}


def add_corpus_options(group) -> None:
    """Add the options that `load_corpus` reads to a parser, or to a group of a parser."""
    add_source_options(group)
    group.add_argument(
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="names or numbers of the folds to hold out: sessions, speakers, corpora (default: all)",
    )
    group.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="of a corpus that is known by name, how it is split (default: what docs/corpora.md says; several: corpus)",
    )
    group.add_argument(
        "--num_folds",
        type=int,
        metavar="N",
        help="with --protocol speaker: deal the speakers into N folds (default: its row)",
    )
    group.add_argument(
        "--label_map",
        nargs="+",
        metavar="LABEL=CLASS",
        help="of a corpus that is known by name: what labels become, such as excitement=happiness (default: its row)",
    )
    group.add_argument(
        "--fold_column",
        metavar="COLUMN",
        help="of any dataset, column of folds: every value (speaker, session ...) is held out once",
    )
    group.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="labels to tell apart, others are history only; or a set of IEMOCAP's labels: four (the default), "
        "four_without_excited, six",
    )
    _add_split_options(group)


def add_source_options(group) -> None:
    """Add the options that say what the corpus is and which of its columns are read."""
    group.add_argument(
        "--corpus",
        nargs="+",
        default=["iemocap"],
        metavar="NAME",
        help="iemocap: a folder of IEMOCAP's layout, given as --data_dir (default); NAME=DIR: a corpus that is known by "
        "name (docs/corpora.md), such as ravdess=DIR, or several of them; or any dataset: Hub name, folder "
        "(audiofolder, save_to_disk, parquet, CSV, JSON) or file",
    )
    group.add_argument("--data_dir", help="folder of the release")
    group.add_argument("--cache_dir", help="where the prepared corpus is kept (default: the cache of `datasets`)")
    group.add_argument("--max_bad", type=int, help="stop if the corpus has more damaged files, lines and turns than this")
    helps = {
        "audio": "recordings: audio, or paths in the folder (default: audio, if there is one)",
        "text": "transcripts (default: text, if there is one)",
        "label": "labels: names or numbers (default: label)",
        "dialog": "dialogs, for the history (default: none)",
        "order": "place of a turn in its dialog (default: the order of the rows)",
    }
    for name, text in helps.items():
        group.add_argument(f"--{name}_column", metavar="COLUMN", help=f"of any dataset, column of {text}")
    group.add_argument("--subset", help="of a Hub dataset that has several (its configuration)")
    group.add_argument("--split", dest="splits", nargs="+", metavar="SPLIT", help="splits to read (default: all)")
    group.add_argument(
        "--streaming",
        action="store_true",
        help="read recordings where they lie when they are heard, in parquet and .tar shards here or on the Hub; of other Hub "
        "datasets, keep the prepared rows alone",
    )


def _add_split_options(group) -> None:
    group.add_argument(
        "--test_share",
        type=float,
        help="one fold: hold out about this share, by whole speakers where they are known, whole dialogs, and whole values "
        "of --fold_column; of a corpus that is known by name with --protocol random",
    )
    group.add_argument(
        "--speaker_pattern",
        metavar="REGEX",
        help="of any dataset, finds the speaker in the name of a recording or an id: the first group, or the whole match. "
        "'(\\d+)\\.wav$' for RAVDESS. --fold_column speaker then leaves one of them out at a time",
    )
    group.add_argument("--test_split", metavar="SPLIT", help="one fold: hold out this split")


def is_iemocap(args) -> bool:
    """Whether the corpus is IEMOCAP alone."""
    return len(args.corpus) == 1 and args.corpus[0].partition("=")[0] == "iemocap"


def needs_data_dir(args) -> bool:
    """Whether IEMOCAP's layout is asked for without its folder."""
    return args.corpus == ["iemocap"] and args.data_dir is None

"""The house's walls: what may import what, how long a file may be, which names the root may not have."""

import ast
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_imports

ROOT = Path(__file__).parents[1]
HOMES = ("corpora", "labels", "evaluation")
SCRIPTS = ("train", "training", "folds", "pretrain", "pretraining", "predict", "publish", "app")
# What transformers copies beside a checkpoint: these, and every sibling that they import.
REMOTE = sorted({path.stem for pattern in ("*_lemer.py", "*_cross_modal.py") for path in ROOT.glob(pattern)})
LIBRARIES = {"numpy", "torch", "transformers", "huggingface_hub"}  # of remote files, beside the standard library
OPTIONAL = {"soundfile", "soxr"}  # of remote files, inside a try only
SOURCES = sorted([*ROOT.glob("*.py"), *(path for home in (*HOMES, "benchmarks") for path in (ROOT / home).rglob("*.py"))])
MAX_LINES = 600


def name_of(path: Path) -> str:
    """Dotted name of a source inside the package, such as labels.key_words."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> list[tuple[ast.AST, str, bool]]:
    """Every import anywhere in a file: its node, the absolute name (own files without `lemer.`), and if it is in a try."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    in_try = {
        id(node) for outer in ast.walk(tree) if isinstance(outer, ast.Try) for part in outer.body for node in ast.walk(part)
    }
    package = name_of(path).split(".")[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, alias.name.removeprefix("lemer."), id(node) in in_try) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - (node.level - 1)] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from lemer.labels import key_words` and `from lemer import LemerModel` name what they import.
            if base in ("", "lemer", *HOMES):
                names = [f"{base}.{alias.name}".removeprefix("lemer.").removeprefix(".") for alias in node.names]
            else:
                names = [base.removeprefix("lemer.")]
            found += [(node, name, id(node) in in_try) for name in names]
    return found


def imported_names(path: Path) -> set[str]:
    return {name for _, name, _ in imports(path)}


REMOTE_FILES = [ROOT / f"{name}.py" for name in REMOTE]


def test_the_four_remote_files_are_among_those_checked():
    assert {"configuration_lemer", "speech_encoder_lemer", "modeling_lemer", "processing_lemer"} <= set(REMOTE)


@pytest.mark.parametrize("path", REMOTE_FILES, ids=name_of)
def test_a_remote_file_imports_libraries_and_siblings_alone(path):
    allowed = set(sys.stdlib_module_names) | LIBRARIES | set(REMOTE)
    outside = {name for _, name, optional in imports(path) if not (optional and name in OPTIONAL)}
    assert {name.split(".")[0] for name in outside} <= allowed


@pytest.mark.parametrize("path", REMOTE_FILES, ids=name_of)
def test_a_remote_file_imports_its_siblings_relatively_and_by_name(path):
    for node, name, _ in imports(path):
        if name.split(".")[0] in REMOTE:
            assert isinstance(node, ast.ImportFrom) and node.level == 1 and node.module == name


@pytest.mark.parametrize("path", REMOTE_FILES, ids=name_of)
def test_a_remote_file_never_imports_from_dot_alone(path):
    assert not [node for node, _, _ in imports(path) if isinstance(node, ast.ImportFrom) and node.level and not node.module]


@pytest.mark.parametrize("path", REMOTE_FILES, ids=name_of)
def test_what_transformers_takes_for_a_relative_import_is_one(path):
    # It searches the text, docstrings included.
    assert set(get_relative_imports(path)) == imported_names(path) & set(REMOTE)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_run_one_way(path):
    home = name_of(path).split(".")[0]
    forbidden = {
        "corpora": {"labels", "evaluation", *SCRIPTS},
        "labels": {"corpora", *SCRIPTS},
        "evaluation": {"corpora", *SCRIPTS},
        "benchmarks": set(),  # they run the scripts
    }.get(home, {"train"})
    assert not {name.split(".")[0] for name in imported_names(path)} & forbidden


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").glob("*.py"))], ids=name_of)
def test_a_file_has_at_most_600_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_every_folder_of_sources_is_in_the_package():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    packages = setup["options"]["packages"].split()
    assert {home for home in HOMES if (ROOT / home).is_dir()} == {name.removeprefix("lemer.") for name in packages[1:]}


def test_nothing_in_the_root_is_called_like_a_library():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    required = {line.split(">")[0].strip().lower().replace("_", "-") for lines in wanted for line in lines.split()}
    libraries = {
        module
        for module, distributions in packages_distributions().items()
        if required & {name.lower().replace("_", "-") for name in distributions}
    }
    ours = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name.isidentifier())}
    assert {"torch", "evaluate", "datasets"} <= libraries
    assert not ours & (libraries | set(sys.stdlib_module_names))

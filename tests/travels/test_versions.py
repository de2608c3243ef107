"""Versions of transformers that are too old are refused by name; setup.cfg says the same range as the code."""

import configparser
from pathlib import Path

import pytest

import lemer
from lemer.versions_lemer import OLDEST_TRANSFORMERS, check_transformers

ROOT = Path(lemer.__file__).parent


@pytest.mark.parametrize("version", ["4.50.3", "5.0.0", "5.9", "5.15.1", "5.15.0.dev0"])
def test_an_old_version_is_refused_with_what_to_do(version):
    with pytest.raises(ImportError, match=rf"needs transformers >= 5.16, found {version}: pip install -U transformers"):
        check_transformers(version)


@pytest.mark.parametrize("version", ["5.16.0", "5.16.0.dev0", "5.17", "5.24.0", "5.100.0rc1", "6.0"])
def test_a_newer_version_is_taken(version):
    check_transformers(version)


def test_the_installation_admits_what_the_code_admits():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    oldest = ".".join(map(str, OLDEST_TRANSFORMERS))
    assert f"transformers>={oldest},<6" in setup["options"]["install_requires"].split()
    assert f"=={oldest}.0" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")

"""The notebooks of examples/ run from top to bottom on a folder of somebody's own: one in a kernel, one in this process."""

import contextlib
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import tiny_model, tiny_processor
from tiny_asr import write_tiny_asr

import lemer

EXAMPLES = Path(lemer.__file__).parent / "examples"
NOTEBOOKS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in EXAMPLES.glob("*.ipynb")}


@pytest.fixture
def recordings(tmp_path):
    """Recordings of two speakers and two emotions, and the table beside them."""
    folder, random = tmp_path / "recordings", np.random.default_rng(0)
    folder.mkdir()
    rows = [{"file_name": f"{n}.wav", "emotion": ("calm", "angry")[n % 2], "speaker": f"s{n // 8}"} for n in range(16)]
    for number, row in enumerate(rows):
        tone = np.sin(np.arange(8000) * (0.1 + 0.2 * (number % 2))) * 0.3
        soundfile.write(folder / row["file_name"], tone + random.normal(scale=0.02, size=8000), 16000)
    with open(folder / "metadata.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return folder


def test_your_recordings_in_a_kernel(recordings, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    tiny_model().save_pretrained(tmp_path / "checkpoint")
    tiny_processor().save_pretrained(tmp_path / "checkpoint")
    monkeypatch.setenv("LEMER_CHECKPOINT", str(tmp_path / "checkpoint"))
    monkeypatch.setenv("LEMER_RECORDINGS", str(recordings))
    monkeypatch.setenv("LEMER_ASR", write_tiny_asr(tmp_path / "asr"))
    notebook = nbformat.read(EXAMPLES / "your_recordings.ipynb", 4)
    nbclient.NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(tmp_path)}}).execute()
    with open(tmp_path / "answers.csv", newline="") as file:
        assert [row["recording"] for row in csv.DictReader(file)] == ["0.wav", "1.wav", "10.wav", "11.wav"]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    said = "".join(output.get("text", "") for output in outputs)
    assert re.search(r"heard: [aeiou]+\n\{'label': .* 'modality': 'multimodal'\}", said)


def test_your_corpus(recordings, tmp_path, monkeypatch):
    monkeypatch.setenv("LEMER_CORPUS", str(recordings))
    monkeypatch.setenv("LEMER_WORK", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    names, said = {"__name__": "__main__"}, io.StringIO()
    with contextlib.redirect_stdout(said):
        for number, cell in enumerate(NOTEBOOKS["your_corpus"]["cells"]):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert "mean over folds" in said.getvalue()
    assert "# my-emotions\n" in (tmp_path / "work/publication/README.md").read_text()


@pytest.mark.parametrize("name", ["your_corpus", "your_recordings"])
def test_a_notebook_is_committed_with_what_it_printed_and_is_small(name):
    cells = [cell for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert (EXAMPLES / f"{name}.ipynb").stat().st_size < 100_000
    assert not any(
        output["output_type"] == "error" or output.get("name") == "stderr" for c in cells for output in c["outputs"]
    )

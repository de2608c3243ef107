"""The example with Ray Data answers as predict.py does, on two workers; skipped where ray is absent."""

import json
import runpy
from pathlib import Path

import pyarrow.parquet
import pytest
from tiny import tiny_model, tiny_processor

import lemer.predict

pytest.importorskip("ray.data")

EXAMPLE = Path(lemer.predict.__file__).parent / "examples" / "predict_with_ray.py"


def test_two_workers_answer_as_one_process(tmp_path):
    tiny_model(modality="text").save_pretrained(tmp_path / "text")
    tiny_processor().save_pretrained(tmp_path / "text")
    lines = [{"id": f"t{turn}", "dialog": f"d{turn % 5}", "text": f"hello {turn} you won"} for turn in range(90)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    names = [str(tmp_path / name) for name in ("text", "m.jsonl")]
    assert lemer.predict.main([*names, "--device", "cpu", "--output", str(tmp_path / "out.jsonl")]) == 0
    runpy.run_path(str(EXAMPLE))["main"]([*names, str(tmp_path / "answers"), "--workers", "2"])
    expected = {row["id"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    rows = pyarrow.parquet.read_table(tmp_path / "answers").to_pylist()
    assert len(rows) == len(expected)
    for row in rows:
        assert json.loads(row["scores"]) == pytest.approx(expected[row["id"]]["scores"], abs=2e-6)
        assert row["error"] is None and row["modality"] == "text"

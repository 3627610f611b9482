"""The benchmark and the coverage study run, in the small, and agree with what they claim."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *words], check=False, capture_output=True, text=True, env=environment
    )


def test_benchmark(tmp_path):
    found = tmp_path / "figures.json"
    done = run(
        "benchmark_metrics.py", "--replicates", "40", "--loop", "2", "--large", "20000", "--golden", str(tmp_path),
        "--json", str(found),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "synthetic trials of the same size instead" in done.stdout
    rows = {row["set"]: row for row in json.loads(found.read_text())}
    sized = rows["synthetic of LA's size"]
    assert sized["largest_point_difference"] < 1e-9
    assert sized["trials"] == 71_237
    assert sized["times_faster"] > 3  # the figure to quote needs 1,000 replicates, so that set-up is shared


def test_coverage(tmp_path):
    found = tmp_path / "figures.json"
    done = run(
        "coverage_of_intervals.py", "--simulations", "40", "--replicates", "100", "--clusters", "30", "--designs",
        "apart", "--json", str(found),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {(row["metric"], row["interval"]): row for row in json.loads(found.read_text())}
    for metric in ("auc", "eer", "bpcer"):
        cluster, trial = rows[metric, "cluster logit_t"], rows[metric, "trial percentile"]
        assert cluster["coverage"] > 0.8
        assert cluster["mean_width"] > 1.3 * trial["mean_width"]

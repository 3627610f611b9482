"""Tables that need corpora under licence: exact commands, and result files whose every row says: not run."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = (
    "table", "trained_on", "tested_on", "slice", "metric", "unit", "value", "ci_lo", "ci_hi", "n_real", "n_fake",
    "n_clusters", "status", "reason", "command",
)  # fmt: skip
NOT_RUN = "not run"
REASON = "needs a corpus under licence that was not at hand"
ATTACKS_2019 = tuple(f"A{number:02d}" for number in range(7, 20))
FF_METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


@dataclass(frozen=True)
class Licensed:
    """One table that others publish, and how to fill it.

    Args:
        name: of its CSV. title: for people.
        trained_on: corpus of the training. train: its command. capitals stand for your own folders.
        tests: (tested on, command or "" where the training command reports it, slices, metrics).
        format: whose table it follows.
    """

    name: str
    title: str
    trained_on: str
    train: str
    tests: Sequence[tuple[str, str, Sequence[str], Sequence[str]]]
    format: str


def _cross(corpus: str, run: str, extra: str = "") -> str:
    root = f"corpus.root={corpus.upper()}"
    return f"deepassay evaluate bundle=runs/{run}/bundle corpus={corpus} {root}{extra} name={run}_on_{corpus}"


_FACES = ("auc", "eer")
TABLES = (
    Licensed(
        "faces_cross_corpus", "Faces: trained on FaceForensics++ c23, tested within it and on other corpora",
        "FaceForensics++ c23, official training pairs",
        "deepassay train experiment=face_mixed corpus=faceforensics split=official corpus.root=FACEFORENSICS "
        "views.score=16 name=ffpp_c23",
        (
            ("FaceForensics++ c23, test", "", ("all", *FF_METHODS), _FACES),
            ("FaceForensics++ c40, test",
             _cross("faceforensics", "ffpp_c23", " corpus.compression=c40 split=official"), ("all", *FF_METHODS),
             _FACES),
            ("Celeb-DF v2, 518 test videos", _cross("celebdf_v2", "ffpp_c23", " split=official"), ("all",), _FACES),
            ("Celeb-DF v1, 100 test videos", _cross("celebdf_v1", "ffpp_c23", " split=official"), ("all",), _FACES),
            ("DFDC, released test", _cross("dfdc", "ffpp_c23", " corpus.parts=[test]"), ("all",), _FACES),
            ("DFDC preview, test", _cross("dfdc_preview", "ffpp_c23", " split=official"), ("all",), _FACES),
            ("DeepFakeDetection", _cross("deepfakedetection", "ffpp_c23"), ("all",), _FACES),
            ("WildDeepfake, test", _cross("wilddeepfake", "ffpp_c23", " split=official"), ("all",), _FACES),
        ),
        "one score per video, AUC and EER, as DeepfakeBench and Celeb-DF publish them",
    ),
    Licensed(
        "voices_asvspoof2019_la", "Voices: ASVspoof 2019 LA, by attack", "ASVspoof 2019 LA, training part",
        "deepassay train experiment=voice_supervised corpus=asvspoof2019_la split=official corpus.root=ASVSPOOF2019_LA "
        "detector=aasist modality.window_samples=64600 name=la19",
        (
            ("ASVspoof 2019 LA, evaluation", "", ("all", *ATTACKS_2019), ("eer",)),
            ("ASVspoof 2019 LA, evaluation",
             "deepassay metrics runs/la19/scores/test.parquet --asv-scores ASVspoof2019.LA.asv.eval.gi.trl.scores.txt",
             ("all", *ATTACKS_2019), ("min_tdcf",)),
        ),
        "EER and min t-DCF (2019, constrained to the challenge's ASV scores), pooled and per attack A07 to A19",
    ),
    Licensed(
        "voices_cross_corpus", "Voices: trained on ASVspoof 2019 LA, tested elsewhere",
        "ASVspoof 2019 LA, training part",
        "deepassay train experiment=voice_supervised corpus=asvspoof2019_la split=official corpus.root=ASVSPOOF2019_LA "
        "detector=aasist modality.window_samples=64600 name=la19",
        (
            ("ASVspoof 2021 LA, evaluation", _cross("asvspoof2021_la", "la19"), ("all",), ("eer", "min_tdcf")),
            ("ASVspoof 2021 DF, evaluation", _cross("asvspoof2021_df", "la19"), ("all",), ("eer",)),
            ("ASVspoof 5 track 1, evaluation", _cross("asvspoof5", "la19", " split=official"), ("all",),
             ("min_dcf", "act_dcf", "cllr", "eer")),
            ("In-the-Wild", _cross("in_the_wild", "la19"), ("all",), ("eer",)),
            ("WaveFake", _cross("wavefake", "la19"), ("all",), ("eer",)),
        ),
        "EER of each evaluation set; min t-DCF (2021), min and actual DCF and Cllr where the challenge ranks by them",
    ),
)  # fmt: skip


def empty_csv(table: Licensed) -> str:
    """The result file of a table: one row per number, none of them measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for tested, command, slices, metrics in table.tests:
        for where in slices:
            for metric in metrics:
                row: dict[Any, str] = {
                    "table": table.name, "trained_on": table.trained_on, "tested_on": tested, "slice": where,
                    "metric": metric, "unit": "fraction" if metric not in ("min_tdcf", "min_dcf", "act_dcf", "cllr")
                    else ("bit" if metric == "cllr" else "normalised cost"),
                    "status": NOT_RUN, "reason": REASON, "command": command or table.train,
                }  # fmt: skip
                writer.writerow(row)
    return text.getvalue()


def commands(table: Licensed) -> list[str]:
    """The commands of a table, each once, in the order to run them."""
    return list(dict.fromkeys([table.train, *(command for _, command, _, _ in table.tests if command)]))

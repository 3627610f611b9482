"""In-the-Wild (Müller et al. 2022): genuine and forged recordings of public figures, collected online."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus
from deepassay.corpora.voice_lists import KEYS, Trial, by_name, count_classes, label_of, present, table
from deepassay.labels import FAKE
from deepassay.manifest import Sample


class InTheWild(PublicCorpus):
    """``meta.csv`` (file, speaker, label) beside the wav files; no official split and no word on what made a fake.

    A speaker is heard in both classes, so a split by subject keeps a person's genuine and forged voice together. The
    paper counts 58 people, 54 names are reported to stand in ``meta.csv``: they are counted, and compared with nothing.
    """

    name: ClassVar[str] = "in_the_wild"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    version: ClassVar[str] = "release_in_the_wild"
    licence: ClassVar[str] = "CC BY-SA 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://huggingface.co/datasets/mueller91/In-The-Wild (licence, size)",
        "Müller et al. 2022, Does audio deepfake detection generalize?, Interspeech",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/In-the-Wild.py (columns of meta.csv)",
        "https://huggingface.co/datasets/SpeechAntiSpoofingBenchmarks/InTheWild (31,779 clips by class)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"all bona fide": 19963, "all spoofed": 11816}

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """One sample per row of ``meta.csv``."""
        found = inventory.files(suffixes=(".wav", ".csv"))
        lists = [p for p in found if PurePosixPath(p).name == "meta.csv"]
        meta = lists[0] if lists else "release_in_the_wild/meta.csv"
        folder = PurePosixPath(meta).parent
        files = by_name(
            inventory, (p for p in found if p.endswith(".wav") and PurePosixPath(p).parent == folder), what=self.name
        )
        trials = []
        for line, row in table(inventory, meta, ("file", "speaker", "label")):
            label = label_of(inventory, row["label"], KEYS, meta, line)
            if label is None:
                continue
            if not row["speaker"]:
                inventory.unparsable(meta, line, "no speaker")
                continue
            values = {
                "subjects": (f"in_the_wild/{row['speaker']}",),
                "generator": "InTheWild-unknown" if label == FAKE else "",
                "attributes": {"language": "en"},
            }
            trials.append(Trial(PurePosixPath(row["file"]).stem, label, values))
        count_classes(inventory, "all", (t.label for t in trials), self.published_counts)
        inventory.count("people", len({t.values["subjects"] for t in trials}), None)
        for path, trial in present(inventory, trials, files, at=lambda n: f"{folder}/{n}.wav", what=self.name):
            yield self.sample(path, label=trial.label, **trial.values)

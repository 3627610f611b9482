"""WildDeepfake: face crops of real and fake sequences collected online, in published train and test halves."""

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus
from deepassay.errors import ConfigError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_IMAGE = (".png",)
_TOPS = ("", "deepfake_in_the_wild", "WildDeepfake")
CATEGORIES = {"real_train": REAL, "fake_train": FAKE, "real_test": REAL, "fake_test": FAKE}


class WildDeepfake(PublicCorpus):
    """7,314 sequences of 224 x 224 face crops: 3,805 real, 3,509 fake, from 707 deepfake videos and others online.

    Expected below ``root`` (or in ``deepfake_in_the_wild`` there), every archive unpacked where it lies::

        real_train/6/real/54/0.png      archive 6, sequence 54        (fake_train/6/fake/..., real_test, fake_test)

    One sample is one picture; its source is the sequence. Which sequences stem from one video, who is seen and how a
    fake was made are not recorded: clusters are sequences, and may be too small.

    Args:
        root: folder that holds ``real_train`` and the others.
        per_sequence: at most so many pictures per sequence, evenly spread by name; null takes all (over a million).

    Raises:
        ConfigError: a per_sequence below 1.
    """

    name = "wilddeepfake"
    modality = "face"
    status = "unverified"
    version = "2020"
    licence = "Apache-2.0 (label of its Hugging Face page); persons have not agreed"
    documented_at = (
        "Zi et al., WildDeepfake: A Challenging Real-World Dataset for Deepfake Detection, MM 2020, arXiv 2101.01456",
        "huggingface.co/datasets/xingjunm/WildDeepfake (file list and viewer: <archive>/<label>/<sequence>/<frame>)",
        "counts per half: github.com/dfwb-research/deepfake-workbench, inventory of WildDeepfake",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "real_train": 3_409, "fake_train": 3_099, "real_test": 396, "fake_test": 410,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        per_sequence: int | None = None,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        if per_sequence is not None and per_sequence < 1:
            raise ConfigError(
                f"wilddeepfake: per_sequence is {per_sequence}", hint="give a number of pictures, or null for all"
            )
        self.per_sequence = per_sequence

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Pictures by category, archive and sequence."""
        top = next((t for t in _TOPS if any((self.root / t / c).is_dir() for c in CATEGORIES)), "")
        for category, label in CATEGORIES.items():
            under = f"{top}/{category}" if top else category
            word, split = category.split("_")
            sequences: dict[str, list[str]] = {}
            for path in inventory.files(under, _IMAGE):
                inner = path[len(under) + 1 :].split("/")
                if len(inner) != 4 or not inner[0].isdigit() or not inner[2].isdigit():
                    inventory.problem("unparsable", f"{path}: not <archive>/<label>/<sequence>/<frame>")
                elif inner[1] != word:
                    inventory.problem("label", f"{path}: lies among the {inner[1]} pictures of {category}")
                else:
                    sequences.setdefault(f"{inner[0]}/{inner[2]}", []).append(path)
            inventory.count(f"{category} sequences", len(sequences), self.published_counts[category])
            for sequence, paths in sequences.items():
                paths.sort(key=_frame)
                for path in _spread(paths, self.per_sequence):
                    yield self.sample(
                        path,
                        label=label,
                        source_id=f"wilddeepfake/{category}/{sequence}",
                        generator="collected online" if label == FAKE else "",
                        generator_family="unknown" if label == FAKE else "",
                        split=split,
                        attributes={"archive": sequence.split("/")[0]},
                    )


def _frame(path: str) -> tuple[int, str]:
    name = path.rsplit("/", 1)[1]
    number = re.match(r"\d+", name)
    return (int(number.group(0)) if number else -1, name)


def _spread(paths: list[str], k: int | None) -> list[str]:
    if k is None or k >= len(paths):
        return paths
    return [paths[(2 * i + 1) * len(paths) // (2 * k)] for i in range(k)]

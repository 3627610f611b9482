"""FFIW-10K (Face Forensics in the Wild): videos with several people, of whom some were swapped."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_VIDEO = (".mp4",)
_SPLITS = {"train": "train", "val": "dev", "test": "test"}
_TOPS = ("", "FFIW10K-v1-release", "FFIW10K", "FFIW10K-v1-release-test")


class FFIW(PublicCorpus):
    """About 10,000 real and 10,000 fake videos, three faces in a picture on average; one label for the whole video.

    Expected below ``root`` (test came later, in a folder of its own)::

        FFIW10K-v1-release/source/train/00000000.mp4, .../source/val/...       real
        FFIW10K-v1-release/target/train/00000000.mp4, .../target/val/...       fake
        FFIW10K-v1-release/target_mask/...                                     (not read)
        FFIW10K-v1-release-test/source/test/..., .../target/test/...

    Numbers repeat in ``source`` and ``target``. Whether equal numbers belong together is not documented; they are tied
    as one source, which can only make clusters larger. Nobody publishes who is seen. ``val`` is ``dev`` here.

    Args:
        root: folder that holds ``source`` and ``target``, or the release folders.
        splits: some of ``train``, ``val`` and ``test``.

    Raises:
        ConfigError: another split.
    """

    name = "ffiw"
    modality = "face"
    status = "unverified"
    version = "FFIW10K v1"
    licence = "FFIW10K Terms to Use (form; research)"
    documented_at = (
        "Zhou et al., Face Forensics in the Wild, CVPR 2021, arXiv 2103.16076",
        "github.com/tfzhou/FFIW: README.md (tree)",
        "counts: github.com/dfwb-research/deepfake-workbench, inventory of FFIW-10K",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"train": 8_000, "val": 250, "test": 1_738}

    def __init__(
        self,
        *,
        root: str,
        splits: Sequence[str] = ("train", "val", "test"),
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        for split in splits:
            one_of(split, _SPLITS, what="ffiw: splits")
        self.splits = tuple(splits)

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Real and fake videos by split."""
        for word in self.splits:
            for kind, label in (("source", REAL), ("target", FAKE)):
                places = [f"{top}/{kind}/{word}" if top else f"{kind}/{word}" for top in _TOPS]
                under = next((p for p in places if (self.root / p).is_dir()), places[0])
                paths = inventory.files(under, _VIDEO)
                inventory.count(f"{kind} {word} videos", len(paths), self.published_counts[word])
                for path in paths:
                    stem = PurePosixPath(path).stem
                    if not stem.removeprefix(f"{word}_").isdigit():
                        inventory.problem("unparsable", f"{path}: not named by a number")
                        continue
                    yield self.sample(
                        path,
                        label=label,
                        source_id=f"ffiw/{word}/{stem.removeprefix(f'{word}_')}",
                        generator="FFIW10K" if label == FAKE else "",
                        generator_family="face_swap" if label == FAKE else "",
                        split=_SPLITS[word],
                    )

"""DeeperForensics-1.0: one many-to-many face swap in eleven variants of perturbation, with published splits."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.errors import ConfigError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

# Folder -> what was done to the swap afterwards.
VARIANTS = {
    "end_to_end": "raw",
    **{f"end_to_end_level_{i}": f"one distortion, level {i}" for i in range(1, 6)},
    "end_to_end_random_level": "one distortion, random level",
    **{f"end_to_end_mix_{j}_distortions": f"{j} distortions" for j in range(2, 5)},
    "reenact_postprocess": "raw, reenacted faces blended by hand",
}
_VIDEO = (".mp4",)
_LISTS = {"train": "train", "val": "dev", "test": "test"}
_SOURCE = re.compile(
    r"(?P<actor>[MW]\d{3})_(?:light_(?P<light>[a-z]+)_(?P<emotion>[a-z]+)|BlendShape(?:_extra_light_(?P<extra>[a-z]+))?)"
    r"_camera_(?P<camera>[a-z]+)"
)


class DeeperForensics(PublicCorpus):
    """11 x 1,000 swaps of 100 paid and consented actors onto FaceForensics++ originals, and 48,475 source videos.

    Expected below ``root/folder``, as its ``unzip.sh`` leaves it::

        manipulated_videos/<variant>/000_M101.mp4        target 000 (FaceForensics++), face of actor M101
        source_videos/M101/light_up/happy/camera_front/M101_light_up_happy_camera_front.mp4
        lists/splits/train.txt, val.txt, test.txt        names of manipulated videos; they hold for all variants
        lists/manipulated_videos_distortions_meta/manipulated_videos_<variant>_meta.txt      what was done, in order

    The authors say that the **real part is not the source videos** but the target videos: FaceForensics++'s originals
    at c23, which they may not pass on. Hold both below one ``root`` and set ``folder`` and ``originals``, with
    ``reals=targets``. Source videos follow their actor's split; their cameras and light make them easy to tell from any
    YouTube video.

    Args:
        root: folder of the corpus, or the folder above it and FaceForensics++.
        folder: where ``manipulated_videos`` lies below ``root``; empty: ``root`` itself.
        originals: folder of FaceForensics++'s original c23 videos below ``root``.
        reals: ``sources`` (needs nothing else), ``targets`` (the published protocol), ``both`` or ``none``.
        variants: some of `VARIANTS`.

    Raises:
        ConfigError: an unknown word; ``reals=targets`` without ``originals``.
    """

    name = "deeperforensics"
    modality = "face"
    status = "unverified"
    version = "1.0"
    licence = "DeeperForensics-1.0 terms of use (non-commercial research, no redistribution)"
    documented_at = (
        "Jiang et al., DeeperForensics-1.0: A Large-Scale Dataset for Real-World Face Forgery Detection, CVPR 2020, "
        "arXiv 2001.03024",
        "github.com/EndlessSora/DeeperForensics-1.0: dataset/README.md",
    )
    # The README's "703 : 96 : 21" adds up to the 1,000 videos of a variant with 201, so test is compared with nothing.
    published_counts: ClassVar[Mapping[str, int]] = {
        "source videos": 48_475, "fakes per variant": 1_000, "actors": 100, "train": 703, "dev": 96,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        folder: str = "",
        originals: str | None = None,
        reals: str = "sources",
        variants: Sequence[str] = tuple(VARIANTS),
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.reals = one_of(reals, ("sources", "targets", "both", "none"), what="deeperforensics: reals")
        for variant in variants:
            one_of(variant, VARIANTS, what="deeperforensics: variants")
        if self.reals in ("targets", "both") and not originals:
            raise ConfigError(
                f"deeperforensics: reals={reals} needs the target videos",
                hint="set originals to the folder of FaceForensics++'s original c23 videos below root, for example "
                "FaceForensics++/original_sequences/youtube/c23/videos",
            )
        self.folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
        self.originals = (originals or "").strip("/")
        self.variants = tuple(variants)

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Swaps by variant, then the real videos that were asked for."""
        split_of = self._splits(inventory)
        by_actor: dict[str, set[str]] = {}
        by_target: dict[str, set[str]] = {}
        for stem, split in split_of.items():
            target, _, actor = stem.partition("_")
            by_actor.setdefault(actor, set()).add(split)
            by_target.setdefault(target, set()).add(split)
        torn = sorted(actor for actor, splits in by_actor.items() if len(splits) > 1)
        inventory.count("actors in two published splits", len(torn), None)
        for variant in self.variants:
            yield from self._swaps(inventory, variant, split_of)
        if self.reals in ("targets", "both"):
            yield from self._targets(inventory, by_target)
        if self.reals in ("sources", "both"):
            yield from self._sources(inventory, by_actor)

    def _splits(self, inventory: Inventory) -> dict[str, str]:
        split_of: dict[str, str] = {}
        for word, split in _LISTS.items():
            path = f"{self.folder}lists/splits/{word}.txt"
            for number, line in inventory.lines(path):
                stem = PurePosixPath(line.split()[0]).stem
                if not re.fullmatch(r"\d{3}_[MW]\d{3}", stem):
                    inventory.unparsable(path, number, f"{line!r} is not <target>_<actor>.mp4")
                elif split_of.setdefault(stem, split) != split:
                    inventory.unparsable(path, number, f"{stem} is also listed for {split_of[stem]}")
        for split in _LISTS.values() if split_of else ():
            listed = sum(value == split for value in split_of.values())
            inventory.count(f"videos listed for {split}", listed, self.published_counts.get(split))
        return split_of

    def _distortions(self, inventory: Inventory, variant: str) -> dict[str, str]:
        """Name of a video -> ``CS:3 GNC:5``, the types and levels in the order in which they were applied."""
        path = f"{self.folder}lists/manipulated_videos_distortions_meta/manipulated_videos_{variant}_meta.txt"
        if not (self.root / path).is_file():  # the raw variants have none
            return {}
        out: dict[str, str] = {}
        for number, line in inventory.lines(path):
            name, *applied = line.split()
            if not applied or not all(re.fullmatch(r"\w+:\w+", word) for word in applied):
                inventory.unparsable(path, number, f"{line!r} is not <video> <type>:<level> ...")
                continue
            out[PurePosixPath(name).stem] = " ".join(applied)
        return out

    def _swaps(self, inventory: Inventory, variant: str, split_of: Mapping[str, str]) -> Iterator[Sample]:
        under = f"{self.folder}manipulated_videos/{variant}"
        found = inventory.files(under, _VIDEO)
        wanted = [f"{under}/{stem}.mp4" for stem in sorted(split_of)] or found
        present = inventory.expect(wanted, found=found, what=f"{variant} videos")
        inventory.count(f"{variant} videos", len(present), self.published_counts["fakes per variant"])
        distortions = self._distortions(inventory, variant)
        for path in present:
            stem = PurePosixPath(path).stem
            match = re.fullmatch(r"(\d{3})_([MW]\d{3})", stem)
            if match is None:
                inventory.problem("unparsable", f"{path}: a swap is named <target>_<actor>")
                continue
            target, actor = match.groups()
            yield self.sample(
                path,
                label=FAKE,
                source_id=f"faceforensics/{target}",
                subjects=(f"faceforensics/{target}", f"deeperforensics/{actor}"),
                generator="DF-VAE" if variant != "reenact_postprocess" else "DF-VAE (reenacted, blended)",
                generator_family="face_swap",
                split=split_of.get(stem, ""),
                channel=VARIANTS[variant],
                attributes={
                    "variant": variant,
                    **({"distortions": distortions[stem]} if stem in distortions else {}),
                    **_person(actor),
                },
            )

    def _targets(self, inventory: Inventory, by_target: Mapping[str, set[str]]) -> Iterator[Sample]:
        found = inventory.files(self.originals, _VIDEO)
        there = set(found)
        wanted = [f"{self.originals}/{t}.mp4" for t in sorted(by_target)] or found
        present = [p for p in wanted if p in there]
        for path in sorted(set(wanted) - there):
            inventory.problem("missing", f"target videos: {path}")
        for path in present:
            target = PurePosixPath(path).stem
            splits = by_target.get(target, set())
            yield self.sample(
                path,
                label=REAL,
                source_id=f"faceforensics/{target}",
                subjects=(f"faceforensics/{target}",),
                split=next(iter(splits)) if len(splits) == 1 else "",
                channel="h264 crf 23",
                attributes={"role": "target video"},
            )
        inventory.count("target videos", len(present), None)

    def _sources(self, inventory: Inventory, by_actor: Mapping[str, set[str]]) -> Iterator[Sample]:
        found = inventory.files(f"{self.folder}source_videos", _VIDEO)
        listed = f"{self.folder}lists/source_videos_lists/source_videos_list.txt"
        if (self.root / listed).is_file():
            wanted = [f"{self.folder}{line}" for _, line in inventory.lines(listed)]
            extra_list = f"{self.folder}lists/source_videos_lists/source_videos_extra_list.txt"
            if (self.root / extra_list).is_file():
                known = {f"{self.folder}{line}" for _, line in inventory.lines(extra_list)}
                found = [p for p in found if p not in known]
            found = inventory.expect(wanted, found=found, what="source videos")
        else:
            found = [p for p in found if "/BlendShape_extra/" not in p]
        inventory.count("source videos", len(found), self.published_counts["source videos"])
        actors = set()
        for path in found:
            match = _SOURCE.fullmatch(PurePosixPath(path).stem)
            if match is None:
                inventory.problem("unparsable", f"{path}: not named <actor>_light_<light>_<emotion>_camera_<camera>")
                continue
            actor = match["actor"]
            actors.add(actor)
            splits = by_actor.get(actor, set())
            facts = {"light": match["light"] or match["extra"], "emotion": match["emotion"], "camera": match["camera"]}
            yield self.sample(
                path,
                label=REAL,
                source_id=f"deeperforensics/{PurePosixPath(path).stem.rsplit('_camera_', 1)[0]}",
                subjects=(f"deeperforensics/{actor}",),
                split=next(iter(splits)) if len(splits) == 1 else "",
                attributes={"role": "source video", **_person(actor), **{k: v for k, v in facts.items() if v}},
            )
        inventory.count("actors", len(actors), self.published_counts["actors"])


def _person(actor: str) -> dict[str, str]:
    """What the actor's id tells (README, Identities): gender, and whether from Asia or elsewhere."""
    return {"gender": "male" if actor[0] == "M" else "female", "region": "Asia" if actor[1] == "1" else "elsewhere"}

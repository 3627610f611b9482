"""WaveFake (Frank and Schönherr 2021): LJSpeech and JSUT utterances through neural vocoders, one folder each."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus
from deepassay.corpora.voice_lists import bare
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_TTS = "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech"
# Folder -> generator, speaker, language. Vocoders resynthesise a recording; the last folder speaks foreign prompts.
FOLDERS: Mapping[str, tuple[str, str, str]] = {
    "ljspeech_melgan": ("MelGAN", "LJ", "en"),
    "ljspeech_melgan_large": ("MelGAN-large", "LJ", "en"),
    "ljspeech_full_band_melgan": ("FullBand-MelGAN", "LJ", "en"),
    "ljspeech_multi_band_melgan": ("MultiBand-MelGAN", "LJ", "en"),
    "ljspeech_parallel_wavegan": ("ParallelWaveGAN", "LJ", "en"),
    "ljspeech_hifiGAN": ("HiFi-GAN", "LJ", "en"),
    "ljspeech_waveglow": ("WaveGlow", "LJ", "en"),
    "jsut_multi_band_melgan": ("MultiBand-MelGAN", "JSUT", "ja"),
    "jsut_parallel_wavegan": ("ParallelWaveGAN", "JSUT", "ja"),
    _TTS: ("Conformer-FastSpeech2-PWG", "LJ", "en"),
}
# LJ001-0001_gen, LJ001-0001_generated, LJ001-0001, BASIC5000_0001_gen
_UTTERANCE = re.compile(r"(LJ\d{3}-\d{4}|BASIC5000_\d{4})(_gen|_generated)?$")
_RECORDED = re.compile(r"LJ\d{3}-\d{4}$|BASIC5000_\d{4}$")


class WaveFake(PublicCorpus):
    """Folders of ``generated_audio``; the genuine recordings are LJSpeech's and JSUT's own and come from there.

    A fake's source is the utterance it was made from, which ties it to the genuine recording and to the same words
    through every other vocoder: there are two speakers in all, so no split of this corpus is free of a shared voice.

    Args:
        root: folder that holds ``generated_audio`` and the genuine corpora.
        ljspeech: folder of LJSpeech below the root; null leaves its recordings out.
        jsut: folder of JSUT below the root; null leaves its recordings out.
        allow_partial: go on with a copy that differs from what was published; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.
    """

    name: ClassVar[str] = "wavefake"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    version: ClassVar[str] = "Zenodo 5642694"
    licence: ClassVar[str] = "CC BY-SA 4.0 (its datasheet)"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://zenodo.org/records/5642694 and https://github.com/RUB-SysSec/WaveFake",
        "Frank and Schönherr 2021, WaveFake: a data set to facilitate audio deepfake detection, NeurIPS datasets track",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/WaveFake.py (folders, and that deeper ones repeat)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        **{folder: 13100 for folder in FOLDERS if folder.startswith("ljspeech_")},
        **{folder: 5000 for folder in FOLDERS if folder.startswith("jsut_")},
        "LJSpeech recordings": 13100,
        "JSUT recordings": 5000,
    }

    def __init__(
        self,
        *,
        root: str,
        ljspeech: str | None = "LJSpeech-1.1",
        jsut: str | None = "jsut_ver1.1",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.ljspeech = ljspeech
        self.jsut = jsut

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Fakes by folder, then the genuine recordings."""
        found = inventory.files(suffixes=(".wav",))
        numbers: Counter[str] = Counter()
        own = tuple(f"{f.strip('/')}/" for f in (self.ljspeech, self.jsut) if f)
        for path in found:
            parts = PurePosixPath(path).parts
            folder = next((p for p in parts[:-1] if p in FOLDERS), None)
            if folder is None:
                if not path.startswith(own or ("\0",)):
                    inventory.problem("extra", f"wavefake: {path} is in no folder of generated_audio")
                continue
            if parts[-2] != folder:
                numbers[f"{folder}, deeper (passed over)"] += 1
                continue
            numbers[folder] += 1
            generator, speaker, language = FOLDERS[folder]
            match = _UTTERANCE.match(bare(path))
            if match is None and folder != _TTS:
                inventory.problem("extra", f"wavefake: {path} names no utterance of {speaker}")
                continue
            yield self.sample(
                path, label=FAKE, generator=f"WaveFake-{generator}",
                generator_family="TTS" if folder == _TTS else "vocoder", subjects=(speaker,),
                source_id=match.group(1) if match else "",
                attributes={"language": language, "parent": "JSUT" if speaker == "JSUT" else "LJSpeech"},
            )  # fmt: skip
        for folder in FOLDERS:
            inventory.count(folder, numbers.pop(folder, 0), self.published_counts.get(folder))
        for what, number in numbers.items():
            inventory.count(what, number, None)
        for what, below, speaker, language in (
            ("LJSpeech", self.ljspeech, "LJ", "en"),
            ("JSUT", self.jsut, "JSUT", "ja"),
        ):
            if below:
                yield from self._recordings(inventory, found, what, below.strip("/"), speaker, language)

    def _recordings(
        self, inventory: Inventory, found: list[str], what: str, below: str, speaker: str, language: str
    ) -> Iterable[Sample]:
        paths = [p for p in found if p.startswith(f"{below}/") and _RECORDED.match(bare(p))]
        if not paths:
            inventory.problem(
                "missing", f"wavefake: the recordings of {what} below {below} ({what.lower()}=null leaves them out)"
            )
            return
        inventory.count(f"{what} recordings", len(paths), self.published_counts.get(f"{what} recordings"))
        for path in paths:
            yield self.sample(
                path, label=REAL, subjects=(speaker,), source_id=bare(path),
                licence="public domain" if what == "LJSpeech" else "CC BY-SA 4.0 (texts); audio: see JSUT's licence",
                attributes={"language": language, "parent": what},
            )  # fmt: skip

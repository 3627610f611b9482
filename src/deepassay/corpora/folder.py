"""Your own folder: real/ and fake/<generator>/, or a heap of unlabelled files for scoring only."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from deepassay.corpora.table import MEDIA_BY_SUFFIX, check_classes, with_file_facts
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import MODALITIES, Manifest, Sample

_MEDIA = {"face": ("image", "video"), "voice": ("audio", "video")}


class FolderCorpus:
    """Files below one folder; where they lie says what they are.

    ``root/real/...`` are bona fide, ``root/fake/<generator>/...`` were made by that generator; deeper folders are free.
    Files of other kinds (text, hidden files) are passed over and counted by extension in ``info["ignored"]``.

    Args:
        root: the folder.
        name: corpus name; by default the folder's.
        modality: ``face`` (images and videos) or ``voice`` (sound, and the sound of videos); asked for by `prepare`.
        labelled: False takes every file below ``root`` without a label.
        real_folder: name of the folder of bona fide files.
        fake_folder: name of the folder of folders of fakes.
        subject_pattern: regular expression searched in the relative path; its groups ``subject`` (also ``subject2``)
            and ``source`` fill those columns. Without it every file is its own cluster.
        licence: of the whole.
        synthetic: True marks everything computed from it as synthetic (law 10).
        hash_files: compute SHA-256, which finds copies across splits.
        probe: read size, duration, rate and codec from the files' headers.
        progress: show a progress bar on stderr.

    Raises:
        ConfigError: an unknown modality or a pattern that does not compile or has no such group.
    """

    def __init__(
        self,
        *,
        root: str,
        modality: str | None = None,
        name: str | None = None,
        labelled: bool = True,
        real_folder: str = "real",
        fake_folder: str = "fake",
        subject_pattern: str | None = None,
        licence: str = "",
        synthetic: bool = False,
        hash_files: bool = True,
        probe: bool = True,
        progress: bool = True,
    ) -> None:
        if modality is not None and modality not in MODALITIES:
            raise ConfigError(f"corpus=folder: modality is {modality!r}", hint=f"use one of {list(MODALITIES)}")
        self.pattern: re.Pattern[str] | None = None
        if subject_pattern is not None:
            try:
                self.pattern = re.compile(subject_pattern)
            except re.error as error:
                raise ConfigError(
                    f"corpus=folder: subject_pattern {subject_pattern!r} does not compile ({error})",
                    hint="for example (?P<subject>id[0-9]+)_ finds id07 in id07_0003.mp4",
                ) from error
            if not set(self.pattern.groupindex) & {"subject", "source"}:
                raise ConfigError(
                    f"corpus=folder: subject_pattern {subject_pattern!r} has no group named subject or source",
                    hint="for example (?P<subject>id[0-9]+)_ finds id07 in id07_0003.mp4",
                )
        self.root = Path(root)
        self.name = name or self.root.resolve().name
        self.modality = modality
        self.labelled = labelled
        self.real_folder = real_folder
        self.fake_folder = fake_folder
        self.licence = licence
        self.synthetic = synthetic
        self.hash_files = hash_files
        self.probe = probe
        self.progress = progress

    def prepare(self) -> Manifest:
        """Walk the folder, in name order.

        Raises:
            ConfigError: no modality.
            ManifestError: no such folder or no media in it; a labelled folder without real or without fake files; a
                file directly under ``fake/`` or under neither; a file that ``subject_pattern`` does not match.
        """
        if self.modality is None:
            raise ConfigError(
                f"{self.root}: nothing says whether it holds faces or voices",
                hint="set corpus.modality=face or corpus.modality=voice",
            )
        if not self.root.is_dir():
            raise ManifestError(f"{self.root}: no such folder", hint="give an existing folder with corpus.root=...")
        ignored: Counter[str] = Counter()
        samples = []
        for path in sorted(self.root.rglob("*")):
            relative = path.relative_to(self.root)
            if not path.is_file() or any(part.startswith(".") for part in relative.parts):
                continue
            media = MEDIA_BY_SUFFIX.get(path.suffix.lower())
            if media not in _MEDIA[self.modality]:
                ignored[path.suffix.lower() or "no extension"] += 1
                continue
            samples.append(self._sample(relative, str(media), self.modality))
        if not samples:
            raise ManifestError(
                f"{self.root}: no {self.modality} files ({sum(ignored.values())} of other kinds: {dict(ignored)})",
                hint=f"put {' or '.join(_MEDIA[self.modality])} files there, or correct corpus.root and "
                f"corpus.modality",
            )
        if self.labelled:
            check_classes(samples, str(self.root))
        samples, unread = with_file_facts(
            samples, self.root, name=self.name, hash_files=self.hash_files, probe=self.probe, progress=self.progress
        )
        info: dict[str, Any] = {"name": self.name, "synthetic": self.synthetic, "licence": self.licence, "version": ""}
        if ignored:
            info["ignored"] = dict(sorted(ignored.items()))
        if unread:
            info["unreadable_headers"] = unread
        return Manifest.from_samples(samples, self.root, info)

    def _sample(self, relative: Path, media: str, modality: str) -> Sample:
        label: int | None = None
        generator = ""
        if self.labelled:
            top = relative.parts[0]
            if top == self.real_folder and len(relative.parts) > 1:
                label = REAL
            elif top == self.fake_folder and len(relative.parts) > 2:
                label, generator = FAKE, relative.parts[1]
            else:
                raise ManifestError(
                    f"{self.root}: {relative.as_posix()} is neither under {self.real_folder}/ nor under "
                    f"{self.fake_folder}/<generator>/",
                    hint=f"move it, naming what made it ({self.fake_folder}/MyTool-2.1/...), or set "
                    f"corpus.labelled=false",
                )
        subjects: tuple[str, ...] = ()
        source = ""
        if self.pattern is not None:
            match = self.pattern.search(relative.as_posix())
            if match is None:
                raise ManifestError(
                    f"{self.root}: subject_pattern finds nothing in {relative.as_posix()!r}",
                    hint="widen the pattern; use an optional group for files without a known subject",
                )
            groups = match.groupdict(default="")
            subjects = tuple(dict.fromkeys(g for k in ("subject", "subject2") if (g := groups.get(k, ""))))
            source = groups.get("source", "")
        return Sample(
            sample_id=f"{self.name}/{relative.as_posix()}",
            path=relative.as_posix(),
            media=media,
            modality=modality,
            label=label,
            source_id=source,
            subjects=subjects,
            generator=generator,
            corpus=self.name,
            licence=self.licence,
        )

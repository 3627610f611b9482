"""MLAAD (Müller et al. 2024): synthesised speech in many languages, with M-AILABS as its declared bona fide side."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus
from deepassay.corpora.voice_lists import SOUND, attributes, bare, table
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_FAKE = re.compile(r"(?:.*/)?fake/(?P<language>[^/]+)/(?P<system>[^/]+)/[^/]+")
_BOOK = re.compile(r"by_book/(?P<gender>female|male)/(?P<reader>[^/]+)/")


class MLAAD(PublicCorpus):
    """``fake/<language>/<system>/*.wav`` with a ``meta.csv`` each; the texts are those of M-AILABS recordings.

    MLAAD has no genuine speech of its own. Its paper names M-AILABS, whose recordings carry the same texts, so a fake's
    source is the recording it speaks after. A detector trained on this pair can learn the recording conditions of
    M-AILABS instead of synthesis: read the audit's nuisance probes.

    Args:
        root: folder that holds ``fake`` and the genuine recordings.
        bona_fide: folder of M-AILABS below the root (``original`` in MLAAD-tiny); null indexes the fakes alone.
        languages: folder names below ``fake`` such as ``en``; null takes all.
        lists: whether every system has its ``meta.csv`` (MLAAD-tiny has none: false).
        version: of the release, for the record (``9``, say).
        allow_partial: go on with a copy that differs from its lists; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.
    """

    name: ClassVar[str] = "mlaad"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "CC BY-NC 4.0; bona fide: M-AILABS under its own licence"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://huggingface.co/datasets/mueller91/MLAAD and MLAAD-tiny",
        "Müller et al. 2024, MLAAD: the multi-language audio anti-spoofing dataset, IJCNN",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/MLAAD.py (tree)",
    )

    def __init__(
        self,
        *,
        root: str,
        bona_fide: str | None = "original",
        languages: list[str] | None = None,
        lists: bool = True,
        version: str = "",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.bona_fide = bona_fide.strip("/") if bona_fide else None
        self.languages = languages
        self.lists = lists
        self.release = version

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Fakes system by system, then the genuine recordings."""
        found = inventory.files(suffixes=(*SOUND, ".csv"))
        own = f"{self.bona_fide}/" if self.bona_fide else "\0"
        systems: dict[str, list[str]] = {}
        for path in found:
            match = None if path.startswith(own) or path.endswith(".csv") else _FAKE.fullmatch(path)
            if match and (self.languages is None or match.group("language") in self.languages):
                systems.setdefault(PurePosixPath(path).parent.as_posix(), []).append(path)
        for language in self.languages or ():
            if not any(PurePosixPath(folder).parent.name == language for folder in systems):
                inventory.problem("missing", f"mlaad: no system below fake/{language}")
        for folder, paths in sorted(systems.items()):
            yield from self._system(inventory, folder, paths)
        inventory.count("systems by language", len(systems), None)
        if self.bona_fide:
            yield from self._recordings(inventory, [p for p in found if p.startswith(own) and not p.endswith(".csv")])

    def _system(self, inventory: Inventory, folder: str, paths: list[str]) -> Iterable[Sample]:
        about: dict[str, Mapping[str, str]] = {}
        if self.lists:
            listing = f"{folder}/meta.csv"
            rows = table(inventory, listing, ("path", "original_file"), delimiter=self._delimiter(listing))
            for line, row in rows:
                if not row["path"]:
                    inventory.unparsable(listing, line, "no path")
                    continue
                about[f"{folder}/{PurePosixPath(row['path'].replace(chr(92), '/')).name}"] = row
            paths = inventory.expect(list(about), found=set(paths), what=f"mlaad {folder}")
        system, language = PurePosixPath(folder).name, PurePosixPath(folder).parent.name
        for path in paths:
            row = about.get(path, {})
            original = row.get("original_file", "").replace(chr(92), "/")
            yield self.sample(
                path, label=FAKE, generator=f"MLAAD-{system}", generator_family=row.get("architecture", "") or "TTS",
                source_id=f"m-ailabs/{bare(original or path)}", licence="CC BY-NC 4.0",
                attributes=attributes(
                    language=row.get("language") or language, training_data=row.get("training_data"),
                    is_original_language=row.get("is_original_language"), release=self.release,
                ),
            )  # fmt: skip

    def _delimiter(self, listing: str) -> str:
        file = self.root / listing
        first = file.read_text(encoding="utf-8-sig").splitlines()[:1] if file.is_file() else []
        return Counter({d: first[0].count(d) for d in "|;,"}).most_common(1)[0][0] if first else "|"

    def _recordings(self, inventory: Inventory, paths: list[str]) -> Iterable[Sample]:
        if not paths:
            inventory.problem(
                "missing",
                f"mlaad: the bona fide recordings (M-AILABS) below {self.bona_fide} (bona_fide=null indexes the fakes "
                f"alone)",
            )
        inventory.count("bona fide recordings", len(paths), None)
        for path in paths:
            book = _BOOK.search(path)
            language = path.removeprefix(f"{self.bona_fide}/").split("/")[0].split("_")[0]
            yield self.sample(
                path, label=REAL, source_id=f"m-ailabs/{bare(path)}", licence="M-AILABS licence",
                subjects=(f"m-ailabs/{book.group('reader')}",) if book else (),
                attributes=attributes(
                    language=language, parent="M-AILABS", gender=book.group("gender") if book else ""
                ),
            )  # fmt: skip

"""The dossier's words: one file per language with the same keys, read once."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from deepassay.errors import ConfigError

LANGUAGES = ("en", "zh")
TEMPLATES = Path(__file__).with_name("templates")


class Words:
    """Sentences of one language by key, with values filled in.

    Args:
        language: ``en`` or ``zh``.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._words = _read(language)

    def __call__(self, key: str, **values: Any) -> str:
        """The sentence. Raises KeyError where a key or value is missing: that is a fault of the program."""
        text = self._words[key]
        return text.format(**values) if values else text

    def method(self, text: str) -> str:
        """How near-duplicates were looked for, as the audit says it in English, in this language; else as it stands."""
        for key in ("near.voice", "near.picture"):
            pattern = re.escape(_read("en")[key])
            for name in ("a", "b", "n"):
                pattern = pattern.replace(rf"\{{{name}\}}", rf"(?P<{name}>[\d.]+)")
            found = re.fullmatch(pattern, text)
            if found:
                return self(key, **found.groupdict())
        return text

    def chart(self) -> dict[str, str]:
        """What `deepassay.figures` calls its words."""
        return {key.removeprefix("chart."): text for key, text in self._words.items() if key.startswith("chart.")}

    def __contains__(self, key: str) -> bool:
        return key in self._words

    def keys(self) -> frozenset[str]:
        """Every key."""
        return frozenset(self._words)


@lru_cache(maxsize=4)
def _read(language: str) -> Mapping[str, str]:
    if language not in LANGUAGES:
        raise ConfigError(f"there is no dossier in language {language!r}", hint=f"use one of {list(LANGUAGES)}")
    out: dict[str, str] = {}
    # words.en.yaml, and one words.<room>.en.yaml for each room that brings words of its own.
    for path in sorted(TEMPLATES.glob(f"words*.{language}.yaml")):
        more = yaml.safe_load(path.read_text(encoding="utf-8"))
        twice = sorted(out.keys() & more.keys())
        if twice:
            raise ConfigError(f"{path.name}: {twice[0]!r} is a word of another file too", hint="rename one of them")
        out |= more
    return out


@lru_cache(maxsize=1)
def legal_texts() -> list[dict[str, Any]]:
    """Instruments with their provisions, as in ``templates/legal_map.yaml``."""
    return yaml.safe_load((TEMPLATES / "legal_map.yaml").read_text(encoding="utf-8"))

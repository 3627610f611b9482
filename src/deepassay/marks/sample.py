"""The implicit labels of a sample of files, file by file and together: found, well formed, exactly one, ids unique."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepassay.errors import MediaError, MissingDependencyError
from deepassay.marks.gb45438 import PROVIDER_CODE, validate_marks
from deepassay.marks.manifests import Manifest, c2pa_version, read_manifest
from deepassay.marks.mark import C2PA, GB45438, Finding, Mark
from deepassay.marks.scan import scan
from deepassay.marks.second import ReadBack, read_back, same_label

# Rules on the payload itself; where it stands, and how many there are, are told apart.
SCHEMA_RULES = (
    "plain_json", "duplicate_field", "missing_field", "unknown_field", "string_values", "label_value",
    "required_nonempty",
)  # fmt: skip
PLACE_RULES = ("place", "namespace")
CODE, NAME, MALFORMED = "code", "name", "malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """One file.

    Args:
        path: as given.
        container: by content; empty where the file could not be looked through.
        marks: in file order.
        findings: of `validate_marks`.
        problems: where the structure broke off.
        error: why it could not be looked through; such a file is neither marked nor unmarked.
        second: what the other parser found; None where it was not asked or could not read the file.
        second_error: why it could not.
        manifest: the C2PA manifest as the library judged it; None where there is none, or no library.
        manifest_error: why a manifest that is there was not judged.
    """

    path: str
    container: str = ""
    marks: tuple[Mark, ...] = ()
    findings: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = ()
    error: str = ""
    second: ReadBack | None = None
    second_error: str = ""
    manifest: Manifest | None = None
    manifest_error: str = ""

    @property
    def labels(self) -> tuple[Mark, ...]:
        """The implicit labels."""
        return tuple(mark for mark in self.marks if mark.kind == GB45438)

    @property
    def looked_through(self) -> bool:
        """Whether absence may be stated: the file was read to its end."""
        return not self.error and not self.problems

    @property
    def one(self) -> bool:
        """Exactly one implicit label."""
        return len(self.labels) == 1

    def keeps(self, rules: Sequence[str]) -> bool:
        """Whether there is a label and no finding fails one of these rules."""
        return bool(self.labels) and not any(f.rule in rules and f.outcome == "fail" for f in self.findings)

    @property
    def schema_valid(self) -> bool:
        """The payload keeps every rule on which sources agree."""
        return self.keeps(SCHEMA_RULES)

    @property
    def standard_place(self) -> bool:
        """Every label stands where the practice guides put it."""
        return self.keeps(PLACE_RULES)

    @property
    def provider(self) -> str:
        """What ContentProducer of the first label is: `CODE`, `NAME`, `MALFORMED`, or empty where it is not given."""
        value = self._value("ContentProducer")
        if not value:
            return ""
        if any(f.rule == "provider_code" and f.outcome == "fail" for f in self.findings):
            return MALFORMED
        return CODE if PROVIDER_CODE.fullmatch(value) else NAME

    @property
    def produce_id(self) -> tuple[str, str] | None:
        """(ContentProducer, ProduceID) of the first label, where it has an id."""
        value = self._value("ProduceID")
        return (self._value("ContentProducer"), value) if value else None

    @property
    def disputed(self) -> tuple[str, ...]:
        """Rules on which sources disagree and that this file touches."""
        return tuple(sorted({f.rule for f in self.findings if f.outcome == "disputed"}))

    @property
    def parsers_agree(self) -> bool | None:
        """Whether both parsers found the same labels; None where only one read the file."""
        if self.second is None or self.error:
            return None
        mine, other = [mark.text for mark in self.labels], list(self.second.texts)
        for text in mine:
            match = next((i for i, one in enumerate(other) if same_label(text, one)), None)
            if match is None:
                return False
            del other[match]
        return not other

    @property
    def c2pa(self) -> bool:
        """A C2PA manifest, or a reference to one, is there."""
        return any(mark.kind == C2PA for mark in self.marks)

    def _value(self, name: str) -> str:
        for mark in self.labels:
            value = (mark.fields or {}).get(name)
            return value if isinstance(value, str) else ""
        return ""


@dataclass(frozen=True, slots=True)
class SampleReport:
    """Several files together.

    Args:
        files: in the order given.
        repeated: ids that more than one file carries, with those files.
        c2pa_version: of the library that judged manifests; empty where it is not installed.
    """

    files: tuple[FileReport, ...]
    repeated: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    c2pa_version: str = ""

    def unique(self, report: FileReport) -> bool | None:
        """Whether no other file of the sample carries this file's id; None where it has none."""
        return None if report.produce_id is None else report.produce_id not in self.repeated


def inspect_file(path: str | os.PathLike[str], *, trust_anchors: str | os.PathLike[str] | None = None) -> FileReport:
    """Everything about one file; what cannot be read is said in the report, not raised."""
    try:
        found = scan(path)
    except MediaError as error:
        return FileReport(path=str(path), error=error.message)
    second, second_error, manifest, manifest_error = None, "", None, ""
    try:
        second = read_back(path)
    except MediaError as error:
        second_error = error.message
    if any(mark.kind == C2PA and mark.key != "provenance" for mark in found.marks):
        try:
            manifest = read_manifest(path, trust_anchors=trust_anchors)
        except MissingDependencyError as error:
            manifest_error = error.message
    elif any(mark.kind == C2PA for mark in found.marks):
        manifest_error = "the file only refers to a manifest elsewhere, which is not fetched"
    return FileReport(
        path=str(path), container=found.container, marks=found.marks, findings=tuple(validate_marks(found.marks)),
        problems=found.problems, second=second, second_error=second_error, manifest=manifest,
        manifest_error=manifest_error,
    )  # fmt: skip


def inspect_sample(
    paths: Iterable[str | os.PathLike[str]],
    *,
    trust_anchors: str | os.PathLike[str] | None = None,
    done: Callable[[], object] = lambda: None,
) -> SampleReport:
    """Look through files one by one, then at their ids together.

    Args:
        trust_anchors: PEM file of certificates that are trusted to sign C2PA manifests.
        done: called after each file, for a progress bar.
    """
    files: list[FileReport] = []
    for path in paths:
        files.append(inspect_file(path, trust_anchors=trust_anchors))
        done()
    owners: dict[tuple[str, str], list[str]] = {}
    for one in files:
        if one.produce_id is not None:
            owners.setdefault(one.produce_id, []).append(one.path)
    repeated = {key: tuple(names) for key, names in owners.items() if len(names) > 1}
    return SampleReport(tuple(files), repeated, c2pa_version())


def files_below(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as given, and every regular file below given folders, in order of name; links are not followed.

    Raises:
        MediaError: a path that does not exist.
    """
    out: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            out += sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
        elif path.exists():
            out.append(path)
        else:
            raise MediaError(f"{path}: does not exist", hint="give files or folders of outputs")
    return out

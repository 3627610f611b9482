"""Who goes where: splits by subject and source, with generators left out, by group or as published, and their proof."""

import fnmatch
import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from deepassay.errors import ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE, LABEL_WORDS
from deepassay.manifest import COLUMNS, SPLITS, Manifest

pc: Any = pyarrow.compute

TIED = "subjects or sources lie in different splits"
LEFT_OUT = "generator is left out for another split than its subjects'"
HELD_OUT = "subject or source also occurs in a held-out group"
UNSPLIT = "no official split"
KEPT_OUT = "generator is kept out of this split"
NO_SOURCE = "its original is in no split"
KIN = "generator is kin to a left-out one"
UNWANTED = "kind of fake that this training does without"
SELF_MADE = "self-made/"
_CLAIM_ORDER = ("test", "dev", "train")
ASSIGNMENTS = ("balanced", "hash")


class SubjectSplit:
    """Assign every subject and source to one split; fakes that tie two splits together are dropped and counted (law 4).

    Subjects, sources and byte-identical files that a *real* sample ties together stay together, in a unit.

    ``balanced`` (for corpora of tens to thousands of people): fakes tie softly. Swaps of a few people stay whole, but
    where they chain a large part of the corpus into one component (a ring, or everybody swapped with everybody) the
    component is cut along a breadth-first order, and only the fakes across a cut are lost. Groups are then dealt,
    largest first and equal ones in hash order, to the split that is emptiest in their labels, generators and strata.

    ``hash`` (for corpora that grow): every unit goes where the hash of its name says (its first subject in alphabetical
    order, else its source), whatever else the corpus holds. Rows added later move no unit, unless they tie two units
    together, and a swap is kept only where both its subjects fall into one split: expect to lose more swaps.

    Both depend on the seed and the content, never on the order of rows.

    Args:
        fractions: share of samples per split, for example ``{train: 0.6, dev: 0.2, test: 0.2}``; positive, sum 1.
        seed: deals differently.
        leave_out: generators or generator families that may occur in one split only, for example ``{test: [NSF], dev:
            [FOMM]}``.
        claim_subjects: True moves every subject of a left-out fake to that fake's split. False leaves subjects where
            they fall (only subjects that occur nowhere else follow the fake) and drops left-out fakes whose subjects
            fall elsewhere.
        by: ``subject``, or an attribute or column such as ``repository`` whose values must each stay in one split as
            well.
        assign: subjects, or ``attribute=value`` for all samples with it, that are put into a split by hand.
        stratify: attributes or columns whose values are spread over the splits in proportion.
        largest_tie: share of the samples above which a component tied by fakes is cut.
        assignment: ``balanced`` or ``hash``; ``stratify`` and ``largest_tie`` matter to the first only.

    Raises:
        ConfigError: fractions, split names or lists that contradict themselves.
    """

    def __init__(
        self,
        *,
        fractions: Mapping[str, float] | None = None,
        seed: int = 0,
        leave_out: Mapping[str, Sequence[str]] | None = None,
        claim_subjects: bool = False,
        by: str = "subject",
        assign: Mapping[str, Sequence[str]] | None = None,
        stratify: Sequence[str] = (),
        largest_tie: float = 0.1,
        assignment: str = "balanced",
    ) -> None:
        fractions = {"train": 0.6, "dev": 0.2, "test": 0.2} if fractions is None else dict(fractions)
        _known_splits(fractions, "fractions")
        if any(f <= 0 for f in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
            raise ConfigError(
                f"split fractions {fractions} are not positive shares that sum to 1",
                hint="for example fractions: {train: 0.6, dev: 0.2, test: 0.2}; leave a split out instead of giving "
                "it 0",
            )
        if not 0 < largest_tie <= 1:
            raise ConfigError(f"largest_tie is {largest_tie}", hint="give a share between 0 and 1, for example 0.1")
        _known_assignment(assignment)
        self.fractions = {name: float(fractions[name]) for name in SPLITS if name in fractions}
        self.assignment = assignment
        self.seed = seed
        self.leave_out = _home_of(leave_out, "leave_out", self.fractions)
        self.claim_subjects = claim_subjects
        self.by = by
        self.assign = _home_of(assign, "assign", self.fractions)
        self.stratify = tuple(stratify)
        self.largest_tie = largest_tie

    def apply(self, manifest: Manifest) -> Manifest:
        """Fill ``split``; ``info["split"]`` tells counts, clusters and what was dropped and why.

        Raises:
            ManifestError: a left-out generator or assigned subject that is not in the manifest; a split that would
                stay without real or without fake samples.
        """
        where, reason = self.place(manifest)
        facts = {
            "method": "subject",
            "by": self.by,
            "seed": self.seed,
            "assignment": self.assignment,
            "fractions": self.fractions,
            "leave_out": _by_split(self.leave_out),
            "claim_subjects": self.claim_subjects,
            "stratify": list(self.stratify),
        }
        return _finish(manifest, where, reason, facts, self.fractions)

    def place(self, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
        """(n,) position in SPLITS of every row, -1 where it is dropped; and (n,) why it is dropped."""
        home = _homes(manifest, self.leave_out)
        ties = _Ties(manifest, self.by)
        self._force(ties, manifest, home)
        shares = [self.fractions.get(split, 0.0) for split in SPLITS]
        if self.assignment == "hash":
            ties.assign_by_hash(shares, self.seed)
        else:
            ties.deal(shares, home, _facets(manifest, home, self.stratify), self.seed, self.largest_tie)
        return ties.outcome(home, shares)

    def _force(self, ties: "_Ties", manifest: Manifest, home: np.ndarray) -> None:
        words = _words(manifest) if self.assign else None
        missing = []
        for split in _CLAIM_ORDER:
            for word in sorted(w for w, s in self.assign.items() if s == split):
                rows = words.rows(word) if words is not None else np.zeros(0, np.int64)
                missing += [] if len(rows) else [word]
                ties.claim(np.isin(ties.row, rows), SPLITS.index(split))
        if missing:
            raise ManifestError(
                f"{manifest.name}: assigned to a split but not in the corpus: {sorted(missing)[:5]}",
                hint="name subjects as they stand in the manifest, or attribute=value (for example "
                "repository=owner/name)",
            )
        size = np.bincount(ties.unit, minlength=ties.n_units)
        for split in _CLAIM_ORDER:
            number = SPLITS.index(split)
            here = home[ties.row] == number
            if not self.claim_subjects:
                here &= (np.bincount(ties.unit[here], minlength=ties.n_units) == size)[ties.unit]
            ties.claim(here, number)


class LeaveGeneratorsOut(SubjectSplit):
    """`SubjectSplit` with generators or families that only test (or only dev) may hold: the test of new generators.

    Args:
        test: generators or families held out for test; at least one, asked for by `apply`.
        dev: held out for dev, so that checkpoints are chosen on a generator that training never saw.
        fractions, seed, claim_subjects, by, stratify, assignment: as in `SubjectSplit`.
    """

    def __init__(
        self,
        *,
        test: Sequence[str] = (),
        dev: Sequence[str] = (),
        fractions: Mapping[str, float] | None = None,
        seed: int = 0,
        claim_subjects: bool = False,
        by: str = "subject",
        stratify: Sequence[str] = (),
        assignment: str = "balanced",
    ) -> None:
        super().__init__(
            fractions=fractions, seed=seed, leave_out={"test": test, "dev": dev}, claim_subjects=claim_subjects, by=by,
            stratify=stratify, assignment=assignment,
        )  # fmt: skip

    def apply(self, manifest: Manifest) -> Manifest:
        """As `SubjectSplit.apply`.

        Raises:
            ConfigError: no generator is named for test; says which there are.
        """
        if "test" not in self.leave_out.values():
            names = {str(n) for c in ("generator", "generator_family") for n in manifest.column(c) if n}
            raise ConfigError(
                "no generator is left out for test",
                hint=f"list at least one under test (split.test=[...]); here are: {_some(names)}",
            )
        return super().apply(manifest)


class FoldSplit:
    """One fold of k: every subject and source is in the test split of exactly one fold; the next fold is dev.

    Units, ties and ``assignment`` are those of `SubjectSplit`; a fake is kept where all it is tied to has one role.

    Args:
        folds: how many, at least 3.
        fold: which one is test, from 0.
        seed, by, stratify, largest_tie, assignment: as in `SubjectSplit`; the same for all folds.

    Raises:
        ConfigError: a fold that does not exist.
    """

    def __init__(
        self,
        *,
        folds: int = 5,
        fold: int = 0,
        seed: int = 0,
        by: str = "subject",
        stratify: Sequence[str] = (),
        largest_tie: float = 0.1,
        assignment: str = "balanced",
    ) -> None:
        if folds < 3 or not 0 <= fold < folds:
            raise ConfigError(
                f"fold {fold} of {folds} cannot be had", hint="use at least 3 folds, and fold from 0 to folds - 1"
            )
        _known_assignment(assignment)
        self.folds, self.fold, self.seed, self.by = folds, fold, seed, by
        self.stratify, self.largest_tie, self.assignment = tuple(stratify), largest_tie, assignment

    def apply(self, manifest: Manifest) -> Manifest:
        """Fill ``split``; ``info["split"]`` tells the fold, counts and what was dropped.

        Raises:
            ManifestError: a split without real or without fake samples.
        """
        home = np.full(len(manifest), -1, dtype=np.int64)
        ties = _Ties(manifest, self.by)
        shares = [1 / self.folds] * self.folds
        if self.assignment == "hash":
            ties.assign_by_hash(shares, self.seed)
        else:
            facets = _facets(manifest, home, self.stratify)
            ties.deal(shares, home, facets, self.seed, min(self.largest_tie, 1 / self.folds))
        role = np.full(self.folds, SPLITS.index("train"))
        role[self.fold], role[(self.fold + 1) % self.folds] = SPLITS.index("test"), SPLITS.index("dev")
        ties.split = role[ties.split]
        where, reason = ties.outcome(home, [1 - 2 / self.folds, 1 / self.folds, 1 / self.folds])
        facts = {
            "method": "folds", "by": self.by, "seed": self.seed, "assignment": self.assignment, "folds": self.folds,
            "fold": self.fold, "fractions": {}, "leave_out": {}, "stratify": list(self.stratify),
        }  # fmt: skip
        return _finish(manifest, where, reason, facts, SPLITS)


class OfficialSplit:
    """Keep the split that the corpus publishes (the manifest's ``split`` column) and prove that it does not leak.

    Args:
        unsplit: ``error`` or ``drop`` for samples without an official split.
        ties: ``error``, or ``drop_fakes`` to drop and count fakes whose subject or source also lies in an earlier
            split's (test before dev before train) samples.
    """

    def __init__(self, *, unsplit: str = "error", ties: str = "error") -> None:
        if unsplit not in ("error", "drop") or ties not in ("error", "drop_fakes"):
            raise ConfigError(
                f"OfficialSplit(unsplit={unsplit!r}, ties={ties!r}) is not known",
                hint="unsplit is error or drop, ties is error or drop_fakes",
            )
        self.unsplit = unsplit
        self.ties = ties

    def apply(self, manifest: Manifest) -> Manifest:
        """Check the published split.

        Raises:
            ManifestError: samples without a split, or a split without real or without fake samples.
            LeakError: a subject, source or file in two splits.
        """
        where = split_numbers(manifest)
        bare = np.flatnonzero(where < 0)
        if len(bare) and self.unsplit == "error":
            raise ManifestError(
                f"{manifest.name}: {len(bare)} of {len(manifest)} samples have no official split, "
                f"the first is {manifest[int(bare[0])].sample_id!r}",
                hint="use split=subject, or unsplit: drop to leave them out",
            )
        reason = np.full(len(manifest), "", dtype=object)
        reason[bare] = UNSPLIT
        if self.ties == "drop_fakes":
            ids = _Ids(manifest, "subject", copies=False)
            alien = ids.alien(where) & (where >= 0) & (_labels(manifest) == FAKE)
            reason[alien] = TIED
            where = np.where(alien, -1, where)
        facts = {"method": "official", "fractions": {}, "leave_out": {}}
        met = [split for number, split in enumerate(SPLITS) if (where == number).any()]
        out = _finish(manifest, where, reason, facts, met)
        assert_disjoint(out)
        return out


class GroupHoldout:
    """Hold whole groups out, such as repositories, laboratories or devices: the test of generalisation to a new source.

    A subject or source that occurs in a held-out group and elsewhere keeps its held-out samples only; the others are
    dropped and counted, real ones too.

    Args:
        by: attribute or column that names the group.
        test: values held out for test; at least one, asked for by `apply`.
        dev: values held out for dev; empty takes ``dev_fraction`` of the subjects of the rest instead.
        dev_fraction: share of the remaining samples that becomes dev where ``dev`` is empty.
        leave_out: as in `SubjectSplit`: generators or families that may occur in one split only; elsewhere they are
            dropped.
        seed: for the dev share.
    """

    def __init__(
        self,
        *,
        by: str = "repository",
        test: Sequence[str] = (),
        dev: Sequence[str] = (),
        dev_fraction: float = 0.2,
        leave_out: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
    ) -> None:
        if not 0 < dev_fraction < 1:
            raise ConfigError(f"dev_fraction is {dev_fraction}", hint="give a share between 0 and 1, for example 0.2")
        self.by = by
        self.groups = _home_of({"test": test, "dev": dev}, "groups", SPLITS)
        self.dev_fraction = None if dev else dev_fraction
        self.leave_out = _home_of(leave_out, "leave_out", SPLITS)
        self.seed = seed

    def apply(self, manifest: Manifest) -> Manifest:
        """Fill ``split``; see the class.

        Raises:
            ConfigError: nothing is held out for test.
            ManifestError: a value that no sample has, or a split without real or without fake samples.
        """
        column = text_values(manifest, self.by)
        values = set(pc.unique(column).to_pylist())
        if "test" not in self.groups.values():
            raise ConfigError(
                f"no {self.by} is held out for test",
                hint=f"list at least one under test (split.test=[...]); values of {self.by} are: {_some(values)}",
            )
        missing = sorted(set(self.groups) - values)
        if missing:
            raise ManifestError(
                f"{manifest.name}: no sample has {self.by} {missing[0]!r}",
                hint=f"values of {self.by} are: {_some(values)}",
            )
        home = _homes(manifest, self.leave_out)
        where = _lookup(column, self.groups, SPLITS.index("train"))
        held = _Ids(manifest, "subject").alien(where)
        waits = (where == SPLITS.index("train")) & (home == SPLITS.index("dev")) & (self.dev_fraction is not None)
        left = ~held & (home >= 0) & (home != where) & ~waits
        reason = np.full(len(manifest), "", dtype=object)
        reason[held], reason[left] = HELD_OUT, LEFT_OUT
        where = np.where(held | left, -1, where)
        facts: dict[str, Any] = {
            "method": "group",
            "by": self.by,
            "seed": self.seed,
            "fractions": {},
            "held_out": _by_split(self.groups),
            "leave_out": _by_split(self.leave_out),
        }
        if self.dev_fraction is not None:
            at = np.flatnonzero(where == SPLITS.index("train"))
            rest = manifest.select(where == SPLITS.index("train"))
            here = {*rest.column("generator"), *rest.column("generator_family")}
            inner = SubjectSplit(
                fractions={"train": 1 - self.dev_fraction, "dev": self.dev_fraction},
                seed=self.seed,
                leave_out={"dev": [g for g, split in self.leave_out.items() if split == "dev" and g in here]},
            )
            where[at], reason[at] = inner.place(rest)
            facts["dev_fraction"] = self.dev_fraction
        return _finish(manifest, where, reason, facts, SPLITS)


class CrossHoldout:
    """Leave generator groups out together with people and places: the test of tools, people and sources never seen.

    Every group names generators and, where it can, the places (repositories, laboratories) whose real samples are
    held out with them. Test is the fakes of the groups under ``test``, those real samples, and every real sample of a
    person or source met among them. Of everything else, fakes of those people are dropped and counted, and the rest
    is dealt to train and dev by subject. Self-made fakes (generators that begin with ``self-made/``) follow their
    original's people and are never tested.

    Args:
        groups: name -> {generators: [generators or families], subjects: [people], reals: [values of ``by``]}. All that
            is of a group's ``subjects`` belongs to it, whatever made it; ``*`` among generators takes the rest.
        test: names of the groups that are left out.
        by: attribute or column that names the places.
        given_fakes: False drops the corpus's own fakes from train and dev.
        self_made: False drops self-made fakes.
        kin: word -> [generators or families] that are the same network or the same family of vocoders.
        leave_kin_out: groups whose generators' kin is dropped from train and dev, too, while they are tested.
        dev_fraction: share of the remaining samples that becomes dev.
        seed: for the dev share.

    Raises:
        ConfigError: a group without generators or subjects, a name in two groups, or no group to leave out.
    """

    def __init__(
        self,
        *,
        groups: Mapping[str, Mapping[str, Any]],
        test: Sequence[str],
        by: str = "repository",
        given_fakes: bool = True,
        self_made: bool = True,
        kin: Mapping[str, Sequence[str]] | None = None,
        leave_kin_out: Sequence[str] = (),
        dev_fraction: float = 0.2,
        seed: int = 0,
    ) -> None:
        if not 0 < dev_fraction < 1:
            raise ConfigError(f"dev_fraction is {dev_fraction}", hint="give a share between 0 and 1, for example 0.2")
        unknown = sorted({*test, *leave_kin_out} - set(groups))
        if unknown or not test or isinstance(test, str):
            raise ConfigError(
                f"no group is named {unknown[0]!r}" if unknown else "no group is left out for test",
                hint=f"test is a list of some of {sorted(groups)}",
            )
        strange = sorted({key for group in groups.values() for key in group} - {"generators", "reals", "subjects"})
        if strange or not all(group.get("generators") or group.get("subjects") for group in groups.values()):
            raise ConfigError(
                f"a group has the key {strange[0]!r}" if strange else "a group names neither generators nor subjects",
                hint="a group has lists of generators or subjects, and may have reals",
            )
        self.generators = _owner_of(groups, "generators")
        self.subjects = _owner_of(groups, "subjects")
        self.places = _owner_of(groups, "reals")
        self.kin = {str(name): word for word, names in (kin or {}).items() for name in names}
        self.test, self.by, self.leave_kin_out = tuple(test), by, tuple(leave_kin_out)
        self.given_fakes, self.self_made = given_fakes, self_made
        self.dev_fraction, self.seed = dev_fraction, seed

    def apply(self, manifest: Manifest) -> Manifest:
        """Fill ``split``; see the class. ``info["split"]`` tells counts, clusters and what was dropped and why.

        Raises:
            ManifestError: a fake that no group claims; a generator, person or place that no sample has; a test without
                real or without fake samples; train or dev without a class, fakes excepted where ``given_fakes`` is
                False.
        """
        where, reason = self.place(manifest)
        facts = {
            "method": "cross",
            "by": self.by,
            "seed": self.seed,
            "fractions": {},
            "leave_out": {},
            "groups": list(self.test),
            "given_fakes": self.given_fakes,
            "self_made": self.self_made,
            "leave_kin_out": list(self.leave_kin_out),
            "dev_fraction": self.dev_fraction,
        }
        return _finish(manifest, where, reason, facts, SPLITS if self.given_fakes else ("test",))

    def place(self, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
        """(n,) position in SPLITS of every row, -1 where it is dropped; and (n,) why it is dropped."""
        fake, group = _labels(manifest) == FAKE, self.group(manifest)
        made = fake & self_made_rows(manifest)
        test = np.isin(group, self.test) & ~made
        ids = _Ids(manifest, "subject")
        while True:  # a real sample of a tested person is tested, and so is whoever it is tied to
            owned = np.zeros(len(ids.names), dtype=bool)
            owned[ids.node[test[ids.row]]] = True
            tied = np.zeros(len(manifest), dtype=bool)
            tied[ids.row[owned[ids.node]]] = True
            more = tied & ~test & ~fake
            if not more.any():
                break
            test |= more
        words = self._kin_words(manifest)
        out_kin = set(words[test & fake & np.isin(group, self.leave_kin_out)]) - {""}
        reason = np.full(len(manifest), "", dtype=object)
        rest = ~test
        for out, why in (
            (tied, HELD_OUT),
            (np.isin(words, list(out_kin)) & fake & ~made, KIN),
            (fake & ~made & (not self.given_fakes), UNWANTED),
            (made & (not self.self_made), UNWANTED),
        ):
            reason[out & rest] = why
            rest &= ~out
        where = np.where(test, SPLITS.index("test"), -1)
        inner = SubjectSplit(fractions={"train": 1 - self.dev_fraction, "dev": self.dev_fraction}, seed=self.seed)
        at = np.flatnonzero(rest)
        where[at], reason[at] = inner.place(manifest.select(rest))
        return where, reason

    def _kin_words(self, manifest: Manifest) -> np.ndarray:
        pairs = zip(manifest.column("generator"), manifest.column("generator_family"), strict=True)
        return np.array([self.kin.get(str(g), self.kin.get(str(f), "")) for g, f in pairs], dtype=object)

    def group(self, manifest: Manifest) -> np.ndarray:
        """(n,) the group that a sample belongs to by its people, its generator or (real) its place; "" for none.

        Raises:
            ManifestError: see `apply`.
        """
        fake, made = _labels(manifest) == FAKE, self_made_rows(manifest)
        names, families = manifest.column("generator"), manifest.column("generator_family")
        people = manifest.column("subjects")
        places = np.array(text_values(manifest, self.by).to_pylist(), dtype=object)
        rest = self.generators.get("*", "")
        out = np.full(len(manifest), "", dtype=object)
        for row in range(len(manifest)):
            claimed = [self.subjects[p] for p in people[row] if p in self.subjects]
            if made[row]:
                continue
            if claimed:
                out[row] = claimed[0]
            elif fake[row]:
                family = self.generators.get(str(families[row] or ""), rest)
                out[row] = self.generators.get(str(names[row] or ""), family)
            else:
                out[row] = self.places.get(str(places[row]), "")
        lost = sorted({str(n) for n in names[fake & ~made & (out == "")]})
        met = {str(n) for n in names[fake]} | {str(f) for f in families[fake]}
        absent = (
            sorted({g for g in self.generators if g != "*"} - met)
            + sorted(set(self.places) - set(places))
            + sorted(set(self.subjects) - {p for row in people for p in row})
        )
        if lost or absent:
            raise ManifestError(
                f"{manifest.name}: no group claims generator {lost[0]!r}"
                if lost
                else f"{manifest.name}: no sample has the generator, person or {self.by} {absent[0]!r} of a group",
                hint="list every generator in one group (generators: ['*'] takes the rest); generators here: "
                f"{_some(str(n) for n in names[fake])}",
            )
        return out


def self_made_rows(manifest: Manifest) -> np.ndarray:
    """(n,) bool: fakes that the project made itself from the corpus's own real samples."""
    starts = pc.starts_with(pc.fill_null(manifest.table.column("generator"), ""), SELF_MADE)
    return starts.to_numpy(zero_copy_only=False)


def _owner_of(groups: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, str]:
    owner: dict[str, str] = {}
    for name, group in groups.items():
        for value in group.get(key) or ():
            if owner.setdefault(str(value), name) != name:
                raise ConfigError(f"{value!r} is in group {owner[str(value)]} and in {name}", hint="list it once")
    return owner


class KeepGenerators:
    """Another split, with fakes of some generators kept out of some of its parts: they are dropped there and counted.

    For training on self-made fakes alone while the given ones wait in test: ``follow: [self-made/*], keep: {train:
    [self-made/*], dev: [self-made/*]}, drop: {test: [self-made/*]}``. With ``follow`` the inner split never sees those
    fakes: they go where the real sample of their source went. Recipes with and without them are then tested on exactly
    the same recordings.

    Args:
        split: any split of this module (or its config node).
        follow: patterns (``*``, ``?``) of generators or families whose fakes follow their sources.
        keep: part -> patterns; other fakes are dropped from that part.
        drop: part -> patterns; such fakes are dropped from that part.

    Raises:
        ConfigError: no such part, or the inner object is no split.
    """

    def __init__(
        self,
        *,
        split: Any,
        follow: Sequence[str] = (),
        keep: Mapping[str, Sequence[str]] | None = None,
        drop: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if not callable(getattr(split, "apply", None)):
            raise ConfigError(f"split is {split!r}, not a split", hint="name one by _target_: deepassay.splits...")
        for where, lists in (("keep", keep), ("drop", drop)):
            _known_splits(lists or {}, where)
        for where, lists in (("keep.", keep or {}), ("drop.", drop or {}), ("", {"follow": follow})):
            for part, patterns in lists.items():
                if isinstance(patterns, str):
                    raise ConfigError(
                        f"{where}{part} is the text {patterns!r}", hint=f"write a list: {part}: [{patterns}]"
                    )
        self.split, self.follow = split, [str(p) for p in follow]
        self.keep = {part: [str(p) for p in patterns] for part, patterns in (keep or {}).items()}
        self.drop = {part: [str(p) for p in patterns] for part, patterns in (drop or {}).items()}

    def apply(self, manifest: Manifest) -> Manifest:
        """As the inner split's; ``info["split"]`` also tells what was kept out.

        Raises:
            ManifestError: a pattern that no fake matches (a spelling mistake would leak or empty a part), or a part
                that stays without real or without fake samples; besides what the inner split raises.
        """
        known = {str(n) for c in ("generator", "generator_family") for n in manifest.column(c) if n}
        lists = [self.follow, *self.keep.values(), *self.drop.values()]
        for pattern in sorted({p for patterns in lists for p in patterns}):
            if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
                raise ManifestError(
                    f"{manifest.name}: no generator or family matches {pattern!r}", hint=f"here are: {_some(known)}"
                )
        follows = (_labels(manifest) == FAKE) & _matching(manifest, self.follow)
        inner: Manifest = self.split.apply(manifest.select(~follows))
        rest = manifest.select(follows)
        home = dict(zip(inner.column("source_id"), inner.column("split"), strict=True))
        own = [home.get(source) if source else None for source in rest.column("source_id")]
        part = pa.array([word if word in SPLITS else "" for word in own], pa.string())
        table = rest.table.set_column(COLUMNS.index("split"), "split", part)
        whole = Manifest(pa.concat_tables([inner.table, table]), manifest.root, inner.info)
        where, fake = split_numbers(whole), _labels(whole) == FAKE
        reason = np.where(where < 0, NO_SOURCE, "").astype(object)
        for wanted, chosen in ((True, self.keep), (False, self.drop)):
            for name, patterns in chosen.items():
                here = fake & (where == SPLITS.index(name)) & (_matching(whole, patterns) != wanted)
                reason[here] = KEPT_OUT
        met = [split for number, split in enumerate(SPLITS) if (where == number).any()]
        where = np.where(reason == KEPT_OUT, -1, where)
        before = dict(inner.info.get("split") or {})
        facts = {**before, "follow": self.follow, "keep": self.keep, "drop": self.drop}
        out = _finish(whole, where, reason, facts, met)
        both = {**dict(before.get("dropped") or {}), **out.info["split"]["dropped"]}
        told = {**out.info["split"], "dropped": both, "n_dropped": len(manifest) - len(out)}
        return Manifest(out.table, out.root, {**out.info, "split": told})


def _matching(manifest: Manifest, patterns: Sequence[str]) -> np.ndarray:
    """(n,) bool: generator or family matches one of the patterns."""
    out = np.zeros(len(manifest), dtype=bool)
    for column in ("generator", "generator_family"):
        coded = pc.fill_null(manifest.table.column(column), "").combine_chunks().dictionary_encode()
        names = coded.dictionary.to_pylist()
        hit = np.array([any(fnmatch.fnmatchcase(n, p) for p in patterns) for n in names], dtype=bool)
        out |= hit[coded.indices.to_numpy()] if len(names) else False
    return out


def assert_disjoint(manifest: Manifest) -> None:
    """Prove that no subject, source or identical file lies in two splits, and no left-out generator outside its split.

    Raises:
        LeakError: names the first overlap found, and the two splits.
    """
    splits = np.array([*SPLITS, ""], dtype=object)[split_numbers(manifest)]
    found: list[tuple[int, str, str, str]] = []
    for kind, rows, values in id_columns(manifest):
        codes = values.dictionary_encode()
        number = codes.indices.to_numpy()
        _, first = np.unique(number, return_index=True)
        owner = splits[rows[first]][number]
        bad = np.flatnonzero(owner != splits[rows])
        if len(bad):
            at = int(bad[np.argmin(rows[bad])])
            found.append((int(rows[at]), kind, str(values[at].as_py()), str(owner[at])))
    if found:
        row, kind, value, other = min(found, key=lambda f: f[0])
        raise LeakError(
            f"{manifest.name}: {kind} {value!r} lies in split {other or 'none'!r} and in split "
            f"{splits[row] or 'none'!r} (sample {manifest[row].sample_id!r})",
            hint="split by subject (split=subject), or correct the subjects, sources or duplicate files",
        )
    left_out = {
        name: split
        for split, names in (manifest.info.get("split") or {}).get("leave_out", {}).items()
        for name in names
    }
    if not left_out:
        return
    fake = _labels(manifest) == FAKE
    for column in ("generator", "generator_family"):
        names = manifest.table.column(column)
        home = _lookup(names, left_out, -1)
        bad = np.flatnonzero(fake & (home >= 0) & (home != split_numbers(manifest)))
        if len(bad):
            row, name = int(bad[0]), names[int(bad[0])].as_py()
            raise LeakError(
                f"{manifest.name}: {name!r} is left out for {left_out[name]!r} but sample {manifest[row].sample_id!r} "
                f"is in {splits[row] or 'no split'!r}",
                hint="apply the split again instead of editing the split column",
            )


_KINDS = ("group", "sample", "sha256", "source", "subject")


def id_columns(manifest: Manifest) -> list[tuple[str, np.ndarray, pa.Array]]:
    """Subjects, sources and hashes that are there: kind, rows (m,), values (m,)."""
    table = manifest.table
    subjects = table.column("subjects").combine_chunks()
    out = [("subject", _list_rows(subjects), pc.list_flatten(subjects))]
    for kind, name in (("source", "source_id"), ("sha256", "sha256")):
        out.append((kind, np.arange(len(table)), table.column(name).combine_chunks()))
    there = [(kind, rows, values, pc.fill_null(pc.not_equal(values, ""), False)) for kind, rows, values in out]
    return [
        (kind, rows[some.to_numpy(zero_copy_only=False)], values.filter(some)) for kind, rows, values, some in there
    ]


def _list_rows(array: Any) -> np.ndarray:
    return np.repeat(np.arange(len(array)), pc.fill_null(pc.list_value_length(array), 0).to_numpy())


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Every number once, in order: `np.unique`, which hashes whole numbers and takes several times longer."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=ordered[:1] - 1) != 0]


class _Ids:
    """The ids of every row as numbers: pairs (row, node) sorted by row, nodes numbered in the order of their names."""

    def __init__(self, manifest: Manifest, by: str, *, copies: bool = True) -> None:
        self.n = len(manifest)
        parts = []
        for kind, rows, values in id_columns(manifest):
            if kind == "sha256":
                counts = pc.value_counts(values)
                twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
                some = pc.is_in(values, value_set=twice) if copies else pa.array(np.zeros(len(values), dtype=bool))
                rows, values = rows[some.to_numpy(zero_copy_only=False)], values.filter(some)
            parts.append((kind, rows, values))
        if by != "subject":
            values = text_values(manifest, by)
            some = pc.not_equal(values, "")
            parts.append(("group", np.flatnonzero(some.to_numpy(zero_copy_only=False)), values.filter(some)))
        bare = np.ones(self.n, dtype=bool)
        for _, rows, _ in parts:
            bare[rows] = False
        ids = manifest.table.column("sample_id").combine_chunks().filter(pa.array(bare))
        parts.append(("sample", np.flatnonzero(bare), ids))
        named = pa.concat_arrays([pc.binary_join_element_wise(kind, values, ":") for kind, _, values in parts])
        coded = named.dictionary_encode()
        order = pc.sort_indices(coded.dictionary)
        self.names: Any = coded.dictionary.take(order)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order.to_numpy()] = np.arange(len(order))
        node = rank[coded.indices.to_numpy()]
        row = np.concatenate([rows for _, rows, _ in parts])
        kinds = np.concatenate([np.full(len(rows), _KINDS.index(kind)) for kind, rows, _ in parts])
        self.kind = np.zeros(len(rank), dtype=np.int64)
        self.kind[node] = kinds
        both = distinct(row * max(len(rank), 1) + node)
        self.row, self.node = both // max(len(rank), 1), both % max(len(rank), 1)

    def alien(self, where: np.ndarray) -> np.ndarray:
        """(n,) bool: rows with an id that also lies in an earlier split's rows (test before dev before train)."""
        owner = np.full(len(self.names), -1)
        np.maximum.at(owner, self.node, where[self.row])
        out = np.zeros(self.n, dtype=bool)
        out[self.row[owner[self.node] != where[self.row]]] = True
        return out


class _Ties:
    """Units (what real samples tie together), which units every row needs, and the split every unit gets.

    A source met in fakes of known subjects only is no unit of its own: it follows those subjects (a satellite).
    """

    def __init__(self, manifest: Manifest, by: str) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        ids = _Ids(manifest, by)
        self.n = len(manifest)
        self.fake = _labels(manifest) == FAKE
        self.generator = manifest.table.column("generator")
        known = np.zeros(self.n, dtype=bool)
        known[ids.row[np.isin(ids.kind[ids.node], (_KINDS.index("subject"), _KINDS.index("group")))]] = True
        free = np.isin(ids.kind, (_KINDS.index("source"), _KINDS.index("sha256")))
        free[ids.node[~self.fake[ids.row] | ~known[ids.row]]] = False
        follows = free[ids.node]
        self.satellite_row, self.satellite = ids.row[follows], ids.node[follows]
        row, node = ids.row[~follows], ids.node[~follows]
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        first = np.repeat(node[starts], np.diff(np.append(starts, len(row))))
        hard = ~self.fake[row]
        n_nodes = len(ids.names)
        links = coo_array((np.ones(hard.sum(), np.int8), (first[hard], node[hard])), shape=(n_nodes, n_nodes))
        _, component = connected_components(links, directed=False)
        used = distinct(node)
        roots, lowest, unit_of_used = np.unique(component[used], return_index=True, return_inverse=True)
        # Units are numbered in the order of their first names, so that nothing depends on the order of rows.
        order = np.argsort(lowest, kind="stable")
        place = np.empty(len(roots), dtype=np.int64)
        place[order] = np.arange(len(roots))
        unit_of = np.full(n_nodes, -1)
        unit_of[used] = place[unit_of_used]
        self.n_units = len(roots)
        self.root = used[lowest[order]]  # (units,) node of the first name
        self.names, self.kind, self._unit_of_node = ids.names, ids.kind, unit_of
        both = distinct(row * max(self.n_units, 1) + unit_of[node])
        self.row, self.unit = both // max(self.n_units, 1), both % max(self.n_units, 1)
        self.starts = np.flatnonzero(np.diff(self.row, prepend=-1))
        self.split = np.full(self.n_units, -1, dtype=np.int64)

    def claim(self, pairs: np.ndarray, split: int) -> None:
        """Put the units of some pairs (mask) into a split, where they have none yet."""
        units = self.unit[pairs]
        self.split[units[self.split[units] < 0]] = split

    def _hashes(self, units: np.ndarray, seed: int) -> list[str]:
        names = self.names.take(pa.array(self.root[units])).to_pylist()
        return [hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest() for name in names]

    def assign_by_hash(self, shares: Sequence[float], seed: int) -> None:
        """Every unit without a split goes where the hash of its first group, subject, source, file or sample says."""
        rank = np.array([0, 4, 3, 2, 1])[self.kind]  # of _KINDS: group, sample, sha256, source, subject
        nodes = np.flatnonzero(self._unit_of_node >= 0)
        order = np.lexsort((nodes, rank[nodes], self._unit_of_node[nodes]))
        _, first = np.unique(self._unit_of_node[nodes][order], return_index=True)
        names = self.names.take(pa.array(nodes[order][first])).to_pylist()
        draw = np.array(
            [int(hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()[:13], 16) / 16**13 for name in names]
        )
        dealt = np.searchsorted(np.cumsum(shares)[:-1], draw, side="right")
        self.split = np.where(self.split < 0, dealt, self.split)

    def _extent(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest value of each row's pairs, without negative ones (9 and -1 where there is none)."""
        low = np.minimum.reduceat(np.where(values < 0, 9_999, values), self.starts)
        return low, np.maximum.reduceat(values, self.starts)

    def _groups(self, home: np.ndarray, seed: int, limit: float) -> list[np.ndarray]:
        """Units that are dealt together: components tied by fakes, cut where larger than ``limit`` samples."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        open_ = self.split[self.unit] < 0
        row, unit = self.row[open_], self.unit[open_]
        weight = np.bincount(unit, minlength=self.n_units)
        soft = home[row] < 0
        a, b = _within(row[soft], unit[soft])
        _, component = connected_components(
            coo_array((np.ones(len(a), np.int8), (a, b)), shape=(self.n_units, self.n_units)), directed=False
        )
        free = distinct(unit)
        order = free[np.argsort(component[free], kind="stable")]
        parts = np.split(order, np.flatnonzero(np.diff(component[order])) + 1) if len(order) else []
        load = np.bincount(component[free], weights=weight[free]) if len(free) else np.zeros(0)
        large = [part for part in parts if load[component[part[0]]] > limit]
        out = [part for part in parts if load[component[part[0]]] <= limit]
        if large:
            inside = np.zeros(self.n_units, dtype=bool)
            inside[np.concatenate(large)] = True
            keep = inside[a]
            out += self._cut(a[keep], b[keep], np.concatenate(large), weight, seed, limit)
        return out

    def _cut(
        self, a: np.ndarray, b: np.ndarray, units: np.ndarray, weight: np.ndarray, seed: int, limit: float
    ) -> list[np.ndarray]:
        keys = self._hashes(units, seed)
        rank = np.zeros(self.n_units, dtype=np.int64)
        by_key = np.array(sorted(range(len(units)), key=keys.__getitem__), dtype=np.int64)
        rank[units[by_key]] = np.arange(len(units))
        both, ties = np.unique(a * self.n_units + b, return_counts=True)
        a, b = both // self.n_units, both % self.n_units
        order = np.lexsort((rank[b], -ties, a))
        near = b[order].tolist()
        ends = np.searchsorted(a, np.arange(self.n_units + 1)).tolist()
        heavy = weight.tolist()
        done = np.zeros(self.n_units, dtype=bool)
        out: list[np.ndarray] = []
        for start in units[by_key].tolist():
            if done[start]:
                continue
            done[start] = True
            walk, queue = [], deque([start])
            while queue:
                unit = queue.popleft()
                walk.append(unit)
                for other in near[ends[unit] : ends[unit + 1]]:
                    if not done[other]:
                        done[other] = True
                        queue.append(other)
            chunk: list[int] = []
            load = 0
            for unit in walk:
                if chunk and load + heavy[unit] > limit / 2:
                    out.append(np.array(chunk))
                    chunk, load = [], 0
                chunk.append(unit)
                load += heavy[unit]
            out.append(np.array(chunk))
        return out

    def deal(self, shares: Sequence[float], home: np.ndarray, facets: "_Facets", seed: int, largest_tie: float) -> None:
        """Give every unit without a split to the one that is emptiest in its labels, generators and strata.

        Args:
            shares: of the samples per split (0: not dealt to).
            home: (n,) the only split a row may be in, or -1.
            facets: what is to be spread.
            largest_tie: see `SubjectSplit`.
        """
        groups = self._groups(home, seed, largest_tie * self.n)
        n_splits, n_groups = len(shares), len(groups)
        group_of = np.full(self.n_units, -1)
        for number, group in enumerate(groups):
            group_of[group] = number
        group = group_of[self.unit]
        low, forced = self._extent(self.split[self.unit])
        usable = ~((forced >= 0) & ((low != forced) | ((home >= 0) & (home != forced))))
        has_free = np.maximum.reduceat(group, self.starts) >= 0
        total = facets.count(np.flatnonzero(usable))
        filled = [facets.count(np.flatnonzero(usable & ~has_free & (forced == k))).tolist() for k in range(n_splits)]
        both = distinct((self.row * max(n_groups, 1) + group)[(group >= 0) & usable[self.row]])
        row, group = both // max(n_groups, 1), both % max(n_groups, 1)
        where, facet, count = facets.table(row, group)
        size_ends = np.searchsorted(where, np.arange(n_groups + 1)).tolist()
        pulled = np.where(forced[row] >= 0, forced[row], home[row])
        flat = np.bincount(group[pulled >= 0] * n_splits + pulled[pulled >= 0], minlength=n_groups * n_splits)
        pull = flat.reshape(n_groups, n_splits).tolist()
        one, two = _within(row, group)
        pairs, times = np.unique(one * max(n_groups, 1) + two, return_counts=True)
        link_ends = np.searchsorted(pairs, np.arange(n_groups + 1) * max(n_groups, 1)).tolist()
        linked, times = (pairs % max(n_groups, 1)).tolist(), times.tolist()
        is_label = facets.is_label
        weight = np.zeros(n_groups)
        marks = is_label[facet]
        np.maximum.at(weight, where[marks], count[marks] / total[facet[marks]])
        waiting = np.bincount(facet[marks], minlength=len(total)).tolist()
        keys = self._hashes(np.array([int(g.min()) for g in groups], dtype=np.int64), seed)
        order = sorted(range(n_groups), key=lambda g: (-round(float(weight[g]), 12), keys[g]))
        labels = [k for k in np.flatnonzero(is_label).tolist() if total[k]]
        facet_list, count_list, total_list = facet.tolist(), count.tolist(), total.tolist()
        label_set = set(labels)
        n_fake = max(facets.fakes(total), 1)
        dealt_to = [k for k in range(n_splits) if shares[k] > 0]
        best_of = np.zeros(n_groups, dtype=np.int64)
        for g in order:
            cells = [(facet_list[i], count_list[i]) for i in range(size_ends[g], size_ends[g + 1])]
            mine = [f for f, _ in cells if f in label_set]
            allowed = dealt_to
            for f in mine:
                if waiting[f] <= n_splits:
                    empty = [k for k in dealt_to if not filled[k][f]]
                    if empty and waiting[f] <= len(empty):
                        allowed = [k for k in allowed if k in empty] or allowed
            drawn = pull[g]
            all_pull = sum(drawn)
            best, least = allowed[0], float("inf")
            for k in allowed:
                have, share = filled[k], shares[k]
                fill = 0.0
                for f, n in cells:
                    all_f = total_list[f]
                    fill += n / all_f * (have[f] + n) / (share * all_f)
                cost = round(fill + 2 * (all_pull - drawn[k]) / n_fake, 10)
                if cost < least:
                    best, least = k, cost
            have = filled[best]
            for f, n in cells:
                have[f] += n
            for f in mine:
                waiting[f] -= 1
            for i in range(link_ends[g], link_ends[g + 1]):
                pull[linked[i]][best] += times[i]
            best_of[g] = best
        self.split = np.where(group_of >= 0, best_of[group_of], self.split) if n_groups else self.split

    def outcome(self, home: np.ndarray, shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Split of every row (-1: dropped), and the reason where it is dropped ("" elsewhere)."""
        low, high = self._extent(self.split[self.unit])
        single = low == high
        good = single & ((home < 0) | (home == high)) & self.fake
        placed = self._place_satellites(good, high, shares)
        told = placed[self.satellite]
        tied = ~single
        tied[self.satellite_row[(told >= 0) & (told != high[self.satellite_row])]] = True
        reason = np.full(self.n, "", dtype=object)
        reason[tied] = TIED
        left = single & (home >= 0) & (home != high)
        reason[left] = LEFT_OUT
        return np.where(tied | left, -1, high), reason

    def _place_satellites(self, good: np.ndarray, where: np.ndarray, shares: Sequence[float]) -> np.ndarray:
        """(nodes,) the split of every such source: where most of its fakes lie, contested ones where few are kept."""
        n = len(shares)
        here = good[self.satellite_row]
        node, split = self.satellite[here], where[self.satellite_row[here]]
        votes = np.bincount(node * n + split, minlength=len(self.names) * n).reshape(-1, n)
        lone = good.copy()
        lone[self.satellite_row] = False
        kept = np.bincount(where[lone], minlength=n).astype(np.float64)
        sides = (votes > 0).sum(axis=1)
        out = np.where(sides == 1, votes.argmax(axis=1), -1)
        kept += votes[sides == 1].sum(axis=0)
        splits = [k for k in range(n) if shares[k] > 0]
        for contested in np.flatnonzero(sides > 1).tolist():
            count = votes[contested]
            best = max(splits, key=lambda k: (count[k] / (kept[k] / shares[k] + count[k] + 1e-9), count[k]))
            out[contested] = best
            kept[best] += count[best]
        return out


def _within(row: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs of different items that share a row; ``row`` is sorted."""
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    size = np.diff(np.append(starts, len(row)))
    many = np.repeat(size, size) > 1
    begin, length = np.repeat(starts, size)[many], np.repeat(size, size)[many]
    one = np.repeat(np.flatnonzero(many), length)
    two = np.repeat(begin, length) + np.arange(len(one)) - np.repeat(np.cumsum(length) - length, length)
    keep = one != two
    return item[one[keep]], item[two[keep]]


class _Words:
    """Subjects and ``attribute=value`` words, and the rows that have them."""

    def __init__(self, rows: np.ndarray, words: Any) -> None:
        self._rows, self._words = rows, words

    def rows(self, word: str) -> np.ndarray:
        return self._rows[pc.fill_null(pc.equal(self._words, word), False).to_numpy(zero_copy_only=False)]


def _words(manifest: Manifest) -> _Words:
    subjects = manifest.table.column("subjects").combine_chunks()
    attributes = manifest.table.column("attributes").combine_chunks()
    low, high = (int(attributes.offsets[0].as_py()), int(attributes.offsets[-1].as_py())) if len(attributes) else (0, 0)
    pairs = pc.binary_join_element_wise(attributes.keys[low:high], attributes.items[low:high], "=")
    lengths = np.diff(attributes.offsets.to_numpy())
    rows = np.concatenate([_list_rows(subjects), np.repeat(np.arange(len(attributes)), lengths)])
    return _Words(rows, pa.concat_arrays([pc.list_flatten(subjects), pairs]))


class _Facets:
    """What is to be spread over the splits: per row one number of each kind (label, generator, strata), or -1."""

    def __init__(self, columns: list[np.ndarray], n_facets: int, n_labels: int, fake: int) -> None:
        self.columns = columns
        self.n = n_facets
        self.is_label = np.arange(n_facets) < n_labels
        self._fake = fake

    def count(self, rows: np.ndarray) -> np.ndarray:
        """(facets,) how many of some rows have each."""
        out = np.zeros(self.n, dtype=np.int64)
        for column in self.columns:
            values = column[rows]
            out += np.bincount(values[values >= 0], minlength=self.n)
        return out

    def table(self, rows: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Group, facet and count of every cell that is not empty, by group."""
        keys = [groups[column[rows] >= 0] * self.n + column[rows][column[rows] >= 0] for column in self.columns]
        cells, count = np.unique(np.concatenate(keys), return_counts=True)
        return cells // self.n, cells % self.n, count

    def fakes(self, total: np.ndarray) -> int:
        """How many rows are fake, of a total as `count` gives it."""
        return int(total[self._fake])


def _facets(manifest: Manifest, home: np.ndarray, stratify: Sequence[str]) -> _Facets:
    labels = _labels(manifest).astype(np.int64)
    words = np.where(labels < 0, len(LABEL_WORDS), labels)
    columns, n = [words], len(LABEL_WORDS) + 1
    coded = pc.fill_null(manifest.table.column("generator"), "").combine_chunks().dictionary_encode()
    blank = pc.index(coded.dictionary, "").as_py()
    generator = coded.indices.to_numpy().astype(np.int64)
    columns.append(np.where((generator == blank) | (home >= 0), -1, generator + n))
    n += len(coded.dictionary)
    for name in stratify:
        coded = text_values(manifest, name).dictionary_encode()
        blank = pc.index(coded.dictionary, "").as_py()
        value = coded.indices.to_numpy().astype(np.int64)
        columns.append(np.where(value == blank, -1, n + words * len(coded.dictionary) + value))
        n += (len(LABEL_WORDS) + 1) * len(coded.dictionary)
    return _Facets(columns, n, len(LABEL_WORDS) + 1, FAKE)


def _labels(manifest: Manifest) -> np.ndarray:
    return manifest.column("label")


def split_numbers(manifest: Manifest) -> np.ndarray:
    """(n,) position in SPLITS, -1 for none."""
    return _lookup(manifest.table.column("split"), {s: s for s in SPLITS}, -1)


def _lookup(column: Any, table: Mapping[str, str], otherwise: int) -> np.ndarray:
    """(n,) number of the split that a text column's value has in ``table``."""
    keys = list(table)
    at = pc.index_in(column, value_set=pa.array(keys, pa.string()))
    numbers = np.array([*(SPLITS.index(table[k]) for k in keys), otherwise])
    return numbers[pc.fill_null(at, len(keys)).to_numpy()]


def text_values(manifest: Manifest, name: str) -> Any:
    """(n,) text: an attribute, else the column of that name, else empty."""
    out = pc.map_lookup(manifest.table.column("attributes"), name, "first")
    if name in COLUMNS and name not in ("subjects", "attributes"):
        out = pc.coalesce(out, pc.cast(manifest.table.column(name), pa.string()))
    out = pc.fill_null(out, "")
    return out.combine_chunks() if isinstance(out, pa.ChunkedArray) else out


def _known_assignment(word: str) -> None:
    if word not in ASSIGNMENTS:
        raise ConfigError(f"assignment is {word!r}", hint=f"use one of {list(ASSIGNMENTS)}")


def _some(values: Iterable[str]) -> str:
    return ", ".join(sorted(v for v in values if v)[:30]) or "none"


def _known_splits(names: Iterable[str], where: str) -> None:
    unknown = sorted(set(names) - set(SPLITS))
    if unknown:
        raise ConfigError(f"{where}: there is no split {unknown[0]!r}", hint=f"use {list(SPLITS)}")


def _home_of(lists: Mapping[str, Sequence[str]] | None, where: str, splits: Iterable[str]) -> dict[str, str]:
    home: dict[str, str] = {}
    allowed = list(splits)
    for split, names in (lists or {}).items():
        _known_splits([split], where)
        if split not in allowed:
            raise ConfigError(f"{where} names split {split!r}, which has no fraction", hint=f"splits here: {allowed}")
        if isinstance(names, str):
            raise ConfigError(f"{where}.{split} is the text {names!r}", hint=f"write a list: {split}: [{names}]")
        for name in names:
            if home.setdefault(str(name), split) != split:
                raise ConfigError(
                    f"{where}: {name!r} is listed for {home[str(name)]} and for {split}", hint="list it once"
                )
    return home


def _by_split(home: Mapping[str, str]) -> dict[str, list[str]]:
    return {split: sorted(n for n, s in home.items() if s == split) for split in SPLITS if split in home.values()}


def _homes(manifest: Manifest, leave_out: Mapping[str, str]) -> np.ndarray:
    """(n,) the only split that a fake of a left-out generator or family may be in, else -1."""
    fake = _labels(manifest) == FAKE
    if not leave_out:
        return np.full(len(manifest), -1, dtype=np.int64)
    fakes = manifest.table.filter(pa.array(fake))
    known = {v for c in ("generator", "generator_family") for v in pc.unique(fakes.column(c)).to_pylist()}
    unknown = sorted(set(leave_out) - known)
    if unknown:
        raise ManifestError(
            f"{manifest.name}: left-out generator {unknown[0]!r} is not in the corpus",
            hint=f"generators and families here: {', '.join(sorted(k for k in known if k)[:60])}",
        )
    by_name = _lookup(manifest.table.column("generator"), leave_out, -1)
    by_family = _lookup(manifest.table.column("generator_family"), leave_out, -1)
    return np.where(fake, np.where(by_name >= 0, by_name, by_family), -1)


def _finish(
    manifest: Manifest, where: np.ndarray, reason: np.ndarray, facts: Mapping[str, Any], splits: Iterable[str]
) -> Manifest:
    """The rows that are kept (``where`` >= 0) with their split, and the account of it all."""
    word = pc.fill_null(manifest.table.column("generator"), "")
    label = _labels(manifest)
    clear: dict[str, dict[str, int]] = {}
    for why in sorted(set(reason[where < 0].tolist())):
        here = (reason == why) & (where < 0)
        blank = np.where(label[here] == FAKE, "unnamed", "real")
        names = np.array(word.filter(pa.array(here)).to_pylist(), dtype=object)
        clear[why] = dict(sorted(Counter(np.where(names == "", blank, names).tolist()).items()))
    lost = int((where < 0).sum())
    keep = where >= 0
    table = manifest.table.filter(pa.array(keep))
    names = pa.array(np.array(SPLITS, dtype=object)[where[keep]], pa.string())
    out = Manifest(table.set_column(COLUMNS.index("split"), "split", names), manifest.root, manifest.info)
    counts = out.counts()
    # A corpus of real samples alone can be split: training on it needs a forge, and says so.
    needs_fakes = bool((label == FAKE).any())
    for split in splits:
        cell = counts.get(split, {"real": 0, "fake": 0, "unlabelled": 0})
        if not cell["real"] or (needs_fakes and not cell["fake"]):
            raise ManifestError(
                f"{manifest.name}: split {split!r} has {cell['real']} real and {cell['fake']} fake samples "
                f"({lost} dropped: {clear})",
                hint="give the split a larger fraction, assign subjects of both labels to it, or leave it out; with "
                "few subjects left-out generators need claim_subjects: true",
            )
    cluster = pa.array(out.column("cluster"), pa.string())
    clusters = (
        pa.table({"split": names, "cluster": cluster}).group_by("split").aggregate([("cluster", "count_distinct")])
    )
    met = dict(zip(clusters["split"].to_pylist(), clusters["cluster_count_distinct"].to_pylist(), strict=True))
    fakes = pa.table({"split": names, "generator": pc.fill_null(table.column("generator"), "")})
    fakes = fakes.filter(pa.array(out.column("label") == FAKE)).group_by(["generator", "split"])
    generators: dict[str, dict[str, int]] = {}
    for row in fakes.aggregate([([], "count_all")]).to_pylist():
        generators.setdefault(row["generator"] or "unnamed", {})[row["split"]] = row["count_all"]
    info = {
        **manifest.info,
        "split": {
            **facts,
            "counts": counts,
            "clusters": {split: met[split] for split in SPLITS if split in met},
            "generators": {name: dict(sorted(c.items())) for name, c in sorted(generators.items())},
            "dropped": clear,
            "n_dropped": lost,
        },
        "dropped": {
            **dict(manifest.info.get("dropped") or {}),
            **{f"split: {r}": sum(c.values()) for r, c in clear.items()},
        },
    }
    return Manifest(out.table, manifest.root, info)

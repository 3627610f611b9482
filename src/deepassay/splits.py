"""Who goes where: splits by subject and source, with generators left out, by group or as published, and their proof."""

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepassay.errors import ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE, LABEL_WORDS
from deepassay.manifest import SPLITS, Manifest, Sample, with_split

TIED = "subjects or sources lie in different splits"
LEFT_OUT = "generator is left out for another split than its subjects'"
HELD_OUT = "subject or source also occurs in a held-out group"
UNSPLIT = "no official split"
_CLAIM_ORDER = ("test", "dev", "train")


class SubjectSplit:
    """Assign every subject and source to one split; fakes that tie two splits together are dropped and counted (law 4).

    Subjects, sources and byte-identical files that a *real* sample ties together stay together. Fakes tie softly:
    swaps of a few people stay whole, but where they chain a large part of the corpus into one component (a ring, or
    everybody swapped with everybody) the component is cut along a breadth-first order, and only the fakes across a cut
    are lost. Groups are then dealt, largest first and equal ones in hash order, to the split that is emptiest in their
    labels, generators and strata. The outcome depends on the seed and the content, never on the order of rows.

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
        self.fractions = {name: float(fractions[name]) for name in SPLITS if name in fractions}
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
        samples = list(manifest)
        home = _homes(samples, self.leave_out, manifest.name)
        ties = _Ties(samples, self.by, home)
        self._force(ties, samples, home, manifest.name)
        self._deal(ties, samples, home)
        kept: list[Sample] = []
        dropped: dict[str, Counter[str]] = {TIED: Counter(), LEFT_OUT: Counter()}
        satellites = ties.place_satellites(self.fractions)
        for index, sample in enumerate(samples):
            where = {ties.split[unit] for unit in ties.units_of[index]}
            if len(where) == 1 and home[index] not in (None, *where):
                dropped[LEFT_OUT][sample.generator or "unnamed"] += 1
            elif len(where | {satellites[n] for n in ties.satellites_of[index] if n in satellites}) > 1:
                dropped[TIED][sample.generator or "unnamed"] += 1
            else:
                kept.append(with_split(sample, where.pop()))
        facts = {
            "method": "subject",
            "by": self.by,
            "seed": self.seed,
            "fractions": self.fractions,
            "leave_out": _by_split(self.leave_out),
            "claim_subjects": self.claim_subjects,
            "stratify": list(self.stratify),
        }
        return _finish(manifest, kept, dropped, facts, self.fractions)

    def _force(self, ties: "_Ties", samples: list[Sample], home: list[str | None], name: str) -> None:
        wanted = dict(self.assign)
        met: set[str] = set()
        for index, sample in enumerate(samples):
            for word in (*sample.subjects, *(f"{k}={v}" for k, v in sample.attributes.items())):
                if word in wanted:
                    met.add(word)
                    for unit in ties.units_of[index]:
                        ties.split.setdefault(unit, wanted[word])
        missing = sorted(set(wanted) - met)
        if missing:
            raise ManifestError(
                f"{name}: assigned to a split but not in the corpus: {missing[:5]}",
                hint="name subjects as they stand in the manifest, or attribute=value (for example "
                "repository=owner/name)",
            )
        touched: dict[int, set[str | None]] = defaultdict(set)
        for index, units in enumerate(ties.units_of):
            for unit in units:
                touched[unit].add(home[index])
        for split in _CLAIM_ORDER:
            for index, where in enumerate(home):
                if where == split:
                    for unit in ties.units_of[index]:
                        if self.claim_subjects or touched[unit] == {split}:
                            ties.split.setdefault(unit, split)

    def _deal(self, ties: "_Ties", samples: list[Sample], home: list[str | None]) -> None:
        limit = self.largest_tie * len(samples)
        groups = ties.groups(self.seed, limit)
        group_of = {unit: number for number, group in enumerate(groups) for unit in group}
        sizes: list[Counter[tuple[str, ...]]] = [Counter() for _ in groups]
        filled: dict[str, Counter[tuple[str, ...]]] = {split: Counter() for split in self.fractions}
        total: Counter[tuple[str, ...]] = Counter()
        pull: list[Counter[str]] = [Counter() for _ in groups]
        links: list[Counter[int]] = [Counter() for _ in groups]
        for index, sample in enumerate(samples):
            facets = _facets(sample, home[index], self.stratify)
            forced = {ties.split[u] for u in ties.units_of[index] if u in ties.split}
            free = {group_of[u] for u in ties.units_of[index] if u in group_of}
            if len(forced) > 1 or (home[index] is not None and forced - {home[index]}):
                continue
            total.update(facets)
            if not free:
                filled[forced.pop()].update(facets)
                continue
            for group in free:
                sizes[group].update(facets)
                if forced:
                    pull[group][next(iter(forced))] += 1
                elif home[index] is not None:
                    pull[group][str(home[index])] += 1
                for other in free - {group}:
                    links[group][other] += 1
        labels = [facet for facet in total if facet[0] == "label"]
        waiting = {facet: sum(1 for size in sizes if size[facet]) for facet in labels}

        def weight(group: int) -> float:
            return max((sizes[group][facet] / total[facet] for facet in labels), default=0.0)

        order = sorted(range(len(groups)), key=lambda g: (-round(weight(g), 12), ties.key(groups[g], self.seed)))
        for group in order:
            allowed = list(self.fractions)
            for facet in labels:
                empty = [split for split in self.fractions if not filled[split][facet]]
                if sizes[group][facet] and empty and waiting[facet] <= len(empty):
                    allowed = [split for split in allowed if split in empty] or allowed
            costs = {}
            for split in allowed:
                share = self.fractions[split]
                fill = sum(
                    n / total[facet] * (filled[split][facet] + n) / (share * total[facet])
                    for facet, n in sizes[group].items()
                )
                lost = sum(n for other, n in pull[group].items() if other != split)
                costs[split] = fill + 2 * lost / max(total[("label", LABEL_WORDS[FAKE])], 1)
            best = min(allowed, key=lambda split: costs[split])
            filled[best].update(sizes[group])
            for facet in labels:
                waiting[facet] -= bool(sizes[group][facet])
            for other, n in links[group].items():
                pull[other][best] += n
            for unit in groups[group]:
                ties.split[unit] = best


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
        samples = list(manifest)
        dropped: dict[str, Counter[str]] = {UNSPLIT: Counter(), TIED: Counter()}
        bare = [s for s in samples if not s.split]
        if bare and self.unsplit == "error":
            raise ManifestError(
                f"{manifest.name}: {len(bare)} of {len(samples)} samples have no official split, "
                f"the first is {bare[0].sample_id!r}",
                hint="use split=subject, or unsplit: drop to leave them out",
            )
        dropped[UNSPLIT].update(s.generator or "real" for s in bare)
        samples = [s for s in samples if s.split]
        if self.ties == "drop_fakes":
            owner: dict[str, str] = {}
            for split in _CLAIM_ORDER:
                for sample in samples:
                    if sample.split == split:
                        for node in _nodes(sample, "subject", set()):
                            owner.setdefault(node, split)
            kept = []
            for sample in samples:
                alien = any(owner[node] != sample.split for node in _nodes(sample, "subject", set()))
                if alien and sample.label == FAKE:
                    dropped[TIED][sample.generator or "unnamed"] += 1
                else:
                    kept.append(sample)
            samples = kept
        facts = {"method": "official", "fractions": {}, "leave_out": {}}
        out = _finish(manifest, samples, dropped, facts, sorted({s.split for s in samples}, key=SPLITS.index))
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
        samples = list(manifest)
        values = {_value(s, self.by) for s in samples}
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
        home = _homes(samples, self.leave_out, manifest.name)
        splits = [self.groups.get(_value(s, self.by), "train") for s in samples]
        copies = _repeated_hashes(samples)
        owner: dict[str, str] = {}
        for split in _CLAIM_ORDER:
            for sample, where in zip(samples, splits, strict=True):
                if where == split:
                    for node in _nodes(sample, "subject", copies):
                        owner.setdefault(node, split)
        kept: list[Sample] = []
        dropped: dict[str, Counter[str]] = {HELD_OUT: Counter(), LEFT_OUT: Counter()}
        for sample, where, only in zip(samples, splits, home, strict=True):
            if any(owner[node] != where for node in _nodes(sample, "subject", copies)):
                dropped[HELD_OUT][sample.generator or "real"] += 1
            elif only is not None and only != where and not (where == "train" and only == "dev" and self.dev_fraction):
                dropped[LEFT_OUT][sample.generator or "unnamed"] += 1
            else:
                kept.append(with_split(sample, where))
        facts: dict[str, Any] = {
            "method": "group",
            "by": self.by,
            "seed": self.seed,
            "fractions": {},
            "held_out": _by_split(self.groups),
            "leave_out": _by_split(self.leave_out),
        }
        if self.dev_fraction is not None:
            rest = manifest.replace_samples(s for s in kept if s.split == "train")
            here = {s.generator for s in rest} | {s.generator_family for s in rest}
            inner = SubjectSplit(
                fractions={"train": 1 - self.dev_fraction, "dev": self.dev_fraction},
                seed=self.seed,
                leave_out={"dev": [g for g, split in self.leave_out.items() if split == "dev" and g in here]},
            ).apply(rest)
            kept = [*inner, *(s for s in kept if s.split != "train")]
            for reason, counts in inner.info["split"]["dropped"].items():
                dropped.setdefault(reason, Counter()).update(counts)
            facts["dev_fraction"] = self.dev_fraction
        return _finish(manifest, kept, dropped, facts, SPLITS)


def assert_disjoint(manifest: Manifest) -> None:
    """Prove that no subject, source or identical file lies in two splits, and no left-out generator outside its split.

    Raises:
        LeakError: names the first overlap found, and the two splits.
    """
    seen: dict[tuple[str, str], str] = {}
    left_out = {
        name: split
        for split, names in (manifest.info.get("split") or {}).get("leave_out", {}).items()
        for name in names
    }
    for sample in manifest:
        facts = [("subject", s) for s in sample.subjects if s]
        facts += [("source", sample.source_id)] if sample.source_id else []
        facts += [("sha256", sample.sha256)] if sample.sha256 else []
        for fact in facts:
            other = seen.setdefault(fact, sample.split)
            if other != sample.split:
                raise LeakError(
                    f"{manifest.name}: {fact[0]} {fact[1]!r} lies in split {other or 'none'!r} and in split "
                    f"{sample.split or 'none'!r} (sample {sample.sample_id!r})",
                    hint="split by subject (split=subject), or correct the subjects, sources or duplicate files",
                )
        for name in (sample.generator, sample.generator_family):
            if sample.label == FAKE and name and left_out.get(name, sample.split) != sample.split:
                raise LeakError(
                    f"{manifest.name}: {name!r} is left out for {left_out[name]!r} but sample {sample.sample_id!r} "
                    f"is in {sample.split or 'no split'!r}",
                    hint="apply the split again instead of editing the split column",
                )


@dataclass
class _Ties:
    """Units (what real samples tie together) and which units each sample needs."""

    samples: list[Sample]
    by: str
    home: list[str | None]
    units_of: list[tuple[int, ...]] = field(init=False)
    satellites_of: list[tuple[str, ...]] = field(init=False)
    names: list[str] = field(init=False)
    split: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        copies = _repeated_hashes(self.samples)
        nodes = [_nodes(s, self.by, copies) for s in self.samples]
        # A source met in fakes of known subjects only is no unit of its own: it follows those subjects.
        free = {n for group in nodes for n in group if n.startswith(("source:", "sha256:"))}
        for sample, group in zip(self.samples, nodes, strict=True):
            if sample.label != FAKE or not any(n.startswith(("subject:", "group:")) for n in group):
                free.difference_update(group)
        self.satellites_of = [tuple(n for n in group if n in free) for group in nodes]
        nodes = [[n for n in group if n not in free] for group in nodes]
        number = {node: i for i, node in enumerate(sorted({n for group in nodes for n in group}))}
        parent = list(range(len(number)))
        for sample, group in zip(self.samples, nodes, strict=True):
            for node in group[1:] if sample.label != FAKE else ():
                _join(parent, number[group[0]], number[node])
        self.names = list(number)
        self.units_of = [tuple(sorted({_find(parent, number[node]) for node in group})) for group in nodes]

    def place_satellites(self, fractions: Mapping[str, float]) -> dict[str, str]:
        """The split of every such source: where most of its fakes are kept, and contested ones where few are."""
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        kept: Counter[str] = Counter()
        for index, nodes in enumerate(self.satellites_of):
            where = {self.split[unit] for unit in self.units_of[index]}
            if len(where) == 1 and self.home[index] in (None, *where) and self.samples[index].label == FAKE:
                for node in nodes:
                    votes[node].update(where)
                if not nodes:
                    kept.update(where)
        out = {node: next(iter(count)) for node, count in votes.items() if len(count) == 1}
        for node in out:
            kept.update(votes[node])
        for node in sorted(votes.keys() - out.keys()):
            count = votes[node]
            best = max(fractions, key=lambda s: (count[s] / (kept[s] / fractions[s] + count[s] + 1e-9), count[s]))
            out[node] = best
            kept[best] += count[best]
        return out

    def key(self, units: Iterable[int], seed: int) -> str:
        """Hash that orders groups; the lowest node number of a unit is its root, so this is free of row order."""
        return hashlib.sha256(f"{seed}\0{self.names[min(units)]}".encode()).hexdigest()

    def groups(self, seed: int, limit: float) -> list[list[int]]:
        """Units that are dealt together: components tied by fakes, cut where larger than ``limit`` samples."""
        weight: Counter[int] = Counter()
        near: dict[int, Counter[int]] = defaultdict(Counter)
        for index, units in enumerate(self.units_of):
            free = [u for u in units if u not in self.split]
            for unit in free:
                weight[unit] += 1
                if self.home[index] is None:
                    near[unit].update(other for other in free if other != unit)
        rank = {unit: self.key((unit,), seed) for unit in weight}
        out: list[list[int]] = []
        done: set[int] = set()
        for start in sorted(weight, key=rank.__getitem__):
            if start in done:
                continue
            done.add(start)
            order, queue = [], deque([start])
            while queue:
                unit = queue.popleft()
                order.append(unit)
                fresh = sorted((u for u in near[unit] if u not in done), key=lambda u: (-near[unit][u], rank[u]))
                done.update(fresh)
                queue.extend(fresh)
            if sum(weight[u] for u in order) <= limit:
                out.append(order)
                continue
            chunk: list[int] = []
            load = 0
            for unit in order:
                if chunk and load + weight[unit] > limit / 2:
                    out.append(chunk)
                    chunk, load = [], 0
                chunk.append(unit)
                load += weight[unit]
            out.append(chunk)
        return out


def _find(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _join(parent: list[int], one: int, two: int) -> None:
    a, b = _find(parent, one), _find(parent, two)
    parent[max(a, b)] = min(a, b)


def _repeated_hashes(samples: Iterable[Sample]) -> set[str]:
    return {h for h, n in Counter(s.sha256 for s in samples if s.sha256).items() if n > 1}


def _nodes(sample: Sample, by: str, copies: set[str]) -> list[str]:
    nodes = [f"subject:{s}" for s in dict.fromkeys(sample.subjects) if s]
    if sample.source_id:
        nodes.append(f"source:{sample.source_id}")
    if sample.sha256 in copies:
        nodes.append(f"sha256:{sample.sha256}")
    if by != "subject" and _value(sample, by):
        nodes.append(f"group:{_value(sample, by)}")
    return nodes or [f"sample:{sample.sample_id}"]


def _value(sample: Sample, name: str) -> str:
    return str(sample.attributes[name]) if name in sample.attributes else str(getattr(sample, name, "") or "")


def _some(values: Iterable[str]) -> str:
    return ", ".join(sorted(v for v in values if v)[:30]) or "none"


def _facets(sample: Sample, home: str | None, stratify: Sequence[str]) -> list[tuple[str, ...]]:
    word = "unlabelled" if sample.label is None else LABEL_WORDS[sample.label]
    facets: list[tuple[str, ...]] = [("label", word)]
    if sample.generator and home is None:
        facets.append(("generator", sample.generator))
    facets += [(name, word, value) for name in stratify if (value := _value(sample, name))]
    return facets


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


def _homes(samples: list[Sample], leave_out: Mapping[str, str], name: str) -> list[str | None]:
    fakes = [s for s in samples if s.label == FAKE]
    known = {s.generator for s in fakes} | {s.generator_family for s in fakes}
    unknown = sorted(set(leave_out) - known)
    if unknown:
        raise ManifestError(
            f"{name}: left-out generator {unknown[0]!r} is not in the corpus",
            hint=f"generators and families here: {', '.join(sorted(k for k in known if k)[:60])}",
        )
    return [
        (leave_out.get(s.generator) or leave_out.get(s.generator_family)) if s.label == FAKE else None for s in samples
    ]


def _finish(
    manifest: Manifest,
    kept: list[Sample],
    dropped: Mapping[str, Counter[str]],
    facts: Mapping[str, Any],
    splits: Iterable[str],
) -> Manifest:
    clear = {reason: dict(sorted(counts.items())) for reason, counts in dropped.items() if counts}
    lost = sum(sum(counts.values()) for counts in clear.values())
    generators: dict[str, Counter[str]] = defaultdict(Counter)
    clusters: dict[str, set[str]] = defaultdict(set)
    for sample in kept:
        clusters[sample.split].add(sample.cluster)
        if sample.label == FAKE:
            generators[sample.generator or "unnamed"][sample.split] += 1
    out = manifest.replace_samples(kept)
    counts = out.counts()
    for split in splits:
        cell = counts.get(split, {"real": 0, "fake": 0, "unlabelled": 0})
        if not cell["real"] or not cell["fake"]:
            raise ManifestError(
                f"{manifest.name}: split {split!r} has {cell['real']} real and {cell['fake']} fake samples "
                f"({lost} dropped: {clear})",
                hint="give the split a larger fraction, assign subjects of both labels to it, or leave it out; with "
                "few subjects left-out generators need claim_subjects: true",
            )
    return out.replace_samples(
        out,
        split={
            **facts,
            "counts": counts,
            "clusters": {split: len(clusters[split]) for split in SPLITS if split in clusters},
            "generators": {name: dict(sorted(c.items())) for name, c in sorted(generators.items())},
            "dropped": clear,
            "n_dropped": lost,
        },
        dropped={
            **dict(manifest.info.get("dropped") or {}),
            **{f"split: {r}": sum(c.values()) for r, c in clear.items()},
        },
    )

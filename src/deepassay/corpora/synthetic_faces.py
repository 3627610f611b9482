"""The built-in synthetic face corpus: seeded procedural faces on disk, half of them manipulated, in one encoder chain.

Every sample, real or fake, is its own capture: rendered, stored once as JPEG, decoded, (manipulated, if fake),
resampled to its final size and encoded again with settings drawn from the same distributions. At strength 0 a fake is
therefore a real picture with the wrong label, and nothing in size, quality or history tells the classes apart.

Identities come in pairs, and a swap's donor is the target's partner, so that no split by subject is torn by donors.
Every identity has as many fakes as reals. Everything computed from this corpus is synthetic (law 10) and proves nothing
about real media.
"""

import functools
import json
import multiprocessing
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepassay.corpora.procedural_face import (
    RENDERER_VERSION,
    Capture,
    Identity,
    Rendering,
    animate,
    draw_capture,
    draw_identity,
    render_face,
)
from deepassay.errors import ConfigError
from deepassay.files import cache_folder, fingerprint, sha256_file, write_json
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample
from deepassay.manipulation.face import GENERATORS, face_generator
from deepassay.media.image import decode_image, encode_image, write_image

NAME = "synthetic_faces"
LICENCE = "CC0-1.0 (generated)"
# Raise it whenever the same settings would give other files.
CORPUS_VERSION = "1"
# Faces are drawn larger than they are stored: the resampling is part of every sample's history.
_OVERSIZE = 1.125
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
# Captures of clips are counted from here, so that adding pictures does not change clips.
_FIRST_CLIP = 1_000_000
_TAGS = {"tone": 1, "identity": 2, "capture": 3, "chain": 4, "fake": 5, "donor": 6, "split": 7, "motion": 8}


def _rng(seed: int, what: str, *place: int) -> np.random.Generator:
    """The generator of one decision: a function of the corpus seed, the decision and the sample, never of order."""
    return np.random.default_rng(np.random.SeedSequence([seed, _TAGS[what], *place]))


@functools.lru_cache(maxsize=4096)
def corpus_identity(seed: int, index: int) -> Identity:
    """Identity ``index`` of a corpus: partners have related skin tones, pairs spread evenly from light to dark."""
    start = _rng(seed, "tone").random()
    tone = (start + (index // 2) * 0.6180339887498949) % 1.0
    if index % 2:
        tone += _rng(seed, "tone", index).uniform(-0.12, 0.12)
        tone = min(abs(tone), 2.0 - abs(tone))
    face_seed = int(_rng(seed, "identity", index).integers(2**31))
    return draw_identity(face_seed, min(tone, 1.0))


def official_split(seed: int, index: int) -> str:
    """train, dev or test of an identity: in every five pairs three, one and one; the first three pairs cover all."""
    block, place = divmod(index // 2, 5)
    rng = _rng(seed, "split", block)
    order = [*rng.permutation(["train", "dev", "test"]), "train", "train"]
    return str(order[place])


def _plan(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """One small task per file, in manifest order: everything a worker needs beside the recipe."""
    tasks = []
    generators = recipe["generators"]
    strength = recipe["strength"]
    suffix = "" if strength == 1.0 else f"-strength{strength:g}"
    for index in range(recipe["identities"]):
        for k in range(recipe["per_identity"]):
            generator = generators[(k // 2 + index) % len(generators)] if k % 2 else ""
            tasks.append(("image", index, k, k, generator))
    for clip in range(recipe["videos"]):
        # Two clips, one real and one fake, for an identity; identities are taken two pairs apart to reach all splits.
        turn = clip // 2
        index = (turn * 2 + turn * 2 // recipe["identities"]) % recipe["identities"]
        generator = generators[turn % len(generators)] if clip % 2 else ""
        tasks.append(("video", index, _FIRST_CLIP + clip, clip, generator))
    out = []
    for media, index, k, number, generator in tasks:
        kind = f"{generator}{suffix}" if generator else "real"
        sample_id = f"synface-s{recipe['seed']}-p{index:04d}-{media}{number:03d}-{kind}"
        tail = "jpg" if media == "image" else "mp4"
        folder = f"fake/{generator}" if generator else "real"
        out.append({
            "sample_id": sample_id, "path": f"{folder}/{sample_id}.{tail}", "media": media, "identity": index,
            "capture": k, "generator": generator,
        })  # fmt: skip
    return out


def _subject(seed: int, index: int) -> str:
    return f"synface-s{seed}-p{index:04d}"


def _donor_capture(target: Capture, rng: np.random.Generator) -> Capture:
    """A donor's picture-taking with nearly the target's pose, as swap tools choose or produce it."""
    other = draw_capture(rng)
    values = {f.name: getattr(other, f.name) for f in fields(Capture)}
    values["yaw"] = float(np.clip(target.yaw + rng.normal(0, 0.06), -0.55, 0.55))
    values["pitch"] = float(np.clip(target.pitch + rng.normal(0, 0.04), -0.3, 0.3))
    return Capture(**values)


def _stored(rendering: Rendering, quality: int) -> np.ndarray:
    """What is read back from the first file that a capture was kept in."""
    return decode_image(encode_image(rendering.image, "jpeg", quality))


def _frames(recipe: dict[str, Any], task: dict[str, Any], captures: Sequence[Capture]) -> Iterator[np.ndarray]:
    """Final frames of one sample before the last encoder: first encoding, manipulation if any, resampling."""
    seed, index, k = recipe["seed"], task["identity"], task["capture"]
    size = recipe["size"]
    side = round(size * _OVERSIZE)
    identity, partner = corpus_identity(seed, index), corpus_identity(seed, index ^ 1)
    chain = _rng(seed, "chain", index, k)
    first_quality, donor_quality = (int(q) for q in chain.integers(90, 98, 2))
    resampling = _FILTERS[int(chain.integers(len(_FILTERS)))]
    generator = face_generator(task["generator"]) if task["generator"] else None
    donors: list[Capture] = []
    if generator is not None and generator.needs_donor:
        opening = _donor_capture(captures[0], _rng(seed, "donor", index, k))
        motion = ("yaw", "pitch", "roll", "smile", "mouth_open", "eye_open")
        for at, capture in enumerate(captures):
            values = {f.name: getattr(opening, f.name) for f in fields(Capture)}
            if at:
                values |= {name: getattr(capture, name) for name in motion}
                values["noise_seed"] = opening.noise_seed + at
            donors.append(Capture(**values))
    for at, capture in enumerate(captures):
        rendering = render_face(identity, capture, side)
        image = _stored(rendering, first_quality)
        if generator is not None:
            # The same draws for every frame: the manipulation moves with the face.
            rng = _rng(seed, "fake", index, k)
            donor, donor_landmarks = None, None
            if generator.needs_donor:
                other = render_face(partner, donors[at], side)
                donor, donor_landmarks = _stored(other, donor_quality), other.landmarks
            image, _ = generator.make(image, rendering.landmarks, recipe["strength"], rng, donor, donor_landmarks)
        yield np.asarray(Image.fromarray(image).resize((size, size), resampling))


def _make(recipe: dict[str, Any], root: str, task: dict[str, Any]) -> dict[str, Any]:
    """Write one file and return its manifest row as JSON values."""
    from deepassay.media.probe import probe

    seed, index, k = recipe["seed"], task["identity"], task["capture"]
    identity = corpus_identity(seed, index)
    capture = draw_capture(_rng(seed, "capture", index, k))
    path = Path(root) / task["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    last = _rng(seed, "chain", index, k, 1)
    if task["media"] == "image":
        quality = int(last.integers(84, 98))
        write_image(path, next(_frames(recipe, task, [capture])), quality)
        channel = f"jpeg-q{quality // 5 * 5}"
    else:
        from deepassay.media.video import write_video

        crf = int(last.choice((18, 20, 23, 26)))
        captures = animate(capture, recipe["frames"], recipe["fps"], _rng(seed, "motion", index, k))
        write_video(path, list(_frames(recipe, task, captures)), recipe["fps"], crf=crf)
        channel = f"h264-crf{crf}"
    generator = GENERATORS[task["generator"]] if task["generator"] else None
    subjects = [_subject(seed, index)]
    if generator is not None and generator.needs_donor:
        subjects.append(_subject(seed, index ^ 1))
    facts = probe(path)
    return {
        "sample_id": task["sample_id"], "path": task["path"], "media": task["media"], "modality": "face",
        "label": FAKE if generator else REAL, "source_id": f"{_subject(seed, index)}-recording{k:03d}",
        "subjects": subjects,
        "generator": generator.name if generator else "", "generator_family": generator.family if generator else "",
        "corpus": NAME, "split": official_split(seed, index), "channel": channel,
        "attributes": {
            "skin_tone": identity.tone_class, "hair": identity.hair, "beard": "yes" if identity.beard else "no",
            "glasses": "yes" if identity.glasses else "no",
            "age_lines": ("few", "some", "many")[min(int(identity.age * 3), 2)],
        },
        "licence": LICENCE, "sha256": sha256_file(path),
        **{name: facts.get(name) for name in ("bytes", "duration_s", "width", "height", "fps")},
        "codec": facts.get("codec") or "",
    }  # fmt: skip


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(**{**row, "subjects": tuple(row["subjects"])})


def _whole(root: Path, row: dict[str, Any]) -> bool:
    path = root / row["path"]
    return path.is_file() and path.stat().st_size == row["bytes"] and sha256_file(path) == row["sha256"]


def _finished_rows(root: Path, recipe_hash: str) -> dict[str, dict[str, Any]]:
    """Rows of finished files by sample id: from corpus.json, else from the journal of an interrupted run; each file's
    bytes must match its row."""
    rows: list[dict[str, Any]] = []
    done, journal = root / "corpus.json", root / "journal.jsonl"
    if done.is_file():
        rows = json.loads(done.read_text(encoding="utf-8"))["samples"]
    elif journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # a line that was being written when the run was killed
            if entry.get("recipe") == recipe_hash:
                rows.append(entry["row"])
    return {row["sample_id"]: row for row in rows if _whole(root, row)}


def _check_settings(settings: dict[str, Any]) -> None:
    for name, low, even in (
        ("identities", 2, True), ("per_identity", 2, True), ("videos", 0, True), ("size", 96, False),
        ("frames", 2, False), ("seed", 0, False), ("workers", 0, False),
    ):  # fmt: skip
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (even and value % 2):
            kind = "an even whole number" if even else "a whole number"
            why = {"identities": " (donors are partners)", "per_identity": " (half fake)", "videos": " (half fake)"}
            raise ConfigError(
                f"{NAME}: {name} is {value!r}", hint=f"{name} must be {kind} of {low} or more{why.get(name, '')}"
            )
    if settings["size"] % 2:
        raise ConfigError(f"{NAME}: size is {settings['size']}", hint="H.264 needs an even size, for example 256")
    strength = settings["strength"]
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0.0 <= strength <= 1.0:
        raise ConfigError(f"{NAME}: strength is {strength!r}", hint="strength must lie between 0 and 1")
    if not settings["fps"] > 0:
        raise ConfigError(f"{NAME}: fps is {settings['fps']!r}", hint="fps must be above 0, for example 12")
    names = settings["generators"]
    if not names or len(set(names)) != len(names):
        raise ConfigError(
            f"{NAME}: generators is {names}", hint=f"choose one or more, each once, of {sorted(GENERATORS)}"
        )
    for name in names:
        face_generator(name)
    if settings["per_identity"] // 2 * settings["identities"] < len(names):
        raise ConfigError(
            f"{NAME}: {settings['per_identity'] // 2 * settings['identities']} fakes for {len(names)} generators",
            hint="raise identities or per_identity, or name fewer generators",
        )


def prepare_synthetic_faces(
    root: str | Path,
    *,
    seed: int = 0,
    identities: int = 100,
    per_identity: int = 6,
    videos: int = 8,
    strength: float = 1.0,
    size: int = 256,
    frames: int = 18,
    fps: float = 12.0,
    generators: Sequence[str] | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Manifest:
    """Write the corpus, or go on with an interrupted one, or find it finished.

    Files lie in ``root/<first 12 digits of the recipe hash>``, so that corpora of different settings never mix. The
    folder is finished when it holds ``corpus.json``, which is written last; until then ``journal.jsonl`` lists what is
    done, and every listed file is checked against its hash before it is believed. Finished corpora are checked
    likewise, and damaged or missing files are made again.

    Args:
        root: folder of this corpus; created where absent.
        seed: of identities, captures, chains and manipulations.
        identities: number of invented people; even, because a swap's donor is the target's partner.
        per_identity: pictures of each, half of them fake; even.
        videos: clips in all, half of them fake, two to an identity; even.
        strength: of the manipulations, 0 (fakes are real pictures with the wrong label) to 1.
        size: side of pictures and frames in pixels; even.
        frames: frames of a clip.
        fps: frames per second of a clip.
        generators: names from `deepassay.manipulation.face.GENERATORS`; all of them by default.
        workers: processes; 0 works in this one. The files do not depend on it.
        progress: show a progress bar.

    Returns:
        Manifest with info ``synthetic``, ``seed``, ``strength``, ``recipe`` (hash), ``generators``, ``licence``,
        ``version``.

    Raises:
        ConfigError: a setting that cannot be used, or a worker that died; what was finished is kept.
        AssayError: the disk is full.
    """
    names = list(GENERATORS) if generators is None else list(generators)
    recipe: dict[str, Any] = {
        "seed": seed, "identities": identities, "per_identity": per_identity, "videos": videos,
        "strength": strength, "size": size, "frames": frames, "fps": fps, "generators": names,
    }  # fmt: skip
    _check_settings({**recipe, "workers": workers})
    recipe = {
        **recipe, "strength": float(strength), "fps": float(fps),
        "name": NAME, "version": CORPUS_VERSION, "renderer": RENDERER_VERSION,
    }  # fmt: skip
    recipe_hash = fingerprint(recipe)
    folder = Path(root) / recipe_hash[:12]
    tasks = _plan(recipe)
    rows = _finished_rows(folder, recipe_hash)
    missing = [task for task in tasks if task["sample_id"] not in rows]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "corpus.json").unlink(missing_ok=True)
        with open(folder / "journal.jsonl", "w", encoding="utf-8") as journal:
            for row in rows.values():
                journal.write(json.dumps({"recipe": recipe_hash, "row": row}) + "\n")
            with closing(_shown(_made(recipe, folder, missing, workers), len(missing), progress)) as made:
                for row in made:
                    rows[row["sample_id"]] = row
                    journal.write(json.dumps({"recipe": recipe_hash, "row": row}) + "\n")
                    journal.flush()
    samples = [rows[task["sample_id"]] for task in tasks]
    if missing:
        write_json(folder / "corpus.json", {"recipe": recipe, "recipe_hash": recipe_hash, "samples": samples})
        (folder / "journal.jsonl").unlink()
    info = {
        "name": NAME, "synthetic": True, "seed": seed, "strength": float(strength), "recipe": recipe_hash,
        "generators": names, "licence": LICENCE, "version": f"{CORPUS_VERSION}.{RENDERER_VERSION}",
    }  # fmt: skip
    return Manifest.from_samples((_sample(row) for row in samples), folder, info)


def _made(
    recipe: dict[str, Any], folder: Path, tasks: list[dict[str, Any]], workers: int
) -> Generator[dict[str, Any], None, None]:
    if workers == 0 or len(tasks) < 2:
        for task in tasks:
            yield _make(recipe, str(folder), task)
        return
    # Spawned, not forked: a parent that has loaded torch or onnxruntime holds threads that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context)
    try:
        # Clips take longest: they start first.
        waiting = sorted(tasks, key=lambda task: task["media"] != "video")
        for future in as_completed([pool.submit(_make, recipe, str(folder), task) for task in waiting]):
            yield future.result()
    except BrokenProcessPool as error:
        raise ConfigError(
            f"{NAME}: a worker process ended before its work was done",
            hint="in a script of your own, start below `if __name__ == '__main__':`; if memory ran out, use workers: 0",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _shown(
    rows: Generator[dict[str, Any], None, None], total: int, progress: bool
) -> Generator[dict[str, Any], None, None]:
    if not progress:
        yield from rows
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("rendering synthetic faces", total=total)
        for row in rows:
            bar.advance(task)
            yield row


class SyntheticFaces:
    """The corpus door of the built-in faces: settings of `prepare_synthetic_faces`, built from a config.

    Args:
        root: folder of the corpus; None means ``synthetic_faces`` in the cache folder (`files.cache_folder`).
        seed: see `prepare_synthetic_faces`, also for all that follow.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        seed: int = 0,
        identities: int = 100,
        per_identity: int = 6,
        videos: int = 8,
        strength: float = 1.0,
        size: int = 256,
        frames: int = 18,
        fps: float = 12.0,
        generators: Sequence[str] | None = None,
        workers: int = 0,
        progress: bool = True,
    ) -> None:
        self.root = Path(root) if root else cache_folder() / "corpora" / NAME
        self.settings: dict[str, Any] = {
            "seed": seed, "identities": identities, "per_identity": per_identity, "videos": videos,
            "strength": strength, "size": size, "frames": frames, "fps": fps,
            "generators": None if generators is None else list(generators),
            "workers": workers, "progress": progress,
        }  # fmt: skip

    def prepare(self) -> Manifest:
        """Write or find the corpus. Raises what `prepare_synthetic_faces` raises."""
        return prepare_synthetic_faces(self.root, **self.settings)

"""Faces: an image or video to crops of the faces in it, one track per person."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deepassay import files
from deepassay.errors import ConfigError
from deepassay.labels import Status, Unusable
from deepassay.media.containers import media_of, open_media
from deepassay.media.image import read_image
from deepassay.media.video import ahead, iterate_frames
from deepassay.modality.clips import draw_clips
from deepassay.modality.crops import crop_aligned, crop_box
from deepassay.modality.finder import GRAPHS, MAX_SEARCH_PIXELS, Faces, Finder, finder_folder, finder_hashes
from deepassay.modality.tracks import Sighting, link, patch_of
from deepassay.modality.views import Views
from deepassay.modality.watch import MAX_FOLLOW_S, watch

_TIGHT_BORDER = 0.25
_SURE = 0.98  # probability of a face whose loss has the whole frame searched


class FaceModality:
    """Images and videos in, crops of faces out.

    Images give one view per face, each its own track. Videos give up to ``views`` frames spread evenly over the clip;
    their faces are joined to tracks by place, landmarks and look. Tracks are numbered by the sum of their face areas;
    the first ``max_tracks`` are kept; in videos, tracks seen in fewer than ``min_track_views`` frames are left out
    unless all are that short. An image in which nothing is found is looked at once more with a repeated border of a
    quarter of its longer side, since the finder misses faces that fill a picture.

    Statuses: NO_FACE where no face is large and sure enough; UNDECODABLE; OUT_OF_SCOPE over a limit of decoding.

    Args:
        finder_folder: where the finder's graphs are; the user's cache where None.
        size: side of a crop in pixels.
        margin: the crop's side is (1 + margin) times the longer side of the face box (align="crop") or of the template
            square (align="similarity").
        align: "crop" (upright square around the box) or "similarity" (turned and scaled so that five landmarks lie on
            a template).
        views: frames taken from a video.
        min_face_px: faces whose box has a shorter side than this are ignored.
        min_prob: least probability of a face that is kept.
        thresholds: of the finder's three stages.
        max_tracks: most tracks kept per file.
        min_track_views: see above.
        search_every: of a video's frames, one in so many is searched in full and the faces are followed through the
            others (see `watch.watch`); 1 searches every frame.
        clip_frames: 0: a view is one crop. Else a view is a clip of so many crops of one track (`clips.draw_clips`).
        threads: of onnxruntime; not part of the contract.
    """

    name = "face"

    def __init__(
        self,
        *,
        finder_folder: str | None = None,
        size: int = 224,
        margin: float = 0.3,
        align: Literal["crop", "similarity"] = "crop",
        views: int = 16,
        min_face_px: float = 40,
        min_prob: float = 0.9,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        max_tracks: int = 4,
        min_track_views: int = 3,
        search_every: int = 8,
        clip_frames: int = 0,
        threads: int = 1,
    ) -> None:
        for name, value, low, high in (
            ("size", size, 16, 1024),
            ("margin", margin, 0.0, 2.0),
            ("views", views, 1, 1024),
            ("min_face_px", min_face_px, 20, 4096),
            ("min_prob", min_prob, 0.0, 1.0),
            ("max_tracks", max_tracks, 1, 64),
            ("min_track_views", min_track_views, 1, 64),
            ("search_every", search_every, 1, 16),
            ("clip_frames", clip_frames, 0, 64),
            ("threads", threads, 1, 64),
        ):
            if not low <= value <= high:
                raise ConfigError(
                    f"face modality: {name}={value} is outside [{low:g}, {high:g}]", hint=f"change {name}"
                )
        if align not in ("crop", "similarity"):
            raise ConfigError(f"face modality: align={align!r} is unknown", hint="use crop or similarity")
        if len(thresholds) != 3 or not all(0 < t < 1 for t in thresholds):
            raise ConfigError(
                f"face modality: thresholds={list(thresholds)}",
                hint="give three numbers between 0 and 1, such as [0.6, 0.7, 0.7]",
            )
        self.folder = finder_folder
        self.size, self.margin, self.align, self.views = int(size), float(margin), align, int(views)
        self.min_face_px, self.min_prob = float(min_face_px), float(min_prob)
        self.thresholds = (float(thresholds[0]), float(thresholds[1]), float(thresholds[2]))
        self.max_tracks, self.min_track_views, self.threads = int(max_tracks), int(min_track_views), int(threads)
        self.search_every = int(search_every)
        self.clip_frames = int(clip_frames)
        self._hashes: dict[str, str] | None = None
        self._finder: Finder | None = None

    @property
    def finder_paths(self) -> dict[str, Path]:
        """The three graphs by file name, for a bundle to carry.

        Raises:
            MissingDependencyError: they are not there or not the ones listed.
        """
        if self._hashes is None:
            self._hashes = finder_hashes(self.folder)
        return {name: finder_folder(self.folder) / name for name in GRAPHS}

    @property
    def finder_hashes(self) -> dict[str, str]:
        """SHA-256 of the three graphs. Raises MissingDependencyError as `finder_paths`."""
        _ = self.finder_paths
        assert self._hashes is not None
        return dict(self._hashes)

    @property
    def finder(self) -> Finder:
        """The finder, made on first use. Raises MissingDependencyError as `finder_paths`."""
        if self._finder is None:
            paths = self.finder_paths
            self._finder = Finder(
                *(paths[name] for name in GRAPHS),
                min_face_px=self.min_face_px,
                thresholds=self.thresholds,
                threads=self.threads,
            )
        return self._finder

    @property
    def contract(self) -> dict[str, Any]:
        """Settings, hashes of the finder's graphs, the shape and range of a view, and the rules in words."""
        return {
            "modality": self.name,
            "version": 1,
            "settings": {
                "size": self.size,
                "margin": self.margin,
                "align": self.align,
                "views": self.views,
                "min_face_px": self.min_face_px,
                "min_prob": self.min_prob,
                "thresholds": list(self.thresholds),
                "max_tracks": self.max_tracks,
                "min_track_views": self.min_track_views,
                "search_every": self.search_every,
                **({"clip_frames": self.clip_frames} if self.clip_frames else {}),
            },
            "finder": self.finder_hashes,
            "view": {
                "shape": list(self.input_shape),
                "dtype": "uint8",
                "layout": f"{'frame, ' if self.clip_frames else ''}height, width, RGB",
            },
            "find": (
                f"P-Net sees at most {MAX_SEARCH_PIXELS} pixels, so the smallest face grows in larger ones; "
                f"a picture without a face is searched once more with {_TIGHT_BORDER:.0%} of its border repeated; "
                f"in videos faces are followed by R- and O-Net between searches, at most {MAX_FOLLOW_S:g} s"
            ),
            "decode": "upright, transparency on white, colour profiles not applied; video frames evenly spread in time",
            "draw": "even: k shared among tracks, spread over each; random: from the main track"
            + ("; each a clip of crops spread over a stretch of its track" if self.clip_frames else ""),
            "pool": "mean over the views of a track, maximum over tracks",
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the contract, which holds the hashes of the finder's graphs."""
        return files.fingerprint(self.contract)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(H, W, 3), or (clip_frames, H, W, 3)."""
        return (*((self.clip_frames,) if self.clip_frames else ()), self.size, self.size, 3)

    def prepare(self, path: str | Path) -> Views:
        """All crops of a file: data (n, size, size, 3) uint8, ordered by track and time.

        Raises:
            Unusable: NO_FACE, UNDECODABLE or OUT_OF_SCOPE. MediaError: no such file.
            MissingDependencyError: the finder's graphs are not there.
        """
        with open_media(path) as (stream, container):
            media = media_of(stream, container)
        if media == "audio":
            raise Unusable(Status.UNDECODABLE, "a sound file has no picture")
        if media == "image":
            return self.prepare_image(read_image(path))
        return self.prepare_frames((image, time_s) for image, time_s, _ in iterate_frames(path, self.views))

    def prepare_frames(self, pictures: Iterable[tuple[np.ndarray, float]]) -> Views:
        """Like `prepare`, for the frames of a video: (H, W, 3) uint8 and seconds, in order, at most ``views``."""
        sightings: list[Sighting] = []
        crops: list[tuple[np.ndarray, np.ndarray]] = []
        times: list[float] = []
        probs: list[float] = []
        frames = 0
        for frames, seen in enumerate(watch(ahead(pictures), self.find, self.follow, every=self.search_every), start=1):
            for box, prob, landmarks in zip(seen.faces.boxes, seen.faces.probs, seen.faces.landmarks, strict=True):
                sightings.append(Sighting(frames - 1, box, landmarks, patch_of(seen.image, landmarks)))
                crops.append(self._crop(seen.image, box, landmarks))
                times.append(seen.time_s)
                probs.append(float(prob))
        if not sightings:
            raise Unusable(Status.NO_FACE, self._nothing(f"in {frames} frames"))
        shortest = self.min_track_views if frames >= 2 * self.min_track_views else 1
        return self._views(sightings, crops, times, probs, link(sightings), shortest)

    def prepare_image(self, image: np.ndarray) -> Views:
        """Like `prepare`, for a picture (H, W, 3) uint8 in memory."""
        faces = self.find(image)
        if not len(faces):
            border = round(_TIGHT_BORDER * max(image.shape[:2]))
            image = np.pad(image, ((border, border), (border, border), (0, 0)), mode="edge")
            faces = self.find(image)
        if not len(faces):
            raise Unusable(Status.NO_FACE, self._nothing("in the picture"))
        sightings = [
            Sighting(0, b, m, np.zeros(0, np.float32)) for b, m in zip(faces.boxes, faces.landmarks, strict=True)
        ]
        crops = [self._crop(image, s.box, s.landmarks) for s in sightings]
        ids = np.arange(len(sightings), dtype=np.int32)
        return self._views(sightings, crops, [0.0] * len(ids), faces.probs.tolist(), ids, 1)

    def find(self, image: np.ndarray) -> Faces:
        """Faces in a picture that are large and sure enough, largest first; may be empty."""
        faces = self.finder.find(image)
        return self._large(faces.take(np.nonzero(faces.probs >= self.min_prob)[0]))

    def follow(self, image: np.ndarray, before: Faces) -> tuple[Faces, bool]:
        """The faces of another frame found again in this one, and whether none was lost that the finder was sure of.

        Backgrounds that flicker between face and no face would else have every frame searched.
        """
        faces, rows = self.finder.follow(image, before.boxes)
        kept = np.nonzero(faces.probs >= self.min_prob)[0]
        lost = np.setdiff1d(np.arange(len(before)), rows[kept])
        return self._large(faces.take(kept)), not (before.probs[lost] >= max(_SURE, self.min_prob)).any()

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        """k views: without ``rng`` shared among the tracks and spread over each, with it from the main track alone.

        Even drawing gives at most k views and no view twice. Every track gets its share, earlier tracks the remainder;
        a k below the number of tracks leaves the smallest tracks out. Random drawing gives exactly k, without
        repetition where the track is long enough: of the faces in a file, its label is surest for the main one.
        """
        if k < 1:
            raise ValueError(f"cannot draw {k} views")
        if self.clip_frames:
            return draw_clips(prepared, k, self.clip_frames, rng)
        if rng is not None:
            main = np.nonzero(prepared.track == prepared.track.min())[0]
            rounds = [rng.permutation(main) for _ in range(-(-k // len(main)))]
            return prepared.take(np.concatenate(rounds)[:k])
        members = [np.nonzero(prepared.track == t)[0] for t in np.unique(prepared.track)]
        shares = np.zeros(len(members), np.int64)
        left = min(k, len(prepared))
        while left:
            for i, where in enumerate(members):
                if left and shares[i] < len(where):
                    shares[i] += 1
                    left -= 1
        picked = [
            where[((np.arange(n) + 0.5) * len(where) / n).astype(np.int64)]
            for where, n in zip(members, shares, strict=True)
            if n
        ]
        return prepared.take(np.concatenate(picked))

    def pool(self, logits: np.ndarray, views: Views) -> float:
        """Mean over the views of a track, maximum over tracks: a file is as fake as its most fake face."""
        if len(logits) != len(views) or not len(views):
            raise ValueError(f"{len(logits)} logits for {len(views)} views")
        values = np.asarray(logits, np.float64)
        return float(max(values[views.track == t].mean() for t in np.unique(views.track)))

    def _large(self, faces: Faces) -> Faces:
        shorter = (faces.boxes[:, 2:] - faces.boxes[:, :2]).min(axis=1, initial=np.inf)
        return faces.take(np.nonzero(shorter >= self.min_face_px)[0])

    def _nothing(self, where: str) -> str:
        return f"no face of at least {self.min_face_px:g} pixels and probability {self.min_prob:g} {where}"

    def _crop(self, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.align == "similarity":
            return crop_aligned(image, landmarks, self.size, self.margin)
        return crop_box(image, box, landmarks, self.size, self.margin)

    def _views(
        self,
        sightings: list[Sighting],
        crops: list[tuple[np.ndarray, np.ndarray]],
        times: list[float],
        probs: list[float],
        ids: np.ndarray,
        shortest: int,
    ) -> Views:
        """Tracks chosen and numbered anew, views ordered by track and time."""
        sides = np.array([s.box[2:] - s.box[:2] for s in sightings], np.float64)
        tracks = np.unique(ids)
        long = [t for t in tracks if (ids == t).sum() >= shortest]
        area = {int(t): float(sides[ids == t].prod(axis=1).sum()) for t in (long or tracks)}
        ranked = sorted(area, key=lambda t: (-area[t], t))[: self.max_tracks]
        index = np.concatenate([np.nonzero(ids == t)[0] for t in ranked])
        number = {t: i for i, t in enumerate(ranked)}
        return Views(
            data=np.stack([crops[i][0] for i in index]),
            start_s=np.array([times[i] for i in index], np.float64),
            quality=np.array([probs[i] for i in index], np.float32),
            track=np.array([number[int(ids[i])] for i in index], np.int32),
            landmarks=np.stack([crops[i][1] for i in index]),
            size=sides[index].min(axis=1).astype(np.float32),
        )

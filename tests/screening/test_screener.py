"""Verdicts on files of every kind: decisions, abstentions with reasons, and never a score for what cannot be judged."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import BundleError, ConfigError, MissingDependencyError
from deepassay.labels import Status
from deepassay.screening.bundle import Bundle, write_bundle
from deepassay.screening.screener import Screener, Verdict


@pytest.fixture
def face(tmp_path, square, bundle_parts) -> Bundle:
    return write_bundle(tmp_path / "face", **bundle_parts(square))


@pytest.fixture
def voice(tmp_path, loud, bundle_parts) -> Bundle:
    return write_bundle(tmp_path / "voice.zip", **bundle_parts(loud))


def picture(path: Path, level: int) -> Path:
    from PIL import Image

    Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(path)
    return path


def sound(path: Path, level: float, n: int = 16000) -> Path:
    import soundfile

    soundfile.write(path, np.tile(np.array([level, -level], np.float32), n // 2), 16000)
    return path


def film(path: Path, level: int, *, with_sound: bool) -> Path:
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        voice = out.add_stream("aac", rate=16000) if with_sound else None
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if voice is not None:
            wave = 0.9 * np.sign(np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)
            chunk = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            chunk.sample_rate = 16000
            out.mux(voice.encode(chunk))
            out.mux(voice.encode())
    return path


def consistent(verdict: Verdict) -> None:
    json.dumps(verdict.to_dict(), allow_nan=False)
    answered = verdict.status == Status.OK
    assert answered == (verdict.llr is not None) == (verdict.score is not None) == (verdict.decision != "abstain")
    assert answered == (verdict.reason == "") == (verdict.n_views > 0) == (len(verdict.timeline) > 0)
    assert verdict.seconds > 0


def test_a_picture_is_flagged_from_the_threshold_on(face, tmp_path):
    screener = Screener([face], prior=0.01)
    light, dim = (screener.screen(picture(tmp_path / f"{level}.png", level))[0] for level in (240, 60))
    assert (light.decision, dim.decision) == ("fake", "no evidence of manipulation")
    assert light.score == pytest.approx(240 / 255, abs=1e-6)
    assert light.llr == pytest.approx(240 / 255 - 0.5, abs=1e-6)
    odds = math.exp(light.llr) * 0.01 / 0.99  # type: ignore[arg-type]
    assert light.posterior == pytest.approx(odds / (1 + odds))
    assert light.operating_point == {
        "name": "bpcer_5", "threshold": 0.0, "inequality": "flag_if_score_ge", "target_bpcer": 0.05, "dev_bpcer": 0.04,
        "supported": True, "flags_right": light.operating_point["flags_right"],
    }  # fmt: skip
    # 1 of 10 files fake, all of them flagged, and 5 % of the others: 0.1 / (0.1 + 0.9 * 0.05)
    assert light.operating_point["flags_right"]["1 in 10"] == pytest.approx(0.1 / 0.145)
    assert light.timeline == [{"start_s": 0.0, "track": 0, "score": light.score}]
    assert (light.modality, light.media, light.n_views, light.n_tracks) == ("face", "image", 1, 1)
    assert (light.bundle, light.detector, light.synthetic) == (face.hash, "stand-in face", True)
    assert light.path == str(tmp_path / "240.png")
    consistent(light)
    consistent(dim)
    assert Screener([face]).screen(tmp_path / "240.png")[0].posterior is None


def test_llr_equal_to_the_threshold_is_flagged(tmp_path, square, bundle_parts):
    parts = bundle_parts(square)
    exact = Screener([write_bundle(tmp_path / "a", **parts)]).screen(picture(tmp_path / "p.png", 200))[0]
    points = [replace(parts["operating_points"][0], threshold=exact.llr)]
    same = Screener([write_bundle(tmp_path / "b", **{**parts, "operating_points": points})])
    assert same.screen(tmp_path / "p.png")[0].decision == "fake"
    points = [replace(points[0], threshold=float(np.nextafter(exact.llr, 9)))]
    above = Screener([write_bundle(tmp_path / "c", **{**parts, "operating_points": points})])
    assert above.screen(tmp_path / "p.png")[0].decision == "no evidence of manipulation"


def test_every_kind_of_unusable_file_gets_its_status_and_reason(face, voice, tmp_path):
    (tmp_path / "text.mp4").write_text("this is no film, whatever its name says\n" * 50)
    (tmp_path / "empty.jpg").write_bytes(b"")
    rng = np.random.default_rng(0)
    from PIL import Image

    Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    expected = {
        tmp_path / "text.mp4": (Status.UNDECODABLE, None),
        tmp_path / "empty.jpg": (Status.UNDECODABLE, None),
        tmp_path / "cut.jpg": (Status.UNDECODABLE, "face"),
        sound(tmp_path / "silent.wav", 0.0): (Status.NO_SPEECH, "voice"),
        sound(tmp_path / "short.wav", 0.5, 500): (Status.TOO_SHORT, "voice"),
        picture(tmp_path / "dark.png", 2): (Status.NO_FACE, "face"),
        tmp_path / "gone.png": (Status.ERROR, None),
        tmp_path: (Status.ERROR, None),
    }
    screener = Screener([face, voice])
    for path, (status, modality) in expected.items():
        (verdict,) = screener.screen(path)
        assert (verdict.status, verdict.modality) == (status, modality), path.name
        assert len(verdict.reason) > 5
        assert str(tmp_path) not in verdict.reason
        assert (verdict.decision, verdict.llr, verdict.score, verdict.posterior) == ("abstain", None, None, None)
        consistent(verdict)
    assert screener.screen(tmp_path / "whole.jpg")[0].status == Status.OK


def test_a_video_is_judged_by_its_faces_and_where_it_has_sound_by_its_voice(face, voice, tmp_path):
    loud = film(tmp_path / "loud.mp4", 250, with_sound=True)
    mute = film(tmp_path / "mute.mp4", 250, with_sound=False)
    both = Screener([voice, face])
    first, second = both.screen(loud)
    assert (first.modality, first.media, first.decision, first.bundle) == ("face", "video", "fake", face.hash)
    assert (second.modality, second.media, second.n_views, second.bundle) == ("voice", "video", 8, voice.hash)
    assert second.score == pytest.approx(0.48, abs=0.1)  # six of eight windows: the codec's margins are silent
    (seen,) = both.screen(mute)
    assert (seen.modality, seen.media, seen.n_views) == ("face", "video", 4)
    starts = [row["start_s"] for row in seen.timeline]
    assert starts == sorted(starts)
    assert starts[-1] > 0
    assert [v.modality for v in Screener([face]).screen(loud)] == ["face"]
    assert [v.modality for v in Screener([voice]).screen(loud)] == ["voice"]
    (deaf,) = Screener([voice]).screen(mute)
    assert (deaf.status, deaf.modality) == (Status.OUT_OF_SCOPE, "voice")
    assert "no sound" in deaf.reason
    for verdict in (*both.screen(loud), seen, deaf):
        consistent(verdict)


def test_files_outside_the_bundles_are_out_of_scope_not_scored(face, voice, tmp_path, square, bundle_parts):
    noise, light = sound(tmp_path / "a.wav", 0.9), picture(tmp_path / "a.png", 250)
    (verdict,) = Screener([face]).screen(noise)
    assert (verdict.status, verdict.modality, verdict.bundle) == (Status.OUT_OF_SCOPE, "voice", None)
    assert "needs a voice bundle" in verdict.reason
    assert Screener([voice]).screen(light)[0].status == Status.OUT_OF_SCOPE
    assert Screener([voice]).screen(noise)[0].decision == "fake"
    scope = {"statement": "films only", "media": ["video"]}
    films = Screener([write_bundle(tmp_path / "films", **bundle_parts(square, scope=scope))])
    (verdict,) = films.screen(light)
    assert verdict.status == Status.OUT_OF_SCOPE
    assert "scope is video" in verdict.reason
    consistent(verdict)


def test_what_a_reader_must_know_is_in_the_verdict(tmp_path, square, bundle_parts):
    light = picture(tmp_path / "a.png", 250)
    parts = bundle_parts(square, synthetic=False)
    plain = Screener([write_bundle(tmp_path / "a", **parts)])
    assert plain.screen(light)[0].warnings == []
    parts["calibration"] = replace(parts["calibration"], informative=False, warning="dev AUC 0.5")
    weak = Screener([write_bundle(tmp_path / "b", **{**parts, "synthetic": True})], "bpcer_1", views=3)
    said = weak.screen(light)[0].warnings
    assert len(said) == 4
    for part, words in zip(said, ("synthetic", "dev AUC 0.5", "fewer than the 300", "fixed with 8"), strict=True):
        assert words in part
    assert weak.screen(picture(tmp_path / "dark.png", 1))[0].warnings == []


def test_impossible_settings_are_refused_before_any_file(face, voice, tmp_path, square, bundle_parts):
    twin = write_bundle(tmp_path / "twin", **bundle_parts(square, name="twin"))
    for arguments, options, kind, message in (
        ([], {}, ConfigError, "no bundle"),
        ([face, twin], {}, ConfigError, "two face bundles"),
        ([face], {"prior": 0}, ConfigError, "prior 0"),
        ([face], {"prior": 1.5}, ConfigError, "prior 1.5"),
        ([face], {"views": 0}, ConfigError, "views 0"),
        ([face], {"operating_point": "eer"}, BundleError, "no operating point 'eer'"),
        ([tmp_path / "none"], {}, BundleError, "no such bundle"),
        ([face], {"max_bytes": 0}, ConfigError, "max_bytes 0"),
        ([tmp_path / "face"], {"provider": "NoProvider"}, MissingDependencyError, "has no NoProvider here"),
        (
            [Bundle.load(tmp_path / "face", provider="TensorrtExecutionProvider")],
            {},
            MissingDependencyError,
            "Tensorrt",
        ),
    ):
        with pytest.raises(kind, match=message):
            Screener(arguments, **options)


def test_files_above_the_size_limit_are_not_opened(face, tmp_path):
    path = picture(tmp_path / "p.png", 200)
    size = path.stat().st_size
    assert Screener([face], max_bytes=size).screen(path)[0].status == Status.OK
    (verdict,) = Screener([face], max_bytes=size - 1).screen(path)
    assert (verdict.status, verdict.decision, verdict.score) == (Status.OUT_OF_SCOPE, "abstain", None)
    assert f"{size} bytes, more than the {size - 1}" in verdict.reason
    assert Screener([face], max_bytes=1).screen(tmp_path / "gone.png")[0].status == Status.ERROR

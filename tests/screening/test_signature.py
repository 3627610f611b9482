"""Signed bundles: the right key accepts, any other and any change is refused, and the identity stays."""

import argparse
import base64
import json

import pytest

from deepassay.corpora.ledger import LicenceError
from deepassay.errors import AssayError, BundleError
from deepassay.screening import bundle_command
from deepassay.screening.bundle import SIGNATURE, Bundle, write_bundle
from deepassay.screening.envelope import SealError, make_key
from deepassay.screening.screener import Screener


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    bundle_command.add_arguments(parser)
    return bundle_command.main(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def signed(tmp_path, square, bundle_parts):
    """A signed folder, the maker's key and a stranger's."""
    for name in ("maker", "stranger"):
        make_key(tmp_path / name)
    write_bundle(tmp_path / "b", **bundle_parts(square))
    Bundle.load(tmp_path / "b").sign(tmp_path / "maker")
    return tmp_path


def test_the_makers_key_accepts_and_the_identity_stays(signed, capsys, bundle_parts, square):
    plain = write_bundle(signed / "plain", **bundle_parts(square))
    bundle = Bundle.load(signed / "b", key=signed / "maker.pub")
    assert bundle.hash == plain.hash
    assert run("verify", signed / "b", "--key", signed / "maker.pub") == 0
    assert "signed by the key" in capsys.readouterr().out
    assert run("verify", signed / "b") == 0
    assert "was not checked" in capsys.readouterr().out
    run("show", signed / "b")
    assert "signed, it says by key" in capsys.readouterr().out
    first = (signed / "b" / SIGNATURE).read_bytes()
    bundle.sign(signed / "maker")
    assert (signed / "b" / SIGNATURE).read_bytes() == first  # the same key gives the same bytes
    assert Screener([signed / "b"], key=signed / "maker.pub")


def test_a_zip_is_signed_in_place_and_carries_it_on(signed, tmp_path):
    archive = Bundle.load(signed / "b").to_zip(tmp_path / "b.zip")
    assert Bundle.load(archive, key=signed / "maker.pub").hash == Bundle.load(signed / "b").hash
    assert run("sign", archive, "--key", signed / "stranger") == 0
    assert Bundle.load(archive, key=signed / "stranger.pub")
    with pytest.raises(BundleError, match="not signed by key"):
        Bundle.load(archive, key=signed / "maker.pub")


def test_a_stranger_and_an_unsigned_bundle_are_refused(signed, bundle_parts, square):
    with pytest.raises(BundleError, match="is not signed by key"):
        run("verify", signed / "b", "--key", signed / "stranger.pub")
    write_bundle(signed / "plain", **bundle_parts(square))
    with pytest.raises(BundleError, match="is not signed, and a signature"):
        run("verify", signed / "plain", "--key", signed / "maker.pub")
    with pytest.raises(BundleError, match="is not signed"):
        Screener([signed / "plain"], key=signed / "maker.pub")
    with pytest.raises(BundleError, match="is not signed"):
        Screener([Bundle.load(signed / "plain")], key=signed / "maker.pub")
    for key in ("nothing.pub", "b/card.md"):
        with pytest.raises(SealError):
            run("verify", signed / "b", "--key", signed / key)
    with pytest.raises(SealError):
        run("sign", signed / "plain", "--key", signed / "maker.pub")


def tamper(folder, change) -> None:
    path = folder / SIGNATURE
    envelope = json.loads(path.read_text())
    change(envelope)
    path.write_text(json.dumps(envelope))


def other_subject(envelope) -> None:
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["subject"][0]["digest"]["sha256"] = "0" * 64
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_subject, "of another bundle"),
        (lambda e: e.update(payload="!"), "cannot be used"),
        (lambda e: e.update(payload=base64.b64encode(b"[" * 100_000).decode()), "cannot be used"),
        (lambda e: e.update(payloadType="text/plain"), "cannot be used"),
        (lambda e: e["signatures"][0].update(sig=base64.b64encode(b"\0" * 64).decode()), "is not signed by key"),
        (lambda e: e.update(signatures=[]), "is not signed by key"),
    ],
)  # fmt: skip
def test_an_altered_signature_is_refused(signed, change, message):
    tamper(signed / "b", change)
    with pytest.raises(BundleError, match=message):
        Bundle.load(signed / "b", key=signed / "maker.pub")


def test_every_altered_byte_under_a_signature_is_refused(signed):
    """Whoever changes a file makes all hashes agree again, and cannot make the signature agree."""
    import hashlib

    from deepassay.screening.bundle import _canonical, _sums

    folder = signed / "b"
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    files["card.md"].write_text("# another card\n")
    facts = json.loads(files["bundle.json"].read_text())
    facts["files"]["card.md"] = hashlib.sha256(files["card.md"].read_bytes()).hexdigest()
    files["bundle.json"].write_bytes(_canonical(facts))
    hashes = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if name not in ("SHA256SUMS", SIGNATURE)
    }
    files["SHA256SUMS"].write_bytes(_sums(hashes))
    with pytest.raises(BundleError, match="of another bundle"):
        Bundle.load(folder)
    (folder / SIGNATURE).unlink()
    assert Bundle.load(folder).card == "# another card\n"  # a key is what tells it from the maker's
    with pytest.raises(BundleError, match="is not signed"):
        Bundle.load(folder, key=signed / "maker.pub")


def test_commercial_names_the_link_that_forbids_it(tmp_path, square, bundle_parts, capsys):
    def bundle(name, *links):
        write_bundle(tmp_path / name, **bundle_parts(square, licence_chain=list(links)))
        return tmp_path / name

    free = {"name": "deepassay", "licence": "Apache-2.0", "commercial": "yes"}
    assert run("verify", bundle("free", free), "--commercial") == 0
    assert "allowed by each of 1 links" in capsys.readouterr().out
    closed = {"name": "some corpus", "licence": "research only", "commercial": "no"}
    with pytest.raises(LicenceError, match="some corpus"):
        run("verify", bundle("closed", free, closed), "--commercial")
    unknown = {"name": "found weights", "licence": "Apache-2.0"}
    with pytest.raises(LicenceError, match="found weights"):
        run("verify", bundle("unknown", free, unknown), "--commercial")
    # A chain that claims what its own words forbid.
    bold = {"name": "bold corpus", "licence": "CC BY-NC 4.0", "commercial": "yes"}
    with pytest.raises(LicenceError, match="bold corpus"):
        run("verify", bundle("bold", free, bold), "--commercial")
    assert run("verify", tmp_path / "closed") == 0  # research may use it


def test_an_unsupported_operating_point_says_what_it_needs(tmp_path, square, bundle_parts):
    bundle = write_bundle(tmp_path / "b", **bundle_parts(square))
    with pytest.raises(AssayError, match=r"'bpcer_0\.1': .* at least 3000 independent real dev files .* were 100"):
        Screener([bundle], "bpcer_0.1")
    with pytest.raises(BundleError, match=r"no operating point 'other'\nhint"):
        bundle.operating_point("other")

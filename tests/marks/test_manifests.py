"""C2PA manifests: validity and trust are told apart, damage is found, and a missing library is said, not hidden."""

import builtins
import datetime as dt
import io
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from deepassay.errors import MissingDependencyError
from deepassay.marks.manifests import c2pa_version, read_manifest
from deepassay.marks.sample import inspect_file, inspect_sample
from deepassay.marks.source import MarkError

c2pa = pytest.importorskip("c2pa", reason="c2pa-python (extra marks) is not installed")
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def _name(text):
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test lab"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )


def _usage(**on):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


@pytest.fixture(scope="module")
def signer():
    """A made-up authority and a signer below it: (chain, key, authority), all PEM."""
    now = dt.datetime.now(dt.UTC)
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def start(subject, public, serial):
        builder = x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name("authority"))
        builder = builder.public_key(public).serial_number(serial).not_valid_before(now - dt.timedelta(1))
        return builder.not_valid_after(now + dt.timedelta(30))

    root = start("authority", authority.public_key(), 1).add_extension(x509.BasicConstraints(True, None), True)
    root = root.add_extension(_usage(key_cert_sign=True, crl_sign=True), True)
    root = root.add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), False)
    leaf = start("signer", key.public_key(), 2).add_extension(x509.BasicConstraints(False, None), True)
    leaf = leaf.add_extension(_usage(digital_signature=True), True)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    leaf = leaf.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False)
    pems = [one.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) for one in (leaf, root)]
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return b"".join(pems), private, pems[1]


def sign(signer, kind=GENERATED, form="JPEG"):
    chain, key, _ = signer
    plain, out = io.BytesIO(), io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(plain, form)
    plain.seek(0)
    info = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=key, ta_url=None)
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": kind}]}
    claim = {"title": "t", "assertions": [{"label": "c2pa.actions", "data": actions}]}
    c2pa.Builder(json.dumps(claim)).sign(c2pa.Signer.from_info(info), f"image/{form.lower()}", plain, out)
    return out.getvalue()


@pytest.fixture(scope="module")
def signed(signer, tmp_path_factory):
    path = tmp_path_factory.mktemp("c2pa") / "signed.jpg"
    path.write_bytes(sign(signer))
    return path


def test_valid_is_not_trusted(signed, signer, tmp_path):
    manifest = read_manifest(signed)
    assert (manifest.state, manifest.trust, manifest.issuer) == ("valid", "not checked", "Test lab")
    assert manifest.says_synthetic is True
    assert manifest.failures == ()
    anchors = tmp_path / "trust.pem"
    anchors.write_bytes(signer[2])
    assert read_manifest(signed, trust_anchors=anchors).trust == "trusted"


def test_another_authority_is_not_trusted(signed, tmp_path):
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(_name("x")).issuer_name(_name("x")).public_key(key.public_key())
    builder = builder.serial_number(9).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(9))
    other = builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    (tmp_path / "other.pem").write_bytes(other.public_bytes(serialization.Encoding.PEM))
    manifest = read_manifest(signed, trust_anchors=tmp_path / "other.pem")
    assert (manifest.state, manifest.trust) == ("valid", "untrusted")
    with pytest.raises(MarkError, match="not a readable list"):
        read_manifest(signed, trust_anchors=tmp_path / "none.pem")


def test_a_changed_pixel_makes_it_invalid(signed, tmp_path):
    data = bytearray(signed.read_bytes())
    data[-50] ^= 1
    (tmp_path / "changed.jpg").write_bytes(data)
    manifest = read_manifest(tmp_path / "changed.jpg")
    assert manifest.state == "invalid"
    assert "assertion.dataHash.mismatch" in manifest.failures


def test_a_camera_is_not_called_synthetic(signer, tmp_path):
    (tmp_path / "a.png").write_bytes(sign(signer, kind=CAPTURED, form="PNG"))
    assert read_manifest(tmp_path / "a.png").says_synthetic is False


def test_files_with_and_without_a_manifest(signed, tmp_path):
    report = inspect_file(signed)
    assert report.c2pa
    assert report.manifest is not None
    assert not report.labels  # a C2PA manifest is no label of GB 45438-2025
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.jpg")
    plain = inspect_file(tmp_path / "plain.jpg")
    assert (plain.c2pa, plain.manifest, plain.manifest_error) == (False, None, "")


def test_a_manifest_elsewhere_is_not_fetched(tmp_path):
    xmp = b'<r xmlns:d="http://purl.org/dc/terms/"><d:provenance>https://example.org/m.c2pa</d:provenance></r>'
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", xmp=xmp)
    report = inspect_file(tmp_path / "a.jpg")
    assert report.c2pa
    assert report.manifest is None
    assert "not fetched" in report.manifest_error


def test_a_missing_library_is_said(signed, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "c2pa":
            raise ImportError("no c2pa")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    assert c2pa_version() == ""
    with pytest.raises(MissingDependencyError, match=r"deepassay\[marks\]"):
        read_manifest(signed)
    sample = inspect_sample([signed])
    assert sample.files[0].manifest is None
    assert "c2pa-python" in sample.files[0].manifest_error
    assert sample.c2pa_version == ""

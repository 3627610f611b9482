"""Sealed dossiers: verified from the zip alone; each thing that is changed is found and named, re-signed or not."""

import argparse
import base64
import json
import re
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from deepassay.evidence import compare_command, verify, verify_command
from deepassay.evidence.assess import enclosed
from deepassay.evidence.canonical import canonical
from deepassay.evidence.compare_command import compared
from deepassay.evidence.conditions import ConditionScores
from deepassay.evidence.envelope import (
    PAYLOAD_TYPE,
    SealError,
    SigningKey,
    authenticated,
    make_key,
    read_key,
    read_public_key,
    unwrap,
    wrap,
)
from deepassay.evidence.log import parse_log
from deepassay.evidence.protocol import Register
from deepassay.evidence.pseudonyms import Pseudonyms
from deepassay.evidence.seal import (
    BUNDLE,
    CARD,
    CONDITIONS,
    DEV,
    ENVELOPE,
    FACTS,
    OPENINGS,
    PROTOCOL,
    PUBLIC,
    SUMS,
    TEST,
    read_sealed,
    renderer,
    seal_dossier,
    statement_of,
    sums,
    write_sealed,
)
from deepassay.evidence.verify import GOOD, UNCHECKED, WRONG, differences, verify_dossier
from deepassay.files import sha256_bytes
from deepassay.scores import ScoreTable
from score_worlds import NOON, made_conditions, made_world, make_protocol, make_tool

LOG = "dossier/face.json"


@dataclass
class Shop:
    """Everything from which dossiers are sealed."""

    folder: Path
    key: SigningKey
    world: object
    make_log: object

    def seal(self, name: str, *, now=NOON, previous=None, **changes) -> Path:
        place = self.folder / name
        place.mkdir()
        self.world.dev.write(place / "dev.parquet")
        self.world.test.write(place / "test.parquet")
        return self.finish(place, make_protocol(slices=("generator",), replicates=60), now, previous, **changes)

    def finish(self, place, plan, now, before, **changes) -> Path:
        facts = {
            "created": self.world.bundle["created_utc"], "generators_seen": self.world.bundle["generators_seen"],
            "licence_chain": self.world.bundle["licence_chain"], "calibration": self.world.calibration.to_dict(),
            "operating_points": [point.to_dict() for point in self.world.points], "synthetic": True,
            "files": {"detector.onnx": "a" * 64, "card.md": sha256_bytes(b"a card")},
        }  # fmt: skip
        (place / "bundle").mkdir()
        (place / "bundle" / "bundle.json").write_text(json.dumps(facts))
        (place / "bundle" / "card.md").write_bytes(b"a card")
        bundle = {**self.world.bundle, "bundle_sha256": sha256_bytes((place / "bundle" / "bundle.json").read_bytes())}
        book = Register(place / "protocol")
        book.freeze(plan, now=now - timedelta(hours=1))
        book.record_opening(self.world.test.hash, now=now - timedelta(minutes=30))
        log = self.make_log(
            world=self.world, protocol=plan, record=book.record(), bundle_info=bundle, now=now, **changes
        )
        return seal_dossier(
            log, key=self.key, folder=place / "dossier", dev=place / "dev.parquet", test=place / "test.parquet",
            protocol=place / "protocol", bundle=place / "bundle", out=place / "sealed.zip", previous=before,
            conditions=place / "conditions.parquet" if "conditions" in changes else None,
        )  # fmt: skip

    def seal_full(self, name: str, *, now=NOON, previous=None, earlier=None, **changes) -> Path:
        place = self.folder / name
        (place / "dossier").mkdir(parents=True)
        (place / "dossier" / "audit.json").write_text(
            json.dumps({"findings": [{"id": "x", "examples": [{"sample_id": "test-0/real/0"}]}]})
        )
        family = [
            {"id": "K1", "metric": "apcer", "operating_point": "bpcer_5", "first": "tool", "second": "tool@jpeg@30"}
        ]
        plan = make_protocol(
            slices=("generator", "gender"), replicates=60, ladders={"face": ["jpeg", "noise"]}, comparisons=family
        )
        conditions, scores = made_conditions(self.world)
        salt = Pseudonyms(bytes(32))
        tables = enclosed(self.world.test, self.world.dev, scores, plan, salt)
        tables.dev.write(place / "dev.parquet")
        tables.test.write(place / "test.parquet")
        tables.conditions.write(place / "conditions.parquet")
        return self.finish(
            place, plan, now, previous, conditions=conditions, condition_scores=scores, salt=salt, previous=earlier,
            **changes,
        )  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory, make_log):
    folder = tmp_path_factory.mktemp("shop")
    return Shop(folder, make_key(folder / "issuer"), made_world(people=(6, 40, 40)), make_log)


@pytest.fixture(scope="module")
def first(shop):
    return shop.seal("first")


@pytest.fixture(scope="module")
def full(shop):
    """A dossier with everything: conditions, comparisons, ids as pseudonyms, an audit beside it."""
    return shop.seal_full("full")


@pytest.fixture(scope="module")
def second(shop, first):
    return shop.seal("second", now=NOON + timedelta(days=90), previous=first, tool=make_tool(version="2"))


def by_part(findings, outcome=WRONG):
    out: dict[str, str] = {}
    for finding in findings:
        if finding.outcome == outcome:
            out[finding.part] = f"{out.get(finding.part, '')} {finding.text}"
    return out


def altered(sealed_path, change, out, *, key=None):
    """The zip with ``change(files)`` made; with a key, manifest and statement are made again and signed with it."""
    sealed = read_sealed(sealed_path)
    files = dict(sealed.files)
    change(files)
    if key is None:
        payload = sealed.envelope.payload
        old = read_sealed(sealed_path)
        envelope = {
            "payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": k, "sig": base64.b64encode(s).decode()} for k, s in old.envelope.signatures],
        }  # fmt: skip
        import zipfile

        with zipfile.ZipFile(out, "w") as archive:
            for name, data in {**files, ENVELOPE: json.dumps(envelope).encode()}.items():
                archive.writestr(name, data)
        return out
    files[PUBLIC] = key.public.pem()
    document = json.loads(files[LOG])
    document["integrity"]["signature"]["keyid"] = key.public.keyid
    files[LOG] = json.dumps(document).encode()
    files.pop(SUMS)
    files[SUMS] = sums(files)
    digests = {name: sha256_bytes(data) for name, data in files.items()}
    statement = statement_of(parse_log(document), digests, sealed.facts["previous"], renderer())
    return write_sealed(out, files, canonical(statement), key)


def edit_table(name, edit):
    """Change the rows of a score table and write it as its own writer would, content hash included."""

    def change(files):
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "t.parquet")
            path.write_bytes(files[name])
            table = ScoreTable.read(path)
            rows = table.table.to_pylist()
            edit(rows)
            ScoreTable(pa.Table.from_pylist(rows, schema=table.table.schema), table.meta).write(path)
            files[name] = path.read_bytes()

    return change


def edit_json(name, edit):
    def change(files):
        document = json.loads(files[name])
        edit(document)
        files[name] = json.dumps(document).encode()

    return change


def a_score(rows):
    row = next(r for r in rows if r["generator"] == "local_warp" and r["score"] is not None)
    row["score"] += 3.0


def a_score_with_its_llr(world):
    def edit(rows):
        for row in [r for r in rows if r["generator"] == "local_warp" and r["score"] is not None][:4]:
            row["score"] += 3.0
            row["llr"] = float(world.calibration.llr(row["score"]))

    return edit


def a_label(rows):
    row = next(r for r in rows if r["label"] == 1)
    row |= {"label": 0, "generator": ""}


def a_threshold(document):
    document["operating_points"][0]["threshold"] += 0.25


def a_number(document):
    number = next(n for n in document["results"] if n["metric"] == "auc")
    number["value"] -= 0.001


def an_interval(document):
    number = next(n for n in document["results"] if n["metric"] == "auc")
    number["ci"]["lo"] += 1e-6


def a_verdict(document):
    claim = document["claims"][2]
    claim["verdict"] = "not_supported" if claim["verdict"] == "inconclusive" else "inconclusive"


def a_check(document):
    next(check for check in document["checks"] if check["id"] == "F08")["statistic"]["dev_auc"] = 0.999


def a_curve(document):
    document["detectors"][0]["curves"]["det"][0]["apcer"][3] += 0.05


def a_date(document):
    document["frozen_utc"] = (NOON - timedelta(days=30)).isoformat(timespec="microseconds")


def a_date_in_the_log(document):
    document["preregistration"]["frozen_utc"] = (NOON - timedelta(days=30)).isoformat(timespec="microseconds")


def a_figure(files):
    name = "dossier/face.en.html"
    page = files[name].decode()
    path = re.search(r'<path d="M ([\d.]+)', page)
    files[name] = (page[: path.start(1)] + "1.5" + page[path.end(1) :]).encode()


def a_sentence(files):
    name = "dossier/face.zh.html"
    files[name] = files[name].decode().replace("合成", "真实", 1).encode()


CHANGES = {
    # what is changed: (how, file, parts that must be named although all was hashed and signed again)
    "score": (edit_table(TEST, a_score), TEST, {"tables", "thresholds"}),
    "label": (edit_table(TEST, a_label), TEST, {"tables", "numbers"}),
    "dev score": (edit_table(DEV, a_score), DEV, {"tables", "thresholds"}),
    "threshold": (edit_json(LOG, a_threshold), LOG, {"thresholds"}),
    "number": (edit_json(LOG, a_number), LOG, {"numbers"}),
    "interval": (edit_json(LOG, an_interval), LOG, {"numbers"}),
    "verdict": (edit_json(LOG, a_verdict), LOG, {"claims"}),
    "check": (edit_json(LOG, a_check), LOG, {"checks"}),
    "curve": (edit_json(LOG, a_curve), LOG, {"figures"}),
    "figure": (a_figure, "dossier/face.en.html", {"pages"}),
    "sentence": (a_sentence, "dossier/face.zh.html", {"pages"}),
    "protocol date": (edit_json(PROTOCOL, a_date), PROTOCOL, {"protocol"}),
    "protocol date in the log": (edit_json(LOG, a_date_in_the_log), LOG, {"protocol"}),
}


@pytest.fixture
def undrawn(monkeypatch):
    """Without drawing pages again, which takes most of the time."""
    monkeypatch.setattr(verify._Case, "pages", lambda self: None)


def test_an_honest_dossier_verifies_and_says_what_it_could_not_check(first, shop):
    findings = verify_dossier(first, key=shop.key.public)
    assert not by_part(findings), by_part(findings)
    good = by_part(findings, GOOD)
    assert {
        "hashes", "signature", "chain", "log", "statement", "protocol", "tables", "bundle", "thresholds", "numbers",
        "figures", "checks", "claims", "pages",
    } == set(good)  # fmt: skip
    assert re.search(r"\d+ numbers and \d+ intervals recomputed", good["numbers"])
    left = by_part(findings, UNCHECKED)
    assert {"media", "training", "labels", "times", "checks"} <= set(left)
    assert "F03" in left["checks"]


def test_every_file_is_there_and_nothing_else(first):
    files = read_sealed(first).files
    assert set(files) == {
        LOG, "dossier/face.en.html", "dossier/face.zh.html", DEV, TEST, PROTOCOL, OPENINGS, BUNDLE, CARD, PUBLIC, SUMS,
    }  # fmt: skip
    assert "onnx" not in " ".join(files)


def test_the_same_seal_gives_the_same_bytes(first, shop):
    assert shop.seal("again").read_bytes() == first.read_bytes()


def test_the_statement_is_an_in_toto_test_result(first, shop):
    sealed = read_sealed(first)
    statement = sealed.statement
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    predicate = statement["predicate"]
    log = json.loads(sealed.files[LOG])
    outcomes = {check["id"]: check["outcome"] for check in log["checks"]}
    assert predicate["result"] == ("FAILED" if "fail" in outcomes.values() else "WARNED")
    assert set(predicate["passedTests"]) == {name for name, outcome in outcomes.items() if outcome == "pass"}
    assert predicate["failedTests"] == [name for name, outcome in outcomes.items() if outcome == "fail"]
    assert predicate[FACTS]["sequence"] == 1
    assert {one["name"] for one in statement["subject"]} == set(sealed.files)
    rfc8785 = pytest.importorskip("rfc8785")
    assert rfc8785.dumps(statement) == sealed.envelope.payload
    assert log["integrity"]["signature"]["keyid"] == shop.key.public.keyid
    page = sealed.files["dossier/face.en.html"].decode()
    assert "sealed and signed" in page
    assert "own sample, person and source ids" in page
    assert shop.key.public.keyid in page


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found_by_hash_and_named(what, first, shop, tmp_path):
    change, name, _ = CHANGES[what]
    forged = altered(first, change, tmp_path / "x.zip")
    found = by_part(verify_dossier(forged, key=shop.key.public, seal_only=True))
    assert f"{name} was altered" in found["hashes"]


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found_although_hashed_and_signed_again(what, first, shop, tmp_path, monkeypatch):
    change, _, parts = CHANGES[what]
    if "pages" not in parts:
        monkeypatch.setattr(verify._Case, "pages", lambda self: None)
    forger = make_key(tmp_path / "forger")
    forged = altered(first, change, tmp_path / "x.zip", key=forger)
    findings = verify_dossier(forged)
    wrong = by_part(findings)
    assert not {"hashes", "signature", "statement"} & set(wrong), wrong
    assert parts <= set(wrong), wrong
    if what == "score":
        assert "local_warp" in wrong["thresholds"], "the sample is named"
    if what == "figure":
        assert "drawing" in wrong["pages"]
    again = verify_dossier(forged, key=shop.key.public, seal_only=True)
    assert "not signed by the key given" in by_part(again)["signature"]


def test_a_score_changed_with_everything_that_names_it_is_found_by_recomputation(first, shop, tmp_path, undrawn):
    """The forger also corrects llrs, hashes in the log and the register: the numbers still tell."""

    def change(files):
        edit_table(TEST, a_score_with_its_llr(shop.world))(files)
        path = tmp_path / "t.parquet"
        path.write_bytes(files[TEST])
        old, new = shop.world.test.hash, ScoreTable.read(path).hash
        for name in (LOG, OPENINGS):
            files[name] = files[name].decode().replace(old, new).encode()

    forged = altered(first, change, tmp_path / "x.zip", key=make_key(tmp_path / "forger"))
    wrong = by_part(verify_dossier(forged))
    assert "numbers" in wrong
    assert re.search(r"says .*, recomputed ", wrong["numbers"])
    assert not {"hashes", "tables", "thresholds", "protocol", "statement"} & set(wrong), wrong


def test_the_chain_is_followed_in_order_only(first, second, shop):
    key = shop.key.public
    assert not by_part(verify_dossier(second, key=key, previous=[first], seal_only=True))
    assert read_sealed(second).facts["sequence"] == 2
    assert "was not given" in by_part(verify_dossier(second, key=key, seal_only=True), UNCHECKED)["chain"]
    assert "order" in by_part(verify_dossier(first, key=key, previous=[second], seal_only=True))["chain"]
    assert "order" in by_part(verify_dossier(second, key=key, previous=[second], seal_only=True))["chain"]
    page = read_sealed(second).files["dossier/face.en.html"].decode()
    assert read_sealed(first).statement_sha256 in page


def test_an_altered_predecessor_is_named(first, second, shop, tmp_path):
    forged = altered(first, edit_json(LOG, a_number), tmp_path / "old.zip", key=make_key(tmp_path / "forger"))
    assert "old.zip" in by_part(verify_dossier(second, previous=[forged], seal_only=True))["chain"]
    plain = altered(first, edit_json(LOG, a_number), tmp_path / "plain.zip")
    assert f"{LOG} was altered" in by_part(verify_dossier(second, previous=[plain], seal_only=True))["chain"]


def test_a_chain_holds_one_tool_in_order_of_time(second, shop):
    with pytest.raises(SealError, match="not of Other"):
        shop.seal("other", now=NOON + timedelta(days=200), previous=second, tool=make_tool(name="Other"))
    with pytest.raises(SealError, match="not before this one"):
        shop.seal("early", now=NOON + timedelta(days=1), previous=second)


def test_files_added_or_taken_away_are_named(first, tmp_path):
    found = by_part(
        verify_dossier(altered(first, lambda f: f.update({"scores/more": b"x"}), tmp_path / "a.zip"), seal_only=True)
    )
    assert "scores/more is not named" in found["hashes"]
    less = altered(first, lambda f: f.pop(DEV), tmp_path / "b.zip")
    found = by_part(verify_dossier(less, seal_only=True))
    assert f"{DEV} is missing" in found["hashes"]


@pytest.mark.parametrize("name", [LOG, DEV, TEST, PROTOCOL, OPENINGS, BUNDLE, "dossier/face.en.html", PUBLIC])
def test_rubbish_in_any_file_is_a_finding_and_no_crash(name, first, tmp_path, monkeypatch):
    if not name.startswith("dossier/"):
        monkeypatch.setattr(verify._Case, "pages", lambda self: None)
    found = by_part(verify_dossier(altered(first, lambda f: f.update({name: b"\xff{]"}), tmp_path / "x.zip")))
    assert "hashes" in found


def test_what_is_no_sealed_dossier_is_refused(first, tmp_path):
    import zipfile

    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with zipfile.ZipFile(tmp_path / "climb.zip", "w") as archive:
        archive.writestr("../a.txt", "x")
    with zipfile.ZipFile(tmp_path / "swollen.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "x" * 100_000)
    for name, words in (
        ("swollen.zip", "is no file"),
        ("text.zip", "readable zip"),
        ("other.zip", "missing"),
        ("climb.zip", "is no file"),
        ("-", "no such"),
    ):
        with pytest.raises(SealError, match=words):
            read_sealed(tmp_path / name)


def test_keys_are_private_kept_and_checked(tmp_path):
    key = make_key(tmp_path / "k")
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    assert read_key(tmp_path / "k").public.keyid == key.public.keyid
    public = read_public_key((tmp_path / "k.pub").read_bytes(), "k.pub")
    assert public.keyid == key.public.keyid
    with pytest.raises(SealError, match="exists already"):
        make_key(tmp_path / "k")
    (tmp_path / "k").chmod(0o644)
    with pytest.raises(SealError, match="chmod 600"):
        read_key(tmp_path / "k")
    (tmp_path / "k.pub").chmod(0o600)
    with pytest.raises(SealError, match="not a private key"):
        read_key(tmp_path / "k.pub")
    with pytest.raises(SealError, match="not a public key"):
        read_public_key(b"x", "x")


def test_envelopes_are_those_of_dsse(tmp_path):
    key = make_key(tmp_path / "k")
    assert authenticated("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    ), "the example of the DSSE specification"
    envelope = unwrap(json.dumps(wrap(b"{}", key)).encode(), "here")
    assert envelope.signed_by(key.public)
    assert not replace(envelope, payload=b"{ }").signed_by(key.public)
    for bad in (b"", b"[]", b'{"payloadType": "text/plain"}', json.dumps({"payloadType": PAYLOAD_TYPE}).encode()):
        with pytest.raises(SealError, match="not a DSSE"):
            unwrap(bad, "here")


def test_differences_are_told_from_rounding():
    assert not list(differences({"a": [1.0, None, "x"]}, {"a": [1.0 + 1e-12, None, "x"]}))
    assert list(differences({"a": [1.0]}, {"a": [1.0 + 1e-8]})) == ["a[0]: says 1.0, recomputed 1.00000001"]
    for one, other in (({"a": 1}, {}), ({}, {"a": 1}), ([1], [1, 2]), (True, 1), (None, 0.0), ("a", "b")):
        assert list(differences(one, other))


def test_the_command_prints_findings_and_says_so_in_its_exit_code(first, shop, tmp_path, capsys, undrawn):
    import argparse

    parser = argparse.ArgumentParser()
    verify_command.add_arguments(parser)
    pages = tmp_path / "pages"
    key = str(shop.folder / "issuer.pub")
    assert verify_command.main(parser.parse_args([str(first), "--key", key, "--render", str(pages)])) == 0
    text = capsys.readouterr().out
    assert "verified: nothing is wrong" in text
    assert "not checked  media" in text
    assert (pages / "face.en.html").read_bytes() == read_sealed(first).files["dossier/face.en.html"]
    bad = altered(first, edit_json(LOG, a_threshold), tmp_path / "x.zip")
    assert verify_command.main(parser.parse_args([str(bad), "--json"])) == 1
    assert verify_command.main(parser.parse_args([str(bad), "--seal-only", "--json"])) == 1
    report, short = (json.loads(text + "\n}") for text in capsys.readouterr().out.split("\n}\n")[:2])
    assert not report["verified"]
    assert {"hashes", "thresholds"} <= set(report["wrong"])
    assert set(short["wrong"]) == {"hashes"}


def test_verifying_needs_no_torch(first):
    code = (
        "import sys, argparse\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'lightning', 'timm', 'onnxruntime', 'hydra'):\n"
        "            raise ImportError('blocked: ' + name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from deepassay.evidence import verify_command as v\n"
        "p = argparse.ArgumentParser(); v.add_arguments(p)\n"
        f"sys.exit(v.main(p.parse_args([{str(first)!r}])))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# Conditions, pseudonyms and versions ---------------------------------------------------------------------------------


def test_a_dossier_with_conditions_and_pseudonyms_verifies_and_names_nobody(full, shop):
    findings = verify_dossier(full, key=shop.key.public)
    assert not by_part(findings), by_part(findings)
    good, left = by_part(findings, GOOD), by_part(findings, UNCHECKED)
    assert "rows under 4 conditions" in good["tables"]
    assert "only the issuer's salt can show it" in left["tables"]
    files = read_sealed(full).files
    assert CONDITIONS in files
    for name, data in files.items():
        assert not re.search(rb"(test|dev|train)-\d|-source\b", data), f"an id of the corpus in {name}"
    assert json.loads(files["dossier/audit.json"])["findings"][0]["examples"] == []
    assert "salt" not in " ".join(files)
    log = json.loads(files[LOG])
    assert log["comparisons"][0]["p_holm"] is not None
    assert log["schema_version"] == "0.3"


def edit_conditions(files):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c.parquet")
        path.write_bytes(files[CONDITIONS])
        table = ConditionScores.read(path).table
        rows = table.to_pylist()
        row = next(r for r in rows if r["condition"] == "jpeg@30" and r["score"] is not None)
        row["score"] += 4.0
        ConditionScores(pa.Table.from_pylist(rows, schema=table.schema)).write(path)
        files[CONDITIONS] = path.read_bytes()


def a_condition_number(document):
    number = next(n for n in document["results"] if n["slice"].get("condition") == "jpeg@30" and n["metric"] == "apcer")
    number["value"] = 0.0


def a_p_value(document):
    document["comparisons"][0]["p_holm"] = 0.5


def a_power(document):
    document["power"][0]["n_effective"] += 1


def a_recoding(document):
    check = next(check for check in document["checks"] if check["id"] == "F03")
    check["statistic"]["re_encoding"]["after"] = 0.99


def a_denial(document):
    document["privacy"]["salted_ids"] = False


def a_control(document):
    number = next(n for n in document["results"] if n["slice"].get("control") == "real_halves")
    number["value"] = 0.5


FULL_CHANGES = {
    "score under a condition": (edit_conditions, {"tables", "numbers"}),
    "number under a condition": (edit_json(LOG, a_condition_number), {"numbers"}),
    "p-value": (edit_json(LOG, a_p_value), {"numbers"}),
    "power": (edit_json(LOG, a_power), {"numbers"}),
    "re-encoding": (edit_json(LOG, a_recoding), {"checks"}),
    "pseudonyms denied": (edit_json(LOG, a_denial), {"tables"}),
    "control": (edit_json(LOG, a_control), {"numbers"}),
}


@pytest.mark.parametrize("what", FULL_CHANGES)
def test_what_came_with_conditions_is_recomputed_too(what, full, tmp_path, undrawn):
    change, parts = FULL_CHANGES[what]
    forged = altered(full, change, tmp_path / "x.zip", key=make_key(tmp_path / "forger"))
    wrong = by_part(verify_dossier(forged))
    assert parts <= set(wrong), wrong


def test_a_new_version_is_compared_with_the_old_one_and_that_is_made_again(full, shop, undrawn, capsys):
    earlier = verify.read_earlier(read_sealed(full))
    new = shop.seal_full(
        "version 2", now=NOON + timedelta(days=9), previous=full, earlier=earlier, tool=make_tool(version="2")
    )
    said = json.loads(read_sealed(new).files[LOG])["previous_version"]
    assert said["same_inputs"] == said["shared_clusters"] > 0
    good = by_part(verify_dossier(new, key=shop.key.public, previous=[full]), GOOD)
    assert "made again" in good["versions"]
    findings = verify_dossier(new, key=shop.key.public)
    assert not by_part(findings), by_part(findings)
    assert "was not given" in by_part(findings, UNCHECKED)["versions"]
    found = compared(full, new)
    assert found["same_inputs"] == said["same_inputs"]
    assert {row["metric"] for row in found["rows"]} == {"auc", "apcer"}
    assert compare_command.main(argparse.Namespace(older=full, newer=new, json=False)) == 0
    text = capsys.readouterr().out
    assert "Example swap 2 against 1" in text
    assert "APCER at bpcer_5" in text
    with pytest.raises(SealError, match="the newer one"):
        compared(new, full)
    with pytest.raises(SealError, match="not the one to follow"):
        shop.seal_full("no chain", now=NOON + timedelta(days=9), earlier=earlier, tool=make_tool(version="2"))

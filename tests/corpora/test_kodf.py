"""KoDF: names tell actors and method; a folder that says otherwise is found."""

import pytest

from deepassay.corpora.kodf import CODES, KoDF
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL

ONE, TWO = "0123456789abcdef0123", "200102"
PATHS = (
    f"actors/{ONE}/{ONE}_001.mp4",
    f"actors/{TWO}/{TWO}_002.mp4",
    f"dfl/20200812/{ONE}/{ONE}_{TWO}_1_0001.mp4",
    f"audio-driven/20200812/{TWO}/{TWO}_{TWO}_5_0001.mp4",
)


def tree(root, paths=PATHS):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def prepare(root, **options):
    return KoDF(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


def test_names_tell_label_actors_and_method(tmp_path):
    out = prepare(tree(tmp_path))
    rows = {s.path: s for s in out}
    assert problems(out) == []
    assert [rows[p].label for p in PATHS] == [REAL, REAL, FAKE, FAKE]
    assert rows[PATHS[2]].subjects == (f"kodf/{ONE}", f"kodf/{TWO}")
    assert (rows[PATHS[2]].generator, rows[PATHS[2]].generator_family) == ("DeepFaceLab", "face_swap")
    assert rows[PATHS[3]].subjects == (f"kodf/{TWO}",)
    assert {s.split for s in out} == {""}
    assert len({generator for _, generator, _ in CODES.values()}) == 5


def test_contradictions_foreign_names_and_counts_are_named(tmp_path):
    tree(tmp_path, (*PATHS, f"fo/{ONE}_{TWO}_2_0001.mp4", f"fsgan/{ONE}_003.mp4", "notes.mp4"))
    assert problems(prepare(tmp_path)) == [
        f"label: fo/{ONE}_{TWO}_2_0001.mp4: its code says dffs, but it lies in fo",
        f"label: fsgan/{ONE}_003.mp4: named like a real clip, but lies in fsgan",
        "unparsable: notes.mp4: neither <actor>_<number> nor <target>_<source>_<code>_<number>",
    ]
    with pytest.raises(ManifestError, match="subjects: 2 found, 403 published"):
        KoDF(root=str(tmp_path), progress=False).prepare()

"""WildDeepfake: pictures grouped into sequences; a picture among the wrong label is found."""

import pytest

from deepassay.corpora.wilddeepfake import WildDeepfake
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

PATHS = ("real_train/6/real/54/0.png", "real_train/6/real/54/10.png", "fake_train/6/fake/54/7.png",
         "real_test/1/real/2/3.png", "fake_test/1/fake/2/3.png")  # fmt: skip


def tree(root, paths=PATHS, top="deepfake_in_the_wild"):
    for path in paths:
        (root / top / path).parent.mkdir(parents=True, exist_ok=True)
        (root / top / path).touch()
    return root


def prepare(root, **options):
    return WildDeepfake(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


@pytest.mark.parametrize("top", ["", "deepfake_in_the_wild"])
def test_labels_halves_and_sequences(tmp_path, top):
    out = prepare(tree(tmp_path, top=top))
    rows = {s.path.removeprefix(f"{top}/"): s for s in out}
    assert problems(out) == []
    assert {p: s.label for p, s in rows.items()} == {p: REAL if p.startswith("real") else FAKE for p in PATHS}
    assert {p: s.split for p, s in rows.items()} == {p: "test" if "_test" in p else "train" for p in PATHS}
    # Archive and sequence repeat across the four folders; the source does not.
    assert rows[PATHS[0]].source_id == rows[PATHS[1]].source_id == "wilddeepfake/real_train/6/54"
    assert rows[PATHS[2]].source_id == "wilddeepfake/fake_train/6/54"
    assert rows[PATHS[2]].generator == "collected online"
    assert rows[PATHS[0]].media == "image"


def test_wrong_labels_odd_paths_and_counts_are_named(tmp_path):
    tree(tmp_path, (*PATHS, "real_train/6/fake/54/0.png", "fake_test/odd.png"))
    assert problems(prepare(tmp_path)) == [
        "label: deepfake_in_the_wild/real_train/6/fake/54/0.png: lies among the fake pictures of real_train",
        "unparsable: deepfake_in_the_wild/fake_test/odd.png: not <archive>/<label>/<sequence>/<frame>",
    ]
    with pytest.raises(ManifestError, match="real_train sequences: 1 found, 3,409 published"):
        WildDeepfake(root=str(tmp_path), progress=False).prepare()


def test_few_pictures_per_sequence_are_spread_by_number(tmp_path):
    tree(tmp_path, [f"real_train/6/real/54/{k}.png" for k in (0, 1, 2, 3, 10, 11, 12, 13)])
    out = prepare(tmp_path, per_sequence=2)
    assert [s.path.rsplit("/", 1)[1] for s in out] == ["2.png", "12.png"]
    with pytest.raises(ConfigError):
        WildDeepfake(root="nowhere", per_sequence=0)

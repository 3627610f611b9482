"""FakeAVCeleb: one clip, two labels; the type, its letter and the method must agree."""

import pytest

from deepassay.corpora.fakeavceleb import FakeAVCeleb
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

HEADER = "source,target1,target2,method,category,type,race,gender,path,"
ROWS = (
    "id00076,-,-,real,A,RealVideo-RealAudio,African,men,00109.mp4",
    "id00076,id00166,-,rtvc,B,RealVideo-FakeAudio,African,men,00109_fake.mp4",
    "id00076,id00701,1,fsgan,C,FakeVideo-RealAudio,African,men,00109_1_id00701_fsgan.mp4",
    "id00076,id00476,10,faceswap-wav2lip,D,FakeVideo-FakeAudio,Asian (East),women,00109_10_id00476_wavtolip.mp4",
)


def folder(row: str) -> str:
    cells = row.split(",")
    return f"{cells[5]}/{cells[6]}/{cells[7]}/{cells[0]}"


def tree(root, rows=ROWS, top="", with_folder=True):
    base = root / top
    for row in rows:
        path = base / folder(row) / row.split(",")[8]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lines = [f"{row},FakeAVCeleb/{folder(row)}" if with_folder else row for row in rows]
    (base / "meta_data.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return root


def prepare(root, **options):
    return FakeAVCeleb(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


@pytest.mark.parametrize("with_folder", [True, False])
def test_each_modality_has_its_own_label(tmp_path, with_folder):
    tree(tmp_path, with_folder=with_folder)
    face = {s.attributes["manipulated"]: s for s in prepare(tmp_path)}
    voice = {s.attributes["manipulated"]: s for s in prepare(tmp_path, modality="voice")}
    assert problems(prepare(tmp_path)) == []
    assert {k: s.label for k, s in face.items()} == {"nothing": REAL, "sound": REAL, "picture": FAKE, "both": FAKE}
    assert {k: s.label for k, s in voice.items()} == {"nothing": REAL, "sound": FAKE, "picture": REAL, "both": FAKE}
    assert {s.modality for s in voice.values()} == {"voice"}
    assert (face["both"].generator, face["both"].generator_family) == ("faceswap-wav2lip", "face_swap")
    assert (voice["both"].generator, voice["both"].generator_family) == ("rtvc", "voice_cloning")
    assert face["sound"].generator == ""
    assert face["both"].subjects == ("voxceleb2/id00076", "voxceleb2/id00476")
    assert face["both"].source_id == face["nothing"].source_id == "fakeavceleb/id00076/00109"
    assert (face["both"].attributes["race"], face["both"].split) == ("Asian (East)", "")
    ids = [s.sample_id for s in (*face.values(), *voice.values())]
    assert len(set(ids)) == 8  # both manifests can be mixed


def test_a_flipped_list_fails(tmp_path):
    swap = {"RealVideo-RealAudio": "FakeVideo-FakeAudio", "FakeVideo-FakeAudio": "RealVideo-RealAudio"}
    rows = []
    for row in ROWS:
        cells = row.split(",")
        cells[5] = swap.get(cells[5], cells[5])
        rows.append(",".join(cells))
    with pytest.raises(ManifestError, match="FakeVideo-FakeAudio with category A and method real") as caught:
        FakeAVCeleb(root=str(tree(tmp_path, rows)), progress=False).prepare()
    assert "2 label" in str(caught.value)


def test_missing_extra_unparsable_and_counts_are_named(tmp_path):
    tree(tmp_path, top="FakeAVCeleb_v1.2")
    top = tmp_path / "FakeAVCeleb_v1.2"
    with open(top / "meta_data.csv", "a") as stream:
        stream.write("id1,-,-,real,A,Unknown,African,men,1.mp4\n" + f"{ROWS[0].replace('00109', '00110')}\n")
        stream.write(f"{ROWS[1].replace('rtvc', 'rtvc2')}\n")  # one file twice, as released
    (top / "RealVideo-RealAudio/African/men/id00076/00111.mp4").touch()
    out = prepare(tmp_path)
    where = "FakeAVCeleb_v1.2/RealVideo-RealAudio/African/men/id00076"
    assert problems(out) == [
        f"extra: clips: {where}/00111.mp4",
        f"missing: clips: {where}/00110.mp4",
        "unparsable: FakeAVCeleb_v1.2/meta_data.csv, line 6: 'id1,-,-,real,A,Unknown,African,men,1.mp4' has no type, "
        "person or file",
    ]
    assert out.info["inventory"]["totals"]["rows that repeat a file"] == 1
    with pytest.raises(ManifestError, match="rows of FakeVideo-RealAudio: 1 found, 9,709 published"):
        FakeAVCeleb(root=str(tmp_path), progress=False).prepare()
    (top / "meta_data.csv").write_text("a,b\n")
    with pytest.raises(ManifestError, match="no column source"):
        FakeAVCeleb(root=str(tmp_path), progress=False).prepare()


def test_another_modality_is_refused():
    with pytest.raises(ConfigError, match="modality"):
        FakeAVCeleb(root="nowhere", modality="both")

"""The face finder's graphs, exported once where the train extra is installed."""

import pytest


@pytest.fixture(scope="session")
def finder(tmp_path_factory):
    """Folder of the finder's graphs."""
    pytest.importorskip("facenet_pytorch", reason="the train extra is not installed")
    from deepassay.models.mtcnn import export_finder_graphs

    folder = tmp_path_factory.mktemp("finder")
    export_finder_graphs(folder)
    return folder


@pytest.fixture(scope="session")
def photographs(shared):
    """Paths of a few dozen real photographs."""
    paths = sorted((shared / "data" / "faces").glob("*.jpg"))[::90]
    if not paths:
        pytest.skip("no real photographs beside the project")
    return paths

import pytest
import torch

from faults import experiment, made_experiment  # noqa: F401 - fixtures
from workflow_project import call, copy_project, cut_down, edit

# The suite's tensors are tiny: threads of one kernel would only wait for each other.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Keep the tests on the made project together: each worker would make it again."""
    for item in items:
        if "project" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("project"))


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A repository whose tables were made by `dvc repro` and pushed to a remote on a plain folder."""
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder)
    edit(folder, cut_down)
    call(folder, "dvc", "remote", "add", "--default", "plain", str(tmp_path_factory.mktemp("remote")))
    call(folder, "dvc", "repro")
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", "made")
    call(folder, "dvc", "push")
    return folder


@pytest.fixture
def clone(project, tmp_path):
    """A fresh clone with the artefacts pulled."""
    folder = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(project), str(folder))
    call(folder, "dvc", "pull")
    return folder

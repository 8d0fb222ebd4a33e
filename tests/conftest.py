import pytest
import torch
from filelock import FileLock

from fault_injection import experiment, made_experiment  # noqa: F401 - fixtures
from workflow_project import call, make_project


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors are tiny: threads of one kernel would only wait for each other, and bytes may depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def project(tmp_path_factory, worker_id):
    """A repository whose tables were made by `dvc repro` and pushed to a remote on a plain folder; tests only read it.

    It takes minutes: the workers of one run share it, and the first that needs it makes it.
    """
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    folder, remote, made = (base / name for name in ("project", "remote", "project-is-made"))
    with FileLock(base / "project.lock"):
        if not made.exists():
            remote.mkdir()
            make_project(folder, remote)
            made.touch()
    return folder


@pytest.fixture
def clone(project, tmp_path):
    """A fresh clone with the artefacts pulled."""
    folder = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(project), str(folder))
    call(folder, "dvc", "pull")
    return folder

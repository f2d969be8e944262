"""Where a run began."""

import json
import subprocess
import sys

from sightline.environment import environment


def test_environment_says_where_a_run_began_without_torch():
    code = "import sys, sightline.environment as e; e.environment(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    found = environment()
    assert found["packages"]["numpy"]
    assert json.loads(json.dumps(found)) == found


def test_environment_outside_a_repository_names_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment()["git_commit"] is None
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None

import subprocess
import sys
from pathlib import Path

import pytest

from sightline import registry
from sightline.registry import catalogue, check_name, check_options, did_you_mean, find, register, registered


@pytest.fixture(autouse=True)
def registry_as_before(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))


def test_a_registered_function_is_found_by_its_name():
    @register("view", "mirror")
    def mirror():
        return "seen"

    assert find("view", "mirror") is mirror
    assert "mirror" in registered("view")


def test_registering_the_same_function_again_is_allowed_and_another_one_is_refused():
    def first():
        pass

    def second():
        pass

    register("view", "mirror")(first)
    register("view", "mirror")(first)
    with pytest.raises(ValueError, match=r"view 'mirror' is already .*first; give .*second another name"):
        register("view", "mirror")(second)


def test_an_unknown_name_is_refused_with_the_closest_known_one():
    with pytest.raises(ValueError, match=r"^task 'descibe' is unknown; did you mean describe\?$"):
        find("task", "descibe")


def test_a_name_close_to_none_gets_the_list():
    with pytest.raises(ValueError, match=r"objective 'xyzzy' is unknown; known are sft, dpo, ranking, grpo"):
        check_name("objective", "xyzzy")


def test_a_built_in_name_whose_room_was_not_imported_is_our_mistake(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    with pytest.raises(AssertionError, match="room that registers it was not imported"):
        find("task", "describe")


def test_names_may_be_checked_without_importing_what_they_stand_for():
    code = (
        "import sys; from sightline.registry import catalogue, check_name;"
        "[check_name(kind, name) for kind, names in catalogue().items() for name in names];"
        "heavy = {'torch', 'transformers', 'numpy', 'sightline.objectives'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_catalogue_handed_out_cannot_change_the_catalogue():
    catalogue()["objective"].append("magic")
    assert "magic" not in catalogue()["objective"]


@pytest.fixture
def users_file(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "my_tasks.py").write_text("LIMIT = 3\n\ndef colours():\n    return 'mine'\n")
    (tmp_path / "my_broken.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_tasks", raising=False)
    return tmp_path


def test_a_users_function_is_found_in_the_current_folder(users_file):
    path_before = list(sys.path)
    assert find("task", "my_tasks:colours")() == "mine"
    assert sys.path == path_before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_taks:colours", "there is no module 'my_taks'; start where its file lies, or install it"),
        ("my_tasks:colors", r"my_tasks has no 'colors'; did you mean colours\?"),
        ("my_tasks:LIMIT", "LIMIT is no function; name a function of my_tasks"),
    ],
)
def test_a_users_mistake_in_a_name_is_one_sentence(users_file, name, message):
    with pytest.raises(ValueError, match=message):
        find("task", name)


def test_a_module_missing_inside_the_users_module_is_not_hidden(users_file):
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        find("task", "my_broken:colours")


def test_unknown_options_are_named_with_the_closest_one():
    def iou(completion, *, threshold=0.5):
        pass

    check_options(iou, {"threshold": 0.7})
    with pytest.raises(ValueError, match=r"iou has no option 'treshold'; did you mean threshold\?"):
        check_options(iou, {"treshold": 0.7})
    with pytest.raises(ValueError, match="has no option 'completion'"):
        check_options(iou, {"completion": "x"})


def test_a_function_without_options_says_so():
    with pytest.raises(ValueError, match="has no option 'x'; it takes none, so remove it"):
        check_options(lambda: None, {"x": 1})


@pytest.mark.parametrize(
    ("name", "known", "end"),
    [
        ("Beta", ["beta", "nll_weight"], "; did you mean beta?"),
        ("zz", ["beta", "nll_weight"], "; known are beta, nll_weight"),
        ("zz", [], ""),
    ],
)
def test_did_you_mean(name, known, end):
    assert did_you_mean(name, known) == end

"""The Space's header, the requirements, the workflows and what a ZeroGPU lists agree with each other."""

import ast
import importlib.metadata
import importlib.util
import re
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.files import ROOT, project_files, python_files

OWN = {"adapters", "app", "benchmarks", "chat", "phi3", "tabs", "tests", "training"}
# Names under which a package is imported, where they differ from the one under which it is installed.
IMPORTED_AS = {"pyyaml": "yaml", "markdown-it-py": "markdown_it",
               "charset-normalizer": "charset_normalizer"}
# Needed, though nothing of ours imports it: transformers does, for 4-bit bases, and Gradio, for tools. Gradio's own
# extra for tools would keep pydantic back.
USED_BY_OTHERS = {"bitsandbytes", "mcp"}
# Imported only where a run asks for it by name, and whoever asks has it installed.
WHERE_IT_IS = {"flash_attn", "triton", "unsloth"}
# Imported, and left out of the requirements: the version is the one that the other package asks for.
COMES_WITH = {"tokenizers": "transformers", "pyarrow": "datasets", "psutil": "accelerate", "jinja2": "torch"}


def requirements(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]
    return {one.name: one for one in found}


def header() -> dict:
    return yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def load_upload():
    spec = importlib.util.spec_from_file_location("upload_space", ROOT / ".github/upload_space.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


APP, TESTS = requirements("requirements.txt"), requirements("tests/requirements.txt")
HEADER, UPLOAD = header(), load_upload()


def test_the_space_runs_a_gradio_that_the_requirements_admit():
    assert HEADER["sdk"] == "gradio"
    assert Version(HEADER["sdk_version"]) in APP["gradio"].specifier
    assert APP["gradio"].extras == {"oauth"}


def test_the_space_asks_for_no_more_than_it_needs():
    assert HEADER["hf_oauth"] is True
    assert HEADER["hf_oauth_scopes"] == ["contribute-repos"]


def test_the_header_is_one_that_a_space_accepts():
    assert (ROOT / HEADER["app_file"]).is_file()
    assert len(HEADER["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {HEADER["colorFrom"], HEADER["colorTo"]} <= colours
    assert HEADER["license"] == "apache-2.0" and "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_space_runs_a_python_that_a_zerogpu_lists_and_the_libraries_support():
    asked = HEADER["python_version"]
    assert isinstance(asked, str), "quote it: YAML reads 3.10 as 3.1"
    assert [one for one in UPLOAD.ZEROGPU_PYTHON if one == asked or one.startswith(asked + ".")]
    assert Version(asked) in SpecifierSet(">=3.11,<3.14")


def test_our_oldest_torch_and_the_spaces_newest_are_ones_that_a_zerogpu_lists():
    oldest, newest = map(Version, UPLOAD.ZEROGPU_TORCH)
    here = APP["torch"].specifier
    assert oldest in here and newest in here
    text = UPLOAD.space_requirements((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    there = next(Requirement(line) for line in text.splitlines() if line.startswith("torch")).specifier
    assert newest in there and Version("2.12.0") not in there and Version("2.13.0") not in there


def test_the_spaces_requirements_differ_in_torch_alone():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    changed = set(UPLOAD.space_requirements(text).splitlines()) ^ set(text.splitlines())
    assert len(changed) == 2 and all(line.startswith("torch>=") for line in changed)


@pytest.mark.parametrize("text", ["gradio>=6\n", "torch\n", "torch>=2.8,<3\ntorch>=2.8,<3\n"])
def test_requirements_whose_torch_cannot_be_capped_are_refused(text):
    with pytest.raises(ValueError, match="torch>=X"):
        UPLOAD.space_requirements(text)


def test_nothing_is_uploaded_where_no_space_is_named(monkeypatch, capsys):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("HF_TOKEN", "")
    assert UPLOAD.main() == 0
    assert "SPACE_ID" in capsys.readouterr().out


def test_every_requirement_has_a_lower_bound_and_an_upper_cap():
    assert not APP["spaces"].specifier, "a Space brings its own `spaces`"
    for one in (*APP.values(), *TESTS.values()):
        kinds = {part.operator for part in one.specifier}
        assert one.name in ("spaces", "packaging") or (">=" in kinds and kinds & {"<", "<="}), str(one)


def test_what_runs_these_tests_is_what_the_requirements_admit():
    for one in (*APP.values(), *TESTS.values()):
        installed = Version(importlib.metadata.version(one.name).split("+")[0])
        assert installed in one.specifier, f"{one.name} {installed} is installed, {one} is asked for"


def imports(rooms: set[str]) -> set[str]:
    """Foreign packages that Python files in these rooms import."""
    found = set()
    for path in python_files():
        if path.relative_to(ROOT).parts[0].removesuffix(".py") in rooms:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - OWN


def as_imported(named: dict[str, Requirement]) -> set[str]:
    return {IMPORTED_AS.get(name.lower(), name.replace("-", "_")) for name in named}


def test_what_the_app_imports_is_required_and_what_is_required_is_imported():
    used = imports(OWN - {"tests", "benchmarks"}) - COMES_WITH.keys() - WHERE_IT_IS
    assert used <= as_imported(APP), "imported, but not in requirements.txt"
    assert as_imported(APP) - USED_BY_OTHERS <= used, "in requirements.txt, but imported nowhere"


def test_what_tests_and_benchmarks_import_is_required():
    used = imports({"tests", "benchmarks"}) - WHERE_IT_IS
    assert used <= as_imported(APP) | as_imported(TESTS) | COMES_WITH.keys()


@pytest.mark.parametrize("package", COMES_WITH)
def test_what_comes_with_another_package_is_asked_for_there(package):
    asked = [Requirement(line) for line in importlib.metadata.requires(COMES_WITH[package])]
    assert package in [one.name for one in asked if not one.marker]


@pytest.mark.parametrize("path", [path for path in project_files() if path.suffix in (".yml", ".yaml")],
                         ids=lambda path: path.name)
def test_yaml_files_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_the_workflow_tests_the_pythons_that_are_promised():
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert jobs["resolve"]["strategy"]["matrix"]["python"] == ["3.13"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"Python 3\.11 to 3\.13", readme)

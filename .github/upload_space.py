"""Uploads main to a Space with huggingface_hub, its torch capped at the newest that a ZeroGPU lists."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# What a ZeroGPU Space can be built with, as its documentation listed it in August 2026; torch from the first
# of the two to the second.
ZEROGPU_PYTHON = ("3.10.13", "3.12.12")
ZEROGPU_TORCH = ("2.8.0", "2.11.0")

ROOT = Path(__file__).parent.parent


def space_requirements(requirements: str) -> str:
    """The same requirements with torch's upper bound at ZeroGPU's newest; ValueError where torch isn't bounded."""
    capped, count = re.subn(r"(?m)^(torch>=[\d.]+),<=?[\d.]+$", rf"\1,<={ZEROGPU_TORCH[1]}", requirements)
    if count != 1:
        raise ValueError(f"requirements.txt has {count} lines of the form torch>=X,<=Y, and must have one, "
                         "so that the Space's torch can be capped.")
    return capped


def copy_for_space(target: Path) -> None:
    """Every file that git tracks, copied under `target`, with the Space's own requirements.txt."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    requirements = target / "requirements.txt"
    requirements.write_text(space_requirements(requirements.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    """Upload to SPACE_ID with HF_TOKEN, both from the environment; says so and stops where one is unset."""
    space, token = os.environ.get("SPACE_ID", ""), os.environ.get("HF_TOKEN", "")
    if not space or not token:
        print("Nothing was uploaded: the repository has no variable SPACE_ID or no secret HF_TOKEN. "
              "Set both to upload main to a Space.")
        return 0
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        copy_for_space(Path(folder))
        # What is no longer in main goes from the Space as well.
        HfApi(token=token).upload_folder(repo_id=space, repo_type="space", folder_path=folder,
                                         delete_patterns="*", commit_message="Upload main")
    print(f"{space} has main now.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

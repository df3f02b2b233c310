"""The wheel holds what a user needs, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path


def test_wheel_contents_and_size(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 30e6
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"engine", "training", "export", "benchmarks"}
    for name in ("encoder.onnx", "decoder.onnx", "tokenizer.json", "manifest.json"):
        assert f"engine/bundle/default/{name}" in names
    assert "engine/py.typed" in names

"""What importing costs, and what it never pulls in."""

import subprocess
import sys

import engine


def test_import_engine_is_light() -> None:
    code = (
        "import sys, engine; engine.QueueFullError, engine.EngineStats;"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'pydantic', 'openai', 'tensorrt',"
        "'numpy', 'asyncio', 'PIL', 'pydicom', 'prometheus_client', 'scipy', 'pandas',"
        "'matplotlib'}"
        "& set(sys.modules); print(heavy)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_assessing_needs_no_torch(examples: object) -> None:
    code = (
        "import sys; from engine import Engine; from engine.dicom.reader import read_slices\n"
        f"with Engine.load() as e: e.assess(read_slices('{examples}/chest-original.dcm')[0].hu)\n"
        "print({'torch', 'transformers', 'openai', 'prometheus_client', 'scipy', 'pandas'} "
        "& set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_every_public_name_resolves() -> None:
    for name in engine.__all__:
        assert getattr(engine, name) is not None

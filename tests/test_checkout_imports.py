"""What a checkout imports, read from its files alone."""

from __future__ import annotations

from pathlib import Path

from omnirt_cli.checkout_imports import CheckoutImports, read_imports


def read(tmp_path: Path, files: dict[str, str]) -> CheckoutImports:
    for name, text in files.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return read_imports(tmp_path, tmp_path / "generate_video.py")


def test_imports_are_followed_through_the_checkouts_own_modules(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {
            "generate_video.py": "import os, numpy\nfrom model.inference import run\n",
            "model/__init__.py": "",
            "model/inference.py": "from . import deep\nfrom .sub.part import x\nimport torch.distributed\n",
            "model/deep.py": "import diffusers\n",
            "model/sub/__init__.py": "",
            "model/sub/part.py": "from ..deep import y\nfrom transformers.utils import z\n",
            "model/never.py": "import absent\n",
        },
    )

    assert found == CheckoutImports(needed=("diffusers", "numpy", "torch", "transformers"), optional=())


def test_what_is_tried_is_optional_and_what_a_function_imports_is_left_to_the_run(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {
            "generate_video.py": (
                "from typing import TYPE_CHECKING\n"
                "try:\n    import flash_attn\nexcept ImportError:\n    import fallback\n"
                "if TYPE_CHECKING:\n    import only_for_types\n"
                "def later():\n    import decord\n"
            )
        },
    )

    assert found == CheckoutImports(needed=(), optional=("flash_attn",))


def test_an_import_that_is_needed_somewhere_is_needed(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {
            "generate_video.py": "import part\ntry:\n    import yaml\nexcept ImportError:\n    pass\n",
            "part.py": "import yaml\n",
        },
    )

    assert found == CheckoutImports(needed=("yaml",), optional=())


def test_a_file_that_is_no_python_hides_nothing_else(tmp_path: Path) -> None:
    found = read(tmp_path, {"generate_video.py": "import broken\nimport numpy\n", "broken.py": "def (:\n"})

    assert found == CheckoutImports(needed=("numpy",), optional=())

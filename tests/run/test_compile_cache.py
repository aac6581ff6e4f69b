from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnirt_cli.models.base import Backend
from omnirt_cli.run.compile_cache import CompileCache, arrange_compile_cache, prune_compile_caches


def arrange(
    root: Path,
    kind: Backend = Backend.CUDA,
    *,
    environ: dict[str, str] | None = None,
    checkout: str = "/opt/SoulX",
    revision: str | None = "abc123",
    python: str = "/opt/venv/bin/python",
) -> CompileCache:
    return arrange_compile_cache(
        kind, checkout=Path(checkout), revision=revision, python=Path(python), environ=environ or {}, root=root
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "omnirt" / "compile"


def test_inductor_and_triton_get_private_directories_that_exist(root: Path) -> None:
    cache = arrange(root)

    assert cache.directory is not None
    assert cache.directory.parent == root / "cuda"
    assert cache.env == {
        "TORCHINDUCTOR_CACHE_DIR": str(cache.directory / "inductor"),
        "TRITON_CACHE_DIR": str(cache.directory / "triton"),
    }
    for path in (root, cache.directory, *map(Path, cache.env.values())):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert cache.note is None


def test_the_directory_is_that_of_checkout_revision_interpreter_and_kind(root: Path) -> None:
    different = [
        arrange(root),
        arrange(root, checkout="/opt/other"),
        arrange(root, revision="def456"),
        arrange(root, revision=None),
        arrange(root, python="/usr/bin/python3"),
        arrange(root, Backend.ASCEND),
    ]

    assert len({cache.directory for cache in different}) == len(different)
    assert arrange(root).directory == different[0].directory


def test_a_cache_is_warm_once_something_is_in_it(root: Path) -> None:
    cache = arrange(root)
    assert not cache.warm
    assert not arrange(root).warm

    (Path(cache.env["TRITON_CACHE_DIR"]) / "kernel.cubin").write_bytes(b"x")

    assert arrange(root).warm


def test_what_the_user_chose_is_left_alone(root: Path) -> None:
    assert list(arrange(root, environ={"TORCHINDUCTOR_CACHE_DIR": "/mine"}).env) == ["TRITON_CACHE_DIR"]
    assert list(arrange(root, environ={"TRITON_HOME": "/mine"}).env) == ["TORCHINDUCTOR_CACHE_DIR"]


def test_a_user_who_chose_everything_gets_no_directory(root: Path) -> None:
    cache = arrange(root, environ={"TORCHINDUCTOR_CACHE_DIR": "/mine", "TRITON_CACHE_DIR": "/mine"})

    assert cache == CompileCache()
    assert not root.exists()


def test_cann_gets_its_operator_cache(root: Path) -> None:
    cache = arrange(root, Backend.ASCEND)

    assert cache.directory is not None
    assert cache.env["ACL_OP_COMPILER_CACHE_DIR"] == str(cache.directory / "cann")
    assert cache.env["ACL_OP_COMPILER_CACHE_MODE"] == "enable"


@pytest.mark.parametrize("name", ["ASCEND_CACHE_PATH", "ACL_OP_COMPILER_CACHE_MODE", "ACL_OP_COMPILER_CACHE_DIR"])
def test_a_cann_cache_of_the_users_own_is_left_alone(root: Path, name: str) -> None:
    assert list(arrange(root, Backend.ASCEND, environ={name: "disable"}).env) == ["TORCHINDUCTOR_CACHE_DIR"]


def test_a_path_that_cann_would_not_take_leaves_its_cache_unset(tmp_path: Path) -> None:
    cache = arrange(tmp_path / "with a space", Backend.ASCEND)

    assert list(cache.env) == ["TORCHINDUCTOR_CACHE_DIR"]
    assert cache.note is not None
    assert "CANN takes no path like" in cache.note


def test_on_the_cpu_nothing_is_set_or_made(root: Path) -> None:
    assert arrange(root, Backend.CPU) == CompileCache()
    assert not root.exists()


def test_a_place_that_cannot_be_made_is_a_note_and_no_fault(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")

    cache = arrange(tmp_path / "cache" / "omnirt" / "compile")

    assert cache.env == {}
    assert cache.directory is None
    assert cache.note is not None
    assert cache.note.startswith("no compile cache in ")


def test_a_directory_that_others_may_write_is_no_cache(root: Path) -> None:
    """What lies there is loaded as code."""
    first = arrange(root)
    assert first.directory is not None
    Path(first.env["TORCHINDUCTOR_CACHE_DIR"]).chmod(0o777)

    cache = arrange(root)

    assert cache.env == {}
    assert "others may write" in str(cache.note)


def test_a_link_in_its_place_is_no_cache(root: Path, tmp_path: Path) -> None:
    root.mkdir(parents=True, mode=0o700)
    (root / "cuda").symlink_to(tmp_path)

    assert "is no directory" in str(arrange(root).note)


def test_caches_that_no_run_used_for_two_months_are_removed(root: Path, tmp_path: Path) -> None:
    old, recent = arrange(root, checkout="/old").directory, arrange(root, checkout="/recent").directory
    assert old is not None
    assert recent is not None
    foreign = root / "cuda" / "somebody-elses"
    foreign.mkdir()
    (tmp_path / "0123456789abcdef").mkdir()
    (root / "cuda" / "0123456789abcdef").symlink_to(tmp_path / "0123456789abcdef")
    long_ago = time.time() - 61 * 86400
    for path in (old / ".last-used", foreign, tmp_path / "0123456789abcdef"):
        os.utime(path, (long_ago, long_ago))

    assert prune_compile_caches(root) == (old,)

    assert not old.exists()
    assert recent.exists()
    assert foreign.exists()
    assert (tmp_path / "0123456789abcdef").exists()


def test_a_run_makes_its_cache_young_again(root: Path) -> None:
    directory = arrange(root).directory
    assert directory is not None
    long_ago = time.time() - 61 * 86400
    os.utime(directory / ".last-used", (long_ago, long_ago))

    arrange(root)

    assert prune_compile_caches(root) == ()


def test_pruning_where_nothing_ever_was_removes_nothing(root: Path) -> None:
    assert prune_compile_caches(root) == ()


def test_pytorch_reads_these_variables(root: Path) -> None:
    pytest.importorskip("torch")
    cache = arrange(root)
    program = (
        "from torch._inductor.runtime.cache_dir_utils import cache_dir, triton_cache_dir\n"
        "print(cache_dir(), triton_cache_dir(0), sep='\\n')"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **cache.env}, capture_output=True, text=True, check=True
    )

    assert ran.stdout.splitlines() == list(cache.env.values())

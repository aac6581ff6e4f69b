from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omnirt_cli.checkpoints import FileSet
from omnirt_cli.models.card import CheckpointFile
from omnirt_cli.run.read_ahead import (
    SMALLEST_FILE,
    ReadAhead,
    ReadAheadFacts,
    Stretch,
    WeightFolder,
    cached_bytes,
    plan_read_ahead,
)

MIB = 1 << 20


def weights(path: Path, size: int = SMALLEST_FILE) -> Path:
    """A file with bytes on the disk, so that it can be dropped from the page cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())
    return path


def holes(path: Path, size: int = SMALLEST_FILE) -> Path:
    """A file of that size with nothing on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def in_cache(path: Path) -> int | None:
    with path.open("rb") as file:
        return cached_bytes(file.fileno(), path.stat().st_size)


def drop(path: Path) -> None:
    """Out of the page cache; a test that needs this is skipped where memory is all the disk there is."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_cache(path):
        pytest.skip("the page cache of this file system cannot be dropped")


def finished(ahead: ReadAhead, done: Callable[[ReadAheadFacts], bool] = lambda facts: facts.complete) -> ReadAheadFacts:
    """Wait for the thread to come to its end, then ask."""
    ahead._thread.join(30)
    facts = ahead.stop()
    assert done(facts), facts
    return facts


class TestPlan:
    def test_the_order_of_loading_is_kept(self, tmp_path: Path) -> None:
        for name in ("a.pth", "z/1.safetensors", "z/2.safetensors", "unused.bin"):
            holes(tmp_path / "ckpt" / name)
        holes(tmp_path / "wav2vec" / "model.bin")
        folders = (
            WeightFolder(tmp_path / "ckpt", ("z/*.safetensors", "a.pth")),
            WeightFolder(tmp_path / "wav2vec"),
        )

        plan = plan_read_ahead(folders, 1 << 40)

        assert [stretch.path.name for stretch in plan] == ["1.safetensors", "2.safetensors", "a.pth", "model.bin"]
        assert {stretch.length for stretch in plan} == {SMALLEST_FILE}

    def test_a_models_card_gives_the_files_and_an_index_its_shards(self, tmp_path: Path) -> None:
        shards = ["model.safetensors-ish.bin", "net-00002-of-00002.safetensors", "net-00001-of-00002.safetensors"]
        for name in (*shards, "t5.pth", "audio/b.bin"):
            holes(tmp_path / name)
        (tmp_path / "net.safetensors.index.json").write_text("{}")
        card = FileSet(
            "ckpt_dir",
            tmp_path,
            (
                CheckpointFile(file="t5.pth"),
                CheckpointFile(file="net.safetensors.index.json", instead=["net.safetensors"]),
                CheckpointFile(file="audio/a.bin", instead=["audio/b.bin"]),
            ),
        )

        plan = plan_read_ahead([WeightFolder.of(card)], 1 << 40)

        names = ["t5.pth", "net-00001-of-00002.safetensors", "net-00002-of-00002.safetensors", "b.bin"]
        assert [stretch.path.name for stretch in plan] == names

    def test_no_more_than_half_of_what_is_free_is_read(self, tmp_path: Path) -> None:
        for name in ("1.bin", "2.bin", "3.bin"):
            holes(tmp_path / name)

        plan = plan_read_ahead([WeightFolder(tmp_path)], 3 * SMALLEST_FILE)

        assert [(stretch.path.name, stretch.length) for stretch in plan] == [
            ("1.bin", SMALLEST_FILE),
            ("2.bin", SMALLEST_FILE // 2),
        ]
        assert plan_read_ahead([WeightFolder(tmp_path)], 0) == ()

    def test_small_files_and_missing_folders_are_left_out(self, tmp_path: Path) -> None:
        holes(tmp_path / "config.json", MIB)

        assert plan_read_ahead([WeightFolder(tmp_path), WeightFolder(tmp_path / "none")], 1 << 40) == ()

    def test_one_file_under_two_names_is_read_once(self, tmp_path: Path) -> None:
        """A snapshot directory of the Hugging Face cache holds links to its blobs."""
        blob = holes(tmp_path / "blobs" / "1f")
        (tmp_path / "snapshot").mkdir()
        (tmp_path / "snapshot" / "model.bin").symlink_to(blob)
        (tmp_path / "snapshot" / "broken.bin").symlink_to(tmp_path / "none")

        plan = plan_read_ahead([WeightFolder(tmp_path / "snapshot"), WeightFolder(tmp_path / "blobs")], 1 << 40)

        assert [stretch.path for stretch in plan] == [tmp_path / "snapshot" / "model.bin"]


class TestReading:
    def test_what_was_planned_lies_in_the_page_cache_afterwards(self, tmp_path: Path) -> None:
        first, second = weights(tmp_path / "1.bin"), weights(tmp_path / "2.bin")
        drop(first)
        drop(second)

        facts = finished(ReadAhead.start([Stretch(first, SMALLEST_FILE), Stretch(second, 5 * MIB)]))

        assert (facts.files, facts.read_bytes, facts.already_cached_bytes) == (2, SMALLEST_FILE + 5 * MIB, 0)
        assert in_cache(first) == SMALLEST_FILE
        assert (in_cache(second) or 0) >= 5 * MIB
        assert facts.ms > 0

    def test_what_was_cached_already_is_told(self, tmp_path: Path) -> None:
        path = weights(tmp_path / "1.bin")
        path.read_bytes()

        assert finished(ReadAhead.start([Stretch(path, SMALLEST_FILE)])).already_cached_bytes == SMALLEST_FILE

    def test_a_file_that_is_gone_or_shorter_is_no_fault(self, tmp_path: Path) -> None:
        path = weights(tmp_path / "1.bin")

        facts = finished(ReadAhead.start([Stretch(tmp_path / "gone", MIB), Stretch(path, 10 * SMALLEST_FILE)]))

        assert (facts.files, facts.read_bytes) == (1, SMALLEST_FILE)

    def test_stopping_does_not_wait_for_the_rest(self, tmp_path: Path) -> None:
        huge = holes(tmp_path / "huge.bin", 4 << 40)

        ahead = ReadAhead.start([Stretch(huge, 4 << 40)])
        began = time.monotonic()
        facts = ahead.stop()

        assert time.monotonic() - began < 1
        assert not facts.complete
        assert facts.read_bytes < 4 << 40
        ahead._thread.join(5)
        assert not ahead._thread.is_alive()

    def test_a_file_system_that_hangs_holds_nobody_up(self, tmp_path: Path) -> None:
        """A named pipe without a writer hangs whoever opens it."""
        os.mkfifo(tmp_path / "hung")

        ahead = ReadAhead.start([Stretch(tmp_path / "hung", MIB)])
        began = time.monotonic()
        facts = ahead.stop()

        assert time.monotonic() - began < 1
        assert (facts.files, facts.complete) == (0, False)
        os.close(os.open(tmp_path / "hung", os.O_RDWR | os.O_NONBLOCK))
        ahead._thread.join(5)
        assert not ahead._thread.is_alive()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
def test_of_somebody_elses_file_nothing_is_told(tmp_path: Path) -> None:
    """The kernel would say that all of it is cached."""
    path = weights(tmp_path / "1.bin", MIB)
    with path.open("rb") as file:
        os.seteuid(65534)
        try:
            told = cached_bytes(file.fileno(), MIB)
        finally:
            os.seteuid(0)

    assert told is None

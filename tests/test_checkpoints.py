"""Checkpoint folders: each way in which a download goes wrong is seen, and nothing whole is complained of."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import omnirt_cli
from omnirt_cli import checkpoints
from omnirt_cli.checkout import CheckoutFacts, inspect_checkout
from omnirt_cli.checkpoints import FileSet, Problem, ProblemKind, file_sets, inspect_checkpoint, require_whole
from omnirt_cli.errors import InputMissingError
from omnirt_cli.models.base import KnobValue
from omnirt_cli.models.card import CheckpointFile
from omnirt_cli.models.registry import adapter

CHECKOUTS = Path(omnirt_cli.__file__).parent / "miniature" / "checkouts"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 11361920418\n"


def wanted(file: str, **more: object) -> CheckpointFile:
    return CheckpointFile.model_validate({"file": file, **more})


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def safetensors(tensors: int = 3, each: int = 64) -> bytes:
    """A whole file, written by the format's description."""
    header = {
        f"layer.{number}": {"dtype": "F32", "shape": [each // 4], "data_offsets": [number * each, (number + 1) * each]}
        for number in range(tensors)
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(tensors * each)


def torch_archive(path: Path) -> bytes:
    """What torch.save writes: a zip archive."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"weights" * 1000)
    return path.read_bytes()


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1
    return problems[0]


def kind_of(folder: Path, *files: CheckpointFile) -> ProblemKind:
    return only(inspect_checkpoint(folder, files)).kind


# --- what is whole --------------------------------------------------------------------------------


def test_whole_files_are_not_complained_of(tmp_path: Path) -> None:
    write(tmp_path / "config.json", b'{"dim": 5120}\n')
    write(tmp_path / "google" / "umt5" / "tokenizer.json", b"[1]")
    write(tmp_path / "model.safetensors", safetensors())
    write(tmp_path / "clip.pth", torch_archive(tmp_path / "archive"))
    write(tmp_path / "old.bin", b"\x80\x02 a pickle of before torch 1.6")
    files = [
        wanted("config.json"),
        wanted("google/umt5/tokenizer.json"),
        wanted("model.safetensors", size=len(safetensors())),
        wanted("clip.pth", least=100),
        wanted("old.bin"),
    ]

    assert inspect_checkpoint(tmp_path, files) == []


def test_a_real_safetensors_file_is_whole(tmp_path: Path) -> None:
    numpy, library = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    library.save_file({"a": numpy.zeros(100), "b": numpy.ones((3, 5))}, tmp_path / "model.safetensors")

    assert inspect_checkpoint(tmp_path, [wanted("model.safetensors")]) == []


@pytest.mark.slow
def test_a_real_torch_file_is_whole(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(100)}, tmp_path / "model.pth")

    assert inspect_checkpoint(tmp_path, [wanted("model.pth")]) == []


def test_links_into_a_cache_are_followed(tmp_path: Path) -> None:
    blob = write(tmp_path / "blobs" / "abc", safetensors())
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(blob)

    assert inspect_checkpoint(tmp_path / "snapshot", [wanted("model.safetensors")]) == []


def test_leftovers_beside_a_whole_file_are_nobodys_business(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", safetensors())
    write(tmp_path / "model.safetensors.incomplete", b"x")
    write(tmp_path / ".cache" / "huggingface" / "download" / "abc.incomplete", b"x")

    assert inspect_checkpoint(tmp_path, [wanted("model.safetensors")]) == []


# --- what is not ----------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_one_problem(tmp_path: Path) -> None:
    problem = only(inspect_checkpoint(tmp_path / "none", [wanted("a"), wanted("b")]))

    assert (problem.kind, problem.path) == (ProblemKind.MISSING, tmp_path / "none")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    assert kind_of(tmp_path, wanted("deep/in/config.json")) is ProblemKind.MISSING


def test_a_link_to_nothing_is_missing_and_says_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "vae.pth").symlink_to("../blobs/gone")

    problem = only(inspect_checkpoint(tmp_path, [wanted("vae.pth")]))

    assert problem.kind is ProblemKind.MISSING
    assert "../blobs/gone" in problem.detail


@pytest.mark.parametrize(
    "left_over",
    [
        "model.pth.incomplete",
        "model.pth.part",
        "model.pth.aria2",
        ".cache/huggingface/download/x7Gq.9f2d.incomplete",
    ],
)
def test_a_download_that_stopped_is_told_from_a_file_never_fetched(tmp_path: Path, left_over: str) -> None:
    write(tmp_path / left_over, b"half")

    problem = only(inspect_checkpoint(tmp_path, [wanted("model.pth")]))

    assert problem.kind is ProblemKind.HALF_DOWNLOADED
    assert Path(left_over).name in problem.detail


def test_a_stopped_download_in_a_hub_cache_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "models--x" / "blobs" / "9f2d.incomplete", b"half")
    snapshot = tmp_path / "models--x" / "snapshots" / "main"
    snapshot.mkdir(parents=True)

    assert kind_of(snapshot, wanted("model.pth")) is ProblemKind.HALF_DOWNLOADED


def test_a_full_length_file_that_aria2_still_writes_is_half(tmp_path: Path) -> None:
    write(tmp_path / "model.pth", bytes(500))
    write(tmp_path / "model.pth.aria2", b"control")

    assert kind_of(tmp_path, wanted("model.pth", size=500)) is ProblemKind.HALF_DOWNLOADED


def test_a_git_lfs_pointer_is_recognised_before_its_size(tmp_path: Path) -> None:
    write(tmp_path / "t5.pth", POINTER.encode())

    assert kind_of(tmp_path, wanted("t5.pth", size=11361920418)) is ProblemKind.LFS_POINTER


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "t5.pth", b"")

    assert kind_of(tmp_path, wanted("t5.pth")) is ProblemKind.EMPTY


def test_a_wrong_size_says_what_was_expected(tmp_path: Path) -> None:
    write(tmp_path / "vae.pth", bytes(400))

    exact = only(inspect_checkpoint(tmp_path, [wanted("vae.pth", size=507)]))
    least = only(inspect_checkpoint(tmp_path, [wanted("vae.pth", least=401)]))

    assert (exact.kind, exact.expected, exact.actual) == (ProblemKind.WRONG_SIZE, 507, 400)
    assert (least.kind, least.expected, least.actual) == (ProblemKind.WRONG_SIZE, 401, 400)
    assert "507" in exact.detail
    assert inspect_checkpoint(tmp_path, [wanted("vae.pth", size=400), wanted("vae.pth", least=400)]) == []


@pytest.mark.parametrize("lost", [1, 100, 300])
def test_cut_off_safetensors_are_seen_by_their_header(tmp_path: Path, lost: int) -> None:
    whole = safetensors()
    write(tmp_path / "model.safetensors", whole[:-lost])

    problem = only(inspect_checkpoint(tmp_path, [wanted("model.safetensors")]))

    assert problem.kind is ProblemKind.TRUNCATED
    assert problem.actual == len(whole) - lost


def test_safetensors_with_something_behind_have_the_wrong_size(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", safetensors() + b"more")

    assert kind_of(tmp_path, wanted("model.safetensors")) is ProblemKind.WRONG_SIZE


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 200,
        (2).to_bytes(8, "little") + b"{]",
        (2).to_bytes(8, "little") + b"[]",
        (12).to_bytes(8, "little") + b'{"a": [1,2]}',
        (30).to_bytes(8, "little") + b'{"a": {"data_offsets": [0,[]]}',
    ],
    ids=["noise", "no json", "a list", "no tensor", "no offset"],
)
def test_what_is_no_safetensors_file_is_unreadable(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "model.safetensors", content)

    assert kind_of(tmp_path, wanted("model.safetensors")) is ProblemKind.UNREADABLE


def test_the_header_is_never_read_beyond_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_HEADER_BYTES", 50)
    write(tmp_path / "model.safetensors", safetensors())

    assert kind_of(tmp_path, wanted("model.safetensors")) is ProblemKind.UNREADABLE


@pytest.mark.parametrize("name", ["t5.pth", "pytorch_model.bin"])
def test_a_cut_off_torch_archive_is_seen_by_its_end(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, torch_archive(tmp_path / "archive")[:-30])

    assert kind_of(tmp_path, wanted(name)) is ProblemKind.TRUNCATED


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "t5.pth"])
def test_a_web_page_in_place_of_a_file_is_recognised(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, b"<!DOCTYPE html><html><body>Sign in</body></html>")

    problem = only(inspect_checkpoint(tmp_path, [wanted(name)]))

    assert problem.kind is ProblemKind.UNREADABLE
    assert "web page" in problem.detail


@pytest.mark.parametrize("content", [b'{"dim": 51', b"dim: 5120", b"   "])
def test_json_that_ends_early_is_unreadable(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "config.json", content)

    assert kind_of(tmp_path, wanted("config.json")) is ProblemKind.UNREADABLE


def test_a_folder_in_place_of_a_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()

    assert kind_of(tmp_path, wanted("config.json")) is ProblemKind.UNREADABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_unreadable(tmp_path: Path) -> None:
    write(tmp_path / "config.json", b"{}").chmod(0)

    assert kind_of(tmp_path, wanted("config.json")) is ProblemKind.UNREADABLE


def test_a_link_that_goes_in_circles_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("config.json")

    assert kind_of(tmp_path, wanted("config.json")) is ProblemKind.UNREADABLE


# --- shards ---------------------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    names = [f"diffusion_pytorch_model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    weights = {f"layer.{number}": names[number % 3] for number in range(9)}
    write(tmp_path / "diffusion_pytorch_model.safetensors.index.json", json.dumps({"weight_map": weights}).encode())
    for name in names:
        write(tmp_path / name, safetensors())
    return tmp_path


INDEX = wanted("diffusion_pytorch_model.safetensors.index.json", instead=["diffusion_pytorch_model.safetensors"])


def test_every_shard_that_the_index_names_is_looked_at(sharded: Path) -> None:
    assert inspect_checkpoint(sharded, [INDEX]) == []
    (sharded / "diffusion_pytorch_model-00001-of-00003.safetensors").unlink()
    write(sharded / "diffusion_pytorch_model-00003-of-00003.safetensors", safetensors()[:-1])

    problems = inspect_checkpoint(sharded, [INDEX])

    assert [(problem.kind, problem.path.name[24:29]) for problem in problems] == [
        (ProblemKind.MISSING, "00001"),
        (ProblemKind.TRUNCATED, "00003"),
    ]


@pytest.mark.parametrize("weights", [{}, {"a": "../../etc/passwd"}, {"a": "/etc/passwd"}, [], None])
def test_an_index_that_cannot_be_followed_is_unreadable(sharded: Path, weights: object) -> None:
    write(sharded / INDEX.file, json.dumps({"weight_map": weights}).encode())

    assert kind_of(sharded, INDEX) is ProblemKind.UNREADABLE


def test_a_single_file_stands_in_for_shards(tmp_path: Path) -> None:
    write(tmp_path / "diffusion_pytorch_model.safetensors", safetensors())
    assert inspect_checkpoint(tmp_path, [INDEX]) == []

    write(tmp_path / "diffusion_pytorch_model.safetensors", safetensors()[:-1])
    assert only(inspect_checkpoint(tmp_path, [INDEX])).path.name == "diffusion_pytorch_model.safetensors"


def test_where_neither_is_there_the_usual_one_is_named(tmp_path: Path) -> None:
    assert only(inspect_checkpoint(tmp_path, [INDEX])).path.name == INDEX.file


# --- the error ------------------------------------------------------------------------------------


def refusal(folder: Path, *files: CheckpointFile) -> InputMissingError:
    with pytest.raises(InputMissingError) as caught:
        require_whole(FileSet("ckpt_dir", folder, files))
    return caught.value


def test_one_error_names_the_first_problems_and_counts_the_rest(tmp_path: Path) -> None:
    error = refusal(tmp_path, *(wanted(f"file-{number}") for number in range(9)))

    assert error.exit_status == 66
    assert all(f"file-{number} is not there" in error.message for number in range(6))
    assert "file-6" not in error.message
    assert error.message.endswith("and 3 more")
    assert "--ckpt-dir" in (error.hint or "")


@pytest.mark.parametrize(
    ("break_it", "advice"),
    [
        (lambda path: write(path, POINTER.encode()), "git lfs pull"),
        (lambda path: write(path, safetensors()[:-1]), "again"),
        (lambda path: None, "download what is missing"),
    ],
    ids=["pointer", "cut", "missing"],
)
def test_the_hint_fits_the_fault(tmp_path: Path, break_it: Callable[[Path], object], advice: str) -> None:
    break_it(tmp_path / "model.safetensors")

    assert advice in (refusal(tmp_path, wanted("model.safetensors")).hint or "")


def test_a_whole_folder_raises_nothing(tmp_path: Path) -> None:
    write(tmp_path / "config.json", b"{}")

    require_whole(FileSet("ckpt_dir", tmp_path, (wanted("config.json"),)))


# --- what the cards list --------------------------------------------------------------------------


def names(model: str, checkout: str, folder: str = "ckpt_dir", **values: object) -> set[str]:
    found = file_sets(
        adapter(model),
        foreign(checkout),
        {name: KnobValue(value, "test") for name, value in values.items()},
        ckpt_dir=Path("/weights"),
        wav2vec_dir=Path("/wav2vec"),
    )
    return {row.file for files in found if files.name == folder for row in files.files}


def foreign(checkout: str) -> CheckoutFacts:
    """A miniature's facts, as if it were the real checkout."""
    return replace(inspect_checkout(CHECKOUTS / checkout, "generate_video.py"), miniature=False)


def test_flashhead_opens_the_model_that_is_asked_for() -> None:
    pro, lite = names("flashhead", "flashhead", model_type="pro"), names("flashhead", "flashhead", model_type="lite")

    assert {"Model_Pro/diffusion_pytorch_model.safetensors", "VAE_Wan/Wan2.1_VAE.pth"} <= pro
    assert {"Model_Lite/diffusion_pytorch_model.safetensors", "VAE_LTX/config.json"} <= lite
    assert not pro & lite
    assert "model.safetensors" in names("flashhead", "flashhead", "wav2vec_dir", model_type="pro")


def test_flashtalk_opens_the_quantized_text_encoder_instead_of_the_whole_one() -> None:
    plain, quantized = (names("flashtalk", "flashtalk_ascend", t5_quant=value) for value in (None, "int8"))

    assert "models_t5_umt5-xxl-enc-bf16.pth" in plain
    assert "models_t5_umt5-xxl-enc-bf16.pth" not in quantized
    assert names("flashtalk", "flashtalk_ascend", "t5_quant_dir", t5_quant="int8") == {
        "t5_int8.safetensors",
        "t5_map_int8.json",
    }


@pytest.mark.parametrize(
    ("value", "folder"), [(None, Path("/weights")), ("t5", None), ("/elsewhere", Path("/elsewhere"))]
)
def test_a_knob_may_name_the_folder(value: str | None, folder: Path | None) -> None:
    checkout = foreign("flashtalk_ascend")
    knobs = {"t5_quant": KnobValue("fp8", "test"), "t5_quant_dir": KnobValue(value, "test")}

    sets = file_sets(adapter("flashtalk"), checkout, knobs, ckpt_dir=Path("/weights"), wav2vec_dir=Path("/wav2vec"))

    found = next(files for files in sets if files.name == "t5_quant_dir")
    assert found.folder == (folder or checkout.path / "t5")


def test_a_miniature_has_no_weights_to_look_at() -> None:
    miniature = inspect_checkout(CHECKOUTS / "flashtalk_new", "generate_video.py")

    assert file_sets(adapter("flashtalk"), miniature, {}, ckpt_dir=Path("/a"), wav2vec_dir=Path("/b")) == ()


def test_a_file_that_a_knob_names_must_be_there_and_whole(tmp_path: Path) -> None:
    """LiveAct's LightVAE: without the knob there is no such file, with it the usual VAE is not opened."""
    model = adapter("liveact")
    checkout = replace(inspect_checkout(CHECKOUTS / "liveact_ascend", "generate.py"), miniature=False, path=tmp_path)

    def vae(**knobs: str) -> list[FileSet]:
        values = {name: KnobValue(value, "flag") for name, value in knobs.items()}
        found = file_sets(model, checkout, values, ckpt_dir=tmp_path, wav2vec_dir=tmp_path)
        return [files for files in found if files.name == "vae_path"]

    assert vae() == []
    (named,) = vae(vae_path="vae/light.pth")
    (tmp_path / "vae").mkdir()
    with pytest.raises(InputMissingError, match=r"vae_path .*light\.pth is not there") as caught:
        require_whole(named)
    assert caught.value.hint == "check --vae-path, or download what is missing"
    write(tmp_path / "vae" / "light.pth", b"weights")
    require_whole(named)

"""LiveAct, whole: both checkouts through the command line, the text step, and what must not go wrong around them.

The checkouts are the miniatures, the NPUs and GPUs are a vendor's fake tool; processes, ranks and files are real. The
text context lies in /tmp, as the real script keeps it: each test has a user's cache of its own, which gives the file a
name of its own, and what is left there is removed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnirt_cli.models.liveact_text import Words, context_file
from tests.omnirt_cli_runs import (
    ASSETS,
    CHECKOUTS,
    Finished,
    checkout,
    finish,
    marked_processes,
    omnirt,
    read_report,
    scratch_dirs,
    start,
    wait_for,
)
from tests.vendor_tools import Chip, Gpu, fake_npu_smi, fake_nvidia_smi, machine

WROTE, LOADED, BEGAN = "[text-cache] wrote ", "[text-cache] loaded ", "----iter_total_num="
SPEECH_FRAMES = 240
"""Of the sample speech, 9.97 s, at the public script's 24 frames a second."""
ONE_NPU = ("--launcher", "python", "--visible-devices", "2")
TWO_BLOCKS = ("--max-chunks", "2")


class LiveAct:
    """A machine with eight idle NPUs, a cache, leases and outputs of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.outputs = folder / "outputs"
        locks = folder / "locks"
        for place in (self.outputs, locks):
            place.mkdir()
        locks.chmod(0o1777)
        fake_npu_smi(folder / "tools", [Chip(npu=number) for number in range(8)])

    @property
    def env(self) -> dict[str, str]:
        own = {"OMNIRT_LOCK_DIR": str(self.folder / "locks"), "XDG_CACHE_HOME": str(self.cache)}
        return machine(self.folder / "tools", own)

    def args(
        self, name: str, *more: str, image: Path | None = None, audio: Path | None = None, public: bool = False
    ) -> list[str]:
        where = ("--backend", "cpu", *checkout("liveact")) if public else ("--backend", "ascend")
        return [
            "generate",
            "--model",
            "liveact",
            *where,
            *(() if public else checkout("liveact_ascend")),
            "--size",
            "64*64",
            "--image",
            str(image or ASSETS / "portrait.png"),
            "--audio",
            str(audio or ASSETS / "speech.wav"),
            "--output",
            str(self.video(name)),
            "--progress",
            "never",
            *more,
        ]

    def video(self, name: str) -> Path:
        return self.outputs / f"{name}.mp4"

    def run(self, name: str, *more: str, env: dict[str, str] | None = None, **inputs: Any) -> Finished:
        return omnirt(*self.args(name, *more, "--json", **inputs), env={**self.env, **(env or {})})

    def encode(self, name: str, *more: str, **rest: Any) -> Finished:
        """A short render by the adapted checkout on one NPU."""
        return self.run(name, *ONE_NPU, *TWO_BLOCKS, *more, **rest)

    def log(self, name: str) -> str:
        return (self.outputs / f"{name}.log").read_text(encoding="utf-8")

    def contexts(self) -> list[Path]:
        """Where the text contexts of this machine's input JSONs lie, or would lie."""
        found = []
        for path in sorted(self.cache.glob("omnirt/liveact/*.json")):
            [item] = json.loads(path.read_text(encoding="utf-8"))
            found.append(context_file(path, Words(item["prompt"], item.get("edit_prompt", {}))))
        return found

    def context(self) -> Path:
        [found] = self.contexts()
        return found


@pytest.fixture
def liveact(tmp_path: Path) -> Iterator[LiveAct]:
    one = LiveAct(tmp_path)
    yield one
    for path in one.contexts():
        path.unlink(missing_ok=True)


@pytest.fixture
def other_portrait(tmp_path: Path) -> Path:
    """The same person with red and blue exchanged, under a name with dots."""
    from PIL import Image

    place = tmp_path / "my.photo.v2.png"
    red, green, blue = Image.open(ASSETS / "portrait.png").convert("RGB").split()
    Image.merge("RGB", (blue, green, red)).save(place)
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def colour(video: Path) -> tuple[float, float]:
    """Mean red and blue of the first frame."""
    import imageio.v3 as iio

    frame = iio.imread(video, index=0)
    return float(frame[..., 0].mean()), float(frame[..., 2].mean())


# --- the public checkout --------------------------------------------------------------------------


def test_the_public_checkout_renders_the_whole_speech_and_tells_of_each_block(liveact: LiveAct) -> None:
    events = liveact.folder / "events.jsonl"

    done = liveact.run("v", "--events", str(events), public=True)

    assert done.code == 0, done.stderr
    report = done.report
    assert report["checkout"]["variant"] == "public"
    artifact = done.json["outputs"][0]
    assert artifact["num_frames"] == report["expected"]["frames"] == SPEECH_FRAMES
    assert artifact["duration_s"] == pytest.approx(SPEECH_FRAMES / 24, abs=0.01)
    assert artifact["duration_s"] >= report["inputs"]["audio"]["media"]["duration_s"], "the tail was cut"
    assert report["timings"]["chunk_count"] == report["expected"]["chunks"] == 8
    assert [chunk["index"] for chunk in report["chunks"]] == list(range(8))
    assert all(chunk["core_ms"] > 0 and chunk["core_scope"] == "whole block" for chunk in report["chunks"])
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [it["index"] for it in told if it["event"] == "chunk_finished"] == list(range(8))
    stages = [it["stage"] for it in told if it["event"] == "stage_started"]
    assert stages == ["prepare", "launch", "load", "generate", "save", "verify"]
    assert {"model_load_ms", "generation_ms", "save_ms", "rtf"} <= set(report["timings"])
    assert "text_context_ms" not in report["timings"]
    sync = next(check for check in report["checks"] if check["name"] == "av_sync")
    assert sync["status"] == "passed", sync


def test_two_ranks_render_together_and_one_failed_mux_among_them_fails_nothing(liveact: LiveAct) -> None:
    """Every rank writes the result; one says `Error occurred`, the file that is there in the end is judged."""
    pytest.importorskip("torch")

    done = liveact.run(
        "v", *TWO_BLOCKS, "--launcher", "torchrun", "--nproc-per-node", "2", public=True,
        env={"MINIATURE_TORCH": "1", "MINIATURE_FAULT": "mux_fail:rank1"},
    )  # fmt: skip

    assert done.code == 0, done.stderr
    assert done.json["outputs"][0]["num_frames"] == 21 + 32
    assert done.report["timings"]["chunk_count"] == 2, "each rank's blocks are counted once"
    assert any(warning.startswith("script: Error occurred: ") for warning in done.report["warnings"])
    assert liveact.log("v").count(BEGAN) == 2


def test_the_result_of_another_run_is_never_taken_for_this_one_s(liveact: LiveAct) -> None:
    """An older file of the result's name, where the script would find it if it did not run in a place of its own."""
    old = {liveact.outputs / name: b"old" for name in ("portrait_speech.mp4", "tmp.mp4")}
    for path, content in old.items():
        path.write_bytes(content)

    failed = liveact.run("v", *TWO_BLOCKS, public=True, env={"MINIATURE_FAULT": "exit3@save"})

    assert failed.code == 10, failed.stderr
    assert failed.json["outputs"] == []
    assert not liveact.video("v").exists()
    assert {path: path.read_bytes() for path in old} == old
    assert scratch_dirs(liveact.outputs) == []


@pytest.mark.parametrize("fault", ["mux_fail", "no_output", "empty_output"])
def test_a_result_that_the_script_s_own_ffmpeg_lost_is_repaired_from_its_picture(liveact: LiveAct, fault: str) -> None:
    done = liveact.run("v", *TWO_BLOCKS, public=True, env={"MINIATURE_FAULT": fault})

    assert done.code == 0, done.stderr
    assert any("repaired" in warning for warning in done.report["warnings"])
    assert done.json["outputs"][0]["num_frames"] == 53


def test_a_spoiled_result_is_refused_and_kept(liveact: LiveAct) -> None:
    done = liveact.run("v", *TWO_BLOCKS, public=True, env={"MINIATURE_FAULT": "truncate"})

    assert done.code == 13, done.stderr
    assert not liveact.video("v").exists()
    assert done.report["kept"] == [str(liveact.outputs / "v.failed.mp4")]


# --- the Ascend adaptation ------------------------------------------------------------------------


def test_the_published_split_encodes_on_one_device_and_renders_on_four(liveact: LiveAct) -> None:
    """One NPU for the text encoder, then four for the inference, with LightVAE and a condition cache."""
    pytest.importorskip("torch")
    conditions = liveact.folder / "conditions"

    done = liveact.run(
        "v", *TWO_BLOCKS, "--sample-steps", "1",
        "--text-cache-visible-devices", "2", "--visible-devices", "2,3,4,5", "--nproc-per-node", "4",
        "--vae-path", "models/vae/lightvaew2_1.pth", "--use-lightvae", "--use-cache-vae",
        "--condition-cache-dir", str(conditions), "--stage-profile",
        env={"MINIATURE_TORCH": "1"},
    )  # fmt: skip

    assert done.code == 0, done.stderr
    assert done.json["outputs"][0]["num_frames"] == 53
    assert done.json["outputs"][0]["fps"] == 20
    log = liveact.log("v")
    text = "[platform] PLATFORM=ascend_npu ASCEND_RT_VISIBLE_DEVICES=2 GPU_NUM=1:"
    inference = "[platform] PLATFORM=ascend_npu ASCEND_RT_VISIBLE_DEVICES=2,3,4,5 GPU_NUM=4:"
    assert re.findall(r"\[platform\] .*?:", log) == [text, inference]
    assert log.index(text) < log.index(WROTE) < log.index(inference) < log.index(LOADED) < log.index(BEGAN)
    assert "[condition-cache] miss " in log
    assert [path.suffix for path in conditions.iterdir()] == [".json"]
    vae = CHECKOUTS / "liveact_ascend" / "models" / "vae" / "lightvaew2_1.pth"
    assert {f"--vae_path={vae}", "--use_lightvae", "--use_cache_vae", "--rank0_t5_only", "--ring_degree=1"} <= set(
        done.report["command"]["argv"]
    )
    assert done.report["timings"]["text_context_ms"] > 0
    assert done.report["timings"]["chunk_count"] == 2
    assert [device["id"] for device in done.report["devices"]["used"]] == ["2", "3", "4", "5"]
    assert "[stage-profile] total avg=" in log


def test_the_text_context_is_made_once_and_again_only_for_other_words_or_when_forced(
    liveact: LiveAct, other_portrait: Path
) -> None:
    (liveact.outputs / "elsewhere").mkdir()

    first = liveact.encode("first")
    again = liveact.encode("elsewhere/again", "--seed", "7", image=other_portrait)
    forced = liveact.encode("forced", "--force-text-cache")
    other = liveact.encode("other", "--prompt", "She nods.")

    for done in (first, again, forced, other):
        assert done.code == 0, done.stderr
    runs = {"first": first, "elsewhere/again": again, "forced": forced, "other": other}
    assert {name: WROTE in liveact.log(name) for name in runs} == {
        "first": True, "elsewhere/again": False, "forced": True, "other": True,
    }  # fmt: skip
    assert all(LOADED in liveact.log(name) for name in runs)
    assert {name: "text_context_ms" in done.report["timings"] for name, done in runs.items()} == {
        "first": True, "elsewhere/again": False, "forced": True, "other": True,
    }  # fmt: skip
    assert len(liveact.contexts()) == 2


def test_words_of_any_kind_reach_the_script_and_are_found_again(liveact: LiveAct, other_portrait: Path) -> None:
    prompt = 'She says: "it\'s" <ok> 点头 🙂\n& then $(smiles) \\n --seed=1'
    edits = {"[0, 0]": "eyes 'wide' 睁大", "[1,9]": "a line\nand another"}
    audio = liveact.folder / "voice.take1.wav"
    shutil.copy(ASSETS / "speech.wav", audio)
    request = liveact.folder / "request.yaml"
    inputs = {"image": str(other_portrait), "audio": str(audio), "prompt": prompt}
    wanted = {"model": "liveact", "inputs": inputs, "config": {"edit_prompt": edits}}
    request.write_text(yaml.safe_dump(wanted, allow_unicode=True), encoding="utf-8")
    rest = liveact.args("v", *ONE_NPU, *TWO_BLOCKS, "--json")
    for flag in ("--model", "--image", "--audio"):
        del rest[rest.index(flag) : rest.index(flag) + 2]

    first = omnirt(*rest, "--config", str(request), env=liveact.env)
    assert first.code == 0, first.stderr
    told_first = liveact.log("v")
    again = omnirt(*rest, "--config", str(request), env=liveact.env)

    assert again.code == 0, again.stderr
    [listed] = liveact.cache.glob("omnirt/liveact/*.json")
    [item] = json.loads(listed.read_text(encoding="utf-8"))
    assert item["prompt"] == prompt
    assert item["edit_prompt"] == {"[0, 0]": edits["[0, 0]"], "[1, 9]": edits["[1,9]"]}
    kept = json.loads(liveact.context().read_text(encoding="utf-8"))
    assert kept == {"prompt": prompt, "edit_prompts": item["edit_prompt"]}
    assert WROTE in told_first
    assert WROTE not in liveact.log("v")


# --- when the text step goes wrong ----------------------------------------------------------------


def test_a_text_step_that_fails_ends_the_run_by_its_name_before_the_inference(liveact: LiveAct) -> None:
    done = liveact.run(
        "v", "--launcher", "python", "--visible-devices", "2,3", "--text-cache-visible-devices", "3",
        env={"MINIATURE_FAULT": "oom_npu@text"},
    )  # fmt: skip

    assert done.code == 11, done.stderr
    error = done.report["error"]
    assert error["message"].startswith("the text context step: ")
    assert "on device 3" in error["message"], "the step's own device is named, not the first of the run's"
    assert "--text-cache-visible-devices" in error["hint"]
    assert BEGAN not in liveact.log("v")
    assert liveact.log("v").count("[platform] PLATFORM=") == 1
    assert not liveact.context().exists()
    assert marked_processes(done.report["run_id"]) == []


def test_a_text_step_that_leaves_no_context_has_failed(liveact: LiveAct) -> None:
    done = liveact.encode("v", env={"MINIATURE_TEXT_CTX_DIR": str(liveact.folder)})

    assert done.code == 10, done.stderr
    assert f"left no {liveact.context()}" in done.report["error"]["message"]
    assert BEGAN not in liveact.log("v")


def test_a_text_step_that_hangs_is_ended_by_the_run_s_own_limit(liveact: LiveAct) -> None:
    done = liveact.encode("v", "--timeout", "3", env={"MINIATURE_FAULT": "hang@text"})

    assert done.code == 12, done.stderr
    assert done.report["error"]["message"].startswith("the text context step: ")
    assert "--timeout" in done.report["error"]["hint"]
    assert BEGAN not in liveact.log("v")
    assert marked_processes(done.report["run_id"]) == []


def test_ctrl_c_during_the_text_step_leaves_nothing(liveact: LiveAct) -> None:
    process = start(*liveact.args("v", *ONE_NPU), env={**liveact.env, "MINIATURE_FAULT": "ignore_term@text,hang@text"})
    wait_for(lambda: (liveact.outputs / "v.log").exists() and "[platform]" in liveact.log("v"), what="the text step")

    process.send_signal(signal.SIGINT)
    done = finish(process)

    report = read_report(liveact.video("v"))
    assert done.code == 130
    assert report["status"] == "cancelled"
    assert marked_processes(report["run_id"]) == []
    assert BEGAN not in liveact.log("v")
    assert scratch_dirs(liveact.outputs) == []


def test_half_a_context_that_a_stopped_step_left_is_made_anew(liveact: LiveAct) -> None:
    first = liveact.encode("first")
    path = liveact.context()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    again = liveact.encode("again")

    assert first.code == 0, first.stderr
    assert again.code == 0, again.stderr
    assert WROTE in liveact.log("again")
    assert path.read_bytes() == whole


# --- whose context it is --------------------------------------------------------------------------


def spoil_mode(path: Path) -> None:
    path.chmod(0o666)


def spoil_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def spoil_owner(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize(
    ("spoil", "more"),
    [(spoil_mode, ()), (spoil_link, ()), (spoil_owner, ()), (spoil_link, ("--force-text-cache",))],
    ids=["others can write it", "a link", "another user's", "a link, forced"],
)
def test_a_context_that_somebody_else_could_have_written_is_not_loaded(
    liveact: LiveAct, spoil: Any, more: tuple[str, ...]
) -> None:
    (liveact.cache / "omnirt").mkdir(parents=True)
    done = omnirt(*liveact.args("plan", *ONE_NPU, "--dry-run", "--json"), env=liveact.env)
    [path] = map(Path, done.json["plan"]["earlier"][0]["makes"])
    path.write_text("{}")
    path.chmod(0o600)
    try:
        spoil(path)
        refused = liveact.encode("v", *more)
    finally:
        path.unlink()
        path.with_suffix(".moved").unlink(missing_ok=True)

    assert refused.code == 65, refused.stderr
    assert str(path) in refused.report["error"]["message"]
    assert "ls -l" in refused.report["error"]["hint"]
    assert liveact.log("v") == ""


def test_a_context_is_private_whatever_the_user_s_umask_is(liveact: LiveAct) -> None:
    before = os.umask(0o002)
    try:
        first, again = liveact.encode("first"), liveact.encode("again")
    finally:
        os.umask(before)

    assert first.code == 0, first.stderr
    assert again.code == 0, again.stderr
    assert WROTE not in liveact.log("again")
    assert liveact.context().stat().st_mode & 0o077 == 0
    assert liveact.video("first").stat().st_mode & 0o777 == 0o664, "the umask is the user's for the video"


# --- side by side ---------------------------------------------------------------------------------


def test_two_runs_from_one_checkout_are_both_right_encode_once_and_leave_it_as_it_was(
    liveact: LiveAct, other_portrait: Path
) -> None:
    before = contents(CHECKOUTS / "liveact_ascend")
    env = {**liveact.env, "MINIATURE_LOAD_S": "1.5"}
    rest = ("--launcher", "python", *TWO_BLOCKS, "--json", "--visible-devices")

    one = start(*liveact.args("one", *rest, "2"), env=env)
    two = start(*liveact.args("two", *rest, "3", image=other_portrait), env=env)
    done = [finish(one, 90), finish(two, 90)]

    assert [it.code for it in done] == [0, 0], done
    first, second = colour(liveact.video("one")), colour(liveact.video("two"))
    assert first == pytest.approx(second[::-1], abs=3), "each has its own portrait, of which the other is the negative"
    assert abs(first[0] - first[1]) > 10
    assert sum(WROTE in liveact.log(name) for name in ("one", "two")) == 1, "the second waited for the first's context"
    assert contents(CHECKOUTS / "liveact_ascend") == before
    assert scratch_dirs(liveact.outputs) == []


def test_a_run_that_waits_for_another_s_text_step_can_be_stopped(liveact: LiveAct) -> None:
    one = start(*liveact.args("one", *ONE_NPU), env={**liveact.env, "MINIATURE_FAULT": "hang@text"})
    wait_for(lambda: (liveact.outputs / "one.log").exists() and "[platform]" in liveact.log("one"), what="the step")

    late = liveact.run("two", "--launcher", "python", "--visible-devices", "3", "--timeout", "2")
    one.send_signal(signal.SIGTERM)

    assert finish(one).code == 143
    assert late.code == 12, late.stderr
    assert "another run" in late.report["error"]["message"]


# --- what is refused, warned about and shown ------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "public", "code", "named"),
    [
        (("--stop-after-text-context",), False, 2, "--stop-after-text-context"),
        (("--launcher", "torchrun", "--nproc-per-node", "3"), True, 2, "3 processes"),
        (("--fast-export", "--disable-fast-export"), False, 2, "--fast-export and --disable-fast-export"),
        (("--condition-cache-dir", "c", "--disable-condition-cache"), False, 2, "--disable-condition-cache"),
        (("--force-text-cache", "--disable-text-cache-prepare"), False, 2, "--force-text-cache"),
        (("--wan-quant", "int8"), False, 2, "--wan-quant"),
        (("--rank0-t5-only",), True, 2, "--rank0-t5-only"),
        (("--sample-steps", "1"), True, 2, "--sample-steps"),
        (("--text-cache-visible-devices", "7"), False, 69, "device 7"),
        (("--text-cache-visible-devices", "2,3"), False, 2, "--text-cache-visible-devices"),
    ],
)
def test_what_cannot_be_is_refused_by_name_before_anything_starts(
    liveact: LiveAct, flags: tuple[str, ...], public: bool, code: int, named: str
) -> None:
    where = () if public else ("--visible-devices", "2,3")

    done = liveact.run("v", *where, *flags, public=public)

    assert done.code == code, done.stdout
    assert named in done.report["error"]["message"]
    assert not (liveact.outputs / "v.log").exists()
    assert liveact.contexts() == []


@pytest.mark.parametrize(
    ("name", "processes", "warned"),
    [("NVIDIA A100-SXM4-80GB", "2", True), ("NVIDIA A100-SXM4-80GB", "1", False), ("NVIDIA H20", "2", False)],
)
def test_two_processes_of_the_public_code_on_devices_that_are_not_hopper_are_warned_about(
    liveact: LiveAct, name: str, processes: str, warned: bool
) -> None:
    fake_nvidia_smi(liveact.folder / "tools", [Gpu(index=number, name=name) for number in range(2)])
    flags = ["--backend", "cuda", "--nproc-per-node", processes, "--json", "--dry-run"]
    args = liveact.args("v", *flags, public=True)
    del args[args.index("--backend") : args.index("--backend") + 2]

    done = omnirt(*args, env=liveact.env)

    assert done.code == 0, done.stderr
    told = [warning for warning in done.json["plan"]["warnings"] if "Hopper" in warning]
    assert bool(told) is warned
    assert all(name in warning for warning in told)


def test_a_plan_shows_the_text_step_and_does_nothing(liveact: LiveAct) -> None:
    done = omnirt(*liveact.args("v", *ONE_NPU, "--dry-run"), env=liveact.env)

    assert done.code == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("first ")]
    assert "prepare_text_cache.py" in line
    assert "text context, on the run's first device, unless /tmp/liveact_text_ctx_" in done.stdout
    assert liveact.contexts() == []


def test_the_models_and_the_presets_read_well(liveact: LiveAct) -> None:
    model = omnirt("models", "soulx-liveact-14b")
    presets = omnirt("presets", "-m", "liveact", "--repo-path", str(CHECKOUTS / "liveact_ascend"))

    assert model.code == presets.code == 0
    assert "3 GiB on each device, and 37.5 GiB split between the processes at 416*720" in model.stdout
    assert "soulx-liveact-14b (ascend checkout)" in presets.stdout
    assert "sets size=416*720, t5_cpu=True, block_offload=True" in presets.stdout

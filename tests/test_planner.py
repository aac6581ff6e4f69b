"""Plans: the launch that the published command line describes, visibility, process counts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnirt_cli.devices.device import Device, Inventory
from omnirt_cli.draft import Draft, plan_document
from omnirt_cli.errors import DevicesUnavailableError, OmniRTError, UsageError
from omnirt_cli.models.base import Backend
from omnirt_cli.planner import draft_plan
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.settings import Surroundings
from tests.omnirt_cli_runs import ASSETS, CHECKOUTS, checkout, generate_args, omnirt


@pytest.fixture
def npus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with eight NPUs, as far as device nodes tell."""
    monkeypatch.setattr(
        "omnirt_cli.planner.devices.discover",
        lambda kind, *, environ: Inventory(
            kind,
            tuple(Device(str(number), f"ascend-{number}") for number in range(8)) if kind is Backend.ASCEND else (),
            "device nodes",
        ),
    )


def plan(
    tmp_path: Path, model: str = "soulx-flashhead-1.3b", *, environ: dict[str, str] | None = None, **config: object
) -> Draft:
    backend = config.pop("backend", "ascend")
    request = Audio2VideoRequest.model_validate(
        {
            "model": model,
            "backend": backend,
            "inputs": {"image": str(ASSETS / "portrait.png"), "audio": str(ASSETS / "speech.wav")},
            "config": {"output_dir": str(tmp_path), "python_executable": "/bin/sh", **config},
        }
    )
    around = Surroundings(environ=environ or {}, cwd=tmp_path, user_files=(), home=None)
    return draft_plan(request, surroundings=around)


def error(draft: Draft) -> OmniRTError:
    found = draft.checks.error()
    assert found is not None
    return found


@pytest.mark.usefixtures("npus")
def test_the_published_flashhead_command_line_gives_the_launch_it_describes(tmp_path: Path) -> None:
    draft = plan(
        tmp_path,
        repo_path=str(CHECKOUTS / "flashhead_ascend"),
        ckpt_dir="models/SoulX-FlashHead-1_3B",
        wav2vec_dir="models/wav2vec2-base-960h",
        launcher="torchrun",
        nproc_per_node=2,
        visible_devices="2,3",
        sample_steps=2,
        vae_2d_split=True,
        npu_fusion_attention=True,
        environ={"ASCEND_RT_VISIBLE_DEVICES": "2,3"},
    )

    ready = draft.require()
    root = CHECKOUTS / "flashhead_ascend"
    assert ready.argv == (
        "/bin/sh",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr",
        "127.0.0.1",
        "--nproc_per_node=2",
        str(root / "generate_video.py"),
        f"--ckpt_dir={root}/models/SoulX-FlashHead-1_3B",
        f"--wav2vec_dir={root}/models/wav2vec2-base-960h",
        "--model_type=pro",
        "--cond_image=portrait.png",
        "--audio_path=speech.wav",
        "--audio_encode_mode=stream",
        "--save_file=result.mp4",
        "--base_seed=42",
    )
    assert dict(ready.env) == {
        "ASCEND_RT_VISIBLE_DEVICES": "2,3",
        "FLASHHEAD_DEVICE": "npu",
        "FLASHHEAD_LATENT_CARRY": "0",
        "FLASHHEAD_NPU_FUSION_ATTENTION": "1",
        "FLASHHEAD_PROFILE": "0",
        "FLASHHEAD_SAMPLE_STEPS": "2",
        "FLASHHEAD_VAE_2D_SPLIT": "1",
    }
    assert (ready.expected.frames, ready.expected.width, ready.expected.height) == (250, 512, 512)


@pytest.mark.usefixtures("npus")
@pytest.mark.parametrize(
    ("flag", "outer", "message", "hint"),
    [
        ("1, 2", None, "malformed", "1,2"),
        ("3,2", None, "ascending", "2,3"),
        ("2,2", None, "twice", "write 2"),
        ("a", None, "no device visible", "0,1"),
        ("2,3", "0,1", "hides it", "0,1"),
        (None, "3, 4", "malformed", "3,4"),
    ],
)
def test_a_visibility_list_that_would_be_misread_is_refused_with_the_right_one(
    flag: str | None, outer: str | None, message: str, hint: str, tmp_path: Path
) -> None:
    environ = {"ASCEND_RT_VISIBLE_DEVICES": outer} if outer else {}
    draft = plan(
        tmp_path,
        repo_path=str(CHECKOUTS / "flashhead_ascend"),
        environ=environ,
        **({"visible_devices": flag} if flag else {}),
    )

    assert isinstance(error(draft), DevicesUnavailableError)
    assert message in error(draft).message
    assert hint in (error(draft).hint or "")


@pytest.mark.usefixtures("npus")
def test_more_processes_than_visible_devices_are_refused(tmp_path: Path) -> None:
    draft = plan(tmp_path, repo_path=str(CHECKOUTS / "flashhead_ascend"), visible_devices="2,3", nproc_per_node=4)

    assert error(draft).exit_status == 69


@pytest.mark.usefixtures("npus")
@pytest.mark.parametrize(
    ("config", "processes"),
    [({}, 4), ({"visible_devices": "2,3"}, 2), ({"model_type": "lite"}, 1), ({"visible_devices": "0,1,2"}, 2)],
)
def test_the_usual_process_count_is_the_largest_that_works(
    config: dict[str, str], processes: int, tmp_path: Path
) -> None:
    draft = plan(tmp_path, repo_path=str(CHECKOUTS / "flashhead_ascend"), **config)

    assert draft.require().launch.processes == processes


def test_no_device_at_all_is_told_before_anything_else_is_done(tmp_path: Path) -> None:
    draft = plan(tmp_path, repo_path=str(CHECKOUTS / "flashhead_ascend"), backend="ascend")

    assert error(draft).exit_status == 69
    assert "--backend cpu" in (error(draft).hint or "")


def test_several_failures_give_the_most_telling_code_and_all_are_listed(tmp_path: Path) -> None:
    draft = plan(
        tmp_path,
        repo_path=str(tmp_path / "none"),
        ckpt_dir="/none",
        backend="ascend",
        python_executable="/none/python",
    )

    failed = {check.name for check in draft.checks.checks if check.status.value == "failed"}
    assert {"devices", "checkout", "interpreter"} <= failed
    assert error(draft).exit_status == 66


@pytest.mark.usefixtures("npus")
def test_a_flag_of_another_model_is_refused_by_name_with_what_there_is(tmp_path: Path) -> None:
    draft = plan(tmp_path, "soulx-flashtalk-14b", repo_path=str(CHECKOUTS / "flashtalk_new"), latent_carry=True)

    assert isinstance(error(draft), UsageError)
    assert "--latent-carry" in error(draft).message
    assert "--sample-steps" in (error(draft).hint or "")


def test_a_dry_run_prints_the_plan_and_the_checks_even_when_one_fails(tmp_path: Path) -> None:
    done = omnirt(
        "generate",
        "--model",
        "soulx-flashhead-1.3b",
        "--backend",
        "ascend",
        "--image",
        str(ASSETS / "portrait.png"),
        "--audio",
        str(ASSETS / "speech.wav"),
        *checkout("flashhead_ascend"),
        "--nproc-per-node",
        "2",
        "--visible-devices",
        "2,3",
        "--dry-run",
        "--json",
        cwd=tmp_path,
    )

    document = done.json
    assert done.code == 69
    assert set(document) == {"plan", "checks"}
    assert {"argv", "cwd", "env", "env_script", "files", "devices", "expected", "config", "sources"} <= set(
        document["plan"]
    )
    assert "--nproc_per_node=2" in document["plan"]["argv"]
    assert document["plan"]["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "2,3"
    assert [check["status"] for check in document["checks"] if check["name"] == "devices"] == ["failed"]
    assert list(tmp_path.iterdir()) == []


def test_a_skipped_device_check_lets_the_launch_go_on_and_is_recorded(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    args = generate_args(
        output, "--json", "--skip-check", "devices", "--max-chunks", "1", *checkout("flashtalk_ascend")
    )
    args[args.index("cpu")] = "ascend"

    done = omnirt(*args, "--launcher", "python", "--visible-devices", "2,3")

    assert done.code == 0, done.stderr
    assert done.report["skipped_checks"] == ["devices"]
    assert done.report["command"]["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "2,3"


def test_validate_says_the_same_without_the_files(tmp_path: Path) -> None:
    args = generate_args(tmp_path / "v.mp4", "--json")
    args[0] = "validate"

    done = omnirt(*args)

    assert done.code == 0, done.stderr
    assert "files" not in done.json["plan"]
    verdicts = {check["name"]: check["status"] for check in done.json["checks"]}
    assert {name for name, status in verdicts.items() if status != "passed"} == {"leases", "device_memory"}
    assert verdicts["leases"] == verdicts["device_memory"] == "skipped"  # there is nothing of either on the CPU
    assert not (tmp_path / "v.mp4").exists()


def test_every_value_of_a_plan_has_a_source(tmp_path: Path) -> None:
    document = plan_document(plan(tmp_path, "soulx-flashtalk-14b", backend="cpu", seed=3, preset="fast"))

    assert document.sources["seed"] == "flag"
    assert set(document.config) <= set(document.sources)
    json.loads(document.model_dump_json())


def test_a_disk_without_room_is_told_before_the_launch_and_may_be_left_to_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnirt_cli.planner.output.BYTES_PER_PIXEL_SECOND", 1e9)

    refused = plan(tmp_path, "soulx-flashtalk-14b", backend="cpu")
    left = plan(tmp_path, "soulx-flashtalk-14b", backend="cpu", skip_check=("disk",))

    assert error(refused).exit_status == 73
    assert "MiB free" in error(refused).message
    assert left.require().skipped_checks == ("disk",)

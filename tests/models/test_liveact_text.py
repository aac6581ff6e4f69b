"""LiveAct's words: what stands in the input JSON, where it lies, and how the text context is found again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import ScratchNames
from omnirt_cli.models.liveact_text import CONTEXT_DIR, DEFAULT_PROMPT, InputJson, context_file, input_json, words

NAMES = ScratchNames("portrait.png", "speech.wav")
CACHE = Path("/home/user/.cache/omnirt")


def listed(
    prompt: str | None = "she talks", edits: dict[str, str] | None = None, *, ckpt: str = "/models/LiveAct"
) -> InputJson:
    return input_json(words(prompt, edits), NAMES, cache=CACHE, ckpt_dir=Path(ckpt))


def test_the_json_names_the_inputs_barely_so_that_every_run_finds_its_own() -> None:
    [item] = json.loads(listed("点头", {"[7,8]": "睁大眼睛", "[0, 4]": "bow"}).content)
    assert item == {
        "cond_image": "portrait.png",
        "cond_audio": "speech.wav",
        "prompt": "点头",
        "edit_prompt": {"[7, 8]": "睁大眼睛", "[0, 4]": "bow"},
    }
    assert list(item["edit_prompt"]) == ["[7, 8]", "[0, 4]"], "the script takes the first range that fits"


def test_without_edits_there_is_no_key_for_them() -> None:
    assert "edit_prompt" not in json.loads(listed().content)[0]


def test_without_a_prompt_the_published_one_is_sent() -> None:
    assert json.loads(listed(None).content)[0]["prompt"] == DEFAULT_PROMPT


def test_the_same_words_lie_at_the_same_path() -> None:
    first, again = listed(), listed()
    assert first.path is not None
    assert first.path == again.path
    assert first.path.parent == CACHE / "liveact"
    assert first.cache_files == {first.path: first.content}
    assert (first.argument, first.private_files) == (first.path, {})


@pytest.mark.parametrize("other", [listed("he talks"), listed(edits={"[0, 1]": "bow"}), listed(ckpt="/models/other")])
def test_other_words_and_other_weights_lie_elsewhere(other: InputJson) -> None:
    assert other.path != listed().path
    assert other.context_files != listed().context_files


def test_without_a_cache_the_json_is_private_and_no_context_is_relied_on() -> None:
    found = input_json(words("hello", None), NAMES, cache=None, ckpt_dir=Path("/models"))
    assert (found.argument, found.cache_files, found.context_files) == ("input.json", {}, ())
    assert found.private_files == {"input.json": found.content}


def test_the_context_file_is_named_as_the_adaptation_names_it() -> None:
    said = words("点头", {"[0, 4]": "bow"})
    key = '{"data_idx": 0, "edit_prompts": {"[0, 4]": "bow"}, "input_json": "/cache/x.json", "prompt": "点头"}'
    name = f"liveact_text_ctx_{hashlib.sha1(key.encode()).hexdigest()[:16]}.pt"
    assert context_file(Path("/cache/x.json"), said) == CONTEXT_DIR / name


@pytest.mark.parametrize("blocks", ["0, 4", "[4, 0]", "[0]", "[0, 4, 5]", "[-1, 2]", "[a, b]", "", "[0, 1] or True"])
def test_a_range_that_the_script_would_stumble_over_is_refused(blocks: str) -> None:
    with pytest.raises(UsageError, match="not a range of blocks"):
        words("hello", {blocks: "bow"})


def test_an_empty_edit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\[0, 4\] has an empty prompt"):
        words("hello", {"[0, 4]": "  "})


def test_bytes_that_are_no_utf8_do_not_stop_the_run() -> None:
    assert json.loads(listed("caf\udce9").content)[0]["prompt"] == "caf?"

"""LiveAct's words: the input JSON, and the file in which the Ascend adaptation keeps what T5 made of the prompts.

The adaptation (it is not published; facts from OmniRT 0.x at 91d2c50, which drives it) finds that file again by the
JSON's absolute path and the prompts in it. So the JSON holds nothing that changes from run to run and lies at a path
that follows from its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import ScratchNames

DEFAULT_PROMPT = "A person is talking naturally with audio-driven facial motion."
PRIVATE_NAME = "input.json"
CONTEXT_DIR = Path("/tmp")  # noqa: S108 - the adaptation's own choice, which no flag changes

_RANGE = re.compile(r"\s*\[\s*(\d{1,6})\s*,\s*(\d{1,6})\s*\]\s*")


@dataclass(frozen=True)
class Words:
    """What the prompts say.

    Attributes:
        edits: Block range as the script reads it (`[0, 4]`, both ends included) -> prompt; the first that fits a block
            is taken.
    """

    prompt: str
    edits: Mapping[str, str] = field(default_factory=dict)


def words(prompt: str | None, edits: Mapping[str, str] | None) -> Words:
    """The prompts of a request.

    Raises:
        UsageError: A block range is written otherwise, or a prompt says nothing.
    """
    return Words(
        prompt=_encodable(prompt or DEFAULT_PROMPT),
        edits={_block_range(blocks): _spoken(blocks, text) for blocks, text in (edits or {}).items()},
    )


def _block_range(text: str) -> str:
    """The range as Python reads a list, which is what the script makes of it, and only once the first block begins."""
    match = _RANGE.fullmatch(text)
    if not match or int(match[1]) > int(match[2]):
        raise UsageError(
            f"edit_prompt {text!r} is not a range of blocks.",
            hint='Write the first and the last block, counted from 0, e.g. "[0, 4]".',
        )
    return f"[{int(match[1])}, {int(match[2])}]"


def _spoken(blocks: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"edit_prompt {blocks} has an empty prompt.", hint="Leave the range out, or say something.")
    return _encodable(text)


def _encodable(text: str) -> str:
    """Bytes of an argument that are no UTF-8 cannot stand in JSON."""
    return text.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class InputJson:
    """The input JSON of a run.

    Attributes:
        path: In the user's cache, absolute; None where there is no cache, then it lies in the working directory.
    """

    words: Words
    content: bytes
    path: Path | None

    @property
    def argument(self) -> Path | str:
        """What the scripts are told."""
        return self.path or PRIVATE_NAME

    @property
    def private_files(self) -> dict[str, bytes]:
        """Name in the working directory -> content."""
        return {} if self.path else {PRIVATE_NAME: self.content}

    @property
    def cache_files(self) -> dict[Path, bytes]:
        """Absolute path in the user's cache -> content."""
        return {self.path: self.content} if self.path else {}

    @property
    def context_files(self) -> tuple[Path, ...]:
        """Where T5's work is kept; nothing to rely on while the JSON's own path changes from run to run."""
        return (context_file(self.path, self.words),) if self.path else ()

    @property
    def record(self) -> Path | None:
        """Where OmniRT notes that the context is whole."""
        return self.path.with_suffix(".made") if self.path else None


def input_json(said: Words, names: ScratchNames, *, cache: Path | None, ckpt_dir: Path) -> InputJson:
    """The list of one item that the script reads; bare names, which it finds in its working directory."""
    item: dict[str, Any] = {"cond_image": names.image, "cond_audio": names.audio, "prompt": said.prompt}
    if said.edits:
        item["edit_prompt"] = dict(said.edits)
    content = json.dumps([item], ensure_ascii=False, indent=2).encode()
    return InputJson(said, content, _cached_path(cache, content, ckpt_dir) if cache else None)


def _cached_path(cache: Path, content: bytes, ckpt_dir: Path) -> Path:
    """Where the JSON lies. Another checkpoint has another path: its T5's work must not be taken for this one's."""
    digest = hashlib.sha256(content + b"\0" + os.fsencode(ckpt_dir))
    return cache / "liveact" / f"{digest.hexdigest()[:32]}.json"


def context_file(input_json_path: Path, said: Words) -> Path:
    """Where the adaptation keeps what T5 made of the prompts of a JSON's first item.

    The name is made of the JSON text with Python's own separators, not escaped to ASCII.
    """
    key = {
        "input_json": os.path.abspath(input_json_path),  # noqa: PTH100 - links are kept, as the script keeps them
        "data_idx": 0,
        "prompt": said.prompt,
        "edit_prompts": dict(said.edits),
    }
    text = json.dumps(key, sort_keys=True, ensure_ascii=False)
    return CONTEXT_DIR / f"liveact_text_ctx_{hashlib.sha1(text.encode()).hexdigest()[:16]}.pt"  # noqa: S324

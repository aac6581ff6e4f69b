"""The text context: what T5 makes of a prompt, kept in a file that a later process finds by the same key.

The file's name is a hash of the input JSON's path, the item's place in it and its prompts, so that equal prompts in
another file or place are other contexts. It lies in ``/tmp``; ``MINIATURE_TEXT_CTX_DIR`` moves it, for tests.
"""

import hashlib
import json
import os

from model_liveact.shared import bars, faults, knobs


def path_of(input_json, data_idx, item):
    """Where the context of an item is looked for, and written."""
    key = {
        "input_json": os.path.abspath(input_json),  # noqa: PTH100 - links are not followed: callers compute the same
        "data_idx": data_idx,
        "prompt": item["prompt"],
        "edit_prompts": item.get("edit_prompt", {}),
    }
    digest = hashlib.sha1(json.dumps(key, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()
    return knobs.text_context_dir() / f"liveact_text_ctx_{digest[:16]}.pt"


def load_encoder():
    """Pretend to load T5."""
    faults.strike("text")
    bars.loading_bar("Loading T5", 4, knobs.seconds("MINIATURE_LOAD_S"))


def encode(item):
    """The context of an item; made of the prompts themselves."""
    return {"prompt": item["prompt"], "edit_prompts": item.get("edit_prompt", {})}


def write(path, context):
    path.write_text(json.dumps(context, ensure_ascii=False), encoding="utf-8")


def read(path):
    """A kept context, taken as it is: nothing checks that it is this prompt's.

    Raises:
        ValueError: the file holds something else.
    """
    return json.loads(path.read_text(encoding="utf-8"))

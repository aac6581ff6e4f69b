"""LiveAct in miniature, adapted to Ascend NPUs: the text contexts of an input JSON, made ahead on one device."""

import argparse
import json
import time
from pathlib import Path

from model_liveact import platform, text_context


def _parse_args():
    parser = argparse.ArgumentParser(description="Encode the prompts of an input JSON for a later generate.py")
    parser.add_argument("--ckpt_dir", type=str, required=True, help="where the model would be")
    parser.add_argument("--input_json", type=str, required=True, help="the list that generate.py will be given")
    parser.add_argument("--device", type=str, default="npu", help="where T5 would run")
    parser.add_argument("--force", action="store_true", default=False, help="encode again what is there already")
    return parser.parse_args()


def prepare(args):
    """Load T5 first, even if everything is there already, as the real script does."""
    platform.announce(args.device)
    text_context.load_encoder()
    items = json.loads(Path(args.input_json).read_text(encoding="utf-8"))
    for data_idx, item in enumerate(items):
        path = text_context.path_of(args.input_json, data_idx, item)
        if path.exists() and not args.force:
            print(f"[text-cache] hit {path}")
            continue
        text_context.write(path, text_context.encode(item))
        print(f"[text-cache] wrote {path}")


if __name__ == "__main__":
    began = time.time()
    prepare(_parse_args())
    print(f"[text-cache-profile] total={time.time() - began:.2f}s")

"""The pipeline of this variant: any number of ranks, and a small cache of what it knows of the portrait."""

import hashlib
import json
from pathlib import Path

from model_liveact.shared import blocks, ranks


class LiveActPipeline(blocks.BlockPipeline):
    def __init__(self, checkpoint_dir, wav2vec_dir, vae_path=None):
        super().__init__(checkpoint_dir, wav2vec_dir)
        if vae_path is not None:
            Path(vae_path).open("rb").close()


def check_degrees(world_size, sequence_parallel, ulysses, ring):
    """Hold the degrees to the number of ranks, as the library that sets them up does; None is all ranks.

    Raises:
        AssertionError: they do not fit.
    """
    sequence_parallel = world_size if sequence_parallel is None else sequence_parallel
    ulysses = sequence_parallel // ring if ulysses is None else ulysses
    assert sequence_parallel == ulysses * ring, (
        f"sequence_parallel_degree {sequence_parallel} is not ulysses_degree {ulysses} x ring_degree {ring}"
    )
    assert sequence_parallel == world_size, (
        f"sequence_parallel_degree {sequence_parallel} does not fit {world_size} ranks"
    )


def condition(image_path, shape, cache_dir):
    """Stand for the portrait's encoding, kept by rank 0 in ``cache_dir`` under the picture's content and size."""
    content = Path(image_path).read_bytes() + repr(shape).encode()
    path = Path(cache_dir) / f"condition_{hashlib.sha1(content).hexdigest()[:16]}.json"
    hit = path.exists()
    ranks.meet()
    if ranks.rank() != 0:
        return
    if not hit:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"image": str(image_path), "shape": shape}))
    print(f"[condition-cache] {'hit' if hit else 'miss'} {path}")

"""The pipeline of the public code, whose model knows how to share its work between two ranks and no others."""

from model_liveact.shared import blocks, ranks

_HEADS = "40, 128"
_TOKEN_VALUES = 40 * 128
_LATENT_FRAMES = 6


class LiveActPipeline(blocks.BlockPipeline):
    def forward(self):
        """One call of the model: 3 of 6 latent frames for each of two ranks, and nothing foreseen for more."""
        world_size = ranks.world_size()
        if world_size > 2:
            tokens = (self.target_h // 16) * (self.target_w // 16)
            mine = _LATENT_FRAMES * tokens // world_size * _TOKEN_VALUES
            raise RuntimeError(f"shape '[3, {tokens}, {_HEADS}]' is invalid for input of size {mine}")
        super().forward()

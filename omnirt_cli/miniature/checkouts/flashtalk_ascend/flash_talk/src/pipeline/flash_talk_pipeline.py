"""The pipeline of this variant: the motion frames stay in front of every chunk, and the script cuts them off.

What the adaptation can leave out or measure while denoising is only reported here: there is nothing to leave out.
"""

import os

from flash_talk.shared import log, pipeline, portrait

BLOCK_PROFILE = os.environ.get("FLASHTALK_BLOCK_PROFILE", "0") == "1"
COMPILE = os.environ.get("FLASHTALK_COMPILE", "0") == "1"
CACHE_INTERVAL = int(os.environ.get("FLASHTALK_CACHE_INTERVAL", "0"))
DIT_BLOCK_CACHE = os.environ.get("FLASHTALK_DIT_BLOCK_CACHE", "0") == "1"
DIT_BLOCK_CACHE_INTERVAL = int(os.environ.get("FLASHTALK_DIT_BLOCK_CACHE_INTERVAL", "2"))
DIT_BLOCK_CACHE_START = int(os.environ.get("FLASHTALK_DIT_BLOCK_CACHE_START", "1"))
DIT_BLOCK_CACHE_BLOCKS = os.environ.get("FLASHTALK_DIT_BLOCK_CACHE_BLOCKS", "all")


class FlashTalkPipeline(pipeline.Pipeline):
    def __init__(self, checkpoint_dir, wav2vec_dir, device):
        log.info(f"Creating WanModel from {checkpoint_dir}")
        super().__init__(checkpoint_dir, wav2vec_dir, device)
        if COMPILE:
            log.info("FLASHTALK_COMPILE=1: there is no model to compile")
        if DIT_BLOCK_CACHE:
            log.info(f"DiT block cache: interval={DIT_BLOCK_CACHE_INTERVAL} blocks={DIT_BLOCK_CACHE_BLOCKS}")

    def prepare_params(
        self, input_prompt, cond_image, target_size, frame_num, motion_frames_num, sampling_steps, seed, fps
    ):
        """A portrait and a seed; the prompt is taken and ignored."""
        self.input_prompt = input_prompt
        self.start(portrait.read(cond_image), target_size, frame_num, motion_frames_num, sampling_steps, fps, seed)

    def generate(self, embedding):
        """A chunk; rank 0 says which shortcuts its steps would have taken."""
        frames = super().generate(embedding)
        if self.rank == 0:
            self._report_shortcuts()
        return frames

    def _report_shortcuts(self):
        if CACHE_INTERVAL:
            for step in range(self.steps):
                if step % CACHE_INTERVAL:
                    print(f"[generate] step {step}: reusing cached noise (skip model)")
        if DIT_BLOCK_CACHE:
            late = range(DIT_BLOCK_CACHE_START, self.steps)
            hits = sum(step % DIT_BLOCK_CACHE_INTERVAL != 0 for step in late)
            print(f"[generate] dit block cache: hits={hits}, misses={self.steps - hits}")
        if BLOCK_PROFILE:
            print("[block-profile] total self_attn=0.0000s/0 ffn=0.0000s/0 grand=0.0000s")

"""The pipeline of this variant: the motion frames stay in front of every chunk, and the script cuts them off."""

from flash_talk.shared import log, pipeline, portrait


class FlashTalkPipeline(pipeline.Pipeline):
    def __init__(self, checkpoint_dir, wav2vec_dir, device):
        log.info(f"Creating WanModel from {checkpoint_dir}")
        super().__init__(checkpoint_dir, wav2vec_dir, device)

    def prepare_params(
        self, input_prompt, cond_image, target_size, frame_num, motion_frames_num, sampling_steps, seed, fps
    ):
        """A portrait and a seed; the prompt is taken and ignored."""
        self.input_prompt = input_prompt
        self.start(portrait.read(cond_image), target_size, frame_num, motion_frames_num, sampling_steps, fps, seed)

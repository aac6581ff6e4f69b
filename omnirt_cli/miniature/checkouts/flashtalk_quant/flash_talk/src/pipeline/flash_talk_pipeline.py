"""The pipeline of this variant: it gives chunks without their motion frames."""

from flash_talk.shared import knobs, log, pipeline, portrait

DEBUG_TIMING = False


class FlashTalkPipeline(pipeline.Pipeline):
    @property
    def debug_timing(self):
        return DEBUG_TIMING

    def __init__(self, checkpoint_dir, wav2vec_dir, device, quantize_mode):
        log.info(f"Creating WanModel from {checkpoint_dir}")
        super().__init__(checkpoint_dir, wav2vec_dir, device)
        if quantize_mode:
            self._quantize(quantize_mode)

    def _quantize(self, mode):
        """Only a warning tells that quantizing failed; the run goes on without."""
        library, precision = mode.split("-")
        if knobs.quantizer_works():
            log.info(f"{library} {precision.upper()} quantization complete.")
            return
        reason = "No module named 'optimum'"
        log.warning(f"{library} {precision.upper()} quantization failed: {reason}. Running without quantization.")

    def prepare_params(
        self, input_prompt, cond_image, target_size, frame_num, motion_frames_num, sampling_steps, seed, fps
    ):
        """A portrait and a seed; the prompt is taken and ignored."""
        self.input_prompt = input_prompt
        self.start(portrait.read(cond_image), target_size, frame_num, motion_frames_num, sampling_steps, fps, seed)

    def frame_count(self, samples, sr, fps):
        """As this variant computes it: one frame low for some whole numbers of frames (8.04 s give 200)."""
        return int(samples / sr * fps)

    def generate(self, embedding):
        """A chunk without its motion frames: (frame_num - motion_frames_num, height, width, 3)."""
        return super().generate(embedding)[self.motion_frames_num :]

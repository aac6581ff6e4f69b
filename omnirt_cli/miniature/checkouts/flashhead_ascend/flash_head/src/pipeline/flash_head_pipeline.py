"""The pipeline of this variant: the motion frames stay in front of every chunk."""

import time

from flash_head.shared import audio, pipeline, portrait


class FlashHeadPipeline(pipeline.Pipeline):
    def __init__(self, checkpoint_dir, model_type, wav2vec_dir, device, profile=False):
        self.model_type = model_type
        self.vae_stride = 8 if model_type == "lite" else 4
        self.profile = profile
        super().__init__(checkpoint_dir, wav2vec_dir, device)

    def prepare_params(
        self,
        cond_image_path_or_dir,
        target_size,
        frame_num,
        motion_frames_num,
        sampling_steps,
        seed,
        fps,
        use_face_crop=False,
    ):
        """A portrait, or a directory whose first PNG is one, and a seed."""
        picture = portrait.first_of(cond_image_path_or_dir)
        if use_face_crop:
            picture = portrait.face_crop(picture)
        self.start(picture, target_size, frame_num, motion_frames_num, sampling_steps, fps, seed)

    def preprocess_audio(self, samples, sr=16000, fps=25):
        """Features per frame; the real feature extractor evens out the level itself."""
        if len(samples) >= audio.MIN_LOUDNESS_S * sr:
            samples = audio.loudness_norm(samples, sr)
        return super().preprocess_audio(samples, sr, fps)

    def generate(self, embedding):
        """One chunk; with FLASHHEAD_PROFILE=1 it says how long it took."""
        began = time.time()
        frames = super().generate(embedding)
        if self.profile and self.rank == 0:
            print(f"[stage-profile] generate={time.time() - began:.4f}s frames={len(frames)}")
        return frames

"""What ``generate.py`` needs around its loop: the prompt in force, the output's name, the sound put to the picture."""

import ast
import subprocess
from pathlib import Path

from model_liveact.shared import faults, ranks


def prompt_at(block, prompt, edit_prompts):
    """The prompt of a block: that of the first block range like ``[0, 4]`` which holds it, else the usual one."""
    for block_range, edited in edit_prompts.items():
        first, last = ast.literal_eval(block_range)
        if first <= block <= last:
            return edited
    return prompt


def output_name(image_path, audio_path):
    """The result's name, in the working directory: both names up to their first dot."""
    image, audio = (Path(path).name.split(".")[0] for path in (image_path, audio_path))
    return f"{image}_{audio}.mp4"


def add_audio_to_video(video_path, audio_path, output_path):
    """Join picture and sound, on every rank at once; a failing ffmpeg is printed and forgotten.

    Raises:
        FileNotFoundError: there is no ffmpeg.
    """
    command = ["ffmpeg", "-y", "-i", video_path, "-i", audio_path, "-map", "0:v", "-map", "1:a"]
    command += ["-c:v", "copy", "-shortest", output_path]
    try:
        subprocess.run(faults.mux_command(command), check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(f"Video with audio generated successfully: {output_path}")
    except subprocess.CalledProcessError as error:
        print(f"Error occurred: {error}")
    _spoil(output_path)


def _spoil(output_path):
    """Where a test wants the finished file spoiled, the last word is rank 0's."""
    if faults.spoils_output():
        ranks.meet()
        if ranks.rank() == 0:
            faults.after_save(output_path)

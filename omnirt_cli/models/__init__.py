"""What OmniRT knows of each SoulX model: flags, variables, log lines, frame arithmetic, presets, memory."""

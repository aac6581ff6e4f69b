"""Pictures, sound and video as files: what comes in, what is delivered, what is checked. Knows no model."""

"""Programs that the *model's* Python runs.

They import the standard library and what a checkout's own environment has (torch, numpy), nothing else:
OmniRT is not installed there. They are started by path, and never imported by OmniRT.
"""

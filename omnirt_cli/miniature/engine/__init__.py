"""What every miniature checkout shares: a renderer without a neural network, and the noises a real run makes.

Nothing here knows OmniRT, and OmniRT never imports it: a checkout puts this package on its own ``sys.path``.
It needs numpy, Pillow, imageio, PyYAML and an ``ffmpeg`` on ``PATH``; torch is used where it is installed.
"""

"""What the worker program is made of; it runs in a model's own Python, where OmniRT is not installed.

The standard library and numpy, nothing else; torch and Pillow are used where the checkout brought them in. Nothing here
knows a model: what differs between checkouts is in the request, or is seen at their functions.

For every render: `requests` says what is wanted. `checkout` is the model's functions under one name each, `overlay` the
settings that one request lays over theirs, `device` what they compute on. `windows` is the loop's arithmetic over the
sound, `embeddings` has the next chunk's made while this one is computed, `render` takes the steps. `delivery` takes
chunks away beside the computing: `copying` and `frames` make bytes of them, `encoder` feeds them to ffmpeg,
`log_order` keeps their lines together. `stopping` lets a stopped run finish its file.

`drive` puts these together for one request that comes in a file. For a model that stays loaded, `serve` starts each
rank: rank 0's `server` takes requests from its `door` by `wire`, has `accept` look at them and `rendering` carry them
out; `lockstep` tells the other ranks, which `meeting` brought together, and they `follow`. Every rank has its
`session`. `prepared` keeps what preparing a portrait left, as far as `copies` can copy it exactly.
"""

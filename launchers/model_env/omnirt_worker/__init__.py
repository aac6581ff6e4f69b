"""What the worker program is made of; it runs in a model's own Python, where OmniRT is not installed.

The standard library and numpy, nothing else; torch is used where the checkout brought it in. Nothing here knows a
model: what differs between checkouts is in the request, or is seen at their functions.

`requests` says what is wanted. `checkout` is the model's functions under one name each. `windows` is the loop's
arithmetic over the sound. `render` is the loop itself: frames chunk by chunk, and no thought of where they go. `frames`
makes bytes of them, `encoder` feeds them to ffmpeg beside the computing, `stopping` lets a stopped run finish its file.
`drive` puts these together for one request that comes in a file; requests that reach a model which stays loaded need
another module in its place, and the same others.
"""

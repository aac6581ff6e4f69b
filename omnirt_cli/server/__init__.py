"""`omnirt serve`: the same renders over HTTP. Needs the extra `server`.

Only the command imports it, and the client the parts that need no extra: what a client may set, keys, states of jobs.
"""

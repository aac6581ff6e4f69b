"""Jobs: renders that wait, run and are kept, over restarts of the server. Knows nothing of HTTP."""

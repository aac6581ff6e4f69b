"""One command a file: it reads flags, calls the engine, renders the result. No decisions."""

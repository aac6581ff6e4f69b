"""Renders on another machine's `omnirt serve`, over HTTP alone. Needs the extra `client`, when it is used."""

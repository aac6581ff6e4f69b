"""The picture of a run: its report as one HTML page that opens anywhere.

Reads reports; knows no command and no server.
"""

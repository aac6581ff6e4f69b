"""One render from plan to report: executors, events, the log parser, verification and publication."""

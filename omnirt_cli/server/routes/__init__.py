"""The routes, one idea a module. They read a request, ask the jobs, and answer; nothing is decided here."""

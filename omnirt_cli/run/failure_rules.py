"""What known messages of scripts, torch, CANN, NCCL and launchers mean, one row each.

A row is data: a literal, a pattern, an error class, what to tell and what to do. Order matters: a line is
read by the first row that fits it, and of several lines that explain equally well the earlier row's speaks.
Nothing here reads a log.
"""

from __future__ import annotations

from omnirt_cli.errors import InputMissingError, IOFailureError
from omnirt_cli.run.failure_rule import CHECKOUT_HINT, SHM_HINT, FailureRule, Standing, rule
from omnirt_cli.run.failure_rules_devices import DEVICE_RULES, MEMORY_RULES, PEER_RULES
from omnirt_cli.run.failure_rules_software import SOFTWARE_RULES

_FILE_HINT = (
    "Check the path, and that the download was complete: half downloads and git-lfs pointers look right by name."
)
_ROOM_HINT = "Make room where the output, the scratch directory and /tmp (or TMPDIR) are, then run again."

_WEIGHTS = r"pth|pt|ckpt|safetensors|bin|json|model|onnx|yaml|yml|txt"
_MEDIA = r"png|jpe?g|webp|bmp|wav|mp3|m4a|flac|ogg|aac"

RULES: tuple[FailureRule, ...] = (
    *MEMORY_RULES,
    rule(
        # torch and NCCL, which then speak of a full device (or of a system error) though no disk is full.
        "shared_memory_full",
        "shared memory",
        r"(?:unable to \w+ shared memory object|creating shared memory segment|shared memory file).*",
        "shared memory ran out: {line}",
        SHM_HINT,
    ),
    rule(
        "disk_full",
        "No space left on device",
        r"No space left on device(?:: '(?P<path>[^']+)')?",
        "the disk is full: {line}",
        _ROOM_HINT,
        error=IOFailureError,
    ),
    rule(
        "disk_quota",
        "Disk quota exceeded",
        r"Disk quota exceeded",
        "this user's disk quota is used up: {line}",
        _ROOM_HINT,
        error=IOFailureError,
    ),
    rule(
        "host_out_of_memory",
        "allocate memory",
        r"Cannot allocate memory|can't allocate memory: you tried to allocate",
        "the machine's own memory (not a device's) is exhausted: {line}",
        "Stop other programs, or run fewer ranks: each rank loads the weights through the machine's memory first.",
    ),
    rule(
        # numpy's ArrayMemoryError, and C++ code's bad_alloc.
        "host_array_memory",
        "",
        r"(?P<why>Unable to allocate [\d.]+ \w+ for an array.*|std::bad_alloc)",
        "the machine's own memory (not a device's) is exhausted: {why}",
        "Every process keeps all frames in the machine's memory until the end: render a shorter recording, a smaller "
        "`--size`, or fewer processes.",
    ),
    rule(
        "shared_memory",
        "shared memory (shm)",
        r"insufficient shared memory \(shm\)",
        "shared memory ran out",
        SHM_HINT,
    ),
    rule(
        "bus_error",
        "Bus error",
        r"Bus error",
        "shared memory ran out under a process (bus error)",
        SHM_HINT,
    ),
    rule(
        "open_files",
        "Too many open files",
        r"Too many open files",
        "the limit on open files is reached",
        "Raise it in the shell that starts OmniRT (`ulimit -n 65536`), or in the service's unit (LimitNOFILE=).",
    ),
    rule(
        "unknown_flag",
        "error: unrecognized arguments",
        r"error: unrecognized arguments: (?P<flag>.+)",
        "the script does not know {flag}",
        "This checkout is another variant than the one the flag belongs to: leave the flag out, or name the "
        "right checkout by `--repo-path`. Without `--no-checkout-checks` OmniRT refuses such a flag before "
        "the launch.",
    ),
    rule(
        "bad_choice",
        "error: argument ",
        r"error: argument (?P<flag>[^:]+): (?P<why>.+)",
        "the script refuses a value of {flag}: {why}",
        "Give a value that this checkout takes; `omnirt generate --dry-run` shows the command line.",
    ),
    rule(
        "missing_argument",
        "error: the following arguments are required",
        r"error: the following arguments are required: (?P<flag>.+)",
        "the script wants arguments that it was not given: {flag}",
        "This checkout is not a variant that OmniRT knows; see `omnirt models` for those it does.",
    ),
    *SOFTWARE_RULES,
    rule(
        "ffmpeg_missing",
        "'ffmpeg'",
        r"No such file or directory: '(?P<program>ffmpeg|ffprobe)'",
        "the script found no {program}",
        "Install ffmpeg (`apt install ffmpeg`), and see that it is on PATH.",
        error=InputMissingError,
    ),
    rule(
        "ffmpeg_failed",
        "returned non-zero exit status",
        r"Command .{0,40}?ffmpeg.* returned non-zero exit status (?P<status>\d+)",
        "the script's ffmpeg failed with status {status}",
        "ffmpeg's own words stand above in the log; a full disk and an ffmpeg without libx264 or aac are "
        "the usual causes.",
    ),
    rule(
        "missing_weights",
        "No such file or directory",
        rf"No such file or directory: '(?P<path>[^']+\.(?:{_WEIGHTS}))'",
        "the script found no {path}",
        _FILE_HINT,
        error=InputMissingError,
    ),
    rule(
        "missing_media",
        "No such file or directory",
        rf"No such file or directory: '(?P<path>[^']+\.(?i:{_MEDIA}))'",
        "the script found no {path}",
        "The input went away after OmniRT had checked it; run again with files that stay where they are.",
        error=InputMissingError,
    ),
    rule(
        "missing_file",
        "No such file or directory",
        r"FileNotFoundError: \[Errno 2\] No such file or directory: '(?P<path>[^']+)'",
        "the script found no {path}",
        _FILE_HINT,
    ),
    rule(
        "missing_pretrained",
        "does not appear to have a file named",
        r"(?P<path>\S+) does not appear to have a file named (?P<file>\S+)",
        "{path} has no {file}",
        _FILE_HINT,
        error=InputMissingError,
    ),
    rule(
        "damaged_weights",
        "rror",
        r"(?P<why>SafetensorError: .+|PytorchStreamReader failed .+|UnpicklingError: .+|"
        r"Error while deserializing header: .+)",
        "a weights file cannot be read: {why}",
        "It is damaged or cut short: compare its size with the published one and download it again.",
    ),
    rule(
        "weights_mismatch",
        "loading state_dict",
        r"Error\(s\) in loading state_dict for (?P<what>\w+)",
        "the weights do not fit {what}",
        "`--ckpt-dir` holds another model's weights, or another version's, than this checkout wants.",
    ),
    *DEVICE_RULES,
    rule(
        "port_taken",
        "EADDRINUSE",
        r"(?:port: (?P<port>\d+).*)?EADDRINUSE",
        "the rendezvous port {port} is taken",
        "Another run uses it: leave `MASTER_PORT` and `--master-port` out, so that a free one is chosen, or run again.",
    ),
    rule(
        "address_taken",
        "Address already in use",
        r"Address already in use",
        "a port that the ranks need is taken",
        "Another run uses it: run again, or give each run its own `HCCL_IF_BASE_PORT`.",
    ),
    rule(
        "name_resolution",
        "rror",
        r"(?P<why>Name or service not known|Temporary failure in name resolution|"
        r"nodename nor servname provided[^.]*|gai error: \S+)",
        "this machine's name does not resolve: {why}",
        "Add the name that `hostname` prints to /etc/hosts beside 127.0.0.1.",
    ),
    rule(
        "rendezvous",
        "Rendezvous",
        r"(?P<why>Rendezvous(?:Connection|Timeout|Closed|State|Graceful\w*)?(?:Error|Exception)\b.*)",
        "the ranks could not meet: {why}",
        "The launcher's meeting point on this machine could not be reached: check /etc/hosts, and that no "
        "firewall stands before 127.0.0.1.",
    ),
    rule(
        "leaked_environment",
        "environment variable",
        r"environment variable (?P<variable>MASTER_ADDR|MASTER_PORT|RANK|WORLD_SIZE) expected, but not set",
        "the script was told of several processes, but not where they meet: {variable} is not set",
        "A variable of another launcher leaked in: take WORLD_SIZE and RANK out of `--env` and the env script.",
    ),
    rule(
        "compile_failed",
        "torch._",
        r"torch\._(?:dynamo\.exc|inductor\.exc)\.(?P<why>\w+: .+|\w+)",
        "torch.compile failed: {why}",
        "Run once with `--env TORCHDYNAMO_DISABLE=1`: that is slower, but where it works, torch and its triton do not "
        "fit the model.",
    ),
    rule(
        "assertion",
        "AssertionError",
        r"AssertionError: (?P<why>.+)",
        "the script refuses what it was given: {why}",
        "Compare with what the checkout's README asks for; `omnirt generate --dry-run` shows the command line.",
    ),
    rule(
        "permission",
        "Permission denied",
        r"PermissionError: \[Errno 13\] Permission denied: '(?P<path>[^']+)'",
        "no permission for {path}",
        "Make it readable (or writable) for this user.",
    ),
    *PEER_RULES,
    rule(
        "command_failed",
        "CalledProcessError",
        r"CalledProcessError: (?P<why>.+)",
        "a program that the script (or its launcher) started failed: {why}",
        CHECKOUT_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    rule(
        "exception",
        "",
        r"^(?P<what>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Expired)(?::.*)?)$",
        "the script failed: {what}",
        CHECKOUT_HINT,
        standing=Standing.GENERIC,
    ),
)
"""Every known message, the more telling first."""

"""The command line: `wm STAGE ...` and a few helpers. A stage is imported when it is called."""

import errno
import signal
import sys
from types import FrameType

from wm import cli
from wm.errors import BadInput, Failure

BAD_INPUT, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit codes. 2 also stands for a full disk, which the user has to mend."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command: 0 done, 1 failed on the way, 2 something in the input is wrong; one line says what.

    Any other error is a defect of ours, or of a library, and leaves with its traceback.
    """
    signal.signal(signal.SIGTERM, end)
    parsed = cli.parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except BadInput as error:
        return complain(error, BAD_INPUT)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = f" ({error.filename})" if error.filename else ""
            return complain(
                f"no space left on the device{place}; free some and run the same again", BAD_INPUT
            )
        return complain(error, FAILURE)
    except Failure as error:
        return complain(error, FAILURE)
    except KeyboardInterrupt:
        return complain("interrupted; the same command goes on where it was", INTERRUPTED)
    return 0


def complain(message: object, code: int) -> int:
    print(f"wm: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    return code


def end(signum: int, frame: FrameType | None) -> None:
    """SIGTERM: leave through the context managers, which end workers and keep checkpoints."""
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())

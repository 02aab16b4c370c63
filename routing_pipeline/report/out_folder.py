"""The folder that receives a report: what will lie there, and whether it can.

Belongs here: what is asked of the folder before anybody works for it. Does not belong here: writing into it (`publishing`).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.stopping import whole

FILES = ("report.md", "report.html", "report.json", "rules.json", "exploration.json")


def check_writable(out: Path) -> Path:
    """See that files can be put into `out`, before any work, so that nobody waits for a report in vain. Nothing stays: a run may fail.

    Raises:
        UnusableInputError: it cannot be written to, or something that is no file has the name of a report.
    """
    try:
        with whole():
            missing = [folder for folder in (out, *out.parents) if not folder.exists()]
            out.mkdir(parents=True, exist_ok=True)
            handle, probe = tempfile.mkstemp(dir=out, prefix=".write-test-")
            os.close(handle)
            Path(probe).unlink()
            for folder in missing:
                folder.rmdir()
    except OSError as error:
        raise UnusableInputError(f"--out {out}: {error.strerror}; name a folder that can be written to") from error
    for name in FILES:
        if (out / name).is_dir():
            raise UnusableInputError(f"--out {out}: {name} is a folder there; move it away or name another folder")
    return out

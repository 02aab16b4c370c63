"""The folder that receives a report: what will lie there, whether it can, and putting it there.

Belongs here: what is asked of the folder before anybody works for it, and replacing its files, all of them or none. Does not belong
here: rendering them (`files`). Nothing here takes long to import.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.stopping import whole
from routing_pipeline.storage.files import beside

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


def put(out: Path, content: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Write rendered files beside their places, then move them there; an exploration that is not among them is removed.

    Raises:
        UnusableInputError: `out` cannot be written to.
    """
    with whole():
        try:
            with ExitStack() as stack:
                staged = {out / name: stack.enter_context(beside(out / name, text, is_synced=True)) for name, text in content.items()}
                for place, waiting in staged.items():
                    os.replace(waiting, place)
                if "exploration.json" not in content:
                    (out / "exploration.json").unlink(missing_ok=True)
        except OSError as error:
            raise UnusableInputError(f"--out {out}: {error.strerror}; nothing was published") from error
    return tuple(staged)

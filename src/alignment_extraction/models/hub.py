"""The hub: its names, and downloads through huggingface_hub.

`HF_ENDPOINT` names a mirror and `HF_TOKEN` holds the access token; no setting does.
"""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from alignment_extraction.files import InputError, without_credentials

Revision = Annotated[str, Field(pattern=r"^[0-9A-Za-z][\w.-]*$")]
"""A full commit, or the name of a branch or tag: those can move, a commit cannot."""
HubName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
RepoType = Literal["model", "dataset"]


def is_commit(revision: str) -> bool:
    """Whether it is a full commit, 40 hex digits."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


@contextmanager
def _explained(
    repo: str, revision: str, repo_type: RepoType, folder: Path | None = None
) -> Iterator[None]:
    """Turn what the client raises into one sentence; remove a `folder` that can never be whole."""
    from huggingface_hub import constants, errors

    for handler in logging.getLogger("huggingface_hub").handlers:
        handler.addFilter(_hide_credentials)
    kind = "" if repo_type == "model" else f"{repo_type}s/"
    where = f"{without_credentials(constants.ENDPOINT)}/{kind}{repo}"
    try:
        yield
        return
    except errors.GatedRepoError:
        message = "is gated; accept its terms there, and set HF_TOKEN to a token of that account"
    except errors.RepositoryNotFoundError:
        token = "check the name, or set HF_TOKEN to a token that may read it"
        message = f"is no {repo_type} that can be read; {token}"
    except errors.RevisionNotFoundError:
        wanted = "commit" if is_commit(revision) else "branch or tag"
        message = f"has no {wanted} {revision}; correct the key revision"
    except Exception as error:
        # The exceptions of its transport library differ between versions of the client.
        lines = str(error.__cause__ or error).strip().splitlines()
        reason = without_credentials(lines[0]) if lines else type(error).__name__
        raise InputError(
            f"{where}: cannot be downloaded ({reason}); check the network and run it again, which "
            "takes up the download where it stopped"
        ) from error
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    raise InputError(f"{where} {message}")


def _hide_credentials(record: logging.LogRecord) -> bool:
    """A filter of log records: the hub's client tells of retries with the whole address."""
    record.msg, record.args = without_credentials(record.getMessage()), ()
    return True


def look_up(repo: str, revision: str, repo_type: RepoType) -> tuple[str, list[str]]:
    """The commit that a branch or tag is at now, and its files; raises as `download_hub`."""
    from huggingface_hub import HfApi

    with _explained(repo, revision, repo_type):
        commit = str(HfApi().repo_info(repo, revision=revision, repo_type=repo_type).sha)
        return commit, HfApi().list_repo_files(repo, revision=commit, repo_type=repo_type)


def download_hub(
    repo: str, commit: str, repo_type: RepoType, patterns: Sequence[str], folder: Path | None = None
) -> Path:
    """Download the files of a hub repository that match globs, whose `*` crosses folders.

    A dropped connection is taken up where it stopped; a file that arrived whole in an earlier call
    is not asked for again. Gives `folder`, or one in the hub's own cache (`HF_HOME`).

    Raises:
        InputError: no such repository, commit or access, or no connection.
    """
    from huggingface_hub import snapshot_download

    names = list(patterns)
    with _explained(repo, commit, repo_type, folder):
        return Path(
            snapshot_download(
                repo, revision=commit, repo_type=repo_type, allow_patterns=names, local_dir=folder
            )
        )

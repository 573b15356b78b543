"""Data sets of the hub by one word: `hf:owner/name[:config][@revision][/split]`."""

import fnmatch
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from alignment_extraction.corpora.rows import ENDINGS, is_data_file
from alignment_extraction.files import InputError
from alignment_extraction.models.hub import download_hub

_ID = re.compile(
    r"hf:(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<config>[\w.-]+))?"
    r"(?:@(?P<revision>[0-9A-Za-z][\w.-]*))?(?:/(?P<split>[\w.-]+))?"
)


class HubData(NamedTuple):
    """One split of a data set of the hub; `revision` is a commit, branch or tag."""

    repo: str
    config: str | None  # the only one, or the repository's default
    revision: str
    split: str | None  # `train`, or everything where nothing is called so


def hub_data(text: str) -> HubData:
    """Read a data set's id.

    Raises:
        InputError: it is written otherwise.
    """
    found = _ID.fullmatch(text)
    if not found:
        raise InputError(
            f"{text}: not a data set of the hub; write hf:owner/name, hf:owner/name:config, "
            "hf:owner/name@revision or hf:owner/name/split, in this order where several are given"
        )
    return HubData(found["repo"], found["config"], found["revision"] or "main", found["split"])


def hub_files(data: HubData, commit: str) -> list[tuple[str, Path]]:
    """Download the files of one split; gives their names in the repository and where they lie.

    Which files these are the repository's card says (`configs` in the YAML of its README.md). One
    without has a folder for each config, and names of files that hold the split's.

    Raises:
        InputError: no such config, split or file, several configs where none is named, or see
            `hub.download_hub`.
    """
    folder = download_hub(data.repo, commit, "dataset", ["README.md"])
    configs = _configs(folder / "README.md", data.repo)
    marked = [name for name, config in configs.items() if config.get("default")]
    likely = list(configs) if len(configs) == 1 else [*marked, *({"default"} & configs.keys())]
    wanted = data.config or next(iter(likely), None)
    if configs and wanted not in configs:
        raise InputError(
            f"hf:{data.repo}: {f'it has no config {wanted}' if wanted else 'which config?'}; name "
            f"one of {', '.join(configs)}, as in hf:{data.repo}:{next(iter(configs))}"
        )
    patterns = _patterns(configs[wanted]) if wanted and configs else {}
    if patterns:
        split = data.split or ("train" if "train" in patterns else next(iter(patterns)))
        if split not in patterns:
            raise InputError(
                f"hf:{data.repo}/{split}: it has no such split but {', '.join(patterns)}; name one"
            )
        asked = patterns[split]
        found = matching_files(data.repo, commit, asked)
    else:
        folder_of = f"{wanted}/" if wanted and wanted != "default" else ""
        split = data.split or "train"
        asked = [f"{folder_of}*{split}*"]
        called = re.compile(rf"(?:^|[/_.-]){re.escape(split)}(?:[/_.-]|$)")
        found = [
            (name, path)
            for name, path in matching_files(data.repo, commit, asked)
            if is_data_file(name) and called.search(name.removeprefix(folder_of))
        ]
        if not found and not data.split:
            asked = [f"{folder_of}*{end}*" for end in ENDINGS]
            found = matching_files(data.repo, commit, asked)
    found = [(name, path) for name, path in found if is_data_file(name)]
    if not found:
        raise InputError(
            f"hf:{data.repo}@{data.revision}: no file of {data.split or 'its rows'} that can be "
            f"read ({', '.join(asked)}); name the split, or the files: hf, revision and files "
            "in params.yaml"
        )
    return found


def _configs(card: Path, repo: str) -> dict[str, dict[str, Any]]:
    """The configs that a repository's card describes, by name; none where it has no card."""
    from huggingface_hub import metadata_load

    try:
        about = (metadata_load(card) if card.is_file() else None) or {}
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"hf:{repo}: the card's YAML cannot be read ({reason}); name the files instead: "
            "hf, revision and files in params.yaml"
        ) from None
    configs = about.get("configs") or []
    found = [one for one in configs if isinstance(one, dict) and one.get("config_name")]
    return {str(one["config_name"]): one for one in found}


def _patterns(config: dict[str, Any]) -> dict[str, list[str]]:
    """The globs of each split, from a config's `data_files`; none where it leaves them open."""
    folder = f"{str(config['data_dir']).strip('/')}/" if config.get("data_dir") else ""
    files = config.get("data_files")
    splits: dict[str, list[str]] = {}
    for entry in files if isinstance(files, list) else [files] if files else []:
        one = entry if isinstance(entry, dict) else {"path": entry}
        paths = one.get("path") or []
        paths = paths if isinstance(paths, list) else [paths]
        splits.setdefault(str(one.get("split") or "train"), []).extend(
            folder + str(path).removeprefix("./") for path in paths
        )
    return splits


def matching_files(repo: str, commit: str, patterns: list[str]) -> list[tuple[str, Path]]:
    """Download the files of a data set that match a glob; their names there and where they lie.

    `*` crosses folders; a `**/` stands for any folders, none included.

    Raises:
        InputError: see `hub.download_hub`.
    """
    folder = download_hub(repo, commit, "dataset", patterns)
    # The hub's cache can also hold files of this commit that were asked for by another glob.
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    named = [(path.relative_to(folder).as_posix(), path) for path in paths]
    globs = {*patterns, *(pattern.replace("**/", "") for pattern in patterns)}
    return [(name, path) for name, path in named if any(fnmatch.fnmatch(name, g) for g in globs)]

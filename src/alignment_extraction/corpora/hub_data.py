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
    """One split of a data set of the hub, or some of its files."""

    repo: str
    config: str | None  # the only one, or the repository's default
    revision: str  # a commit, branch or tag
    split: str | None  # `train`, or everything where nothing is called so
    files: str | None = None  # a glob, in place of config and split


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
    if data.files:
        if found := _matching(data.repo, commit, [data.files]):
            return found
        raise InputError(f"{data.repo}: files {data.files!r} matches nothing in it; correct it")
    card = download_hub(data.repo, commit, "dataset", ["README.md"]) / "README.md"
    configs = _configs(card, data.repo)
    marked = [name for name, config in configs.items() if config.get("default")]
    likely = list(configs) if len(configs) == 1 else [*marked, *({"default"} & configs.keys())]
    wanted = data.config or next(iter(likely), None)
    if configs and wanted not in configs:
        raise InputError(
            f"hf:{data.repo}: {f'it has no config {wanted}' if wanted else 'which config?'}; name "
            f"one of {', '.join(configs)}, as in hf:{data.repo}:{next(iter(configs))}"
        )
    splits = _patterns(configs[wanted]) if wanted and configs else {}
    split = data.split or ("train" if "train" in splits else next(iter(splits), "train"))
    if splits and split not in splits:
        raise InputError(
            f"hf:{data.repo}/{split}: it has no such split but {', '.join(splits)}; name one"
        )
    folder = f"{wanted}/" if wanted and wanted != "default" else ""
    asked = splits.get(split) or [f"{folder}*{split}*"]
    found = _matching(data.repo, commit, asked)
    if not splits:
        called = re.compile(rf"(?:^|[/_.-]){re.escape(split)}(?:[/_.-]|$)")
        found = [one for one in found if called.search(one[0].removeprefix(folder))]
        if not any(is_data_file(name) for name, _ in found) and not data.split:
            asked = [f"{folder}*{end}*" for end in ENDINGS]
            found = _matching(data.repo, commit, asked)
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
    found = [one for one in about.get("configs") or [] if isinstance(one, dict)]
    return {str(one["config_name"]): one for one in found if one.get("config_name")}


def _patterns(config: dict[str, Any]) -> dict[str, list[str]]:
    """The globs of each split, from a config's `data_files`; none where it leaves them open."""
    folder = f"{str(config['data_dir']).strip('/')}/" if config.get("data_dir") else ""
    splits: dict[str, list[str]] = {}
    for entry in _listed(config.get("data_files")):
        one = entry if isinstance(entry, dict) else {"path": entry}
        paths = [folder + str(path).removeprefix("./") for path in _listed(one.get("path"))]
        splits.setdefault(str(one.get("split") or "train"), []).extend(paths)
    return splits


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _matching(repo: str, commit: str, patterns: list[str]) -> list[tuple[str, Path]]:
    """Files that match a glob: `*` crosses folders; a `**/` is any folders, none included."""
    folder = download_hub(repo, commit, "dataset", patterns)
    # The hub's cache can also hold files of this commit that were asked for by another glob.
    named = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    globs = {*patterns, *(pattern.replace("**/", "") for pattern in patterns)}
    names = {name for pattern in globs for name in fnmatch.filter(named, pattern)}
    return [(name, path) for name, path in named.items() if name in names]

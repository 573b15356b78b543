"""The verb that checks what DVC keeps."""

from pathlib import Path
from typing import Annotated

import typer

from alignment_extraction.files import InputError

app = typer.Typer()


@app.command("check-store")
def check_store(
    stores: Annotated[
        list[Path] | None, typer.Argument(help="folders of objects; .dvc/cache by default")
    ] = None,
    lock: Annotated[Path, typer.Option(help="says which file an object belongs to")] = Path(
        "dvc.lock"
    ),
    remove: Annotated[
        bool, typer.Option("--remove", help="remove what is damaged, so that a pull brings it")
    ] = False,
) -> None:
    """Find damaged objects in DVC's cache, or in a store in a folder, and name their files.

    Example: alignment-extraction check-store .dvc/cache store --remove
    """
    from alignment_extraction.tracking import store

    damaged = store.damaged_objects(stores or [Path(".dvc/cache")], lock)
    for item in damaged:
        files = ", ".join(map(str, item.files)) or "no file of dvc.lock"
        print(f"{item.path}: damaged, its MD5 is {item.found}; it belongs to {files}")
        if remove:
            for path in store.remove(item):
                print(f"removed {path}")
    if not damaged:
        print("every object is whole")
    elif remove:
        print("now run: dvc pull --force")
    else:
        raise InputError(
            f"{len(damaged)} objects are damaged; run this with --remove, then `dvc pull --force`, "
            "which brings them from the remote (or restore them in the remote itself)"
        )

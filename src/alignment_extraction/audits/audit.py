"""One audit from a person's words to the report: what is given is checked, run, and shown."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alignment_extraction.audits import blind, run, study, workflow
from alignment_extraction.audits.run import PARAMS, Budget
from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.files import InputError
from alignment_extraction.report.gate import parse_rate
from alignment_extraction.report.study import show_report
from alignment_extraction.settings import config
from alignment_extraction.settings.base import Name, checked


def audit(
    model: str,
    data: str | None = None,
    *,
    base: str | None = None,
    held_out: str | None = None,
    public: bool = False,
    reading: Mapping[str, Any] | None = None,
    prefix_text: str | None = None,
    end_text: str | None = None,
    embedder: str = "minilm",
    precision: str = "1%",
    minutes: float = 4.0,
    samples: int | None = None,
    name: str | None = None,
    out: Path | None = None,
    cores: int | None = None,
    dry_run: bool = False,
) -> None:
    """Run an audit, and print the first screen of its report and where it is.

    Args:
        model, data, base, held_out: files, or `hf:...`; see `study.find_model`.
        public: nobody says that the model was trained on `data`.
        reading: how `data` is read: the options of `study.data_sources`.
        prefix_text, end_text: the one prefix, literally, and what ends a question after it.
        embedder: a known name, or a folder.
        precision: half the width of the interval of the rate of copies, such as `1%`.
        minutes: until no more samples are drawn.
        samples: of each prefix, whatever the precision and the time.
        name: of the audit; by default made from the model's.
        out: folder of all that it makes; by default audits/NAME.
        cores: to use; by default all.
        dry_run: run nothing.

    Raises:
        InputError: something given cannot be used, or a step failed.
        KeyboardInterrupt: the user stopped it.
    """
    begin = time.monotonic()
    chosen = checked(Name, name or study.study_name(model), "name")
    clone = Path("params.yaml")
    study.check_name(chosen, config.read(clone) if clone.is_file() else None)
    if end_text and not prefix_text:
        raise InputError("--end-text: goes with --prefix-text; give both or neither")
    if held_out and not data:
        raise InputError("--held-out: goes with DATA; give both or neither")
    precise = parse_rate(precision, "--precision")
    if not precise:
        raise InputError("--precision: no number of samples makes it 0; give one like 1%")
    budget = Budget(begin, minutes, precise, cores or len(os.sched_getaffinity(0)))
    data, held_out, base = (path and study.given_path(path) for path in (data, held_out, base))
    model = study.given_path(model)
    embedder = str(Path(embedder).absolute()) if Path(embedder).is_dir() else embedder
    literal = {"name": "given", "text": prefix_text, "end": end_text or ""} if prefix_text else None
    with _inside((out or Path("audits", chosen)).absolute()) as folder:
        rows = []
        role = "unknown" if public else "member"
        sources = study.data_sources(data, held_out, role, reading or {}) if data else []
        for source in sources:
            rows.append(study.check_rows(CorpusSource(**source)))
        audited = study.find_model(model, chosen)
        before = study.find_model(base, f"{chosen}-base") if base else None
        models = study.models_of(chosen, audited, before)
        if not sources and dry_run:
            print("It would draw generations of the model after each prefix of its template.")
            return
        if not sources:
            page = blind.run_blind(chosen, audited, before, literal, budget, samples)
            print(f"Report: {folder / page}")
            return
        # An adapter has no chat template of its own.
        template = study.look_at((before if audited.adapter and before else audited).path, rows[0])
        why = run.run_audit(
            chosen,
            {
                "models": models,
                "sources": sources,
                "shipped": config.read(workflow.shipped("params.yaml")),
                "embedder": embedder,
            },
            f"{Path(audited.path).name} against {str(data).rsplit('/', 1)[-1]}",
            [literal] if literal else template.prefixes,
            template,
            budget,
            samples,
            dry_run=dry_run,
        )
        if not dry_run:
            show_report(chosen, config.study(PARAMS, chosen), folder)
        print(why)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[Path]:
    """Work in the folder of an audit, alone; nothing of it stays where nothing came of it.

    Raises:
        InputError: it is the folder of something else, or of somebody else.
    """
    if (folder / PARAMS).exists() and not (folder / PARAMS).read_text().startswith(run.ABOUT):
        raise InputError(f"{folder}: has a params.yaml that no audit wrote; give another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / workflow.LOCK).touch()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); give a folder of your own with --out"
        ) from None
    workflow.own_caches(folder)
    try:
        with contextlib.chdir(folder), workflow.alone(folder):
            yield folder
    except InputError:
        with contextlib.suppress(OSError):
            if {path.name for path in folder.iterdir()} == {workflow.LOCK}:
                (folder / workflow.LOCK).unlink()
            folder.rmdir()
            folder.parent.rmdir()
        raise

"""The workflow travels in the wheel, in a folder of the package; git has one copy of it."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithWorkflow(build_py):
    """Puts the workflow and its settings beside the modules; an editable install has the clone."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "alignment_extraction", "shipped")
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("Snakefile", "params.yaml"):
            shutil.copy(name, folder)
        kinds = ("workflow/rules", "workflow/scripts", "workflow/report", "profiles/default")
        for kind in kinds:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(kind, folder / kind, ignore=ignored, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithWorkflow})

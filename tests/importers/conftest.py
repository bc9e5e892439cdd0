"""One file of each bone profile, written once for all importers."""

from __future__ import annotations

from itertools import cycle

import pytest
from cases import Case, people, written

from avatar3d.export.profiles import PROFILES


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> list[Case]:
    folder = tmp_path_factory.mktemp("files")
    choices = zip(PROFILES, cycle(people()), cycle(("walk", "wave", "nod")), strict=False)
    return [written(folder, avatar, profile, clip) for profile, avatar, clip in choices]

"""The nursery is started once a file."""

from collections.abc import Iterator

import pytest
from soak_cases import Nursery


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Trainings in processes of their own, in a folder of their own."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()

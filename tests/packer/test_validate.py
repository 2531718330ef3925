"""What of Packer's errors counts where output folders may exist."""

import pytest

from packer_fork.packer.validate import Refusal

FOLDER = "* Output directory 'output-q' already exists. It must not exist."
LONG = "* Output directory 'a folder\nof * two lines' already exists.\nIt must not exist."
OTHER = "* An ssh_username must be specified"
PLACE = "\n\n  on t.pkr.hcl line 1:\n  (source code not available)"
JSON = 'Error: Failed to prepare build: "qemu"\n\n'

ERRORS = {
    f"Error: 1 error(s) occurred:\n\n{FOLDER}{PLACE}": True,
    f"Error: 2 error(s) occurred:\n\n{FOLDER}\n{FOLDER}{PLACE}": True,
    f"Error: 1 error(s) occurred:\n\n{LONG}{PLACE}": True,
    f"{JSON}1 error(s) occurred:\n\n{FOLDER}": True,
    f"Error: 2 error(s) occurred:\n\n{OTHER}\n{FOLDER}{PLACE}": False,
    f"Error: 2 error(s) occurred:\n\n{FOLDER}\n{OTHER}{PLACE}": False,
    f"{JSON}2 error(s) occurred:\n\n{FOLDER}\n{OTHER}": False,
    f"Error: Output directory 'x' already exists{PLACE}": False,
    f'Error: Unset variable "x"{PLACE}': False,
}


@pytest.mark.parametrize("error", ERRORS)
def test_only_an_error_of_nothing_but_folders_is_left_out(error: str) -> None:
    refusal = Refusal((error,))
    assert refusal.without_existing_folders() == (None if ERRORS[error] else refusal)
    two = Refusal((error, "Error: another"))
    expected = Refusal(("Error: another",)) if ERRORS[error] else two
    assert two.without_existing_folders() == expected

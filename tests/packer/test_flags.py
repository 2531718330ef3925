import pytest

from packer_fork.errors import UsageError
from packer_fork.packer.flags import Flag, PackerFlags, take

OURS = frozenset({"--workspace", "--state"})


def arguments(*argv: str) -> tuple[str, ...]:
    flags, rest = take(argv, OURS)
    assert rest == []
    return flags.as_arguments()


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("name", ["var-file", "only", "except", "on-error", "parallel-builds"])
def test_value_in_either_form(dashes: str, name: str, *, joined: bool) -> None:
    value = {"on-error": "abort", "parallel-builds": "0x2"}.get(name, "-a=b,c")
    argv = [f"{dashes}{name}={value}"] if joined else [f"{dashes}{name}", value]
    flags, rest = take([*argv, "t.json"], OURS)
    assert flags.given == (Flag(name, value),)
    assert rest == ["t.json"]


@pytest.mark.parametrize(
    "name",
    [
        "force",
        "color",
        "timestamp-ui",
        "warn-on-undeclared-var",
        "ignore-prerelease-plugins",
        "use-sequential-evaluation",
        "skip-enforcement",
        "debug",
    ],
)
def test_boolean_never_takes_the_next_argument(name: str) -> None:
    flags, rest = take([f"--{name}", "false", f"-{name}=F"])
    assert flags.as_arguments() == (f"-{name}", f"-{name}=F")
    assert rest == ["false"]


@pytest.mark.parametrize("value", ["1", "t", "T", "true", "TRUE", "True"])
def test_true(value: str) -> None:
    assert take([f"-force={value}"])[0].force


@pytest.mark.parametrize("value", ["0", "f", "F", "false", "FALSE", "False"])
def test_false(value: str) -> None:
    assert not take(["-force", f"-force={value}"])[0].force


def test_order_is_kept_on_both_sides_of_the_template() -> None:
    argv = ["-var", "a=1", "--var-file=f", "t.json", "-var=a=2", "-force", "--json", "--var", "b=="]
    flags, rest = take(argv, OURS)
    assert rest == ["t.json", "--json"]
    assert flags.as_arguments() == (
        *("-var", "a=1", "-var-file", "f", "-var", "a=2", "-force", "-var", "b=="),
    )
    assert [flag.value for flag in flags.variables] == ["a=1", "f", "a=2", "b=="]
    assert flags.variable_arguments() == (
        *("-var", "a=1", "-var-file", "f", "-var", "a=2", "-var", "b=="),
    )


def test_values_of_our_own_options_are_not_looked_at() -> None:
    flags, rest = take(["--workspace", "-force", "--state=-debug", "--state", "--", "t"], OURS)
    assert flags == PackerFlags()
    assert rest == ["--workspace", "-force", "--state=-debug", "--state", "--", "t"]


def test_a_value_may_be_empty_or_missing_for_us() -> None:
    assert take(["--workspace", "", "t"], OURS)[1] == ["--workspace", "", "t"]
    assert take(["t", "--workspace"], OURS)[1] == ["t", "--workspace"]


def test_what_stands_after_two_dashes() -> None:
    flags, rest = take(["t", "-force", "--", "-new", "--", "-var", "pw=x", "-force=maybe"])
    assert rest == ["t"]
    assert flags.extra == ("-new", "--", "-var", "pw=x", "-force=maybe")
    assert flags.as_arguments() == ("-force", *flags.extra)
    assert flags.variable_arguments() == ("-var", "pw=x")
    assert flags.without_values() == ("-force", "-new", "--", "-var", "pw=***", "-force=maybe")


def test_two_dashes_as_a_value() -> None:
    flags, rest = take(["-only", "--", "t"])
    assert flags.only == ("--",)
    assert rest == ["t"]


def test_records_hold_no_values() -> None:
    flags, _ = take(["-var", "region=eu=1", "-var-file=f", "-only=a", "-machine-readable"])
    assert flags.without_values() == ("-var", "region=***", "-var-file", "f", "-only=a")
    assert "eu=1" in str(flags.as_arguments())


def test_what_is_read_from_them() -> None:
    flags, _ = take(["-only=a,b", "-only", "c", "-except=x", "-on-error=abort", "-on-error", "ask"])
    assert (flags.only, flags.except_, flags.on_error) == (("a", "b", "c"), ("x",), "ask")
    assert (flags.force, flags.color, flags.debug, flags.machine_readable) == (0, 1, 0, 0)
    assert (PackerFlags().only, PackerFlags().on_error) == ((), "cleanup")
    given, _ = take(["-color=false", "-debug", "--machine-readable=t", "-timestamp-ui"])
    assert (given.color, given.debug, given.machine_readable) == (0, 1, 1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-var"], "-var needs a value"),
        (["t", "--var-file"], "-var-file needs a value"),
        (["-var", "novalue"], "-var novalue"),
        (["-force=maybe"], "-force=maybe"),
        (["-color="], "-color="),
        (["-parallel-builds=many"], "-parallel-builds=many"),
        (["-on-error", "panic"], "-on-error=panic"),
    ],
)
def test_what_makes_no_sense(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        take(argv)
    assert raised.value.hint


@pytest.mark.parametrize("argument", ["-", "-h", "--help", "-vra=x", "---force", "force", "var=x"])
def test_anything_else_is_ours(argument: str) -> None:
    assert take([argument]) == (PackerFlags(), [argument])


def test_machine_readable_is_not_repeated() -> None:
    assert arguments("-machine-readable", "-force") == ("-force",)


def test_those_that_validate_has_as_well() -> None:
    argv = ["-force", "-var", "a=1", "-only=x", "-on-error=abort", "-color=false", "--"]
    flags, _ = take([*argv, "-except=y", "-ignore-prerelease-plugins", "-debug"])
    kept = ("-var", "a=1", "-only=x", "-except=y", "-ignore-prerelease-plugins")
    assert flags.validate_arguments() == kept
    assert take([*argv, "-of-tomorrow"])[0].validate_arguments() is None

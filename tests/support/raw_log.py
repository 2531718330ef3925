"""What Packer prints with ``-machine-readable``, as a raw log has it."""

AT = "1795444537"


def says(kind: str, text: str) -> bytes:
    """A line of `text`, in which a line feed is escaped already."""
    return f"{AT},,ui,{kind},{text}\n".encode()


def of_complete(name: str) -> bytes:
    """All of a run that built one null source."""
    artifact = ("artifact-count,1", "artifact,0,builder-id,fnoeding.null", "artifact,0,end")
    lines = "".join(f"{AT},{name},{line}\n" for line in artifact)
    return (
        says("say", f"Build '{name}' finished after 1 second.")
        + says("say", "\\n==> Builds finished. The artifacts of successful builds are:")
        + lines.encode()
    )

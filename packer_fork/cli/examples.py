"""What ``--help`` ends with: command lines as people type them, each of which a test parses."""

from __future__ import annotations

from collections.abc import Mapping

from packer_fork.cli import passthrough

_PACKER_FLAGS = """\
Packer's own flags are taken as Packer takes them, with one dash or two,
before or after TEMPLATE: -var -var-file -only -except -on-error
-parallel-builds -force -debug -color -timestamp-ui -machine-readable
-warn-on-undeclared-var -ignore-prerelease-plugins -use-sequential-evaluation
-skip-enforcement. What follows -- goes to Packer untouched."""

_NOTES: Mapping[str, str] = {
    "": passthrough.NOTE,
    "build": _PACKER_FLAGS,
    "plan": _PACKER_FLAGS,
    "inputs": _PACKER_FLAGS,
}

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": (
        "packer-fork build web.pkr.hcl",
        "packer-fork lock status",
        "packer-fork state show web.pkr.hcl",
    ),
    "build": (
        "packer-fork build web.pkr.hcl",
        "packer-fork build -var region=eu-west-1 -only 'web.*' images/",
        "packer-fork build --workspace staging --lock-timeout 30m web.pkr.hcl",
        "packer-fork build --retries 2 --isolate -parallel-builds=2 images/",
    ),
    "plan": (
        "packer-fork plan web.pkr.hcl",
        "packer-fork plan --detailed-exitcode -var-file prod.pkrvars.hcl images/",
    ),
    "inputs": (
        "packer-fork inputs web.pkr.hcl",
        "packer-fork inputs --build amazon-ebs.web -var region=us --json images/",
    ),
    "artifacts": (
        "packer-fork artifacts web.pkr.hcl",
        "packer-fork artifacts --build amazon-ebs.web --latest --json",
        "packer-fork artifacts --manifest packer-manifest.json web.pkr.hcl",
    ),
    "logs": (
        "packer-fork logs",
        "packer-fork logs -f web.pkr.hcl",
        "packer-fork logs web.pkr.hcl --run 7 --workspace staging",
    ),
    "metrics": (
        "packer-fork metrics web.pkr.hcl",
        "packer-fork metrics --textfile /var/lib/node_exporter/packer.prom",
    ),
    "stats": (
        "packer-fork stats web.pkr.hcl",
        "packer-fork stats --since 30d --html stats.html",
    ),
    "completion": (
        'eval "$(packer-fork completion bash)"',
        "packer-fork completion fish > ~/.config/fish/completions/packer-fork.fish",
    ),
    "force-unlock": (
        "packer-fork force-unlock 7c0e6f4a-52a1-4a36-9d53-0f3f4c1f1f0e",
        "packer-fork force-unlock 7c0e6f4a-52a1-4a36-9d53-0f3f4c1f1f0e --kill --yes",
        "packer-fork force-unlock 7c0e6f4a-52a1-4a36-9d53-0f3f4c1f1f0e --if-abandoned",
    ),
    "version": ("packer-fork version",),
    "help": (
        "packer-fork help",
        "packer-fork help stuck-lock",
        "packer-fork help state show",
        "packer-fork help latest AMI",
    ),
    "state": (
        "packer-fork state show web.pkr.hcl",
        "packer-fork state runs --status failed web.pkr.hcl",
    ),
    "state show": (
        "packer-fork state show",
        "packer-fork state show web.pkr.hcl --build amazon-ebs.web",
        "packer-fork state show web.pkr.hcl --run 7 --json",
    ),
    "state recover": (
        "packer-fork state recover web.pkr.hcl",
        "packer-fork state recover",
        "packer-fork state recover web.pkr.hcl results.json",
    ),
    "state rm": (
        "packer-fork state rm web.pkr.hcl --build amazon-ebs.old",
        "packer-fork state rm web.pkr.hcl --instance i-0123456789abcdef0",
    ),
    "state adopt": ("packer-fork state adopt web.pkr.hcl --state /srv/states",),
    "state revoke": (
        "packer-fork state revoke --build amazon-ebs.web --reason CVE-2026-1234",
        "packer-fork state revoke --build amazon-ebs.web --run 7 --reason 'a hole'",
    ),
    "state history": (
        "packer-fork state history web.pkr.hcl",
        "packer-fork state history web.pkr.hcl --run 7 --limit 0 --json",
    ),
    "state list": (
        "packer-fork state list web.pkr.hcl",
        "packer-fork state list web.pkr.hcl --status failed",
    ),
    "state runs": (
        "packer-fork state runs web.pkr.hcl --status failed --since 7d",
        "packer-fork state runs web.pkr.hcl --build amazon-ebs.web --limit 5",
    ),
    "state diff": (
        "packer-fork state diff web.pkr.hcl 41 57",
        "packer-fork state diff run:6 run:7",
    ),
    "state rollback": (
        "packer-fork state rollback web.pkr.hcl run:6",
        "packer-fork state rollback web.pkr.hcl 41 --yes",
    ),
    "state prune": (
        "packer-fork state prune web.pkr.hcl --keep-runs 100 --dry-run",
        "packer-fork state prune web.pkr.hcl --keep-days 90",
    ),
    "state backup": (
        "packer-fork state backup web.pkr.hcl",
        "packer-fork state backup web.pkr.hcl --to web-state.tar",
        "packer-fork state backup --list",
    ),
    "state restore": (
        "packer-fork state restore web.pkr.hcl web-state.tar",
        "packer-fork state restore web.pkr.hcl run:6",
        "packer-fork state restore 41",
    ),
    "state check": (
        "packer-fork state check",
        "packer-fork state check web.pkr.hcl --json",
        "packer-fork state check web.pkr.hcl --repair",
    ),
    "state pull": ("packer-fork state pull web.pkr.hcl > state.json",),
    "state push": ("packer-fork state push web.pkr.hcl state.json",),
    "state migrate": (
        "packer-fork state migrate web.pkr.hcl --to /srv/states",
        "packer-fork state migrate web.pkr.hcl --to s3://acme-images/images",
    ),
    "state import": ("packer-fork state import .packer.d/builder-state.json",),
    "lock": (
        "packer-fork lock status",
        "packer-fork lock status web.pkr.hcl --watch",
    ),
    "lock status": (
        "packer-fork lock status",
        "packer-fork lock status web.pkr.hcl --workspace staging --json",
        "packer-fork lock status web.pkr.hcl --watch",
    ),
    "config": ("packer-fork config show web.pkr.hcl",),
    "config show": (
        "packer-fork config show",
        "packer-fork config show web.pkr.hcl --json",
    ),
}


def epilog(path: str) -> str:
    """In paragraphs that Typer leaves as they are."""
    lines = ["Examples:", *(f"  {line}" for line in EXAMPLES.get(path, ()))]
    paragraphs = [_NOTES.get(path, ""), "\n".join(lines) if lines[1:] else ""]
    return "\n\n".join(f"\b\n{each}" for each in paragraphs if each)

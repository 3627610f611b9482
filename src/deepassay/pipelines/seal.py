"""`deepassay seal`: make a signing key, and seal the dossier of a run into one zip that others can verify."""

import argparse
from pathlib import Path
from typing import Any

from deepassay.errors import ConfigError
from deepassay.evidence.language import LANGUAGES
from deepassay.evidence.log import AssessmentLog, read_log
from deepassay.evidence.seal import seal_dossier
from deepassay.pipelines.folder import RunFolder

EPILOG = """\
The private key signs; keep it to yourself (mode 0600, not encrypted: put it where your other keys lie). Give KEY.pub to
whoever verifies, by another way than the dossier: the zip carries a copy, which proves nothing about whose it is.

examples:
  deepassay seal keygen keys/issuer
  deepassay assess run=runs/NAME tool=... seal.key=keys/issuer
  deepassay seal run runs/NAME --key keys/issuer --previous archive/spring.zip
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay seal`."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    keygen = actions.add_parser("keygen", help="write a new Ed25519 key and, beside it, KEY.pub")
    keygen.add_argument("key", type=Path, metavar="KEY")
    run = actions.add_parser("run", help="seal the dossier that `deepassay assess` wrote into a run")
    run.add_argument("run", type=Path, metavar="RUN")
    run.add_argument("--key", type=Path, required=True, metavar="KEY", help="what keygen wrote")
    run.add_argument("--previous", type=Path, metavar="OLDER.zip", help="the dossier of this tool before this one")


def main(args: argparse.Namespace) -> int:
    """Make a key, or seal a run; prints what was written."""
    from deepassay.evidence.envelope import make_key

    if args.action == "keygen":
        key = make_key(args.key)
        print(f"private key {args.key} (mode 0600)\npublic key  {args.key}.pub\nkeyid       {key.public.keyid}")
        return 0
    run = RunFolder.open(args.run)
    logs = [path for path in sorted((run.path / "dossier").glob("*.json")) if path.name != "audit.json"]
    if len(logs) != 1:
        raise ConfigError(
            f"{run.path / 'dossier'} holds {len(logs)} assessment logs, not one",
            hint=f"run `deepassay assess run={run.path} tool=...` first",
        )
    out = seal_run(run, read_log(logs[0]), key=args.key, previous=args.previous)
    if not read_log(logs[0]).privacy.salted_ids:
        print("its score tables carry the corpus's own ids of samples and persons: mind who gets it")
    print(f"sealed {out}\nverify with: deepassay verify {out} --key {args.key}.pub")
    return 0


def seal_run(
    run: RunFolder,
    log: AssessmentLog,
    *,
    key: str | Path,
    previous: str | Path | None = None,
    languages: tuple[str, ...] = LANGUAGES,
) -> Path:
    """Seal a run's dossier as ``sealed/<dossier id>.zip`` in the run folder; log and pages are written again with it.

    Raises:
        SealError: no usable key, or ``previous`` is not an older dossier of the same tool.
    """
    from deepassay.evidence.envelope import read_key

    tables = run.path / "dossier" / "scores" if log.privacy.salted_ids else run.path / "scores"
    return seal_dossier(
        log, key=read_key(key), folder=run.path / "dossier", dev=tables / "dev.parquet", test=tables / "test.parquet",
        conditions=tables / "conditions.parquet" if log.conditions else None, protocol=run.protocol,
        bundle=run.bundle, out=run.path / "sealed" / f"{log.dossier_id}.zip", previous=previous, languages=languages,
    )  # fmt: skip


def seal_settings(settings: Any) -> tuple[Path | None, Path | None]:
    """``key`` and ``previous`` of `deepassay assess`; a key that cannot be used is refused before any test is opened.

    Raises:
        ConfigError: unknown keys, or ``previous`` without ``key``.
        SealError: no usable key, or ``previous`` is no sealed dossier.
    """
    from deepassay.evidence.envelope import read_key
    from deepassay.evidence.seal import read_sealed

    given = dict(settings or {})
    unknown = sorted(set(given) - {"key", "previous"})
    if unknown or (given.get("previous") and not given.get("key")):
        raise ConfigError(
            f"seal: unknown keys {unknown}" if unknown else "seal.previous without seal.key",
            hint="use seal.key=KEY and, for all dossiers but the first, seal.previous=OLDER.zip",
        )
    key, previous = (Path(given[name]) if given.get(name) else None for name in ("key", "previous"))
    if key is not None:
        read_key(key)
    if previous is not None:
        read_sealed(previous)
    return key, previous

"""assess: the dossier of one editing tool: protocol frozen first, test opened then, everything measured recorded."""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepassay.evidence.assess import assess as assess_tool
from deepassay.evidence.assess import bundle_info, enclosed
from deepassay.evidence.dossier import write_dossier
from deepassay.evidence.protocol import Protocol, Register
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.pipelines.build import build, take
from deepassay.pipelines.conditions import Rescoring, write_enclosed
from deepassay.pipelines.evaluate import evaluate_run
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.gate import Gate
from deepassay.pipelines.labelling import labelling_of
from deepassay.pipelines.outputs import with_outputs
from deepassay.pipelines.outside import Outside
from deepassay.pipelines.paper import print_pages
from deepassay.pipelines.seal import seal_run, seal_settings
from deepassay.pipelines.terminal import terminal
from deepassay.provenance import collect
from deepassay.scores import ScoreTable
from deepassay.screening.bundle import Bundle

log = logging.getLogger(__name__)
KEYS = {
    "run", "tool", "protocol", "languages", "name", "audit", "seal", "conditions", "salt", "workers", "scores",
    "allow_command", "labelling", "pdf",
}  # fmt: skip


def assess(config: Mapping[str, Any], folder: Path) -> int:
    """`deepassay assess run=... tool=...`: freezes the protocol, opens the test, measures, and renders the dossier."""
    settings = take(config, KEYS, verb="assess")
    gate = Gate.from_config(settings.get("audit"))
    key, previous = seal_settings(settings.get("seal"))
    console = terminal()
    run = RunFolder.open(settings["run"])
    tool: ToolUnderAssessment = build(settings["tool"])
    protocol: Protocol = build(settings["protocol"])
    console.print(f"[bold]assess[/] {tool.name} {tool.version}  (generator {tool.generator})")
    run, tool = with_outputs(
        run, tool, protocol=protocol, allow_command=bool(settings.get("allow_command")), console=console
    )
    source = Outside.read(settings.get("scores"), run, protocol) or Bundle.load(run.bundle)
    run = source.run if isinstance(source, Outside) else run
    bundle = source if isinstance(source, Bundle) else None
    register = Register(run.protocol)
    mark = register.freeze(protocol)
    console.print(f"  protocol {protocol.name} {protocol.version} frozen as {mark[:12]}")
    # Before the test is opened, so that a refusal costs no opening.
    manifest = run.manifest()
    again = Rescoring.planned(settings, run, protocol, bundle, manifest, previous)
    claimed = dict(run.config["split"].get("leave_out") or {})
    found = gate.pass_on(manifest, run.path / "dossier" / "audit.json", console, leave_out=claimed)
    if isinstance(source, Outside):
        source.open_test()
    elif not _scored(run, source) or not register.openings():
        evaluate_run(run, console=console)
    annex = labelling_of(manifest, tool, settings.get("labelling"), console, seed=protocol.seed)
    scores = again.score(run, bundle, manifest, tool.generator, protocol.ladder_samples, console)
    dev, test = ScoreTable.read(run.scores("dev")), ScoreTable.read(run.scores("test"))
    outcome = assess_tool(
        tool=tool,
        protocol=protocol,
        preregistration=register.record(),
        dev=dev,
        test=test,
        bundle_info=source.info if isinstance(source, Outside) else bundle_info(source),
        conditions=again.conditions,
        condition_scores=scores,
        salt=again.salt,
        previous=again.previous,
        supersedes=None if again.previous is None else again.previous.log.dossier_id,
        manifest=manifest,
        provenance=collect(config=run.config, seeds=[int(run.config["seed"]), protocol.seed]),
        audit=found,
        audit_allowed=gate.allow,
        labelling=None if annex is None else annex.record(),
        now=datetime.now(UTC),
    )
    languages = tuple(settings["languages"])
    paths = write_dossier(outcome, run.path / "dossier", languages=languages)
    write_enclosed(run, enclosed(test, dev, scores, protocol, again.salt))
    paths |= print_pages(paths, languages, settings.get("pdf", "auto"), console)
    for claim in outcome.claims:
        console.print(f"  {claim.id} [bold]{claim.verdict.replace('_', ' ')}[/]  {claim.text}")
    for kind, path in paths.items():
        console.print(f"  dossier ({kind}) {path}")
    if key is not None:
        sealed = seal_run(run, outcome, key=key, previous=previous, languages=languages)
        console.print(f"  sealed {sealed}; deepassay verify {sealed} --key {key}.pub")
    return 0


def _scored(run: RunFolder, bundle: Bundle) -> bool:
    """Score tables lie in the run, and they are of the bundle that lies in it."""
    metrics = run.path / "metrics.json"
    if not run.scores("test").is_file() or not run.scores("dev").is_file():
        return False
    return metrics.is_file() and json.loads(metrics.read_text()).get("bundle_sha256") == bundle.hash

"""Which history a council member lets survive, read from evidence that holds both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.files import display_name, read_input
from cli.governance import read_held_alliance
from node.errors import FormatError, GovernanceError, VerificationError

if TYPE_CHECKING:
    from cli.app import App
    from node.core.amendment import NameSurvivor


def read_survivor(app: App, file: str, keep: str) -> NameSurvivor:
    """The history of the note `first` or `second` in a file that proves that its member signed both.

    Raises:
        FormatError: the file is no evidence.
        VerificationError: it proves nothing under the rosters and cards of this home.
        GovernanceError: it proves something else than two histories, or this home has joined no alliance.
    """
    from node.core.amendment import NameSurvivor
    from node.core.checkpoint import parse_checkpoint
    from node.core.evidence import EVIDENCE_SIZE_MAX, parse_evidence
    from node.core.misconduct import judge_evidence
    from node.core.roster import Head

    alliance = read_held_alliance(app.home).alliance
    if alliance is None:
        raise GovernanceError("this node does not belong to an alliance yet", hint="type: labmesh join FILE")
    try:
        evidence = parse_evidence(read_input(file, size_max=EVIDENCE_SIZE_MAX))
    except FormatError as error:
        hint = "name the file that `labmesh evidence export ID -o FILE` writes"
        raise FormatError(f"{display_name(file)} is no evidence: {error.message}", hint=hint) from error
    judgement = judge_evidence(evidence, held=alliance)
    if not judgement.verified:
        failed = next(step for step in judgement.steps if not step.ok)
        hint = f"type: labmesh evidence verify {display_name(file)}"
        raise VerificationError(failed.step, f"{display_name(file)} proves nothing: {failed.detail}", hint=hint)
    if evidence.kind != "split-view":
        raise GovernanceError(
            f"{display_name(file)} is evidence of the kind {evidence.kind}: there are no two histories to choose from",
            hint=f"if {judgement.member} cannot stay: labmesh roster remove {judgement.member}",
        )
    signed = parse_checkpoint(evidence.statements[f"{keep}.note"])
    return NameSurvivor(judgement.member, Head(signed.size, signed.root))

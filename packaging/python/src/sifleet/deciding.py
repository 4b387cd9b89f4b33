"""Verdicts, and the job templates they can be about: the part of the client that decides for portals."""

from typing import Optional

from sifleet.calls import Calls, segment, without_none
from sifleet.decode import decode
from sifleet.models.answers import Require
from sifleet.models.templates import Template, TemplateBody, TemplateList
from sifleet.models.verdicts import VerdictAnswer, VerdictKind


class Deciding(Calls):
    """What can be asked of verdicts and templates."""

    def verdict(
        self,
        image: Optional[str] = None,
        *,
        kind: VerdictKind = "image",
        ref: Optional[str] = None,
        partition: Optional[str] = None,
        nodes: Optional[str] = None,
        require: Optional[Require] = None,
        digest: Optional[str] = None,
        ensure: bool = False,
    ) -> VerdictAnswer:
        """Tell whether a job would find its image, with a reason and a hint in the language of the client.

        ``kind`` says what it is about: an ``image`` on a ``partition``, a ``template`` called ``ref``, or an image for
        remote desktops (``vnc``). With ``ensure`` the push that would make it true is begun, once however often it is
        asked for; that needs the role operator.

        >>> verdict = client.verdict(kind="template", ref="openfoam-small", ensure=True)  # doctest: +SKIP
        >>> verdict.is_ready, verdict.reason, verdict.push                                # doctest: +SKIP
        (False, 'missing', 'p-000042')

        Raises:
            SifleetError: When there is no verdict, which is no "no".

        """
        said = {"ref": ref, "image": image, "partition": partition, "nodes": nodes, "digest": digest}
        wanted = None if require is None else str(require)
        body = {"kind": kind, "ensure": ensure, **without_none({**said, "require": wanted})}
        return decode(VerdictAnswer, self._http.ask("POST", "/v1/verdicts", body=body))

    def templates(self) -> TemplateList:
        """List the job templates, and what is wrong with their files.

        Raises:
            SifleetError: When there is no answer.

        """
        return self._get(TemplateList, "/v1/templates")

    def template(self, template: str) -> Template:
        """Show a job template.

        Raises:
            NotFound: When there is none of that name.
            SifleetError: When there is no answer.

        """
        return self._get(Template, f"/v1/templates/{segment(template)}")

    def put_template(self, template: str, needs: TemplateBody) -> Template:
        """Put a job template in place of what there is of that name. Needs the role operator.

        Raises:
            SifleetError: When it was not kept, or nobody can tell.

        """
        body = without_none(vars(needs))
        return decode(Template, self._http.ask("PUT", f"/v1/templates/{segment(template)}", body=body))

    def delete_template(self, template: str) -> Template:
        """Delete a job template that was put; returns it as it was. Needs the role operator.

        Raises:
            SifleetError: When it is still there, or nobody can tell.

        """
        return decode(Template, self._http.ask("DELETE", f"/v1/templates/{segment(template)}"))

"""Bringing images to nodes: the part of the client that asks for changes."""

from collections.abc import Iterator
from typing import Optional

from sifleet.calls import Calls, json_of, listed, segment, without_none
from sifleet.decode import decode
from sifleet.errors import BadArgument, Unavailable
from sifleet.models import PushBody, PushNode, PushPlan


class Pushing(Calls):
    """What can be asked of pushes."""

    def push(
        self,
        image: Optional[str] = None,
        *,
        partition: Optional[str] = None,
        nodes: Optional[str] = None,
        missing_on: Optional[str] = None,
        digest: Optional[str] = None,
        source: Optional[str] = None,
        root: Optional[str] = None,
        completion: Optional[str] = None,
        deadline_s: Optional[int] = None,
        rate: Optional[int] = None,
        priority: Optional[int] = None,
        idempotency_key: Optional[str] = None,
    ) -> PushBody:
        """Bring an image to nodes; returns as soon as it has begun. Needs the role operator.

        Say one of ``partition``, ``nodes`` (``viz[001-016]``) and ``missing_on``. The same ``idempotency_key`` with the
        same wish is the same push, so it is safe to ask again after :class:`Unavailable`.

        >>> push = client.push("vnc_gnome", missing_on="viz", idempotency_key="night")  # doctest: +SKIP
        >>> for push in client.follow_push(push.id): print(push.state)                 # doctest: +SKIP

        Raises:
            SifleetError: When it was not begun, or nobody can tell.

        """
        wish = _wish(image, _target(partition, nodes, missing_on), digest, source, root)
        wish.update(without_none({"completion": completion, "deadline_s": deadline_s, "rate": rate}))
        wish.update(without_none({"priority": priority}))
        return decode(PushBody, self._http.ask("POST", "/v1/pushes", body=wish, key=idempotency_key))

    def plan_push(
        self,
        image: Optional[str] = None,
        *,
        partition: Optional[str] = None,
        nodes: Optional[str] = None,
        missing_on: Optional[str] = None,
        digest: Optional[str] = None,
        source: Optional[str] = None,
        root: Optional[str] = None,
        rate: Optional[int] = None,
    ) -> PushPlan:
        """Say what a push would do, and do nothing. Needs the role operator.

        Raises:
            SifleetError: When there is no answer.

        """
        wish = _wish(image, _target(partition, nodes, missing_on), digest, source, root)
        wish.update(without_none({"rate": rate}), dry_run=True)
        return decode(PushPlan, self._http.ask("POST", "/v1/pushes", body=wish))

    def pushes(self) -> tuple[PushBody, ...]:
        """List the pushes of the last month, newest first.

        Raises:
            SifleetError: When there is no answer.

        """
        return listed(PushBody, "pushes", self._http.ask("GET", "/v1/pushes"))

    def push_status(self, push: str) -> PushBody:
        """Tell how a push stands.

        Raises:
            NotFound: When there is none of that name.
            SifleetError: When there is no answer.

        """
        return self._get(PushBody, f"/v1/pushes/{segment(push)}")

    def push_nodes(self, push: str) -> tuple[PushNode, ...]:
        """Tell how a push stands, node by node.

        Raises:
            NotFound: When there is none of that name.
            SifleetError: When there is no answer.

        """
        return listed(PushNode, "nodes", self._http.ask("GET", f"/v1/pushes/{segment(push)}/nodes"))

    def follow_push(self, push: str) -> Iterator[PushBody]:
        """Tell how a push stands, at once and then whenever that changes, until nothing of it is under way.

        Raises:
            NotFound: When there is none of that name.
            Unavailable: When the stream breaks off before: the push goes on.
            SifleetError: When there is no stream.

        """
        runs = True
        with self._http.stream(f"/v1/pushes/{segment(push)}/events") as told:
            for event in told:
                body = decode(PushBody, json_of(event.data), "the push")
                runs = body.is_running
                yield body
        if runs:
            raise Unavailable(f"the stream of push {push} has ended before the push")

    def cancel_push(self, push: str) -> PushBody:
        """End a push; nodes that have the image keep it. Needs the role operator.

        Raises:
            SifleetError: When there is no answer.

        """
        return decode(PushBody, self._http.ask("POST", f"/v1/pushes/{segment(push)}/cancel"))

    def retry_push(self, push: str) -> PushBody:
        """Let the nodes that failed try at once. Needs the role operator.

        Raises:
            SifleetError: When there is no answer.

        """
        return decode(PushBody, self._http.ask("POST", f"/v1/pushes/{segment(push)}/retry"))


def _target(partition: Optional[str], nodes: Optional[str], missing_on: Optional[str]) -> dict[str, object]:
    target = without_none({"partition": partition, "nodes": nodes, "missing_on": missing_on})
    if len(target) != 1:
        raise BadArgument("say one of partition, nodes and missing_on")
    return target


def _wish(
    image: Optional[str],
    to: dict[str, object],
    digest: Optional[str],
    source: Optional[str],
    root: Optional[str],
) -> dict[str, object]:
    return without_none({"image": image, "to": to, "digest": digest, "from": source, "root": root})

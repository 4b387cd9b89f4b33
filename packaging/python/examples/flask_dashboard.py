"""The list of a portal's desktops, asked of the cluster instead of the disk of the machine that serves the page.

Before, it looked at the wrong machine, and a plain no could not be told from "nobody knows"::

    @app.get("/api/desktops")
    def desktops():
        return jsonify([d for d in DESKTOPS if os.path.exists(f"/opt/apptainers/{d}.sif")])

After: one question for the whole page, three answers, and the old field ``available`` is true only for a certain yes:
on every node of the partition, for Slurm may start the desktop on any of them.
Run it with ``SIFLEET_URL`` and ``SIFLEET_TOKEN_FILE`` set: ``flask --app flask_dashboard run``.
"""

from flask import Flask, Response, jsonify

import sifleet

PARTITION = "viz"
DESKTOPS = {"vnc_gnome": "GNOME", "vnc_xfce": "Xfce", "vnc_matlab": "MATLAB"}

app = Flask(__name__)
fleet = sifleet.Client(timeout=2.0)


def standing() -> list[tuple[str, str]]:
    """Tell of each desktop whether it can be started, ``yes``, ``no`` or ``unknown``, and why."""
    questions = [sifleet.Query(f"{image}.sif", PARTITION) for image in DESKTOPS]
    try:
        return [(entry.satisfied, entry.message) for entry in fleet.batch(questions)]
    except sifleet.SifleetError as error:
        return [("unknown", str(error))] * len(questions)


@app.get("/api/desktops")
def desktops() -> Response:
    """List the desktops; what nobody can say is shown as unknown, and is neither offered nor hidden."""
    return jsonify(
        [
            {"id": image, "name": name, "available": told == "yes", "state": told, "message": message}
            for (image, name), (told, message) in zip(DESKTOPS.items(), standing())
        ]
    )

-- Removals: what was wanted, and how it ended for each node. A node without a phase has not come to an end.

CREATE TABLE removal (
    id        INTEGER PRIMARY KEY,
    image     TEXT    NOT NULL,
    digest    BLOB    NOT NULL,
    size      INTEGER NOT NULL,
    root      TEXT,                        -- path, if one was named
    force     INTEGER NOT NULL,
    when_idle INTEGER NOT NULL,
    created   INTEGER NOT NULL,            -- these three in milliseconds since 1970
    ended     INTEGER,
    deadline  INTEGER NOT NULL,
    patience  INTEGER NOT NULL,            -- milliseconds
    cancelled INTEGER NOT NULL
) STRICT;

CREATE TABLE removal_node (
    removal INTEGER NOT NULL REFERENCES removal (id) ON DELETE CASCADE,
    place   INTEGER NOT NULL,              -- in the order of the nodes
    node    TEXT    NOT NULL,
    phase   TEXT,                          -- done, failed, cancelled
    code    TEXT,
    message TEXT,
    files   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (removal, node)
) STRICT, WITHOUT ROWID;

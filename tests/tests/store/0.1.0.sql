PRAGMA application_id = 1397311052;
PRAGMA user_version = 1;
CREATE TABLE node (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    build      TEXT    NOT NULL,
    arch       TEXT    NOT NULL,
    partitions TEXT    NOT NULL,             -- JSON list of names its own settings declare
    last_seen  INTEGER NOT NULL,             -- milliseconds since 1970
    stream     INTEGER NOT NULL DEFAULT 0,   -- life of the agent process; 0 with generation 0: nothing is known
    generation INTEGER NOT NULL DEFAULT 0,
    digest     BLOB    NOT NULL DEFAULT (zeroblob(32)) -- of the inventory: the roots and replicas below
) STRICT;
CREATE TABLE root (
    node    INTEGER NOT NULL REFERENCES node (id) ON DELETE CASCADE,
    root    INTEGER NOT NULL,
    path    TEXT    NOT NULL,
    library INTEGER NOT NULL,
    state   TEXT    NOT NULL,                -- watched, degraded, unknown, partial
    reason  TEXT,                            -- of all but watched
    PRIMARY KEY (node, root)
) STRICT, WITHOUT ROWID;
CREATE TABLE replica (
    node     INTEGER NOT NULL REFERENCES node (id) ON DELETE CASCADE,
    root     INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    modified INTEGER NOT NULL,               -- milliseconds since 1970
    state    TEXT    NOT NULL,               -- being_written, hashing, image, or a code of what is unusable
    detail   TEXT,                           -- of what is unusable
    digest   BLOB,                           -- these four of an image
    format   TEXT,
    arch     TEXT,
    mutable  INTEGER,
    PRIMARY KEY (node, root, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE image_metadata (
    digest   BLOB    PRIMARY KEY,
    noted    INTEGER NOT NULL,               -- counts up: the oldest go first
    bytes    INTEGER NOT NULL,               -- of both texts
    metadata TEXT    NOT NULL,               -- JSON
    sidecar  TEXT
) STRICT;
CREATE INDEX image_metadata_by_age ON image_metadata (noted, bytes);
CREATE TABLE partition_source (
    source TEXT    PRIMARY KEY,              -- file, slurm
    at     INTEGER NOT NULL                  -- when it was last heard, milliseconds since 1970
) STRICT, WITHOUT ROWID;
CREATE TABLE partition (
    source TEXT NOT NULL REFERENCES partition_source (source) ON DELETE CASCADE,
    name   TEXT NOT NULL,                    -- a partition may have no members
    PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE member (
    source    TEXT NOT NULL,
    partition TEXT NOT NULL,
    node      TEXT NOT NULL,                 -- need not have an agent
    PRIMARY KEY (source, partition, node),
    FOREIGN KEY (source, partition) REFERENCES partition (source, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE TABLE heard_of (
    id   INTEGER PRIMARY KEY,                -- counts up: the oldest go first
    name TEXT    NOT NULL UNIQUE
) STRICT;
INSERT INTO node VALUES (1, 'node0', '0.12', 'amd64', '[]', 12, -4, 4, X'0A7E12F45821C5342655BFDED08F65D79A6F69D21F193DD3DE89EF4DBEA019EC');
INSERT INTO node VALUES (2, 'node1', '0.13', 'amd64', '["viz","gpu+a@b"]', 13, -4, 4, X'A9C1E0CF06EE9E78413FE72792E69A117A5730D364E382FEE6F76ECF8D9A93DA');
INSERT INTO node VALUES (3, 'node2', '0.14', 'amd64', '[]', 14, -4, 4, X'FE0396FBD7325C047DD2BF88A695613A1D1DDF04A1A0F401BC255338484BB6D1');
INSERT INTO node VALUES (4, 'node3', '0.15', 'amd64', '["viz","gpu+a@b"]', 15, -4, 4, X'F2776804250B10F02913F7994B10F7F9C51EAC9FFF9BE64A9177224F43B0FCC0');
INSERT INTO root VALUES (1, 0, '/opt/0', 0, 'watched', NULL);
INSERT INTO root VALUES (1, 2, '/opt/8', 1, 'unknown', 'no permission');
INSERT INTO replica VALUES (1, 0, 'compute/image 12 é.sif', -13, -5, 'being_written', NULL, NULL, NULL, NULL, NULL);
INSERT INTO replica VALUES (1, 0, 'compute/image 4 é.sif', -5, -5, 'being_written', NULL, NULL, NULL, NULL, NULL);
INSERT INTO replica VALUES (2, 1, 'compute/image 1 é.sif', -2, -5, 'hashing', NULL, NULL, NULL, NULL, NULL);
INSERT INTO replica VALUES (2, 1, 'compute/image 13 é.sif', -14, -5, 'hashing', NULL, NULL, NULL, NULL, NULL);
INSERT INTO replica VALUES (2, 1, 'compute/image 5 é.sif', -6, -5, 'hashing', NULL, NULL, NULL, NULL, NULL);
INSERT INTO replica VALUES (2, 1, 'compute/image 9 é.sif', -10, -5, 'hashing', NULL, NULL, NULL, NULL, NULL);
INSERT INTO replica VALUES (3, 0, 'compute/image 10 é.sif', -11, -5, 'image', NULL, X'295192EA1EC8566D563B1A7587E5F0198580CDBD043842F5090A4C197C20C67A', 'ext3', '386', 1);
INSERT INTO replica VALUES (3, 0, 'compute/image 2 é.sif', -3, -5, 'image', NULL, X'AB13BEDF42E84BAE0F7C62C7DD6A8ADA571E8829BED6EA558217F0361B5E25D0', 'ext3', '386', 0);
INSERT INTO replica VALUES (4, 1, 'compute/image 11 é.sif', -12, -5, 'nothing_to_run', 'no system in it', NULL, NULL, NULL, NULL);
INSERT INTO replica VALUES (4, 1, 'compute/image 3 é.sif', -4, -5, 'nothing_to_run', 'no system in it', NULL, NULL, NULL, NULL);
INSERT INTO image_metadata VALUES (X'2D3ADEDFF11B61F14C886E35AFA036736DCD87A74D27B5C1510225D0F592E213', 1, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'48FC721FBBC172E0925FA27AF1671DE225BA927134802998B10A1568A188652B', 2, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'AB13BEDF42E84BAE0F7C62C7DD6A8ADA571E8829BED6EA558217F0361B5E25D0', 3, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'E1E0E81D6EA39B0CF8B86FFD440921011F57400CBC3F76A8A171906A9B8D7505', 4, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'0C389A743E34FDA435FBD575BB889DBC0D3E66B9F9D81E00BE33B7188509E7EB', 5, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'84CB40E74F0E856BB4BB91233E3CB74113533DCA78A74F36F59EDAA41895C946', 6, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'1C310B6BDADD69991CD4E5DBEF96C2638536C32B534E3ED64785846BFCEBD206', 7, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'448BD8DD9624154A690F8E84DC52D6F633BA7CD545C4D3C9B4E0F6A2F6FA71F4', 8, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'2EF3E0DDA5293BDA965D0ADCEDFC7D387244AC736A6014A720C1D63FA0EDE02F', 9, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'7219AA1099CED7445C5BF949990FF7D9F6B71A94B8EC02B3EB61FB175A66BA25', 10, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'295192EA1EC8566D563B1A7587E5F0198580CDBD043842F5090A4C197C20C67A', 11, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'CAEBFD3859F5380EFF54715148444178BE18EDEFA3D1CEAE275982F1A2824A91', 12, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'B76FFA778026E1884A6B1D105D37A8722B9310227094886F86F8C983E6614796', 13, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'8E3221F59407CB4520CA562FDA22DDE22EDFED2C102C536F11B7464CD8A0C65D', 14, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'31625CF68816AA547A0E7551C02D4FC9E6F22AF769CB76B6D775F0521541460C', 15, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO image_metadata VALUES (X'0BF6B955ABB4968191EBF8869D03AE5F74AA0538FFDBDDEAFC970C507DA7D71D', 16, 319, '{"format":"sif","runnable":"yes","mutable":false,"arch":"unknown","size":7,"used":7,"uuid":null,"created":null,"modified":null,"objects":0,"partitions":[],"definition":null,"labels":{},"environment":{},"runscript":null,"startscript":null,"test":null,"help":"help","apps":{},"signatures":[],"oci_config":null,"notes":[]}', NULL);
INSERT INTO partition_source VALUES ('slurm', 15);
INSERT INTO partition VALUES ('slurm', 'empty');
INSERT INTO partition VALUES ('slurm', 'viz');
INSERT INTO member VALUES ('slurm', 'viz', 'viz0');
INSERT INTO member VALUES ('slurm', 'viz', 'viz1');
INSERT INTO member VALUES ('slurm', 'viz', 'viz2');
INSERT INTO heard_of VALUES (1, 'compute/image 0 é.sif');
INSERT INTO heard_of VALUES (2, 'compute/image 1 é.sif');
INSERT INTO heard_of VALUES (3, 'compute/image 2 é.sif');
INSERT INTO heard_of VALUES (4, 'compute/image 3 é.sif');
INSERT INTO heard_of VALUES (5, 'compute/image 4 é.sif');
INSERT INTO heard_of VALUES (6, 'compute/image 5 é.sif');
INSERT INTO heard_of VALUES (7, 'compute/image 6 é.sif');
INSERT INTO heard_of VALUES (8, 'compute/image 7 é.sif');
INSERT INTO heard_of VALUES (9, 'compute/image 8 é.sif');

-- What OCI clients pushed, and what the library's files are to them. The library's directory holds the bytes.

CREATE TABLE oci_manifest (
    repository    TEXT    NOT NULL,
    digest        TEXT    NOT NULL,
    media_type    TEXT    NOT NULL,
    bytes         BLOB    NOT NULL,          -- as they came: the digest is theirs
    subject       TEXT,                      -- digest of the manifest that it refers to
    pushed        INTEGER NOT NULL,          -- milliseconds since 1970
    PRIMARY KEY (repository, digest)
) STRICT;
CREATE INDEX oci_manifest_subject ON oci_manifest (subject, repository) WHERE subject IS NOT NULL;

CREATE TABLE oci_tag (
    repository    TEXT    NOT NULL,
    tag           TEXT    NOT NULL,
    digest        TEXT    NOT NULL,
    PRIMARY KEY (repository, tag)
) STRICT, WITHOUT ROWID;

CREATE TABLE oci_blob_use (
    repository    TEXT    NOT NULL,
    manifest      TEXT    NOT NULL,
    blob          TEXT    NOT NULL,
    PRIMARY KEY (blob, repository, manifest)
) STRICT, WITHOUT ROWID;
CREATE INDEX oci_blob_use_manifest ON oci_blob_use (repository, manifest);

CREATE TABLE oci_file (
    name          TEXT    PRIMARY KEY,       -- below the library
    version       TEXT    NOT NULL,          -- device, inode, size and times of the file that was hashed
    size          INTEGER NOT NULL,
    blake3        BLOB    NOT NULL,
    sha256        TEXT    NOT NULL,
    sha512        TEXT,
    manifest      TEXT    NOT NULL           -- digest of the manifest that it has without being pushed
) STRICT, WITHOUT ROWID;
CREATE INDEX oci_file_sha256 ON oci_file (sha256);
CREATE INDEX oci_file_sha512 ON oci_file (sha512) WHERE sha512 IS NOT NULL;
CREATE INDEX oci_file_manifest ON oci_file (manifest);

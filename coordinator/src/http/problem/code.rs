//! The one table of what outsiders are told: stable codes with their HTTP status, title and hint.

use axum::http::StatusCode;

macro_rules! codes {
    ($($variant:ident $status:ident $code:literal $title:literal $hint:literal;)*) => {
        /// Names a kind of problem, for good: programs decide by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code there is, in the order of their statuses.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns what is told about it.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row {
                        status: StatusCode::$status,
                        code: $code,
                        title: $title,
                        hint: $hint,
                    },)*
                }
            }
        }
    };
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable code for programs.
    pub code: &'static str,
    /// The same for every occurrence.
    pub title: &'static str,
    /// What to do.
    pub hint: &'static str,
}

codes! {
    BadQuery BAD_REQUEST "bad_query" "The query or the path cannot be read"
        "Check the parameters against /docs; percent-encode spaces, slashes and brackets.";
    BadRequirement BAD_REQUEST "bad_requirement" "The requirement cannot be read"
        "Write require=all, require=any or a number of nodes from 1.";
    BadImage BAD_REQUEST "bad_image" "The text cannot name an image"
        "Write a name such as vnc_desktop.sif, at least 12 digits of a digest, or name@blake3:….";
    BadNodeset BAD_REQUEST "bad_nodeset" "The text is not a node set"
        "Write names and ranges such as compute[001-128],viz01; percent-encode the brackets.";
    BadUpload BAD_REQUEST "bad_upload" "The library cannot hold such an image"
        "Give it a name such as viz/vnc_desktop.sif: a path below the library without hidden parts.";
    BadJson BAD_REQUEST "bad_json" "The body cannot be read"
        "Send one JSON document of the shape shown in /docs.";
    TooManyQueries BAD_REQUEST "too_many_queries" "The batch has too many questions"
        "Split the batch.";
    BadPush BAD_REQUEST "bad_push" "The push cannot be meant so"
        "See the detail; /docs shows what a push may say.";
    BadRemoval BAD_REQUEST "bad_removal" "The removal cannot be meant so"
        "See the detail; /docs shows what a removal may say.";
    BadKey BAD_REQUEST "bad_key" "The Idempotency-Key cannot be one"
        "Send 1 to 128 printable bytes, such as a random number.";
    BadLimit BAD_REQUEST "bad_limit" "The limit cannot be meant so"
        "See the detail; rates are bytes a second, null means no limit.";
    BadToken BAD_REQUEST "bad_token" "The token cannot be meant so"
        "See the detail; /docs shows what may be said of a token.";
    BadTemplate BAD_REQUEST "bad_template" "The template cannot be meant so"
        "See the detail, which names the field; /docs shows what a template may say.";
    BadRegistry BAD_REQUEST "bad_registry" "The registry cannot be meant so"
        "See the detail; /docs shows what may be said of a registry.";
    BadRegistryQuery BAD_REQUEST "bad_registry_query" "The question about registries cannot be meant so"
        "See the detail; fields are compared with $in $nin $eq $ne $gt $gte $lt $lte $exists $regex $not, questions joined with $and $or $not.";
    BadImport BAD_REQUEST "bad_import" "The text names no image that can be imported"
        "Write oras://HOST/REPOSITORY:TAG, and if needed a name such as viz/vnc_desktop.sif.";
    Unauthenticated UNAUTHORIZED "unauthenticated" "The coordinator does not know who asks"
        "Send Authorization: Bearer and a token; an administrator makes one with sifleet token create.";
    Forbidden FORBIDDEN "forbidden" "The caller may not do that"
        "Ask with a token of the role that the detail names, or have an administrator do it.";
    CrossSite FORBIDDEN "cross_site" "Another web page had a browser send this"
        "Ask from a program, or from a page of the coordinator's own.";
    UnknownImage NOT_FOUND "unknown_image" "No node ever reported such an image"
        "See sifleet image ls or GET /v1/images.";
    UnknownPartition NOT_FOUND "unknown_partition" "No source ever named such a partition"
        "See sifleet partition ls or GET /v1/partitions.";
    UnknownNode NOT_FOUND "unknown_node" "No agent and no partition ever named such a node"
        "See sifleet node ls or GET /v1/nodes.";
    UnknownPush NOT_FOUND "unknown_push" "There is no such push"
        "See sifleet push ls or GET /v1/pushes; pushes that ended are forgotten after a month.";
    UnknownRemoval NOT_FOUND "unknown_removal" "There is no such removal"
        "See GET /v1/removals; removals that ended are forgotten after a month.";
    UnknownUpload NOT_FOUND "unknown_upload" "There is no such upload"
        "Begin it with POST /v1/library/uploads; what was sent before is found again.";
    UnknownToken NOT_FOUND "unknown_token" "There is no such token"
        "See sifleet token ls or GET /v1/tokens.";
    UnknownTemplate NOT_FOUND "unknown_template" "There is no such template"
        "See GET /v1/templates, which also lists files that cannot be read.";
    UnknownRegistry NOT_FOUND "unknown_registry" "There is no such registry in the catalogue"
        "See sifleet registry ls; sifleet registry add writes one down.";
    UnknownImport NOT_FOUND "unknown_import" "There is no such import"
        "See GET /v1/imports; the last 100 that ended are kept, until the coordinator starts again.";
    UnknownPreheat NOT_FOUND "unknown_preheat" "There is no such preheat"
        "Ask for it again with POST /oapi/v1/jobs; what was brought in before is not fetched again.";
    NoRoute NOT_FOUND "no_route" "There is nothing at this path"
        "See /docs for what there is.";
    MethodNotAllowed METHOD_NOT_ALLOWED "method_not_allowed" "The path does not take this method"
        "The Allow header says which it takes.";
    SlowBody REQUEST_TIMEOUT "slow_body" "The body did not arrive in time"
        "Send it again; check the network if that happens often.";
    NoAuthority CONFLICT "no_authority" "The coordinator gives no certificates"
        "Ask whoever makes this cluster's certificates, or run sifleet-coordinator ca init.";
    NoLibrary CONFLICT "no_library" "The coordinator has no library to put images into"
        "An administrator sets library.dir in coordinator.toml to the directory of the library.";
    AmbiguousImage CONFLICT "ambiguous_image" "Several images go by this name"
        "Ask for one of the candidates.";
    Disagreed CONFLICT "images_differ" "Nodes hold different images under this name"
        "Ask for one of the candidates, or put the right one into the library.";
    NoHolder CONFLICT "no_holder" "Nobody it may be taken from holds the image"
        "See sifleet image show for who holds it; bring it to the library or to a node first.";
    LastReplica CONFLICT "last_replica" "No ready replica of the image would be left in the cluster"
        "Put the image into the library first, or remove it with force.";
    KeyReused CONFLICT "key_reused" "The Idempotency-Key was used for another wish"
        "Use a fresh key for each wish.";
    TemplateOfFile CONFLICT "template_of_file" "The template comes from a file"
        "Change or remove the file in the directory templates.dir; it is read again within two seconds.";
    PushCancelled CONFLICT "push_cancelled" "The push was cancelled, which is final"
        "Push again.";
    RegistryExists CONFLICT "registry_exists" "There is such a registry already"
        "Choose another id or name, or change the one that is there.";
    InTheWay CONFLICT "in_the_way" "Something else lies where the image would"
        "Choose another name, or have an administrator remove what is there.";
    UploadBusy CONFLICT "upload_busy" "Another request writes the same upload"
        "Wait until it has ended, then ask for the offset.";
    WrongOffset CONFLICT "wrong_offset" "The bytes do not follow those that are there"
        "Send the bytes from the offset in the header Upload-Offset on; finish when there are none left.";
    BodyTooLarge PAYLOAD_TOO_LARGE "body_too_large" "The body is too large"
        "Split the request.";
    UnsupportedMediaType UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "The body is not declared as JSON"
        "Send the header Content-Type: application/json.";
    BadHost MISDIRECTED_REQUEST "bad_host" "The request asks for a host that the coordinator is not"
        "Ask by an address or by a name of its certificate; an administrator may add names to http.hosts.";
    WrongDigest UNPROCESSABLE_ENTITY "wrong_digest" "What arrived is not what was announced"
        "Upload it again; if that happens again, see whether the file changes meanwhile.";
    NotAnImage UNPROCESSABLE_ENTITY "not_an_image" "The bytes are no image"
        "Upload a SIF, a squashfs or an ext3 file system; build the image again if it is damaged.";
    TooManyRequests TOO_MANY_REQUESTS "too_many_requests" "The caller asks too often"
        "Wait as long as Retry-After says; an administrator may raise http.rate.";
    TooManyStreams TOO_MANY_REQUESTS "too_many_streams" "Too many readers follow the events"
        "Close a reader, or raise limits.max_event_streams.";
    TooManyPushes TOO_MANY_REQUESTS "too_many_pushes" "Too many pushes are under way"
        "Wait for some to end, or cancel some.";
    TooManyRemovals TOO_MANY_REQUESTS "too_many_removals" "Too many removals are under way"
        "Wait for some to end, or cancel some.";
    TooManyUploads TOO_MANY_REQUESTS "too_many_uploads" "Too many uploads go on"
        "Try again when one of them has ended.";
    TooManyTokens TOO_MANY_REQUESTS "too_many_tokens" "Too many tokens are good"
        "Revoke those that nobody needs: sifleet token ls.";
    TooManyTemplates TOO_MANY_REQUESTS "too_many_templates" "Too many templates were put"
        "Delete those that nobody needs: GET /v1/templates.";
    TooManyRegistries TOO_MANY_REQUESTS "too_many_registries" "Too many registries are written down"
        "Forget those that nobody needs: sifleet registry rm.";
    TooManyChecks TOO_MANY_REQUESTS "too_many_checks" "Too many registries are being looked at"
        "Ask again in a few seconds.";
    TooManyImports TOO_MANY_REQUESTS "too_many_imports" "Too many imports wait"
        "Wait for some to end.";
    Internal INTERNAL_SERVER_ERROR "internal" "The coordinator failed to answer"
        "An administrator finds the cause in the coordinator's log by the request id.";
    NotReady SERVICE_UNAVAILABLE "not_ready" "The coordinator is not ready"
        "Ask again in a few seconds.";
    Stopping SERVICE_UNAVAILABLE "stopping" "The coordinator is stopping"
        "Ask again when it has been started.";
    NotStored SERVICE_UNAVAILABLE "not_stored" "The database of the coordinator cannot be written"
        "An administrator finds the cause in the coordinator's log; then ask again.";
    TimedOut SERVICE_UNAVAILABLE "timed_out" "The answer took too long"
        "Ask again; ask for less at once.";
    NoSpace INSUFFICIENT_STORAGE "no_space" "The library has too little room"
        "Remove images that are no longer needed from the library.";
}

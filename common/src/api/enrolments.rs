//! Bodies of `POST /v1/enrolments`, `GET /v1/enrolments` and `DELETE /v1/enrolments/{id}`: tokens with which nodes enrol.

super::body! {
    /// Which nodes are to enrol.
    #[serde(deny_unknown_fields)]
    pub struct EnrolmentRequest {
        /// Nodes such as `compute[001-128],viz01`, at most 10,000; each gets a token of its own.
        #[cfg_attr(feature = "openapi", schema(min_length = 1))]
        pub nodes: String,
        /// For how many seconds the tokens are good: 60 to 604,800; ten minutes if not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 604_800))]
        pub ttl_s: Option<u64>,
        /// Networks from which they count, such as `10.1.0.0/16`; from anywhere if none is named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub from: Vec<String>,
    }

    /// Tokens, shown with their secrets this one time, and how to use them.
    pub struct EnrolmentsCreated {
        /// One for each node, in natural order.
        pub tokens: Vec<EnrolmentCreated>,
        /// How the nodes know the coordinator: `--ca-pin` of `sifleet-agent enrol`.
        pub ca_pin: String,
        /// Where they find it: this machine's name, and the port for agents.
        pub coordinator: String,
    }

    /// One token with its secret.
    pub struct EnrolmentCreated {
        /// The token.
        pub token: EnrolmentBody,
        /// What goes into the file that `sifleet-agent enrol --token-file` reads.
        pub secret: String,
    }

    /// One token without its secret.
    pub struct EnrolmentBody {
        /// What it is called: 16 hexadecimal digits.
        pub id: String,
        /// Which node it lets in.
        pub node: String,
        /// `waiting`, `used`, `expired`, or `withdrawn` in the answer to that.
        pub state: String,
        /// From where it counts; from anywhere if empty.
        pub from: Vec<String>,
        /// When it was made.
        pub created: String,
        /// Until when it is good.
        pub expires: String,
        /// When it was used.
        pub used: Option<String>,
        /// From which address it was used.
        pub used_from: Option<String>,
    }

    /// All tokens for nodes that are kept: those that expired are for a week.
    pub struct EnrolmentList {
        /// By node, in natural order, newest first.
        pub tokens: Vec<EnrolmentBody>,
        /// When this was true.
        pub as_of: String,
    }

    /// Which nodes were revoked.
    pub struct Revoked {
        /// These; what they held is unknown until they enrol again.
        pub nodes: String,
        /// Names nobody ever heard of.
        pub unheard_of: String,
    }
}

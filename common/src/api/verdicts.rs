//! Bodies of `POST /v1/verdicts`: would a job that needs this image run?

use crate::availability::{Counts, Satisfied};

super::body! {
    /// What is asked about.
    #[derive(Copy, Default)]
    #[serde(rename_all = "snake_case")]
    pub enum VerdictKind {
        /// An image on a partition.
        #[default]
        Image,
        /// A job template.
        Template,
        /// An image for remote desktops.
        Vnc,
    }

    /// A question, and perhaps the wish that its answer be yes.
    #[derive(Default)]
    #[serde(deny_unknown_fields)]
    pub struct VerdictRequest {
        /// What is asked about.
        pub kind: VerdictKind,
        /// What a template, or an image, is called; for an image the same as `image`.
        #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
        pub reference: Option<String>,
        /// The image, as `GET /v1/availability` takes it; absent: the template's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(min_length = 1))]
        pub image: Option<String>,
        /// The partition; absent: the template's, or the one for remote desktops.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(min_length = 1))]
        pub partition: Option<String>,
        /// Only these nodes of the partition, such as `viz[001-004]`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(min_length = 1))]
        pub nodes: Option<String>,
        /// `all`, `any` or a number of nodes; absent: the template's, or that for remote desktops, else `all`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^(all|any|0*[1-9][0-9]{0,8})$"))]
        pub require: Option<String>,
        /// Which bytes, `blake3:<64 hex>`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^blake3:[0-9a-f]{64}$"))]
        pub digest: Option<String>,
        /// Whether to begin the push that would make it true; needs the role `operator`.
        #[serde(default)]
        pub ensure: bool,
    }

    /// The answer to a question.
    pub struct VerdictAnswer {
        /// What was asked about.
        pub kind: VerdictKind,
        /// What a template, or an image, is called, as asked.
        #[serde(rename = "ref")]
        pub reference: Option<String>,
        /// The image as resolved.
        pub image: String,
        /// The partition.
        pub partition: String,
        /// How many nodes must be ready: `all`, `any` or a number.
        pub require: String,
        /// Yes, no, or not known: never a guess.
        pub verdict: Satisfied,
        /// Stable code.
        pub reason: String,
        /// One sentence for people.
        pub message: String,
        /// What to do.
        pub hint: Option<String>,
        /// The language of both: `en` or `ko`.
        pub language: String,
        /// How many nodes gave which answer.
        pub counts: Counts,
        /// Which nodes gave which answer; absent if nothing could be looked for.
        pub nodes: Option<super::availability::Nodes>,
        /// Where the file is, on the ready nodes.
        pub paths: Vec<super::availability::PathNodes>,
        /// Why nodes are outdated, missing or unknown.
        pub reasons: Vec<super::availability::Reason>,
        /// The digest that counts, where the question or the library names one.
        pub expected_digest: Option<String>,
        /// The push that brings it, if one was asked for and there is something to bring.
        pub push: Option<String>,
        /// Why there is no such push, although one was asked for.
        pub push_problem: Option<super::problem::Problem>,
        /// When this was true.
        pub as_of: String,
        /// Number of the coordinator's state that gave the answer.
        pub generation: u64,
    }
}

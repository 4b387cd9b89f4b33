//! Bodies of `GET /v1/templates`, `PUT`, `GET` and `DELETE /v1/templates/{id}` and
//! `GET /api/v2/templates/{template_id}/validate`.

use crate::availability::{Counts, Satisfied};

super::body! {
    /// What a job template needs.
    #[serde(deny_unknown_fields)]
    pub struct TemplateBody {
        /// For people; at most 200 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
        /// For people; at most 2,000 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub description: Option<String>,
        /// The image, as `GET /v1/availability` takes it.
        #[cfg_attr(feature = "openapi", schema(min_length = 1))]
        pub image: String,
        /// The partition on which its jobs run.
        #[cfg_attr(feature = "openapi", schema(min_length = 1))]
        pub partition: String,
        /// `all` (default), `any` or a number of nodes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^(all|any|0*[1-9][0-9]{0,8})$"))]
        pub require: Option<String>,
        /// Which bytes, `blake3:<64 hex>`; absent: those that count on the partition.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(pattern = "^blake3:[0-9a-f]{64}$"))]
        pub digest: Option<String>,
        /// The fingerprint of a key that must have signed the image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub signer: Option<String>,
    }

    /// A job template.
    pub struct Template {
        /// What it is called.
        pub id: String,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub description: Option<String>,
        /// The image.
        pub image: String,
        /// The partition on which its jobs run.
        pub partition: String,
        /// `all`, `any` or a number of nodes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub require: Option<String>,
        /// Which bytes, if it says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub digest: Option<String>,
        /// The fingerprint of a key that must have signed the image, if it says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub signer: Option<String>,
        /// `file` or `api`.
        pub source: String,
        /// The file it is from, by its name in the directory.
        pub file: Option<String>,
        /// What is wrong with that file at present; what is shown is what it said before. Of a template that was put over the API: what is
        /// wrong with the file of its id, which goes before it, so that nobody is told what is shown.
        pub mistake: Option<TemplateMistake>,
        /// When it was read or written.
        pub changed: String,
    }

    /// All job templates.
    pub struct TemplateList {
        /// In the order of what they are called.
        pub templates: Vec<Template>,
        /// What is wrong with the directory and its files.
        pub mistakes: Vec<TemplateMistake>,
        /// When this was true.
        pub as_of: String,
    }

    /// Something wrong with a file of templates.
    pub struct TemplateMistake {
        /// Which file, by its name in the directory; empty for the directory itself.
        pub file: String,
        /// The line, from 1, where that is known.
        pub line: Option<u64>,
        /// The column, from 1, where that is known.
        pub column: Option<u64>,
        /// What is wrong, and what would be right.
        pub message: String,
    }

    /// Whether a template's jobs find their image.
    pub struct TemplateValidation {
        /// As asked.
        pub template_id: String,
        /// Whether as many nodes as the template requires are ready; never yes by a guess.
        pub valid: bool,
        /// Name of the image.
        pub image_name: String,
        /// Whether at least one node of the partition is ready.
        pub image_exists: bool,
        /// Where it lies on nodes that are ready.
        pub image_path: Option<String>,
        /// The partition on which its jobs run.
        pub image_partition: String,
        /// One sentence for people.
        pub message: String,
        /// Images that are ready on at least one node of the partition, if this one is not; at most 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub available_images: Option<Vec<String>>,
        /// Yes, no, or not known.
        pub verdict: Satisfied,
        /// Stable code.
        pub reason: String,
        /// What to do.
        pub hint: Option<String>,
        /// Nodes that are ready.
        pub nodeset: String,
        /// How many nodes gave which answer.
        pub counts: Counts,
        /// How many nodes must be ready: `all`, `any` or a number.
        pub require: String,
        /// When this was true.
        pub as_of: String,
    }
}
